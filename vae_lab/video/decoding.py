"""Decode video files to frames uint8 (H, W, 3) with PyAV (FFmpeg): exact windows, colours and rotation as tagged."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Colorspace, VideoReformatter
from PIL import Image

from .images import Shown, blank, fit

SEEKABLE = {"mov", "mp4", "matroska", "webm"}  # containers with a time stamp per frame and an index of key frames
HD_HEIGHT = 720  # videos without colour tags are taken as BT.709 from this height on, else as BT.601, as browsers do


class BreaksOffError(ValueError):
    """A video that ends earlier than it promises, or cannot be decoded any further."""


def iter_stream(
    path: Path, start: int, num_frames: int | None, size: tuple[int, int] | None, pixels: bool = True
) -> Iterator[Shown]:
    """Decode frames of a video file one after another. pixels: False decodes too, but does not convert colours."""
    number, reformatter = start, VideoReformatter()  # shared: making one takes longer than using it
    try:
        place = _find(path, start) if start else None
        for from_here in dict.fromkeys([place, None]):  # if the place is not found: count from frame 0
            with _open(path) as container:
                stream = _video_stream(container, path)
                stream.thread_type = "AUTO"
                for frame in _decode_from(container, stream, start, from_here):
                    number += 1
                    rate = stream.average_rate or stream.guessed_rate
                    origin = float((stream.start_time or 0) * stream.time_base)
                    yield Shown(
                        fit(_frame_to_image(frame, reformatter), size) if pixels else blank(size or _shape(frame)),
                        None if frame.time is None else frame.time - origin,
                        float(rate) if rate else None,
                    )
                    if number - start == num_frames:
                        break
                else:
                    if number > start:
                        _check_end(container, stream, number, frame, path)
            if number > start:
                break
    except av.error.InvalidDataError:
        if number > start:
            raise BreaksOffError(f"{path} breaks off or is damaged after frame {number - 1}") from None
        raise ValueError(f"{path} is not a video that FFmpeg can read, or it is damaged or cut off") from None
    except av.error.EOFError:  # a header and nothing after it
        raise ValueError(f"{path} has no frames") from None
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from None
    if number == start:
        raise ValueError(f"{path} has no frame {start}" if start else f"{path} has no frames")


def _open(path: Path):
    return av.open(str(path.absolute()))  # absolute: "concat:a.mp4" is a file here, not one of FFmpeg's protocols


def _video_stream(container, path: Path):
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # cover art
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams if s.type != "video"}))
        raise ValueError(f"{path} has no video stream, only {others}" if others else f"{path} is empty or cut off")
    return streams[0]


class _Place(NamedTuple):
    """Where a frame is: its time stamp, and the time stamp to seek to so that its key frame is read first."""

    pts: int
    seek: int


def count_frames(path: Path) -> int:
    """Count the frames of a video file by its packets: quick, for nothing is decoded, but it may be off by one."""
    try:
        with _open(path) as container:
            return sum(1 for _ in _packets(container, _video_stream(container, path)))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from None


def _packets(container, stream) -> Iterator:
    """The packets that are shown. Keeping them keeps the whole file in memory."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)


def _find(path: Path, start: int) -> _Place | None:
    """Find a frame by the packets alone; None if time stamps are missing, ambiguous or not exact in this container."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        exact = bool(set(container.format.name.split(",")) & SEEKABLE)
        packets = [(packet.pts, packet.dts, packet.is_keyframe) for packet in _packets(container, stream)]
    stamps = [pts for pts, _, _ in packets]
    if not exact or None in stamps or len(set(stamps)) < len(stamps):
        return None
    if start >= len(stamps):
        raise ValueError(f"{path} has {len(stamps)} frames, so it has no frame {start}")
    place = sorted(stamps)[start]
    keys = [(pts, dts) for pts, dts, is_key in packets if is_key and pts <= place]
    if not keys:
        return None
    pts, dts = max(keys, key=lambda key: key[0])
    return _Place(place, pts if dts is None else min(pts, dts))


def _decode_from(container, stream, start: int, place: _Place | None) -> Iterator:
    """Decode the frames from `start` on: from the key frame before its place, if known; none if that misses it."""
    if place is None:
        yield from islice(container.decode(stream), start, None)
        return
    container.seek(place.seek, stream=stream)
    frames = container.decode(stream)
    for frame in frames:
        if frame.pts is None or frame.pts > place.pts:
            return
        if frame.pts == place.pts:
            yield frame
            break
    yield from frames


def _check_end(container, stream, num_frames: int, last, path: Path) -> None:
    """After reading to the end, refuse a file that is shorter than it promises, in bytes (mp4), frames or seconds."""
    if "mp4" in container.format.name:
        if _is_cut_off_mp4(path):
            raise BreaksOffError(f"{path} breaks off after {num_frames} frames")
    elif stream.frames:
        if stream.frames > num_frames:
            raise BreaksOffError(f"{path} breaks off after {num_frames} of {stream.frames} frames")
    elif (promised := _tagged_duration(stream)) is not None and last.time is not None:
        frame_time = float(1 / (stream.average_rate or stream.guessed_rate or 24))
        end = last.time + max(float((last.duration or 0) * last.time_base), frame_time)
        if promised > end + 2 * frame_time:
            raise BreaksOffError(f"{path} breaks off after {end:.2f} of {promised:.2f} seconds")


def _is_cut_off_mp4(path: Path) -> bool:
    """Whether a top-level box of an mp4 or mov file reaches past its end. (Its frame count includes hidden frames.)"""
    end, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while offset + 8 <= end:
            file.seek(offset)
            size = int.from_bytes(file.read(4), "big")
            if size == 1:  # a 64-bit size follows the type
                file.seek(offset + 8)
                size = int.from_bytes(file.read(8), "big")
            if size == 0:  # to the end of the file
                return False
            if size < 8:
                return True
            offset += size
    return offset != end


def _tagged_duration(stream) -> float | None:
    """Seconds in the DURATION tag ("00:00:01.250000000") of Matroska and WebM, which do not count frames."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _shape(frame) -> tuple[int, int]:
    """(H, W) of a frame as it is shown."""
    turned = (frame.rotation or 0) // 90 % 2
    return (frame.width, frame.height) if turned else (frame.height, frame.width)


def _frame_to_image(frame, reformatter) -> Image.Image:
    untagged_hd = frame.colorspace in (2, Colorspace.DEFAULT) and frame.height >= HD_HEIGHT
    rgb = reformatter.reformat(frame, format="rgb24", src_colorspace=Colorspace.ITU709 if untagged_hd else None)
    array = rgb.to_ndarray()
    return Image.fromarray(np.ascontiguousarray(np.rot90(array, (frame.rotation or 0) // 90)))
