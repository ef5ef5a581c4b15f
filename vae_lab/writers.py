"""Frames -> video files, one frame after another, and files joined without coding them again; through PyAV (FFmpeg)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

CODECS = {  # suffix: container, codec, pixel format, options
    ".mp4": ("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "medium"}),
    ".webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b:v": "0", "deadline": "good", "cpu-used": "4"}),
    ".mkv": ("matroska", "ffv1", "bgr0", {"level": "3"}),
}
TINY = 64  # pixels: see VideoWriter
TIME_BASE = Fraction(1, 90_000)  # seconds a tick, the clock of MPEG: fine enough for every rate in use


def ticks(t: int, fps: float, times: Sequence[float] | None = None) -> int:
    """When frame t is shown, in ticks of TIME_BASE: at t / fps, or at times[t] seconds."""
    return round((t / fps if times is None else times[t]) / TIME_BASE)


class VideoWriter:
    """A video file that takes frames one by one, and is whole when its `with` block has ended.

    Args:
        path: .mp4, .webm or .mkv, as in `write_video`.
        fps: the rate in the file's header; when a frame is shown is said with the frame.
        warn: whether to warn where .mp4 makes the sides even.

    The same frames give the same file. For that x264's macroblock tree is left out where a side has up to TINY pixels:
    in frames of two or three macroblocks its AVX-512 code reads memory that was never written, and decides by it.

    What cannot be written raises OSError that names the path.
    """

    def __init__(self, path: Path, fps: float, warn: bool = True):
        self._path, self._fps, self._warn = path, fps, warn
        self._format, self._codec, self._pixel_format, self._options = CODECS[path.suffix.lower()]
        self._container = self._stream = self._reformatter = None

    def __enter__(self) -> "VideoWriter":
        with _named_errors(self._path):
            self._container = _create(self._path, self._format)
        return self

    def __exit__(self, kind, *_) -> None:
        with _named_errors(self._path) if kind is None else _no_errors():
            try:
                if self._stream is not None and kind is None:
                    self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()

    def write(self, frame: np.ndarray, at: int) -> None:
        """The next frame uint8 (H, W, 3), shown from tick `at` on."""
        import av
        from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

        if self._format == "mp4":
            frame = _even(frame, warn=self._warn and self._stream is None)
        if self._stream is None:
            self._stream, self._reformatter = self._add_stream(*frame.shape[:2]), VideoReformatter()
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._pixel_format == "yuv420p":
            picture = self._reformatter.reformat(
                picture, format=self._pixel_format, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
        picture.time_base, picture.pts = TIME_BASE, at
        with _named_errors(self._path):
            self._container.mux(self._stream.encode(picture))

    def _add_stream(self, height: int, width: int):
        from av.video.reformatter import ColorRange, Colorspace

        rate = Fraction(self._fps).limit_denominator(1001)
        tiny = {"x264-params": "mbtree=0"} if self._codec == "libx264" and min(height, width) <= TINY else {}
        stream = self._container.add_stream(self._codec, rate=rate, options=self._options | tiny)
        stream.height, stream.width, stream.pix_fmt = height, width, self._pixel_format
        stream.codec_context.time_base = TIME_BASE
        if self._pixel_format == "yuv420p":  # H.273: 1 is BT.709 for primaries, transfer and matrix alike
            stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
        return stream


def join_videos(parts: Sequence[Path], path: Path, at: Sequence[int]) -> None:
    """Files of one VideoWriter's settings, one after another in one .mp4, packet by packet: no pixel changes.

    at: the tick at which each frame of all parts is shown, increasing; frame 0 of every part was written at tick 0.

    Raises OSError where `path` cannot be written, ValueError where the parts do not fit together or hold other frames
    than `at` says.
    """
    import av

    order = [place for place, _, _ in _places(parts, at)]
    if sorted(order) != list(range(len(at))):
        raise ValueError(f"at must have a tick for each of the {len(order)} frames in the parts, got {len(at)}")
    late = max(place - number for place, number in zip(range(len(order)), order, strict=True))
    # A packet is decoded no later than it is shown, and packets are decoded in the order in which they are stored.
    step = min((b - a for a, b in pairwise(at)), default=1)
    decoded = [at[0] - (late - i) * step for i in range(late)] + list(at)
    with _named_errors(path), _create(path, "mp4") as container:
        stream = header = None
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
    """(number of the frame, packet, stream) of all packets as they are stored: `at` finds the frame's number."""
    import av

    numbers, first = {tick: number for number, tick in enumerate(at)}, 0
    for part in parts:
        packets = 0
        with av.open(str(part.absolute())) as container:
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
    import av

    flags = {"movflags": "+faststart"} if container_format == "mp4" else {}
    return av.open(str(path.absolute()), "w", format=container_format, options=flags)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """FFmpeg's errors as OSError with the file's name; some of its classes are no OSError."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _no_errors() -> Iterator[None]:
    """While another error is on its way, what it left behind may not hide it."""
    try:
        yield
    except Exception:
        return


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
