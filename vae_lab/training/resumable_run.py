"""What every training of the lab does at each step, so that interrupted runs resume to the bit."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..utils.checks import NotFiniteError
from .run_folder import RunFolder, TrainingError

ACCELERATE_VARIABLES = (
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_DOWNCAST_BF16",
    "ACCELERATE_DYNAMO_BACKEND",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
"""What accelerate reads in `Accelerator()`, beside devices and processes, that changes the weights."""


class ResumableRun(ABC):
    """One training in one process: it counts, checks, logs and saves the steps."""

    trained: Any  # the model whose weights change
    average: AveragedModel  # the moving average of its weights
    made_of: str  # a fingerprint of the data and the frozen models; a run on others is refused

    def __init__(
        self, config: Any, folder: RunFolder, accelerator: Accelerator, watch: Callable | None, progress: bool
    ):
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.watch, self.progress = watch, progress
        self.step, self.seconds, self.log = 0, 0.0, list[dict[str, Any]]()
        self._started = 0.0

    @abstractmethod
    def state(self, optimizer: Any, schedule: Any) -> dict[str, Any]:
        """Return what a checkpoint holds beside the count of steps: objects with a state_dict, by their names in it."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Measure the moving average of the weights: columns of the log."""

    @abstractmethod
    def report(self) -> Any:
        """Return the argument of `watch`."""

    def resume(self, saved: Mapping[str, Any] | None, **parts: Any) -> None:
        """Continue after a checkpoint, if there is one, and write the log up to its step.

        parts: by their names in the checkpoint, the objects that get their states back.
        """
        if saved is not None:
            for name, part in parts.items():
                part.load_state_dict(saved[name])
            self.step, self.seconds, self.log = saved["step"], saved["seconds"], saved["log"]
        if self.accelerator.is_main_process:
            self.folder.write_log(self.log)

    def start_clock(self) -> None:
        """Count the seconds of training from now on."""
        self._started = time.perf_counter() - self.seconds

    def take_step(
        self,
        losses: Callable[[], dict[str, Tensor]],
        optimizer: Any,
        schedule: Any,
        last: bool,
        bar: tqdm,
        **labels: str,
    ) -> None:
        """Take one step along the gradient of losses()["loss"]. Log it and save the run when that is due.

        last: whether measuring and saving is due in any case. labels: columns of the log.

        Raises TrainingError if a loss or the gradient is not finite; the last good checkpoint is intact.
        """
        config, rate = self.config, schedule.get_last_lr()[0]
        try:
            measured = self._descend(losses, optimizer)
        except NotFiniteError as error:
            what = f"training is no longer finite at step {self.step}: {error}"
            raise TrainingError(f"{what}; {self.folder.last_good()}") from error
        schedule.step()
        self.step += 1
        self.seconds = time.perf_counter() - self._started
        bar.update()
        due = last or self.step % config.measure_every == 0
        if due or self.step % config.log_every == 0:
            row = {"step": self.step} | labels | measured | {"learning_rate": rate, "seconds": round(self.seconds, 2)}
            self._log(row, due, bar)
        if last or self.step % config.checkpoint_every == 0:
            self._save(optimizer, schedule)

    def _descend(self, losses: Callable[[], dict[str, Tensor]], optimizer: Any) -> dict[str, float]:
        """Return the losses, means over all processes, and the norm of the gradients."""
        accelerator = self.accelerator
        with accelerator.autocast():
            found = losses()
        values = accelerator.reduce(torch.stack([value.detach().float() for value in found.values()]), "mean")
        if not values.isfinite().all():
            raise NotFiniteError(f"losses {values.tolist()}")
        optimizer.zero_grad()
        accelerator.backward(found["loss"])
        norm = accelerator.clip_grad_norm_(self.trained.parameters(), self.config.max_grad_norm)
        if not norm.isfinite():
            raise NotFiniteError(f"gradient norm {norm.item()}")
        optimizer.step()
        self.average.update_parameters(self.trained)
        return dict(zip(found, values.tolist(), strict=True)) | {"grad_norm": norm.item()}

    def _log(self, row: dict[str, Any], measure: bool, bar: tqdm) -> None:
        if not self.accelerator.is_main_process:
            return
        measured = self.measure() if measure else {}
        self.log.append(row | measured)
        with self.folder.explained(f"write {self.folder.log}"):
            self.folder.append_log(self.log[-1])
        bar.set_postfix({key: f"{value:.4g}" for key, value in ({"loss": row["loss"]} | measured).items()})
        if self.watch is not None:
            self.watch(self.report())

    def _save(self, optimizer: Any, schedule: Any) -> None:
        if self.accelerator.is_main_process:
            values = dict(step=self.step, seconds=self.seconds, log=self.log, made_of=self.made_of)
            values |= {name: value.state_dict() for name, value in self.state(optimizer, schedule).items()}
            self.folder.write(self.config, values | dict(processes=self.accelerator.num_processes))
        self.accelerator.wait_for_everyone()


@contextmanager
def accelerated(mixed_precision: str, folder: RunFolder) -> Iterator[Accelerator]:
    """Yield an Accelerator while the folder of a run is locked. mixed_precision: as in the configs ("auto")."""
    if mixed_precision == "auto":
        mixed_precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    check_environment(mixed_precision)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    with folder.locked() if accelerator.is_main_process else nullcontext():
        yield accelerator


def check_environment(precision: str) -> None:
    """Refuse variables by which accelerate would train something else than the config says, and not record it.

    precision: of this training. The "no" that `accelerate launch` passes on without being asked does not count.
    """
    harmless = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1", "ACCELERATE_MIXED_PRECISION": precision}
    for name in ACCELERATE_VARIABLES:
        value = os.environ.get(name, "")
        if value.strip().lower() not in {harmless.get(name, ""), "", "no", "0", "false", "off", "f", "n"}:
            raise ValueError(
                f"the environment variable {name} ({value!r}) would change what is trained, which the config alone "
                "decides: unset it, or leave this option out of `accelerate launch` and its config file"
            )


def move_average(decay: float, averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
    """Move exponential averages. The decay begins small, so that they soon forget the weights before training."""
    now = min(decay, (1 + int(count)) / (10 + int(count)))  # as TensorFlow's ExponentialMovingAverage does
    torch._foreach_lerp_(averages, currents, 1 - now)
