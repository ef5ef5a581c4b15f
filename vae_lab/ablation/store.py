"""The folder of an ablation: one file per finished trial, named by a hash of what decides its numbers."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import write_beside

RESERVED = VERSION_FILE, TRIALS, STARTED, SCRATCH = "code_version", "trials", "started", "scratch"
EMPTY = dict(metrics={}, frames={}, error="", traceback="", seconds=float("nan"))  # a trial that measured nothing
FIELDS = ("config", *EMPTY)  # in a finished trial, beside its key
KEPT = "kept"  # a file that protects the folder of a training from removal


@dataclass(frozen=True)
class TrialFolder:
    """The folder of an ablation. All its processes, on any machine, must see it under this path.

    code_version is the hash of the code that computes the trials. trials/KEY.json is a finished trial. started/KEY
    exists while a worker runs that trial, and stays if the worker dies. scratch/ holds 2D latents and, until all trials
    are finished, models.
    """

    path: Path

    def check(self, version: str) -> None:
        """Refuse a folder with trials of another version of the code."""
        if self.path.is_file():
            raise ValueError(f"out must be a folder, {self.path} is a file")
        if not (self.path / VERSION_FILE).exists():
            if (self.path / TRIALS).exists():
                raise ValueError(f"{self.path} holds trials of unknown code: {VERSION_FILE} is missing")
        elif self.version() != version:
            raise ValueError(
                f"{self.path} holds trials of another version of the code ({self.version()}, this is {version}): their "
                f"numbers cannot be compared with new ones; choose another folder, or remove it"
            )

    def open(self, version: str) -> None:
        """Check the folder and add what is missing. It must exist, and be locked."""
        self.check(version)
        if not (self.path / VERSION_FILE).exists():
            with write_beside(self.path / VERSION_FILE) as beside:
                beside.write_text(f"{version}\n", "utf-8")
        for name in (TRIALS, STARTED):
            (self.path / name).mkdir(exist_ok=True)

    def version(self) -> str:
        """Return the hash of the code that computed these trials."""
        return (self.path / VERSION_FILE).read_text("utf-8").strip()

    def file(self, key: str) -> Path:
        """Return the file of a finished trial."""
        return self.path / TRIALS / f"{key}.json"

    def read(self, key: str) -> dict[str, Any] | None:
        """Return a finished trial, or None. A damaged file raises ValueError."""
        file = self.file(key)
        if not file.exists():
            return None
        try:
            trial = json.loads(file.read_text("utf-8"))
            if not _is_trial(trial, key):
                raise ValueError(f"a trial has {', '.join(FIELDS)}, and the key in its name")
            return trial
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is damaged ({error}): remove it to run the trial again") from error

    def start(self, key: str) -> None:
        """Note that a worker runs this trial."""
        (self.path / STARTED / key).touch()

    def finish(self, key: str, trial: Mapping[str, Any]) -> None:
        """Save a finished trial, with EMPTY for what it lacks. The file of a trial is never incomplete."""
        with write_beside(self.file(key)) as beside:
            beside.write_text(json.dumps({"key": key} | EMPTY | dict(trial), indent=1) + "\n", "utf-8")
        (self.path / STARTED / key).unlink(missing_ok=True)

    def in_flight(self) -> set[str]:
        """Return the keys of trials that were started and did not finish."""
        return {path.name for path in (self.path / STARTED).iterdir()}

    def training(self, key: str) -> Path:
        """Return the folder of a training."""
        return self.path / SCRATCH / "trainings" / key

    def latents(self, key: str) -> Path:
        """Return the folder of the 2D latents that trainings on the same clips and weights share."""
        return self.path / SCRATCH / "latents" / key

    def close_training(self, key: str, keep: bool) -> None:
        """Protect a training from removal, or remove it in one step if it is not protected."""
        training = self.training(key)
        removed = training.with_name(f"{key}.removed")
        shutil.rmtree(removed, ignore_errors=True)  # left by a run that was killed here
        if keep and training.exists():
            (training / KEPT).touch()
        if training.exists() and not (training / KEPT).exists():
            training.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
        training.with_name(f"{key}.lock").unlink(missing_ok=True)


def _is_trial(trial: Any, key: str) -> bool:
    """Return whether a file's content has the fields of a trial, with values of the right kinds."""
    try:
        numbers = [*trial["metrics"].values(), trial["seconds"]]
        for series in trial["frames"].values():
            if len({len(values) for values in series.values()}) != 1:
                return False
            numbers += [value for values in series.values() for value in values]
        whole = trial.keys() >= {*FIELDS} and trial["key"] == key and isinstance(trial["error"], str)
        return whole and all(type(number) in (int, float) for number in numbers)
    except (TypeError, KeyError, AttributeError):
        return False
