"""Write frames as .mp4 (H.264), .webm (VP9), .mkv (FFV1), gif or png files, and join .mp4 files without re-encoding."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import ArrayLike

from ..utils.checks import is_number, plain
from ..utils.files import write_beside
from .containers import ROOM_FOR_DISPLAY_SIZE, write_display_size
from .frames import DEFAULT_FPS, check_frames

MAX_FPS = 1000  # Matroska and WebM count in milliseconds


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float = DEFAULT_FPS,
    lossless: bool = False,
    times: np.ndarray | None = None,
    pixel_aspect: Fraction | float = 1,
) -> None:
    """Write frames uint8 (T, H, W, 3), or an iterable of (H, W, 3), as a video.

    A gif counts in hundredths of a second, up to 50 frames per second, and Pillow joins equal neighbours into one
    longer frame, so it may read back with fewer frames. H.264 with 4:2:0 needs even sides: in .mp4 an odd last row or
    column is repeated, with a warning. A failure leaves the old file.

    Args:
        path: .mp4 (H.264) or .webm (VP9), both with 4:2:0 colour tagged BT.709, which every browser plays; .gif; .png
          and other image suffixes for one frame; .mkv (FFV1, keeps every pixel) with lossless; a name without suffix
          becomes a folder of numbered png files, also lossless.
        lossless: refuse a path that would change a pixel.
        times: seconds at which each frame is shown, increasing, for a variable rate (.mp4, .webm and .mkv).
        pixel_aspect: width of a pixel over its height as displayed; only .mp4, .webm and .mkv keep one that is not 1.

    Raises ValueError for arguments that do not fit together, OSError if the file cannot be written.
    """
    path, fps = Path(path), plain(fps)
    suffix, known = path.suffix.lower(), (*CODECS, *IMAGES)
    check_fps(fps, suffix)
    if suffix and suffix not in known:
        raise ValueError(f"path must end in {', '.join(known)} or have no suffix, got {path.name}")
    if lossless and suffix not in (".mkv", ".png", ""):
        raise ValueError(f"lossless video is written as .mkv, .png (one frame) or a folder, got {path.name}")
    if suffix == ".mkv" and not lossless:
        raise ValueError(f"{path.name}: .mkv is the lossless format here; ask for it with lossless=True")
    pixel_aspect = _check_pixel_aspect(pixel_aspect, suffix)
    if isinstance(frames, np.ndarray):
        check_frames(frames)
    elif not isinstance(frames, Iterable):
        kinds = "uint8 (T, H, W, 3), or an iterable of (H, W, 3)"
        raise ValueError(f"frames must be {kinds}, got {type(frames).__name__}")
    if times is not None:
        times = check_times(times, suffix, len(frames) if isinstance(frames, np.ndarray) else None)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames must hold at least one frame")
    frames = _checked(chain([first], frames))
    with write_beside(path) as beside:
        if suffix in CODECS:
            _write_stream(beside, frames, fps, times, pixel_aspect)
        else:
            _write_images(beside, frames, fps, suffix)


def check_fps(fps: float, suffix: str = ".mp4") -> None:
    """Refuse a rate that a file of this suffix cannot have."""
    highest = 50 if suffix == ".gif" else MAX_FPS
    if not is_number(fps) or not 0 < fps <= highest:
        raise ValueError(f"fps must be above 0 and at most {highest}{' in a gif' * (highest == 50)}, got {fps}")


def check_times(times: ArrayLike, suffix: str = ".mp4", num_frames: int | None = None) -> np.ndarray:
    """Return times for `write_video` as float64 (T,), and refuse those that a file of this suffix cannot have."""
    if suffix not in CODECS:
        raise ValueError(f"times can be kept in {', '.join(CODECS)}, not in {suffix or 'a folder'}")
    t = np.asarray(times, dtype=float)
    if t.ndim != 1 or not np.isfinite(t).all() or np.any(t < 0) or np.any(np.diff(t) < 1 / MAX_FPS):
        raise ValueError(f"times must be seconds from 0, each at least 1/{MAX_FPS} after the one before, got {t}")
    if num_frames is not None and len(t) != num_frames:
        raise ValueError(f"times must have one entry for each of {num_frames} frames, got {len(t)}")
    return t


def _check_pixel_aspect(pixel_aspect: Fraction | float, suffix: str) -> Fraction:
    if not is_number(pixel_aspect) or not 0.01 <= float(pixel_aspect) <= 100:
        raise ValueError(f"pixel_aspect must be a pixel's width over its height, 0.01 to 100, got {pixel_aspect!r}")
    if pixel_aspect != 1 and suffix not in CODECS:
        raise ValueError(f"pixel_aspect can be kept in {', '.join(CODECS)}, not in {suffix or 'a folder'}")
    return Fraction(float(pixel_aspect)).limit_denominator(10_000)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for t, frame in enumerate(frames):
        check_frames(frame[None] if isinstance(frame, np.ndarray) else frame)
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"frame {t} is {frame.shape[0]}x{frame.shape[1]}, the ones before {shape[0]}x{shape[1]}")
        yield frame


def _write_stream(
    path: Path, frames: Iterator[np.ndarray], fps: float, times: np.ndarray | None, pixel_aspect: Fraction
) -> None:
    with VideoWriter(path, fps, pixel_aspect=pixel_aspect) as writer:
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
    elif suffix:
        first, *more = frames
        if more:
            raise ValueError(f"{suffix} holds one frame, got {1 + len(more)}")
        iio.imwrite(path, first, plugin="pillow")
    else:
        path.mkdir()
        for t, frame in enumerate(frames):
            iio.imwrite(path / f"{t:06d}.png", frame, plugin="pillow")


CODECS = {  # suffix: container, codec, pixel format, options
    ".mp4": ("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "medium"}),
    ".webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b:v": "0", "deadline": "good", "cpu-used": "4"}),
    ".mkv": ("matroska", "ffv1", "bgr0", {"level": "3"}),
}
MEAN_CHROMA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP  # of 2x2 pixels, rounded
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TIME_BASE = Fraction(1, 90_000)  # seconds per tick of MPEG's clock: fine enough for every rate in use


def ticks(t: int, fps: float, times: np.ndarray | None = None) -> int:
    """Return the time at which frame t is shown, t / fps or times[t] seconds, in ticks of TIME_BASE."""
    return round((t / fps if times is None else times[t]) / TIME_BASE)


class VideoWriter:
    """A video file that takes frames one by one, and is complete when its `with` block has ended.

    The same frames give the same file. To ensure this, x264's macroblock tree is disabled unless rows of macroblocks
    (16x16 pixels) are multiples of 8: its AVX-512 code takes so many at once, and reads memory behind the last one that
    was never written.

    Args:
        path: .mp4, .webm or .mkv, as in `write_video`.
        fps: the rate in the file's header; `write` takes the time of each frame.
        warn: warn if .mp4 makes the sides even.
        pixel_aspect: as in `write_video`.

    Raises OSError, naming the path, if the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, warn: bool = True, pixel_aspect: Fraction | float = 1):
        self._path, self._fps, self._warn = path, fps, warn
        self._pixel_aspect = _check_pixel_aspect(pixel_aspect, path.suffix.lower())
        self._format, self._codec, self._pixel_format, self._options = CODECS[path.suffix.lower()]
        self._has_display_size = self._pixel_aspect != 1 and self._format != "mp4"
        self._container: Any = None
        self._stream: Any = None
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "VideoWriter":
        with _named_errors(self._path):
            self._container = _create(self._path, self._format)
        return self

    def __exit__(self, kind, *_) -> None:
        # If another error is on its way, errors that follow from it must not hide it.
        with _named_errors(self._path) if kind is None else suppress(Exception):
            try:
                if self._stream is not None and kind is None:
                    self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
            if self._stream is not None and kind is None and self._has_display_size:
                write_display_size(self._path, self._pixel_aspect)

    def write(self, frame: np.ndarray, at: int) -> None:
        """Append a frame uint8 (H, W, 3) that is shown from tick `at` on."""
        height, width = frame.shape[:2]
        if self._format == "mp4" and (height % 2 or width % 2):
            if self._warn and self._stream is None:
                stored = f"{height + height % 2}x{width + width % 2} in .mp4, the last row or column repeated"
                warnings.warn(f"frames of {height}x{width} are stored as {stored}; .webm keeps odd sizes", stacklevel=3)
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._add_stream(*frame.shape[:2])
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._pixel_format == "yuv420p":
            picture = self._reformatter.reformat(
                picture,
                format=self._pixel_format,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=MEAN_CHROMA,
            )
        picture.time_base, picture.pts = TIME_BASE, at
        with _named_errors(self._path):
            self._container.mux(self._stream.encode(picture))

    def _add_stream(self, height: int, width: int):
        rate = Fraction(self._fps).limit_denominator(1001)
        whole = -(-width // 16) % 8 == 0
        tree = {} if self._codec != "libx264" or whole else {"x264-params": "mbtree=0"}
        chroma = {"chroma_sample_location": "center"} if self._pixel_format == "yuv420p" else {}
        stream = self._container.add_stream(self._codec, rate=rate, options=self._options | tree | chroma)
        stream.height, stream.width, stream.pix_fmt = height, width, self._pixel_format
        stream.codec_context.time_base = TIME_BASE
        if self._pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        if self._has_display_size:
            stream.metadata["title"] = ROOM_FOR_DISPLAY_SIZE
        if self._pixel_format == "yuv420p":  # H.273: 1 is BT.709 for primaries, transfer and matrix alike
            stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
        return stream


def join_videos(parts: Sequence[Path], path: Path, at: Sequence[int]) -> None:
    """Join files written with the same VideoWriter settings to one .mp4, packet by packet: no pixel changes.

    at: the tick at which each frame of all parts is shown, increasing; frame 0 of every part was written at tick 0.
    Raises OSError if `path` cannot be written, ValueError if the parts do not fit together or do not fit `at`.
    """
    order = [place for place, _, _ in _places(parts, at)]
    if sorted(order) != list(range(len(at))):
        raise ValueError(f"at must have a tick for each of the {len(order)} frames in the parts, got {len(at)}")
    late = max(place - number for place, number in zip(range(len(order)), order, strict=True))
    # A packet is decoded no later than it is shown, and packets are decoded in the order in which they are stored.
    step = min((b - a for a, b in pairwise(at)), default=1)
    decoded = [at[0] - (late - i) * step for i in range(late)] + list(at)
    with _named_errors(path), _create(path, "mp4") as container:
        stream: Any = None
        header: bytes | None = None
        for i, (place, packet, source) in enumerate(_places(parts, at)):
            if stream is None:
                stream, header = container.add_stream_from_template(source), source.codec_context.extradata
            if source.codec_context.extradata != header:
                raise ValueError(f"{parts[0].name} and the parts after it were coded with different settings")
            packet.stream, packet.time_base = stream, TIME_BASE
            packet.pts, packet.dts = at[place], decoded[i]
            if place + 1 < len(at):
                packet.duration = at[place + 1] - at[place]
            container.mux(packet)
    with av.open(str(path.absolute())) as container:
        stored = sum(1 for packet in container.demux(video=0) if packet.size)
    if stored != len(at):
        raise OSError(f"{path} holds {stored} of {len(at)} frames after writing")


def _places(parts: Sequence[Path], at: Sequence[int]) -> Iterator[tuple]:
    """Yield (number of the frame, packet, stream) of all packets as they are stored; `at` tells the frame's number."""
    numbers, first = {tick: number for number, tick in enumerate(at)}, 0
    for part in parts:
        packets = 0
        container: Any
        with _named_errors(part), av.open(str(part.absolute())) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size:
                    tick = at[first] + round(packet.pts * stream.time_base / TIME_BASE) if first < len(at) else None
                    if tick not in numbers:
                        raise ValueError(f"{part} holds a frame at a time that `at` does not have")
                    yield numbers[tick], packet, stream
                    packets += 1
        first += packets


def _create(path: Path, container_format: str):
    flags = {"movflags": "+faststart"} if container_format == "mp4" else {}
    return av.open(str(path.absolute()), "w", format=container_format, options=flags)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Raise FFmpeg's errors as OSError with the file's name; not all of its error classes are OSError."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
