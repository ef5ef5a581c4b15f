"""Where a long reconstruction is kept while it is made, so that it can resume after an interruption."""

import hashlib
import inspect
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..utils.files import folder_beside, locked, remove, save_state, sync, write_beside
from ..utils.text import count

SEGMENT_FRAMES = 128  # at most, unless a piece is longer
SEGMENT_PIXELS = 4_000_000  # about: an interruption loses at most the work on one segment
LOCK = ".lock"
FEWEST_SEGMENT_FRAMES = 16  # each segment begins with a key frame, which is large


def segment_plan(pieces: Sequence[int], height: int, width: int) -> list[list[int]]:
    """Gather lengths of pieces into segments. The result depends on nothing else, so resumed work has the same cuts.

    >>> segment_plan([17] * 9, 64, 64)
    [[17, 17, 17, 17, 17, 17, 17], [17, 17]]
    """
    most = min(SEGMENT_FRAMES, max(FEWEST_SEGMENT_FRAMES, SEGMENT_PIXELS // (height * width)))
    plan: list[list[int]] = []
    for length in pieces:
        if not plan or sum(plan[-1]) + length > most:
            plan.append([])
        plan[-1].append(length)
    return plan


class WorkFolder:
    """The folder `.reconstruct` in the folder `out` of the outputs.

    run.json says what is made of what. segment-000000 and so on are finished segments, each moved into place whole;
    the last one also holds state.pt, the state of the work after it.
    """

    def __init__(self, out: Path):
        self.out, self.path = out, out / ".reconstruct"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, and remove it at the end if it has no finished segment. ValueError: another run holds it."""
        missing = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        keep = True
        try:
            with locked(self.path / LOCK, refusal=ValueError(f"another run is using {self.out}")):
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
        """The finished segments."""
        return sorted(self.path.glob("segment-??????"))

    def begin(self, run: Mapping[str, Any], lengths: Sequence[int]) -> int:
        """Resume if the folder holds the same run, else clear it; return the number of finished frames.

        run: whatever decides the outputs; a different one is warned of. lengths: frames of each segment.
        """
        before = self._read_run()
        now = {"run": json.loads(json.dumps(run)), "lengths": list(lengths)}
        if before != now:
            if self.segments and before:  # segments without run.json are what a finished run could not remove
                others = ", ".join(name for name in now["run"] if before["run"].get(name) != now["run"][name])
                frames = count(self.done(), "frame")
                warnings.warn(
                    f"{self.path} held {frames} of a run with a different {others}: starting over", stacklevel=2
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
        """The number of frames in finished segments."""
        run = self._read_run()
        return sum(run["lengths"][: len(self.segments)]) if run else 0

    def kept(self) -> str:
        """A sentence for messages that says what is kept, also after the work has stopped."""
        run, done = self._read_run(), self.done()
        if run is None or not done:
            return "nothing was written"
        total = count(sum(run["lengths"]), "frame")
        return f"{done} of {total} are done and kept in {self.path}, and the same command resumes from there"

    def clear(self) -> None:
        """Remove everything except the lock."""
        remove(self.path / "run.json")  # first: segments without it belong to no run
        for path in self.path.iterdir():
            if path.name != LOCK:
                remove(path)

    def state(self, device: str) -> dict[str, Any]:
        """Return the state after the last finished segment; there must be one."""
        import torch

        return torch.load(self.segments[-1] / "state.pt", map_location=device, weights_only=True)

    @contextmanager
    def new_segment(self, state: Callable[[], dict[str, Any]]) -> Iterator[Path]:
        """Yield a folder that becomes the next segment if the block succeeds, and is removed otherwise.

        state: called after the block; returns what `state` of this class is to return.
        """
        segments = self.segments
        with folder_beside(self.path / f"segment-{len(segments):06d}") as part:
            yield part
            save_state(state(), part / "state.pt")
            for file in (*part.iterdir(), part):
                sync(file)
        sync(self.path)
        if segments:
            (segments[-1] / "state.pt").unlink(missing_ok=True)

    @contextmanager
    def outputs(self) -> Iterator[Path]:
        """Yield a folder whose files move to `out`, each whole, if the block succeeds; then all work is removed."""
        with folder_beside(self.path / "outputs") as part:
            yield part
            for file in part.iterdir():
                sync(file)
        for file in (self.path / "outputs").iterdir():
            file.replace(self.out / file.name)
        self.clear()


def source_identity(path: Path) -> str:
    """Return a hash that changes when the file, or a file in the folder, is replaced or written to."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    known = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([str(path.resolve()), known]).encode("utf-8", "surrogateescape")).hexdigest()


def code_identity(function: Callable) -> str:
    """Return a hash that changes with the source of a function, or of the class of an object that is called."""
    for code in (function, type(function)):
        with suppress(OSError, TypeError):  # there is no source, as of a function from a console or in C
            return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()
    return getattr(function, "__qualname__", type(function).__qualname__)
