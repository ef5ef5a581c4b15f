"""Check a reconstruction's arguments before a model is loaded."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..figures.frames import ERROR_GAIN
from ..utils.checks import check_above, plain
from ..utils.files import check_kind
from ..utils.text import count, first_line
from ..video.reading import VideoInfo, check_window, iter_video, scan_video
from ..video.writing import check_fps, check_times, ticks
from ..viewers.pictures import check_sides
from .segments import WorkFolder, source_identity

OUTPUTS = ("reconstruction.mp4", "side_by_side.mp4", "contact_sheet.png", "metrics.json", "index.html")
PARTIAL = "reconstruction.partial.mp4"


class SourceError(Exception):
    """The source is not what it was when it was scanned."""


@dataclass(eq=False)
class Plan:
    """What is to be reconstructed, and where to: the arguments of `reconstruct_file`, checked.

    Making a plan scans the source and tries to write to the folder. It warns of a truncated source, unless num_frames
    says how many frames are wanted. Raises ValueError or OSError for whatever cannot be reconstructed or written.
    """

    source: Path
    out: Path
    start: int = 0
    num_frames: int | None = None
    size: Sequence[int] | None = None
    gain: float = ERROR_GAIN
    device: str = "cpu"
    strict: bool = False
    info: VideoInfo = field(init=False)  # the result of `scan_video`

    def __post_init__(self):
        check_above("gain", self.gain, 0)
        self.start, self.num_frames, self.gain = plain([self.start, self.num_frames, self.gain])
        self.size = check_window(self.start, self.num_frames, self.size)
        if self.size is not None:
            check_sides("size", self.size)
        if str(self.device) != "cpu":  # torch takes seconds to import
            _check_device(self.device)
        if not self.source.exists():
            raise FileNotFoundError(f"no file or folder at {self.source}")
        check_kind(self.source)
        prepare_folder(self.out, self.source)
        self.info = scan_video(self.source, self.start, self.num_frames, self.size, self.strict)
        check_sides("frames", (self.info.height, self.info.width))
        check_fps(self.info.fps)
        if self.info.times is not None:
            check_times(self.info.times)
        if self.info.breaks_off:
            frames = count(self.info.num_frames, "frame")
            warnings.warn(f"{self.info.breaks_off}: reconstructing the {frames} before", stacklevel=4)

    def frames(self, done: int = 0) -> Iterator[np.ndarray]:
        """Read the frames after the first `done` ones.

        Raises SourceError if they cannot be read, or are fewer or more than were counted: the source may have changed.
        """
        total, t = self.info.num_frames, done
        if done == total:
            return
        to_the_end = self.num_frames is None and self.info.breaks_off is None
        num_frames = None if to_the_end else total - done
        try:
            for frame in iter_video(self.source, self.start + done, num_frames, self.size, self.strict):
                if t == total:
                    raise SourceError(f"has more than the {count(total, 'frame')} that were counted before")
                yield frame
                t += 1
        except (ValueError, OSError) as error:
            place = f"after frame {t} of {total}" if t < total else f"to its end after {count(total, 'frame')}"
            raise SourceError(f"cannot be read {place}: {error}") from error
        if t < total:
            raise SourceError(f"ended after {count(t, 'frame')}, but {total} were counted before")

    def ticks(self, first: int, stop: int) -> list[int]:
        """When frames `first` to `stop` - 1 are shown, in ticks of `video.writing`."""
        return [ticks(t, self.info.fps, self.info.times) for t in range(first, stop)]

    def identity(self) -> dict[str, Any]:
        """Everything in the plan that decides the outputs, in plain values."""
        return {
            "input": source_identity(self.source),
            "start": self.start,
            "number of frames": self.info.num_frames,
            "size": list(self.size) if self.size else None,
            "gain": self.gain,
            "device": str(self.device),
        }


def prepare_folder(out: Path, source: Path) -> None:
    """Refuse a folder that cannot be written to, or whose outputs would overwrite the source or end up in it."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out must be a folder, {out} is a file")
    for path in (out / name for name in (*OUTPUTS, PARTIAL)):
        if path.is_dir():
            raise ValueError(f"out ({out}) must have no folder called {path.name}, which is to be a file")
        if path.exists() and path.samefile(source):
            raise ValueError(f"source ({source}) must not be a file that is written to out ({out})")
    if out.exists() and out.samefile(source):
        raise ValueError(f"out ({out}) must not be source, the folder of images that is read")
    if source.is_dir() and any(folder.exists() and folder.samefile(source) for folder in out.resolve().parents):
        raise ValueError(f"out ({out}) must not be inside source ({source}), the folder of images that is read")
    try:
        with WorkFolder(out).locked():
            pass
    except OSError as error:
        raise OSError(f"cannot write to the folder {out}: {error.strerror}") from None


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} is not available: {first_line(error)}") from None
