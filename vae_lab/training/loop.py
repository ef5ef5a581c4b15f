"""Train one half of the VAE, or a whole one, in stages, through accelerate; interrupted runs resume to the bit.

The recipe is that of Open-Sora v1.2.0, `docs/report_03.md` and `configs/vae/train/stage{1,2,3}.py`.
"""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..checkpoints.loading import load
from ..families.codec import codec_of
from ..metrics import DATA_RANGE, psnr
from ..utils.checks import NotFiniteError
from .config import Stage, TrainConfig
from .data import Batch, Clips, Inputs, SyntheticClips, VideoFolder, fingerprint
from .losses import Objective, layers_seeded
from .models import new_parts, perceptual_distance, stack
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


class Progress(NamedTuple):
    """The argument of `watch`, after every row of the log."""

    log: list[dict[str, Any]]  # all rows so far; `run_folder.FIELDS` lists their keys
    steps: int  # of the whole run
    vae: nn.Module  # the moving average of the weights, which reconstructs pixels. Do not change or keep it


def train(
    config: TrainConfig,
    out: str | Path,
    data: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train, write checkpoints, a log and the model into the folder `out`, and return the model in eval mode.

    The same call resumes an interrupted run from its last checkpoint, and ends with the same bits as an uninterrupted
    one (on the same device, with the same number of threads). A finished run is only loaded. Under `accelerate launch`,
    each process trains on a separate part of each batch.

    Args:
        data: a folder of videos and images; None: synthetic clips (`random_clip`).
        cache: a folder of cached 2D latents, which several runs may share (default: in `out`).
        watch: called after every row of the log, in the main process.
        progress: show a bar on stderr.

    Returns:
        The moving average of the weights, which `load(out / "model")` reads again, with the statistics of its latents:
        a SpatialVAE, a VideoVAE of the frozen 2D half and the trained one, or a model of the class that `config` names.

    Raises:
        ValueError: the config cannot be trained, a variable of the environment contradicts it, the data cannot be
          read, or the folder holds another run.
        TrainingError: the loss is no longer finite, or the disk is full. The last good checkpoint is intact.
    """
    folder, precision = RunFolder(out, cache), config.mixed_precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    check_environment(precision)
    accelerator = Accelerator(mixed_precision=precision)
    clips = SyntheticClips() if data is None else VideoFolder(data)
    with folder.locked() if accelerator.is_main_process else nullcontext():
        for path, reason in getattr(clips, "skipped", {}).items() if accelerator.is_main_process else ():
            tqdm.write(f"skipped {path}: {reason}")
        return _Run(config, folder, clips, accelerator, watch, progress and accelerator.is_main_process).train()


def check_environment(precision: str) -> None:
    """Refuse variables by which accelerate would train something else than the config says, and not record it.

    precision: of this training. The "no" that `accelerate launch` passes on without being asked does not count.
    """
    for name in ACCELERATE_VARIABLES:
        value = os.environ.get(name, "")
        harmless = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1", "ACCELERATE_MIXED_PRECISION": precision}.get(
            name, ""
        )
        if value.strip().lower() not in {harmless, "", "no", "0", "false", "off", "f", "n"}:
            raise ValueError(
                f"the environment variable {name} ({value!r}) would change what is trained, which the config alone "
                "decides: unset it, or leave this option out of `accelerate launch` and its config file"
            )


class _Run:
    """One call of `train`, in one process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, clips: Clips, accelerator: Accelerator, watch, progress):
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.watch, self.progress = watch, progress
        self.step, self.seconds, self.log = 0, 0.0, list[dict[str, Any]]()
        device = accelerator.device
        half, spatial = new_parts(config)
        self.half, self.spatial = half.to(device), None if spatial is None else spatial.to(device)
        if config.part != "whole":
            self.half.to(memory_format=torch.channels_last if config.part == "spatial" else torch.channels_last_3d)
        perceptual = None if config.perceptual is None else perceptual_distance(config.perceptual).to(device)
        self.objective = accelerator.prepare(Objective(config, self.half, self.spatial, perceptual))
        self.average = AveragedModel(self.half, multi_avg_fn=partial(move_average, config.ema_decay))
        averaged: ModelMixin = self.average.module
        self.reconstructing = averaged if self.spatial is None else stack(self.spatial, averaged)
        self.made_of = fingerprint(clips, self.spatial)
        self.inputs = Inputs(config, clips, self.spatial, device, accelerator.process_index)

    @torch.enable_grad()  # even if the caller has disabled gradients
    def train(self) -> nn.Module:
        config, accelerator = self.config, self.accelerator
        saved = self.folder.read(config, accelerator.num_processes, self.made_of)
        if saved is not None:
            self.half.load_state_dict(saved["half"])
            self.average.load_state_dict(saved["average"])
            self.step, self.seconds, self.log = saved["step"], saved["seconds"], saved["log"]
            if self.step == config.steps and self.folder.model.exists():
                return load(self.folder.model)
        if accelerator.is_main_process:
            self.folder.write_log(self.log)
        with accelerator.main_process_first(), self.folder.explained(f"fill {self.folder.cache}"):
            self.inputs.fill_cache(self.folder.cache, self.progress)  # the other processes find it filled
        self.measured = self.inputs.measured()
        first = 0
        with tqdm(total=config.steps, initial=self.step, unit="step", disable=not self.progress) as bar:
            for number, stage in enumerate(config.stages):
                if self.step < first + stage.steps:
                    self._train_stage(number, stage, first, saved, bar)
                first += stage.steps
        # in the order in which `load` reads weights, since results depend on it by rounding
        vae = self.reconstructing.cpu().to(memory_format=torch.contiguous_format).eval()
        with torch.no_grad():
            z = torch.cat([codec_of(self.average.module).encode(x) for x in self.inputs.for_statistics()])
        vae = codec_of(vae).calibrated(z)
        if accelerator.is_main_process:
            self.folder.write_model(vae)
        accelerator.wait_for_everyone()
        return vae.eval()

    def _train_stage(self, number: int, stage: Stage, first: int, saved: dict | None, bar: tqdm) -> None:
        config = self.config
        optimizer = torch.optim.AdamW(self.half.parameters(), stage.learning_rate, weight_decay=config.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimizer, min(config.warmup_steps, stage.steps // 2), stage.steps)
        if saved is not None and self.step > first:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        optimizer = self.accelerator.prepare(optimizer)
        self.objective.train()
        started = time.perf_counter() - self.seconds
        for batch in self.inputs.batches(number, self.step - first):
            rate = schedule.get_last_lr()[0]
            try:
                measured = self._update(stage, batch, optimizer)
            except NotFiniteError as error:
                what = f"training is no longer finite at step {self.step}: {error}"
                raise TrainingError(f"{what}; {self.folder.last_good()}") from error
            schedule.step()
            self.step += 1
            self.seconds = time.perf_counter() - started
            bar.update()
            last = self.step == first + stage.steps
            if last or self.step % config.log_every == 0 or self.step % config.measure_every == 0:
                row = {"step": self.step, "stage": stage.name} | measured
                self._log(row | {"learning_rate": rate, "seconds": round(self.seconds, 2)}, measure=last, bar=bar)
            if last or self.step % config.checkpoint_every == 0:
                self._save(optimizer, schedule)

    def _update(self, stage: Stage, batch: Batch, optimizer) -> dict[str, float]:
        """Take one step. Return its losses, means over all processes, and the norm of the gradients."""
        accelerator = self.accelerator
        with accelerator.autocast(), layers_seeded(batch.seeds, accelerator.device):
            losses = self.objective(stage, *batch)
        values = accelerator.reduce(torch.stack([value.detach().float() for value in losses.values()]), "mean")
        if not values.isfinite().all():
            raise NotFiniteError(f"losses {values.tolist()}")
        optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        norm = accelerator.clip_grad_norm_(self.half.parameters(), self.config.max_grad_norm)
        if not norm.isfinite():
            raise NotFiniteError(f"gradient norm {norm.item()}")
        optimizer.step()
        self.average.update_parameters(self.half)
        return dict(zip(losses, values.tolist(), strict=True)) | {"grad_norm": norm.item()}

    def _log(self, row: dict[str, Any], measure: bool, bar: tqdm) -> None:
        if not self.accelerator.is_main_process:
            return
        if measure or row["step"] % self.config.measure_every == 0:
            codec, clips = codec_of(self.reconstructing.eval()), self.measured.to(self.accelerator.device).split(1)
            with torch.no_grad():
                values = [psnr(x, codec.reconstruct(x).sample.clamp(-1, 1), DATA_RANGE).mean().item() for x in clips]
            row["psnr"] = float(np.mean(values))
        self.log.append(row)
        with self.folder.explained(f"write {self.folder.log}"):
            self.folder.append_log(row)
        bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "psnr") if key in row})
        if self.watch is not None:
            self.watch(Progress(self.log, self.config.steps, self.reconstructing))

    def _save(self, optimizer, schedule) -> None:
        if self.accelerator.is_main_process:
            state = dict(half=self.half, average=self.average, optimizer=optimizer, schedule=schedule)
            values = dict(step=self.step, seconds=self.seconds, log=self.log, made_of=self.made_of)
            values |= {name: value.state_dict() for name, value in state.items()}
            self.folder.write(self.config, values | dict(processes=self.accelerator.num_processes))
        self.accelerator.wait_for_everyone()


def move_average(decay: float, averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
    """Move exponential averages. The decay begins small, so that they soon forget the weights before training."""
    now = min(decay, (1 + int(count)) / (10 + int(count)))  # as TensorFlow's ExponentialMovingAverage does
    torch._foreach_lerp_(averages, currents, 1 - now)
