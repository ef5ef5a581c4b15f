"""Clips that tests of videos and of reconstruction share, and how close two clips are."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vae_lab import photo_clip

CLIP = photo_clip("coffee", 24, (48, 64), seed=3)
LONG = photo_clip("coffee", 100, (24, 32), seed=1)
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}  # AVCOL_SPC_* -> swscale's


def closeness(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of frames uint8."""
    assert a.shape == b.shape
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[Any], object] | None = None,
    tags: tuple[int, int] = (2, 0),
) -> Path:
    """Write frames uint8 (H, W, 3) with any codec FFmpeg has.

    pts: in 1 / rate. prepare: called with the stream. tags: AVCOL_SPC_* and AVCOL_RANGE_* of the pictures.
    """
    matrix, color_range = tags
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        if prepare is not None:
            prepare(stream)
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            to = dict(format=pixels, dst_colorspace=MATRICES.get(matrix), dst_color_range=color_range or None)
            picture = picture.reformat(**to)
            picture.colorspace, picture.color_range = matrix, color_range
            if pts is not None:
                picture.pts, picture.time_base = pts[t], Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def moving(num_frames: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """Return frames uint8 (T, H, W, 3) that differ from one another, with noise that no coder can guess."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (num_frames, height, width, 3))
    ramps = [
        np.stack([x * 190 // width, y * 190 // height, np.full_like(x, t * 9 % 190)], -1) for t in range(num_frames)
    ]
    return (np.stack(ramps) + noise).astype(np.uint8)


def packets(path: Path) -> list[tuple[int, int]]:
    """Return (position, size) of the packets of a file with one video stream, in the order in which they are stored."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, to: Path, where: Sequence[tuple[int, int]]) -> Path:
    """Copy a file with noise in place of the bytes (position, number)."""
    content, random = bytearray(path.read_bytes()), np.random.default_rng(1)
    for position, number in where:
        content[position : position + number] = random.integers(0, 256, number, np.uint8).tobytes()
    to.write_bytes(content)
    return to
