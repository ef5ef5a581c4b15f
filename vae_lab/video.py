"""Video files <-> frames uint8 (T, H, W, 3) <-> tensors (B, 3, T, H, W) in [-1, 1].

Videos go through PyAV, the engine of imageio's video plugin, because only there a window can be found exactly in a file
of variable frame rate, and colours be tagged in what is written. Images are read with Pillow and written with imageio.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import images, streams
from .images import IMAGE_SUFFIXES, Shown
from .shapes import positive_int
from .writers import CODECS, VideoWriter, ticks

MAX_FPS = 1000  # Matroska and WebM count milliseconds
DEFAULT_FPS = 24.0  # of images, which have no rate of their own


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a video and when they are shown."""

    frames: np.ndarray
    """uint8 (T, H, W, 3), RGB."""
    fps: float = DEFAULT_FPS
    """Frames per second; of a video with a variable rate, the mean."""
    times: np.ndarray | None = None
    """Seconds from the file's start at which each frame is shown, float64 (T,); None: frame t at t / fps."""

    def __len__(self) -> int:
        return len(self.frames)


# ---- tensors -------------------------------------------------------------------------------------------------------


def check_frames(frames: np.ndarray) -> None:
    """Refuse what is not uint8 (T, H, W, 3) with at least one frame and one pixel."""
    shape, dtype = getattr(frames, "shape", None), getattr(frames, "dtype", None)
    if shape is None or len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), at least one, got {dtype} {shape}")


def to_tensor(frames: np.ndarray):
    """Frames uint8 (T, H, W, 3) -> torch float32 (1, 3, T, H, W) in [-1, 1]: value / 127.5 - 1."""
    import torch

    check_frames(frames)
    return torch.tensor(np.ascontiguousarray(np.moveaxis(frames, 3, 0)[None])).float().div(127.5).sub(1)


def to_frames(x) -> np.ndarray:
    """torch (1, 3, T, H, W) in [-1, 1] -> frames uint8 (T, H, W, 3), rounded; what overshoots [-1, 1] is clamped.

    The inverse of `to_tensor` for every uint8 value. Of a batch, pass one clip: x[:1].
    """
    if x.ndim != 5 or x.shape[0] != 1 or x.shape[1] != 3:
        raise ValueError(f"x must be one clip of shape (1, 3, T, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point in [-1, 1], got {x.dtype}")
    if not x.isfinite().all():
        raise ValueError("x must be finite, got NaN or infinity")
    frames = x.detach()[0].float().add(1).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(frames.permute(1, 2, 3, 0).byte().cpu().numpy())


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
    except streams.BreaksOffError as error:
        if not count or num_frames is not None:
            raise
        breaks_off = str(error)
    return VideoInfo(count, *first[:2], fps or DEFAULT_FPS, _times(times), breaks_off)


def _read(
    source: str | Path, start: int, num_frames: int | None, size: Sequence[int] | None, pixels: bool = True
) -> Iterator[Shown]:
    path = Path(source)
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"start must be a frame number of at least 0, got {start!r}")
    if num_frames is not None:
        positive_int("num_frames", num_frames)
    if size is not None:
        if not isinstance(size, Sequence) or len(size) != 2:
            raise ValueError(f"size must be (H, W), got {size!r}")
        size = tuple(positive_int("size", side) for side in size)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_dir():
        read = images.iter_folder
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        read = images.iter_image
    else:
        read = streams.iter_stream
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


# ---- writing -------------------------------------------------------------------------------------------------------


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float = DEFAULT_FPS,
    lossless: bool = False,
    times: np.ndarray | None = None,
) -> None:
    """Write frames uint8 (T, H, W, 3), or an iterable of (H, W, 3), as a video.

    Args:
        path: .mp4 (H.264) or .webm (VP9), both with 4:2:0 colour tagged BT.709, which every browser plays; .gif; .png
          and other image suffixes for one frame; .mkv (FFV1, every pixel kept) with lossless; a name without suffix
          becomes a folder of numbered png files, also lossless.
        lossless: refuse a path that would change a pixel.
        times: seconds at which each frame is shown, increasing, for a variable rate (.mp4, .webm and .mkv).

    A gif counts in hundredths of a second, up to 50 a second, and Pillow joins equal neighbours into one longer frame,
    so it may read back with fewer frames. H.264 with 4:2:0 needs even sides: for .mp4 an odd last row or column is
    repeated, with a warning. The file is written beside `path` and then renamed: a failure leaves what was there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_fps(fps, suffix)
    if suffix and suffix not in (*CODECS, *IMAGE_SUFFIXES):
        raise ValueError(f"path must end in {', '.join([*CODECS, *IMAGE_SUFFIXES])} or have no suffix, got {path.name}")
    if lossless and suffix not in (".mkv", ".png", ""):
        raise ValueError(f"lossless video is written as .mkv, .png (one frame) or a folder, got {path.name}")
    if suffix == ".mkv" and not lossless:
        raise ValueError(f"{path.name}: .mkv is the lossless format here; ask for it with lossless=True")
    if isinstance(frames, np.ndarray):
        check_frames(frames)
    if times is not None:
        times = check_times(times, suffix, len(frames) if isinstance(frames, np.ndarray) else None)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames must hold at least one frame")
    frames = _checked(chain([first], frames))
    with write_beside(path) as beside:
        if suffix in CODECS:
            _write_stream(beside, frames, fps, times)
        else:
            _write_images(beside, frames, fps, suffix)


def check_fps(fps: float, suffix: str = ".mp4") -> None:
    """Refuse a rate that a file of this suffix cannot have."""
    highest = 50 if suffix == ".gif" else MAX_FPS
    if not isinstance(fps, Real) or not 0 < fps <= highest:
        raise ValueError(f"fps must be above 0 and at most {highest}{' in a gif' * (highest == 50)}, got {fps}")


def check_times(times: Sequence[float], suffix: str = ".mp4", num_frames: int | None = None) -> np.ndarray:
    """Times as `write_video` takes them, float64 (T,); others are refused."""
    if suffix not in CODECS:
        raise ValueError(f"times can be kept in {', '.join(CODECS)}, not in {suffix or 'a folder'}")
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not np.isfinite(times).all() or (times < 0).any() or (np.diff(times) < 1 / MAX_FPS).any():
        raise ValueError(f"times must be seconds from 0, each at least 1/{MAX_FPS} after the one before, got {times}")
    if num_frames is not None and len(times) != num_frames:
        raise ValueError(f"times must have one entry for each of {num_frames} frames, got {len(times)}")
    return times


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, and is removed otherwise."""
    beside = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"cannot write {path}: there is a folder of that name, and it is not empty")
    try:
        yield beside
        beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for t, frame in enumerate(frames):
        check_frames(frame[None])
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"frame {t} is {frame.shape[0]}x{frame.shape[1]}, the ones before {shape[0]}x{shape[1]}")
        yield frame


def _write_stream(path: Path, frames: Iterator[np.ndarray], fps: float, times: np.ndarray | None) -> None:
    with VideoWriter(path, fps) as writer:
        for t, frame in enumerate(frames):
            if times is not None and t == len(times):
                raise ValueError(f"times must have one entry for each frame, got {len(times)} for more frames")
            writer.write(frame, ticks(t, fps, times))
        if times is not None and t + 1 != len(times):
            raise ValueError(f"times must have one entry for each of {t + 1} frames, got {len(times)}")


def _write_images(path: Path, frames: Iterator[np.ndarray], fps: float, suffix: str) -> None:
    import imageio.v3 as iio

    if suffix == ".gif":
        iio.imwrite(path, list(frames), plugin="pillow", duration=round(1000 / fps), loop=0)
        return
    if suffix:
        first, *more = frames
        if more:
            raise ValueError(f"{suffix} holds one frame, got {1 + len(more)}")
        iio.imwrite(path, first, plugin="pillow")
        return
    path.mkdir()
    for t, frame in enumerate(frames):
        iio.imwrite(path / f"{t:06d}.png", frame, plugin="pillow")
