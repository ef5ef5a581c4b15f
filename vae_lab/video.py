"""Video files <-> frames uint8 (T, H, W, 3) <-> tensors (B, 3, T, H, W) in [-1, 1].

Videos go through PyAV, the engine of imageio's video plugin, because only there a window can be found exactly in a file
of variable frame rate, and colours be tagged in what is written. Images are read with Pillow and written with imageio.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from numbers import Real
from pathlib import Path

import numpy as np

from . import images, streams
from .images import IMAGE_SUFFIXES
from .shapes import positive_int

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
        clip = Clip(images.read_folder(path, start, num_frames, size))
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        frames, times, fps = images.read_image(path, start, num_frames, size)
        clip = Clip(frames, fps or DEFAULT_FPS, times)
    else:
        frames, times, fps = streams.read_stream(path, start, num_frames, size)
        clip = Clip(frames, fps or DEFAULT_FPS, times)
    if num_frames is not None and len(clip) < num_frames:
        raise ValueError(
            f"{path} has {start + len(clip)} frames, so it has no frames {start} to {start + num_frames - 1}"
        )
    return clip


# ---- writing -------------------------------------------------------------------------------------------------------

_CODECS = {  # suffix: container, codec, pixel format, options
    ".mp4": ("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "medium"}),
    ".webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b:v": "0", "deadline": "good", "cpu-used": "4"}),
    ".mkv": ("matroska", "ffv1", "bgr0", {"level": "3"}),
}


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
    _check_fps(fps, suffix)
    if suffix and suffix not in (*_CODECS, *IMAGE_SUFFIXES):
        raise ValueError(
            f"path must end in {', '.join([*_CODECS, *IMAGE_SUFFIXES])} or have no suffix, got {path.name}"
        )
    if lossless and suffix not in (".mkv", ".png", ""):
        raise ValueError(f"lossless video is written as .mkv, .png (one frame) or a folder, got {path.name}")
    if suffix == ".mkv" and not lossless:
        raise ValueError(f"{path.name}: .mkv is the lossless format here; ask for it with lossless=True")
    if isinstance(frames, np.ndarray):
        check_frames(frames)
    if times is not None:
        times = _check_times(times, suffix, len(frames) if isinstance(frames, np.ndarray) else None)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames must hold at least one frame")
    frames = _checked(chain([first], frames))
    with write_beside(path) as beside:
        if suffix in _CODECS:
            _write_stream(beside, frames, fps, times, *_CODECS[suffix], even=suffix == ".mp4")
        else:
            _write_images(beside, frames, fps, suffix)


def _check_fps(fps: float, suffix: str) -> None:
    highest = 50 if suffix == ".gif" else MAX_FPS
    if not isinstance(fps, Real) or not 0 < fps <= highest:
        raise ValueError(f"fps must be above 0 and at most {highest}{' in a gif' * (highest == 50)}, got {fps}")


def _check_times(times: Sequence[float], suffix: str, num_frames: int | None) -> np.ndarray:
    if suffix not in _CODECS:
        raise ValueError(f"times can be kept in {', '.join(_CODECS)}, not in {suffix or 'a folder'}")
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


def _write_stream(path, frames, fps, times, container_format, codec, pixel_format, options, even) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    time_base = Fraction(1, 90_000)  # the clock of MPEG: fine enough for every rate in use
    flags = {"movflags": "+faststart"} if container_format == "mp4" else {}
    with av.open(str(path.absolute()), "w", format=container_format, options=flags) as container:
        stream = None
        for t, frame in enumerate(frames):
            if even:
                frame = _even(frame, warn=t == 0)
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixel_format
                stream.codec_context.time_base = time_base
                if pixel_format == "yuv420p":  # H.273: 1 is BT.709 for primaries, transfer and matrix alike
                    stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
                    stream.codec_context.colorspace = Colorspace.ITU709
                    stream.codec_context.color_range = ColorRange.MPEG
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if pixel_format == "yuv420p":
                picture = picture.reformat(
                    format=pixel_format, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
            picture.time_base = time_base
            if times is not None and t == len(times):
                raise ValueError(f"times must have one entry for each frame, got {len(times)} for more frames")
            picture.pts = round((t / fps if times is None else times[t]) / time_base)
            container.mux(stream.encode(picture))
        if times is not None and t + 1 != len(times):
            raise ValueError(f"times must have one entry for each of {t + 1} frames, got {len(times)}")
        container.mux(stream.encode(None))


def _even(frame: np.ndarray, warn: bool) -> np.ndarray:
    height, width = frame.shape[:2]
    if height % 2 == width % 2 == 0:
        return frame
    if warn:
        warnings.warn(
            f"frames of {height}x{width} are stored as {height + height % 2}x{width + width % 2} in .mp4, the last row "
            "or column repeated; .webm keeps odd sizes",
            stacklevel=4,
        )
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


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
