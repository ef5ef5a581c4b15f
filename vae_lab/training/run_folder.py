"""The files of a training run: a checkpoint that is replaced in one step, a CSV log, and the finished model."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..utils.files import check_kind, folder_beside, locked, reason, save_state, write_beside
from .config import RUNTIME_FIELDS, RunConfig, renamed

FIELDS = ("step", "stage", "loss", "mse", "l1", "kl", "identity", "perceptual", "psnr", "learning_rate", "grad_norm",
          "seconds")  # fmt: skip


class TrainingError(RuntimeError):
    """Training had to stop. The message says why, and names the last good checkpoint."""


class RunFolder:
    """The folder of one run.

    checkpoint.pt holds everything that resumption needs; a new one replaces the old one in one step. log.csv has a row
    (`fields`) every `log_every` steps. model/ is the finished model, config.json the config.

    frozen: what messages call the frozen model behind which the run trains.
    """

    def __init__(
        self,
        path: str | Path,
        cache: str | Path | None = None,
        *,
        fields: Sequence[str] = FIELDS,
        frozen: str = "2D half",
    ):
        self.path, self.fields, self.frozen = Path(path), fields, frozen
        self.checkpoint, self.log = self.path / "checkpoint.pt", self.path / "log.csv"
        self.model, self.config = self.path / "model", self.path / "config.json"
        self.cache = self.path / "cache" if cache is None else Path(cache)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, so that a second training in it is refused. The lock ends with the process."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} must be a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock", refusal=TrainingError(f"another training is at work in {self.path}")):
            yield

    def read(self, config: RunConfig, processes: int, made_of: str) -> dict[str, Any] | None:
        """Read the checkpoint to resume from; None before the first one. Refuse the folder of another run."""
        if not self.checkpoint.exists():
            return None
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        stored, now = renamed(state["config"]), config.to_dict()
        names = sorted({*now, *stored} - {*RUNTIME_FIELDS})
        different = [name for name in names if stored.get(name) != now.get(name)]
        if different:
            refusal = f"with another {', '.join(different)}: choose another folder, or remove it"
        elif state["made_of"] != made_of:
            refusal = f"on other clips, or behind another {self.frozen}: choose another folder, or remove it"
        elif state["processes"] != processes:
            refusal = f"on {state['processes']} processes, which {processes} cannot continue: start the same number"
        else:
            return state
        raise ValueError(f"{self.path} holds a run {refusal}")

    @contextmanager
    def explained(self, task: str, *errors: type[Exception]) -> Iterator[None]:
        """Turn an OSError, or one of `errors`, into a TrainingError that names the last good checkpoint."""
        expected: tuple[type[Exception], ...] = (OSError, *errors)
        try:
            yield
        except expected as error:
            raise TrainingError(f"could not {task} ({reason(error)}); {self.last_good()}") from error

    def write(self, config: RunConfig, state: dict[str, Any]) -> None:
        """Replace the config, the checkpoint, and the log up to this step."""
        values = config.to_dict()
        with self.explained(f"write the checkpoint of step {state['step']} to {self.path}"):
            with write_beside(self.config, durable=True) as part:
                part.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
            with write_beside(self.checkpoint, durable=True) as part:
                save_state({"config": values} | state, part)
            self.write_log(state["log"])

    def last_good(self) -> str:
        """Say which checkpoint is the last good one, for error messages."""
        if not self.checkpoint.exists():
            return "there is no checkpoint yet"
        step = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"]
        return f"the last good checkpoint is {self.checkpoint}, after step {step}; the same command resumes from it"

    def write_log(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the log by these rows."""
        with write_beside(self.log, durable=True) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.fields)
            writer.writeheader()
            writer.writerows(rows)

    def append_log(self, row: dict[str, Any]) -> None:
        """Append a row to the log."""
        with self.log.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.fields).writerow(row)

    def write_model(self, vae) -> None:
        """Save the finished model. The folder `model` never holds an incomplete one."""
        with self.explained(f"write {self.model}", RuntimeError), folder_beside(self.model) as part:
            vae.save_pretrained(part)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a log.csv: `step` as int, `stage` as text, other numbers as float. Empty cells are left out."""
    kinds = {"step": int, "stage": str}
    check_kind(Path(path))
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [{key: kinds.get(key, float)(value) for key, value in row.items() if value} for row in rows]
