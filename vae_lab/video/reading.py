"""Videos, animations, images and folders of images -> frames uint8 (T, H, W, 3), whole or one by one."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..utils.checks import is_number, positive_int
from . import decoding, images
from .frames import DEFAULT_FPS, Clip
from .images import IMAGE_SUFFIXES, Shown

# ---- reading -------------------------------------------------------------------------------------------------------


def read_video(
    source: str | Path, start: int = 0, num_frames: int | None = None, size: Sequence[int] | None = None
) -> Clip:
    """Frames `start` to `start + num_frames - 1` of a video file, an animated image, a folder of images or one image.

    Args:
        source: anything FFmpeg reads (mp4, webm, mkv, …), gif, png, jpg, webp, bmp, tif, or a folder of such images,
          which are taken in natural order (2 before 10), one a frame.
        start: first frame, from 0. Frames are counted as they are shown, also where the rate varies.
        num_frames: None means all to the end. Reading stops after the last one, and starts at the key frame at or
          before `start`.
        size: (H, W) to fit each frame to: scaled until it covers, anti-aliased, and cropped in the middle.

    Grey becomes three equal channels; transparent pixels lie on white; rotation tags are followed; 16 bit become 8; a
    video's alpha channel is left out. A cut-off mp4, webm or mkv is noticed by what its header promises; formats whose
    header promises nothing (.ts, .flv) end where they end.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: no frames, no video stream, a broken or cut-off file, frames of different sizes, or a window that
          the video does not have.
    """
    shown = list(_read(source, start, num_frames, size))
    frames = np.stack([one.frame for one in shown])
    return Clip(frames, shown[-1].fps or DEFAULT_FPS, _times([one.time for one in shown]))


def iter_video(
    source: str | Path, start: int = 0, num_frames: int | None = None, size: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """The frames of `read_video` one after another, uint8 (H, W, 3), so that memory does not grow with their number.

    Its arguments and its errors: what is wrong with an argument is raised at once, what is wrong with the source when
    the reading comes to it.
    """
    return (shown.frame for shown in _read(source, start, num_frames, size))


class VideoInfo(NamedTuple):
    """What `scan_video` found."""

    num_frames: int
    height: int
    width: int
    fps: float
    times: np.ndarray | None
    """As in Clip."""
    breaks_off: str | None
    """Why the source ends before it says it does; None where it is whole."""


def scan_video(
    source: str | Path, start: int = 0, num_frames: int | None = None, size: Sequence[int] | None = None
) -> VideoInfo:
    """What `iter_video` will give of the same arguments: how many frames, how large, and when they are shown.

    Every frame of a video or an animation is decoded for it, only the colours are left out: its packets may be more
    (what a cut left without its key frame cannot be shown). Of a folder, what says how large each image is.

    Raises what `read_video` raises for a broken source, but for one that breaks off where all frames were asked for:
    then the frames before are counted.
    """
    count, first, fps, times, breaks_off = 0, None, None, [], None
    try:
        for shown in _read(source, start, num_frames, size, pixels=False):
            count, first, fps = count + 1, first or shown.frame.shape, shown.fps
            times.append(shown.time)
    except decoding.BreaksOffError as error:
        if not count or num_frames is not None:
            raise
        breaks_off = str(error)
    return VideoInfo(count, *first[:2], fps or DEFAULT_FPS, _times(times), breaks_off)


def check_window(start: int, num_frames: int | None, size: Sequence[int] | None) -> tuple[int, int] | None:
    """Refuse arguments that `read_video` refuses for every source, and return the size as ints."""
    if not is_number(start, Integral) or start < 0:
        raise ValueError(f"start must be a frame number of at least 0, got {start!r}")
    if num_frames is not None:
        positive_int("num_frames", num_frames)
    if size is None:
        return None
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size must be (H, W), got {size!r}")
    return positive_int("size", size[0]), positive_int("size", size[1])


def _read(
    source: str | Path, start: int, num_frames: int | None, size: Sequence[int] | None, pixels: bool = True
) -> Iterator[Shown]:
    path = Path(source)
    size = check_window(start, num_frames, size)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_dir():
        read = images.iter_folder
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        read = images.iter_image
    else:
        read = decoding.iter_stream
    frames = images.same_size(read(path, start, num_frames, size, pixels), path)
    return frames if num_frames is None else _window(frames, path, start, num_frames)


def _window(frames: Iterator[Shown], path: Path, start: int, num_frames: int) -> Iterator[Shown]:
    """All of `num_frames`, or an error."""
    end = start
    for end, shown in enumerate(frames, start + 1):  # noqa: B007 - `end` is looked at afterwards
        yield shown
    if end < start + num_frames:
        raise ValueError(f"{path} has {end} frames, so it has no frames {start} to {start + num_frames - 1}")


def _times(stamps: Sequence[float | None]) -> np.ndarray | None:
    """None where they are not known: some containers guess, and guess wrong."""
    return np.array(stamps) if None not in stamps and (np.diff(stamps) > 0).all() else None
