"""Where a long reconstruction is kept while it is made, so that it can go on after whatever stopped it."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..utils.files import hash_weights, locked, save_state, sync, write_beside
from ..utils.text import count

SEGMENT_FRAMES = 128  # at most, where a piece is not longer
SEGMENT_PIXELS = 4_000_000  # about: what is lost when the work is stopped is at most one segment
FEWEST_SEGMENT_FRAMES = 16  # each begins with a key frame, which is large


def segment_plan(pieces: Sequence[int], height: int, width: int) -> list[list[int]]:
    """Lengths of pieces, gathered into segments. It depends on nothing else, so stopped work goes on at the same cuts.

    >>> segment_plan([17] * 9, 64, 64)
    [[17, 17, 17, 17, 17, 17, 17], [17, 17]]
    """
    most = min(SEGMENT_FRAMES, max(FEWEST_SEGMENT_FRAMES, SEGMENT_PIXELS // (height * width)))
    plan = []
    for length in pieces:
        if not plan or sum(plan[-1]) + length > most:
            plan.append([])
        plan[-1].append(length)
    return plan


class WorkFolder:
    """`.reconstruct` in the folder of the outputs.

    run.json: what is made, of what. segment-000000 and so on: finished segments, each moved in whole, with what its
    maker put there; the last one holds state.pt, where the work stands after it.
    """

    def __init__(self, out: Path):
        self.out, self.path = out, out / ".reconstruct"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second run in it is refused. Where nothing is worth keeping at the end it is removed."""
        missing = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        keep = True
        try:
            with locked(self.path / ".lock", refusal=ValueError(f"another run is at work in {self.out}")):
                try:
                    yield
                finally:
                    keep = bool(self.segments)
        finally:
            if not keep:
                shutil.rmtree(self.path, ignore_errors=True)
                for folder in missing:
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()

    @property
    def segments(self) -> list[Path]:
        """The finished ones."""
        return sorted(self.path.glob("segment-??????"))

    def begin(self, run: Mapping[str, Any], lengths: Sequence[int]) -> int:
        """Take up what is there if it is the same run, or start anew. lengths: frames of each segment.

        Returns the number of frames that are done. What is removed is warned of.
        """
        before = self._read_run()
        now = {"run": json.loads(json.dumps(run)), "lengths": list(lengths)}
        if before != now:
            if self.segments and before:  # without its run.json it is what a finished run did not get to remove
                others = [name for name in now["run"] if before["run"].get(name) != now["run"][name]]
                warnings.warn(
                    f"{self.path} held {count(self.done(), 'frame')} of a run with another {', '.join(others)}: "
                    "started anew",
                    stacklevel=2,
                )
            self.clear()
            with write_beside(self.path / "run.json", durable=True) as path:
                path.write_text(json.dumps(now) + "\n", "utf-8")
        return self.done()

    def _read_run(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def done(self) -> int:
        """Frames in finished segments."""
        run = self._read_run()
        return sum(run["lengths"][: len(self.segments)]) if run else 0

    def kept(self) -> str:
        """A sentence for messages, also after the work has stopped."""
        if not self.done():
            return "nothing was written"
        return (
            f"{self.done()} of {count(sum(self._read_run()['lengths']), 'frame')} are done and kept in {self.path}, "
            "and the same command goes on from there"
        )

    def clear(self) -> None:
        (self.path / "run.json").unlink(missing_ok=True)  # first: from here on the segments are no run's
        for segment in self.segments:
            shutil.rmtree(segment)

    def state(self, device: str | torch.device) -> dict[str, Any]:
        """Where the work stands after the last finished segment, of which there must be one."""
        return torch.load(self.segments[-1] / "state.pt", map_location=device, weights_only=True)

    @property
    def _part(self) -> Path:
        return self.path / "unfinished"

    @contextmanager
    def new_segment(self, state) -> Iterator[Path]:
        """A folder for the next segment, which counts from when the block ends well; removed otherwise.

        state: a function without arguments that then gives what `state` is to return.
        """
        segments = self.segments
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir()
        try:
            yield self._part
            save_state(state(), self._part / "state.pt")
            for file in (*self._part.iterdir(), self._part):
                sync(file)
            self._part.rename(self.path / f"segment-{len(segments):06d}")
        finally:
            shutil.rmtree(self._part, ignore_errors=True)
        sync(self.path)
        if segments:
            (segments[-1] / "state.pt").unlink(missing_ok=True)

    @contextmanager
    def outputs(self) -> Iterator[Path]:
        """A folder whose files move to `out` when the block ends well, each whole; then all work is removed."""
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir()
        try:
            yield self._part
            for file in self._part.iterdir():
                sync(file)
            for file in self._part.iterdir():
                file.replace(self.out / file.name)
        finally:
            shutil.rmtree(self._part, ignore_errors=True)
        self.clear()


def source_identity(path: Path) -> str:
    """Changes when a file, or one in a folder, is another one, or is written to."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    known = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([str(path.resolve()), known]).encode("utf-8", "surrogateescape")).hexdigest()


def model_identity(vae) -> str:
    """Changes with the class, the config and any weight."""
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    parts = [type(vae).__name__, str(vae.dtype), config]
    digest = hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode())
    hash_weights(digest, vae.state_dict())
    return digest.hexdigest()
