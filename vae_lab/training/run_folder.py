"""What a training run writes: a checkpoint that is replaced in one step, a CSV log, and the finished model."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..utils.files import folder_beside, locked, reason, save_state, write_beside
from .config import RUNTIME_FIELDS, TrainConfig, renamed

FIELDS = ("step", "stage", "loss", "mse", "l1", "kl", "identity", "perceptual", "psnr", "learning_rate", "grad_norm",
          "seconds")  # fmt: skip


class TrainingError(RuntimeError):
    """Training had to stop; the message says why, and which checkpoint is the last good one."""


class RunFolder:
    """The folder of one run.

    checkpoint.pt: all that is needed to go on; it is written beside and moved into place, so that there is always a
      whole one. log.csv: a row every `log_every` steps (FIELDS). model/: the finished model. config.json: the config.
    """

    def __init__(self, path: str | Path, cache: str | Path | None = None):
        self.path = Path(path)
        self.checkpoint, self.log = self.path / "checkpoint.pt", self.path / "log.csv"
        self.model, self.config = self.path / "model", self.path / "config.json"
        self.cache = self.path / "cache" if cache is None else Path(cache)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second training in it is refused. The lock ends with the process, however it ends."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} must be a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock", refusal=TrainingError(f"another training is at work in {self.path}")):
            yield

    def read(self, config: TrainConfig, processes: int, made_of: str) -> dict[str, Any] | None:
        """The checkpoint to go on from, or None at the start. Refuses the folder of another run.

        made_of: `train_data.fingerprint` of the clips and the frozen half.
        """
        if not self.checkpoint.exists():
            return None
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        stored, now = renamed(state["config"]), config.to_dict()
        names = sorted({*now, *stored} - {*RUNTIME_FIELDS})
        different = [name for name in names if stored.get(name) != now.get(name)]
        if different:
            raise ValueError(
                f"{self.path} holds a run with another {', '.join(different)}: choose another folder, or remove it"
            )
        if state["made_of"] != made_of:
            raise ValueError(
                f"{self.path} holds a run on other clips, or behind another 2D half: choose another folder, "
                f"or remove it"
            )
        if state["processes"] != processes:
            raise ValueError(
                f"{self.path} holds a run on {state['processes']} processes, which {processes} would not continue: "
                f"start as many"
            )
        return state

    def write(self, config: TrainConfig, state: dict[str, Any]) -> None:
        """Replace the checkpoint, and write the log anew up to it."""
        try:
            with write_beside(self.config, durable=True) as part:
                part.write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")
            with write_beside(self.checkpoint, durable=True) as part:
                save_state({"config": config.to_dict()} | state, part)
            self.write_log(state["log"])
        except OSError as error:
            raise TrainingError(
                f"could not write the checkpoint of step {state['step']} to {self.path} ({reason(error)}); "
                f"{self.last_good()}"
            ) from error

    def last_good(self) -> str:
        """A sentence for error messages."""
        if not self.checkpoint.exists():
            return "there is no checkpoint yet"
        step = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"]
        return f"the last good checkpoint is {self.checkpoint}, after step {step}; the same command goes on from it"

    def write_log(self, rows: Sequence[dict[str, Any]]) -> None:
        with write_beside(self.log, durable=True) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def append_log(self, row: dict[str, Any]) -> None:
        with self.log.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, FIELDS).writerow(row)

    def write_model(self, vae) -> None:
        """Save the finished model; a folder that is only half written is never at `model`."""
        try:
            with folder_beside(self.model) as part:
                vae.save_pretrained(part)
        except (OSError, RuntimeError) as error:
            raise TrainingError(f"could not write {self.model} ({reason(error)}); {self.last_good()}") from error


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a log.csv: numbers as float, `step` as int, `stage` as text; values that are not there left out."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            {
                key: value if key == "stage" else int(value) if key == "step" else float(value)
                for key, value in row.items()
                if value
            }
            for row in csv.DictReader(file)
        ]
