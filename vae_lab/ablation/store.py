"""What an ablation keeps on disk: a file for each finished trial, named by what decides its numbers."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import write_beside

VERSION_FILE, TRIALS, STARTED, SCRATCH = "code_version", "trials", "started", "scratch"
FIELDS = ("config", "metrics", "frames", "error", "traceback", "seconds")  # of a finished trial, beside its key
KEPT = "kept"  # a file in the folder of a training that is not to be removed
RESERVED = (VERSION_FILE, TRIALS, STARTED, SCRATCH)


@dataclass(frozen=True)
class TrialFolder:
    """The folder of an ablation. All its processes, on whatever machine, must see it under this path.

    code_version: of the code that computes the trials. trials/KEY.json: a finished trial. started/KEY: its worker is at
    work, or died. scratch/: models, until all trials of an ablation are finished, and 2D latents.
    """

    path: Path

    def check(self, version: str) -> None:
        """Refuse a folder of other code, whose numbers would stand beside ours."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must be a folder, {self.path} is a file")
        file = self.path / VERSION_FILE
        if file.exists() and (found := self.version()) != version:
            raise ValueError(
                f"{self.path} holds trials of another version of the code ({found}, this is {version}): their numbers "
                f"are not to be compared with new ones; choose another folder, or remove it"
            )
        if not file.exists() and (self.path / TRIALS).exists():
            raise ValueError(f"{self.path} holds trials of unknown code: {VERSION_FILE} is missing")

    def open(self, version: str) -> None:
        """`check`, and make what is missing. The folder itself must be there, and locked."""
        self.check(version)
        if not (self.path / VERSION_FILE).exists():
            with write_beside(self.path / VERSION_FILE) as beside:
                beside.write_text(f"{version}\n", "utf-8")
        for name in (TRIALS, STARTED):
            (self.path / name).mkdir(exist_ok=True)

    def version(self) -> str:
        """Of the code whose trials are here."""
        return (self.path / VERSION_FILE).read_text("utf-8").strip()

    def read(self, key: str) -> dict[str, Any] | None:
        """A finished trial, or None."""
        file = self.path / TRIALS / f"{key}.json"
        if not file.exists():
            return None
        try:
            trial = json.loads(file.read_text("utf-8"))
            if not _is_trial(trial, key):
                raise ValueError(f"a trial has {', '.join(FIELDS)}, and its own key")
            return trial
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is damaged ({error}): remove it, and the trial is run again") from error

    def start(self, key: str) -> None:
        (self.path / STARTED / key).touch()

    def finish(self, key: str, trial: Mapping[str, Any]) -> None:
        """Keep a finished trial. A file that is only half written is never at its place."""
        with write_beside(self.path / TRIALS / f"{key}.json") as beside:
            beside.write_text(json.dumps({"key": key} | dict(trial), indent=1) + "\n", "utf-8")
        (self.path / STARTED / key).unlink(missing_ok=True)

    def in_flight(self) -> set[str]:
        """Keys of trials that were started and did not finish."""
        return {path.name for path in (self.path / STARTED).iterdir()}

    def forget(self, key: str) -> None:
        """Let a finished trial be run again."""
        (self.path / TRIALS / f"{key}.json").unlink(missing_ok=True)

    def training(self, key: str) -> Path:
        """Where a training is at work."""
        return self.path / SCRATCH / "trainings" / key

    def latents(self, key: str) -> Path:
        """Where trainings on the same clips, behind the same weights, keep 2D latents that they share."""
        return self.path / SCRATCH / "latents" / key

    def keep_training(self, key: str) -> None:
        """Let it stay, where there is one, whatever is removed later."""
        if self.training(key).exists():
            (self.training(key) / KEPT).touch()

    def remove_training(self, key: str) -> None:
        """Unless it is to be kept. At no moment there is a half of it at its place."""
        training = self.training(key)
        removed = training.with_name(f"{key}.removed")
        shutil.rmtree(removed, ignore_errors=True)  # of a run that was killed here
        if training.exists() and not (training / KEPT).exists():
            training.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
        training.with_name(f"{key}.lock").unlink(missing_ok=True)


def _is_trial(trial: Any, key: str) -> bool:
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
