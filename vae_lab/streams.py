"""Video files -> frames uint8 (T, H, W, 3), through PyAV (FFmpeg): exact windows, colours and rotation as tagged."""

from pathlib import Path

import numpy as np
from PIL import Image

from .images import fit, stack

HD_HEIGHT = 720  # from here on a video without colour tags is taken to be BT.709, below BT.601, as browsers do


def read_stream(
    path: Path, start: int, num_frames: int | None, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """Frames of a video file: (frames, seconds of each or None, frames per second or None)."""
    import av

    frames, times = [], []
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.thread_type = "AUTO"
            first_pts = _seek(container, stream, start, path) if start else None
            skip = start if first_pts is None else 0
            for frame in container.decode(stream):
                if first_pts is not None and frame.pts < first_pts:
                    continue
                if skip:
                    skip -= 1
                    continue
                frames.append(fit(_frame_to_image(frame), size))
                times.append(frame.time)
                if len(frames) == num_frames:
                    break
            else:
                if frames:
                    _check_end(container, stream, start + len(frames), frame, path)
            rate = stream.average_rate or stream.guessed_rate
            origin = float((stream.start_time or 0) * stream.time_base)
    except av.error.InvalidDataError:
        if frames:
            raise ValueError(f"{path} breaks off or is damaged after frame {start + len(frames) - 1}") from None
        raise ValueError(f"{path} is not a video that FFmpeg can read, or it is damaged or cut off") from None
    except av.error.EOFError:  # a header and nothing after it
        raise ValueError(f"{path} has no frames") from None
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from None
    if not frames:
        raise ValueError(f"{path} has no frame {start}" if start else f"{path} has no frames")
    return stack(frames, path), None if None in times else np.array(times) - origin, float(rate) if rate else None


def _video_stream(container, path: Path):
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # cover art
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams if s.type != "video"}))
        raise ValueError(f"{path} has no video stream, only {others}" if others else f"{path} is empty or cut off")
    return streams[0]


def _seek(container, stream, start: int, path: Path) -> int | None:
    """Go to the key frame at or before frame `start`; its time stamp, or None in a file that has none."""
    stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if start >= len(stamps):
        raise ValueError(f"{path} has {len(stamps)} frames, so it has no frame {start}")
    if None in stamps:
        container.seek(0)
        return None
    pts = sorted(stamps)[start]
    container.seek(pts, stream=stream)
    return pts


def _check_end(container, stream, num_frames: int, last, path: Path) -> None:
    """After reading to the end: refuse a file that ends before its header says, by frames or else by time."""
    if stream.frames:
        if stream.frames > num_frames:  # an edit list hides frames that the header counts
            container.seek(0)
            hidden = sum(packet.is_discard for packet in container.demux(stream))
            if stream.frames > num_frames + hidden:
                raise ValueError(f"{path} breaks off after {num_frames} of {stream.frames} frames")
    elif (promised := _tagged_duration(stream)) is not None and last.time is not None:
        frame_time = float(1 / (stream.average_rate or stream.guessed_rate or 24))
        end = last.time + max(float((last.duration or 0) * last.time_base), frame_time)
        if promised > end + 2 * frame_time:
            raise ValueError(f"{path} breaks off after {end:.2f} of {promised:.2f} seconds")


def _tagged_duration(stream) -> float | None:
    """Seconds in a Matroska or WebM stream's DURATION tag ("00:00:01.250000000"); these formats count no frames."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _frame_to_image(frame) -> Image.Image:
    from av.video.reformatter import Colorspace

    untagged_hd = frame.colorspace in (2, Colorspace.DEFAULT) and frame.height >= HD_HEIGHT
    rgb = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709 if untagged_hd else None)
    array = rgb.to_ndarray()
    return Image.fromarray(np.ascontiguousarray(np.rot90(array, (frame.rotation or 0) // 90)))
