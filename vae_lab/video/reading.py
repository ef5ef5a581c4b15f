"""Read videos, animations, images and folders of images as frames uint8 (T, H, W, 3), all at once or one by one."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..utils.checks import is_number, positive_int
from ..utils.files import check_kind
from . import decoding, images
from .frames import DEFAULT_FPS, Clip, check_size
from .images import IMAGE_SUFFIXES, BreaksOffError, Shown, Window


def read_video(
    source: str | Path,
    start: int = 0,
    num_frames: int | None = None,
    size: Sequence[int] | None = None,
    strict: bool = False,
) -> Clip:
    """Read frames `start` to `start + num_frames - 1` of a video, an animated image, a folder of images or one image.

    Its content decides how a file is read, not its suffix. Grey becomes three equal channels; transparent pixels are
    shown on white; 16 bits are rounded to 8; a video's alpha channel is dropped. Images and animations look as in
    browsers: colour profiles and gamma are converted to sRGB, frames are composed and timed alike.

    Colours of videos follow the tagged matrix and range; without a tag, BT.709 is taken from 720 lines on, else BT.601.
    Display matrices are followed: turns by multiples of 90 degrees, mirrored or not. Of several video streams, the
    default one is read, else the largest.

    What is unusual and read as it lies is said in the clip's `notes`: interlaced frames, HDR and wide-gamut colours,
    pixels that are not square, other display matrices. So are damaged packets, which cost the frames that cannot be
    decoded and no others; frames that FFmpeg could fill up are kept.

    A truncated mp4, mov, avi, webm or mkv is recognised by its container's own sizes, and refused if it is read to its
    end; formats without them (.ts, .flv) end where they end.

    Args:
        source: anything FFmpeg reads (mp4, webm, mkv, …), an image or animation that Pillow reads (gif, png, jpg, webp,
          avif, tif, …), or a folder of images: each is a frame, in natural order (2 before 10). Other files in the
          folder are left out and named in the clip's `notes`. HEIC pictures in tiles need the extra `heic`.
        start: first frame, from 0. Frames are counted as they are shown, also at a variable rate.
        num_frames: None reads to the end. In long files, decoding starts at the last picture before `start` from which
          it is exact. Frames that cannot be decoded do not count; but before that picture, this is known of packets
          with damaged headers only, unless the process has read the file from its start.
        size: (H, W) that each frame is scaled to cover, anti-aliased, and then cropped to, in the middle.
        strict: refuse a source with damaged frames.

    Raises FileNotFoundError if there is nothing at `source`, ValueError for no frames, no video stream, a broken or
    truncated file, frames of different sizes, or a window beyond the end.
    """
    notes: list[str] = []
    size = check_window(start, num_frames, size)
    shown = list(_read(source, Window(start, num_frames, size, notes, strict, pixels=True)))
    times = _times([one.time for one in shown])
    frames = np.stack([one.frame for one in shown])
    return Clip(frames, _rate(times, shown[-1]), times, shown[-1].pixel_aspect, tuple(notes))


def iter_video(
    source: str | Path,
    start: int = 0,
    num_frames: int | None = None,
    size: Sequence[int] | None = None,
    strict: bool = False,
) -> Iterator[np.ndarray]:
    """Iterate over the frames of `read_video`, uint8 (H, W, 3), in memory that does not grow with their number.

    Arguments and errors are those of `read_video`. Wrong arguments, and a source that is not there, raise at once; one
    that cannot be read raises when its frames are asked for.
    """
    size = check_window(start, num_frames, size)
    return (shown.frame for shown in _read(source, Window(start, num_frames, size, [], strict, pixels=True)))


class VideoInfo(NamedTuple):
    """Frames of a video, counted: what `scan_video` returns."""

    num_frames: int
    height: int
    width: int
    fps: float
    times: np.ndarray | None  # as in Clip
    breaks_off: str | None  # why the source ends earlier than it promises; None if it is whole
    pixel_aspect: Fraction = Fraction(1)  # as in Clip
    notes: tuple[str, ...] = ()  # as in Clip


def scan_video(
    source: str | Path,
    start: int = 0,
    num_frames: int | None = None,
    size: Sequence[int] | None = None,
    strict: bool = False,
) -> VideoInfo:
    """Count the frames that `iter_video` will give for the same arguments, and tell their size and times.

    Every frame of a video or an animation is decoded, only without its colours: counting packets would include frames
    that cannot be shown because a cut removed their key frame. Of the images in a folder, only the headers are read.

    Raises what `read_video` raises for a broken source; but if all frames of a truncated source were asked for, the
    frames before its end are counted, unless `strict`.
    """
    shown, stamps, breaks_off, notes = None, [], None, list[str]()
    size = check_window(start, num_frames, size)
    try:
        for shown in _read(source, Window(start, num_frames, size, notes, strict, pixels=False)):
            stamps.append(shown.time)
    except BreaksOffError as error:
        if shown is None or num_frames is not None or strict:
            raise
        breaks_off = str(error)
    assert shown is not None  # a source without frames is refused
    (height, width), times = shown.frame.shape[:2], _times(stamps)
    rate = _rate(times, shown)
    return VideoInfo(len(stamps), height, width, rate, times, breaks_off, shown.pixel_aspect, tuple(notes))


def check_window(start: int, num_frames: int | None, size: Sequence[int] | None) -> tuple[int, int] | None:
    """Refuse arguments that `read_video` refuses for every source, and return the size as ints."""
    if not is_number(start, Integral) or start < 0:
        raise ValueError(f"start must be a frame number of at least 0, got {start!r}")
    if num_frames is not None:
        positive_int("num_frames", num_frames)
    return None if size is None else check_size(size)


def _read(source: str | Path, window: Window) -> Iterator[Shown]:
    """Yield frames. What is unusual about the source is noted until the last one has been asked for."""
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    check_kind(path)
    frames = images.iter_folder(path, window, _read_file) if path.is_dir() else _read_file(path, window)
    return _checked(frames, path, window.start, window.num_frames)


def _read_file(path: Path, window: Window) -> Iterator[Shown]:
    """Read an image or a video, by its content: the suffix only decides what the error is called."""
    if images.is_image(path):
        yield from images.iter_image(path, window)
        return
    shown = None
    try:
        for shown in decoding.iter_stream(path, window):
            yield shown
    except ValueError as error:
        if shown is None and path.suffix.lower() in IMAGE_SUFFIXES:
            reason = str(error).removeprefix(f"{path} ")
            raise ValueError(f"{path} is not an image that can be read: it {reason}") from error
        raise


def _checked(frames: Iterator[Shown], path: Path, start: int, num_frames: int | None) -> Iterator[Shown]:
    """Pass on the frames. Refuse one whose size differs from those before, and a source that has too few."""
    t, first = 0, None
    for t, shown in enumerate(frames, start=1):
        shape = shown.frame.shape
        first = first or shape
        if shape != first:
            raise ValueError(
                f"{path}: frame {t - 1} is {shape[0]}x{shape[1]} (height x width), the ones before "
                f"{first[0]}x{first[1]}; give a size to fit them to"
            )
        yield shown
    if num_frames is not None and t < num_frames:
        raise ValueError(f"{path} has {start + t} frames, but {start} to {start + num_frames - 1} were requested")


def _times(stamps: Sequence[float | None]) -> np.ndarray | None:
    """Times as an array; None if they are unknown: some containers guess, and guess wrong."""
    times = np.array(stamps, dtype=float)  # None becomes NaN, which compares as False
    return times if not np.isnan(times).any() and (np.diff(times) > 0).all() else None


def _rate(times: np.ndarray | None, last: Shown) -> float:
    """Return the mean rate by the frames' own times, or the header's if the times, which are rounded, agree with it."""
    rate = last.fps or DEFAULT_FPS
    if times is None or len(times) < 2 or last.tick is None:
        return rate
    seconds, intervals = times[-1] - times[0], len(times) - 1
    return rate if last.fps and abs(seconds - intervals / rate) < 1.01 * last.tick else float(intervals / seconds)
