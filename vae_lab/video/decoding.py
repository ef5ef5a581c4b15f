"""Decode video files to frames uint8 (H, W, 3) with PyAV (FFmpeg): exact windows, and notes of what is unusual."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image

from ..utils.text import count, listed
from .colours import APPROXIMATED, Converter, display_matrix, orientation, unusual_colours, upright
from .containers import has_lost_packets, is_cut_off
from .images import BreaksOffError, Shown, Window, blank, fit

SEEKABLE = {"mov", "mp4", "matroska", "webm"}  # containers with a time stamp per frame and an index of key frames
WORTH_A_SEEK = 50_000_000  # pixels. If fewer lie before a window, it is decoded from frame 0, which is always exact
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
CLOCK_RATE = 1000  # frames per second from which a rate in a header is that of a clock, not of pictures
# By codec: a filter of FFmpeg that fails on damaged headers, in a fiftieth of the time of decoding, and the bytes with
# which each packet begins. They find most packets that cannot be decoded, though not all.
PARSERS = {
    "h264": "h264_metadata",
    "hevc": "hevc_metadata",
    "av1": "av1_metadata",
    "vp9": "vp9_metadata",
    "mpeg2video": "mpeg2_metadata",
    "prores": "prores_metadata",
}
STARTS = {"mjpeg": b"\xff\xd8", "mpeg4": b"\0\0\1"}
FIELD_ORDERS = {2: "top", 3: "bottom", 4: "top", 5: "bottom"}  # AVFieldOrder: the field that is shown first


_damaged: set[tuple] = set()  # files from which frames are known to be missing: packets do not tell their numbers


class _DamageError(Exception):
    """A packet that cannot be decoded, or a frame with errors."""


def iter_stream(path: Path, window: Window) -> Iterator[Shown]:
    """Decode frames of a video file one after another, also if their pixels are not wanted.

    Damaged frames are kept if FFmpeg could fill the gaps.
    """
    start, num_frames, size, notes, strict, pixels = window
    number, last = start, None  # of the next frame; time stamp of the one before
    try:
        place = _find(path, start) if start else None
        # A place may turn out not to be exact: then count from frame 0. After damage, decode in one thread, because
        # with several it is chance what they make of it.
        for here, careful in [(place, False)] * (place is not None) + [(None, False), (None, True)]:
            try:
                with _open(path) as container:
                    video = _Video(path, container, notes, careful)
                    for frame in video.frames(here, number, last):
                        number, last = number + 1, frame.pts
                        yield video.show(frame, size, pixels)
                        if number - start == num_frames:
                            break
                    if here is not None and number == start:
                        continue
                    video.tell_damage(at_end=number - start != num_frames)
                    if number > start and number - start != num_frames:
                        video.check_end(number, strict)
                    if number > start:
                        return
                    if video.failed and not video.decoded:
                        raise ValueError(f"{path} is damaged or cut off: none of its frames can be decoded")
                    break
            except _DamageError:
                if strict:
                    where = f"after frame {number - 1}" if number else "at its first frame"
                    raise BreaksOffError(f"{path} breaks off or is damaged {where}") from None
    except av.error.InvalidDataError:
        raise ValueError(f"{path} is not a video that FFmpeg can read, or it is damaged or cut off") from None
    except av.error.EOFError:  # a header and nothing after it
        raise ValueError(f"{path} has no frames") from None
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from None
    raise ValueError(f"{path} has no frame {start}" if start else f"{path} has no frames")


def _identity(path: Path) -> tuple:
    status = path.stat()
    return path.resolve(), status.st_size, status.st_mtime_ns


def _open(path: Path):
    # Absolute: "concat:a.mp4" is a file here, not one of FFmpeg's protocols. Titles may be in any encoding.
    return av.open(str(path.absolute()), metadata_errors="replace")


def _video_streams(container, path: Path) -> list:
    """Return the video streams, the one that is read in front: the default, else the largest, else FFmpeg's best.

    Cover art and thumbnails are left out.
    """
    streams = [s for s in container.streams.video if s.codec_context and not s.disposition & NO_VIDEO]
    if not streams and any(s.disposition & Disposition.dependent for s in container.streams.video):
        raise ValueError(f"{path} is a picture in tiles (HEIC): run pip install 'vae_lab[heic]'")
    if not streams and any(s.codec_context is None for s in container.streams.video):
        raise ValueError(f"{path} cannot be decoded: FFmpeg has no decoder for it ({container.format.long_name})")
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams if s.type != "video"}))
        raise ValueError(f"{path} has no video stream, only {others}" if others else f"{path} is empty or cut off")
    best = container.streams.best("video")
    return sorted(streams, key=lambda s: (not s.disposition & Disposition.default, -s.width * s.height, s is not best))


class _Video:
    """A video file while it is decoded. careful: slowly, but so that damaged packets cost their frames only."""

    def __init__(self, path: Path, container, notes: list[str], careful: bool):
        self.path, self.container, self.notes, self.careful = path, container, notes, careful
        self.stream, *others = _video_streams(container, path)
        if others:
            self._note(f"{1 + len(others)} video streams: number {self.stream.index} is read")
        # FFV1 fills lost slices up from the frame before, which another thread may still decode
        threads = "SLICE" if self.stream.codec_context.name == "ffv1" else "AUTO"
        self.stream.thread_type = "NONE" if careful else threads
        self.stream.codec_context.thread_count = 1 if careful else 0
        self.converter = Converter()
        self.origin: float | None = None
        self.last: Any = None  # frame
        self.packets = 0
        self.rate: float | None = None
        self.turn: tuple[bool, bool, bool] | None = (False, False, False)
        self.torn = self.interlaced = self.corrupt = self.ends_corrupt = False
        self.stamps: list[int | None] = []  # of the packets that are shown
        self.decoded: dict[int | None, bool] = {}  # time stamp of a frame -> whether it is damaged
        self.failed: list[int] = []  # numbers of packets
        self.start = _Place(0, -(1 << 63), 0, 0, 0)  # where decoding began

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # ---- packets and frames ----

    def _packets(self) -> Iterator:
        """Yield the packets, the last of which, None or empty, flushes the decoder. Go on after damage if careful."""
        moved = True
        while moved:
            moved = False
            try:
                for packet in _demux(self.container, self.stream):
                    moved = True
                    if packet is not None and (packet.dts is not None or packet.size):
                        self.packets += 1
                    yield packet
                return
            except av.error.FFmpegError as error:
                if not self.careful:
                    raise _DamageError from error
        self.torn = True
        yield None  # flushes the decoder

    def _frames(self) -> Iterator:
        for packet in self._packets():
            try:
                frames = self.stream.decode(packet)
            except av.error.FFmpegError as error:
                if not self.careful:
                    raise _DamageError from error
                self.failed.append(len(self.stamps))
                frames = []
            if _is_shown(packet):
                self.corrupt = self.corrupt or self.ends_corrupt  # the last one may be cut off, no more
                self.ends_corrupt = packet.is_corrupt and self.container.format.name == "mpegts"
                self.torn = packet.is_corrupt and bool(self.failed[-1:] == [len(self.stamps)])  # cut off, if the last
                self.stamps.append(packet.pts)
            for frame in frames:
                if frame.is_corrupt and not self.careful:
                    raise _DamageError
                self.last, self.decoded[frame.pts] = frame, frame.is_corrupt
                if matrix := display_matrix(frame):  # it holds until the next one: some streams give it only once
                    self.turn = orientation(matrix)
                yield frame

    def frames(self, place: "_Place | None", number: int, last: int | None) -> Iterator:
        """Decode the frames from `number` on: from the key frame before its place, if known; none if that misses it.

        last: time stamp of a frame that was the last one before `number` when the frames were decoded before.
        """
        if place is None:
            for index, frame in enumerate(self._frames()):
                if self.origin is None:
                    self.origin = frame.time
                if frame.pts > last if None not in (last, frame.pts) else index >= number:
                    yield frame
            return
        self.start, self.origin = place, float(place.first * self.stream.time_base)
        next(self._frames(), None)  # tells how the file is turned
        self.stamps.clear()
        self.decoded.clear()
        try:
            self.container.seek(place.seek, stream=self.stream)
        except av.error.FFmpegError:  # as Matroska does with Dirac
            return
        # Containers mark the start of a gradual refresh as a key frame, too; the decoder does not.
        frames, exact = self._frames(), False
        for frame in frames:
            exact = exact or (frame.pts == place.key and frame.key_frame)
            if frame.pts is None or frame.pts >= place.pts:
                if exact and frame.pts == place.pts:
                    yield frame
                    yield from frames
                return

    def show(self, frame, size: tuple[int, int] | None, pixels: bool) -> Shown:
        """Convert a frame, and note what is unusual about it."""
        turn = self.turn
        if turn is None:
            turn = False, False, False
            self._note("its display matrix is none of turns by 90 degrees and mirroring: frames are read as stored")
        aspect = Fraction(self.stream.sample_aspect_ratio or 1)
        aspect = 1 / aspect if turn[0] else aspect
        if aspect != 1:
            self._note(f"pixels are {aspect.numerator}:{aspect.denominator} (width to height)")
        if frame.interlaced_frame:
            self.interlaced = True
            first = FIELD_ORDERS.get(self.stream.codec_context.field_order)
            order = f" ({first} field first)" if first else ""
            self._note(f"interlaced{order}: both fields stay in a frame")
        for note in unusual_colours(frame.color_trc, frame.color_primaries):
            self._note(note)
        if frame.colorspace in APPROXIMATED:
            name, nearest = APPROXIMATED[frame.colorspace]
            self._note(f"the matrix is {name}, which is read as {nearest.name}: colours are approximate")
        if pixels:
            array = upright(self.converter.rgb(frame), *turn)
            array = array if size is None else fit(Image.fromarray(array), size)
        else:
            array = blank(size or ((frame.width, frame.height) if turn[0] else (frame.height, frame.width)))
        if self.rate is None:
            self.rate = self._rate(frame)
        return Shown(array, self._time(frame), self.rate, aspect, float(self.stream.time_base))

    def _time(self, frame) -> float | None:
        return None if None in (frame.time, self.origin) else frame.time - self.origin

    def _rate(self, frame) -> float | None:
        """The rate in the header, or that of the frame's own duration."""
        rates = [self.stream.average_rate, self.stream.guessed_rate]  # an AVI file may count fields in the former
        rates = [rate for rate in rates if rate and rate < CLOCK_RATE]
        if not rates and frame.duration and frame.time_base:
            rates = [rate for rate in [1 / (frame.duration * frame.time_base)] if rate < CLOCK_RATE]
        return float(min(rates)) if rates else None

    # ---- what is missing ----

    def check_end(self, num_frames: int, strict: bool) -> None:
        """After reading to the end, refuse a file that is cut off, or has fewer pictures than its header counts.

        Note that a container has lost packets; strict: refuse it.
        """
        known = {"mp4", "avi", "matroska"}.intersection(self.container.format.name.split(","))
        promised = 0 if "mp4" in known else self.stream.frames  # an mp4 counts hidden frames too
        if is_cut_off(self.path, self.container, self.stream) or (not known and promised > self.packets):
            seconds, end = _tagged_duration(self.stream), self._time(self.last)
            if promised > num_frames:
                raise BreaksOffError(f"{self.path} breaks off after {num_frames} of {promised} frames")
            if seconds is not None and end is not None and seconds > end:
                end += float((self.last.duration or 0) * self.last.time_base)
                raise BreaksOffError(f"{self.path} breaks off after {end:.2f} of {seconds:.2f} seconds")
            raise BreaksOffError(f"{self.path} breaks off after {num_frames} frames")
        if self.torn:
            raise BreaksOffError(f"{self.path} breaks off or is damaged after frame {num_frames - 1}")
        lost = self.corrupt or has_lost_packets(self.path, self.container)
        if lost and strict:
            raise BreaksOffError(f"{self.path} is damaged: packets are lost")
        stamps = sorted(pts for pts in self.decoded if pts is not None)
        steps = [b - a for a, b in pairwise(stamps)] if len(stamps) == len(self.decoded) else []
        usual = median(steps or [0])
        holes = [n for n, step in enumerate(steps) if step > 1.5 * usual]
        if lost:
            after = f"; time stamps are far apart after frame {listed(holes)}" if holes else ""
            self._note(f"the file is damaged: packets, and with them frames, are lost{after}")
        elif not known and holes and sum(abs(step - usual) > 0.1 * usual for step in steps) < len(steps) / 5:
            self._note(f"time stamps are far apart after frame {listed(holes)}: frames may be lost there")

    def tell_damage(self, at_end: bool) -> None:
        """Note which frames could not be decoded, or not fully, and whether the container has lost some.

        At the end, and if there is damage that was not known, raise _DamageError to decode the frames again, carefully.
        """
        missing, damaged = self.failed, [n for n, bad in enumerate(self.decoded.values()) if bad]
        if self._has_exact_stamps():
            stamps = sorted(pts for pts in self.stamps if pts is not None and pts >= self.start.key)
            last = max((pts for pts in self.decoded if pts is not None), default=self.start.key)
            shown = stamps if at_end else [pts for pts in stamps if pts <= last]
            missing = [self.start.number + n for n, pts in enumerate(shown) if pts not in self.decoded]
            damaged = [self.start.number + n for n, pts in enumerate(shown) if self.decoded.get(pts)]
        elif at_end and not self.careful and not self.interlaced:  # threads may lose the last frames
            known = [pts for pts in self.stamps if pts is not None]
            missing = [] if not known or max(known) in self.decoded else [len(known) - 1]
        if missing and at_end and not self.careful:
            raise _DamageError
        total = f" of {self.start.number + len(self.stamps)}" if at_end else ""
        if missing:
            _damaged.add(_identity(self.path))
            verb = f"{count(len(missing), 'frame')} could not be decoded: {listed(missing)}{total}"
            self._note(f"{verb}; those up to the next key frame may show traces of it")
        if damaged:
            self._note(f"{count(len(damaged), 'frame')} could be decoded only in part: {listed(damaged)}{total}")

    def _has_exact_stamps(self) -> bool:
        """Return whether each packet and its frame have one time stamp, which no other has."""
        exact = SEEKABLE.intersection(self.container.format.name.split(",")) and not self.interlaced
        known = set(self.stamps)
        return bool(exact) and None not in known and len(known) == len(self.stamps) and known.issuperset(self.decoded)


def _tagged_duration(stream) -> float | None:
    """Seconds in the DURATION tag ("00:00:01.250000000") of Matroska and WebM, which do not count frames."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


# ---- where a window begins -----------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a frame is, in time stamps."""

    pts: int
    key: int  # of the last picture before it that is marked as a key frame
    seek: int  # to seek to, so that this picture is read first
    first: int  # of the file's first frame
    number: int  # frame number of the key picture


def count_frames(path: Path) -> int:
    """Count the frames of a video file by its packets: quick, for nothing is decoded, but it may be off by one."""
    try:
        with _open(path) as container:
            return sum(1 for _ in _shown(container, _video_streams(container, path)[0]))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from None


def _demux(container, stream) -> Iterator:
    """The packets, and an empty one at the end. PyAV stumbles there over streams that began after the others."""
    try:
        yield from container.demux(stream)
    except IndexError:
        yield None


def _shown(container, stream) -> Iterator:
    """The packets that are shown. Keeping them keeps the whole file in memory."""
    return filter(_is_shown, _demux(container, stream))


def _is_shown(packet) -> bool:
    if packet is None or not packet.size or packet.is_discard:
        return False
    return packet.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 16)  # its show_frame bit


def _parsed(packets: Iterator, stream) -> Iterator:
    """Pass on packets. Raise FFmpeg's error at one whose headers are damaged: it will not be decoded, and not count."""
    codec = stream.codec_context.codec.canonical_name
    start, zeros = STARTS.get(codec, b""), bytes(16)
    parser = BitStreamFilterContext(PARSERS[codec], stream) if codec in PARSERS else None
    for packet in packets:
        head = bytes(memoryview(packet)[:16])
        if not head.startswith(start) or (parser is not None and head == zeros):
            raise av.error.InvalidDataError(0, f"not a packet of {codec}")
        yield packet
        if parser is not None:
            parser.filter(packet)  # empties it


def _find(path: Path, start: int) -> _Place | None:
    """Find a frame by the packets alone; None if that is not exact in this file, or not worth it."""
    if _identity(path) in _damaged:
        return None
    with _open(path) as container:
        stream = _video_streams(container, path)[0]
        pixels = stream.codec_context.width * stream.codec_context.height
        if not SEEKABLE.intersection(container.format.name.split(",")):
            return None
        try:
            shown = _parsed(_shown(container, stream), stream)
            packets = [(packet.pts, packet.dts, packet.is_keyframe) for packet in shown]
        except av.error.FFmpegError:
            return None
    stamps = sorted(pts for pts, _, _ in packets if pts is not None)
    if len(set(stamps)) < len(packets):
        return None
    if start >= len(stamps):
        raise ValueError(f"{path} has {len(stamps)} frames, so it has no frame {start}")
    # Pictures before a first one at which decoding can start may be lost, and frames are counted as they are shown.
    if not packets[0][2] or packets[0][0] != stamps[0]:
        return None
    pts, dts = max(((pts, dts) for pts, dts, is_key in packets if is_key and pts <= stamps[start]), key=lambda p: p[0])
    if stamps.index(pts) * pixels < WORTH_A_SEEK:
        return None
    return _Place(stamps[start], pts, pts if dts is None else min(pts, dts), stamps[0], stamps.index(pts))
