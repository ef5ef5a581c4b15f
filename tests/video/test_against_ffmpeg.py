"""Every codec, container and colour tag is read as FFmpeg's command line reads it with the same scaler's flags."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.video import encode
from vae_lab import read_video

LEFT, TOP_LEFT, CENTRE = "in_h_chr_pos=0:in_v_chr_pos=128", "in_h_chr_pos=0", ""  # where the decoder says chroma lies
STREAMS = [  # container, codec, pixel format, chroma; FFmpeg 5.1 takes chroma's place from the command line only
    ("mp4", "libx264", "yuv420p", LEFT),
    ("mkv", "libx264", "yuv422p", TOP_LEFT),
    ("mov", "libx264", "yuv444p", CENTRE),
    ("ts", "libx264", "yuv420p", LEFT),
    ("mkv", "libx264", "yuv420p10le", LEFT),
    ("mp4", "libx265", "yuv420p", LEFT),
    ("mkv", "libx265", "yuv422p10le", CENTRE),
    ("webm", "libvpx-vp9", "yuv420p", CENTRE),
    ("mkv", "libvpx-vp9", "yuv444p", CENTRE),
    ("webm", "libvpx", "yuv420p", CENTRE),
    ("avi", "mpeg4", "yuv420p", LEFT),
    ("3gp", "mpeg4", "yuv420p", LEFT),
    ("mpg", "mpeg2video", "yuv420p", LEFT),
    ("mxf", "mpeg2video", "yuv422p", TOP_LEFT),
    ("mov", "prores_ks", "yuv422p10le", CENTRE),
    ("mkv", "ffv1", "yuv420p", CENTRE),
    ("mkv", "ffv1", "yuv411p", CENTRE),
    ("nut", "ffv1", "yuv444p12le", CENTRE),
    ("mkv", "ffv1", "bgr0", CENTRE),
    ("avi", "mjpeg", "yuvj420p", CENTRE),
    ("mov", "mjpeg", "yuvj422p", CENTRE),
    ("avi", "utvideo", "yuv422p", CENTRE),
]
TAGS = [2, 1, 5, 6, 7, 9, 4]  # AVCOL_SPC_*: none, BT.709, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020, FCC
# bframes=0: of two pictures, x265 makes random decoding times otherwise.
FAST = {
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=0:bframes=0"},
    "libx264": {"preset": "ultrafast", "qp": "8"},
}
CASES = [
    (*stream, TAGS[(3 * number + shift) % len(TAGS)], 1 + (number + shift + height // 16) % 2, height)
    for number, stream in enumerate(STREAMS)
    for shift in (0, 2)
    for height in (704, 720)
]


def decoded(path: Path, shape: tuple[int, ...], scaler: str) -> np.ndarray:
    """Decode with FFmpeg, to planar RGB: for rgb24, FFmpeg 5.1 does not interpolate chroma between rows."""
    flags = f"scale=flags=bilinear+accurate_rnd+full_chroma_int:{scaler}".rstrip(":")
    command = ["ffmpeg", "-v", "error", "-i", path, "-vf", flags, "-f", "rawvideo", "-pix_fmt", "gbrp", "-"]
    planes = subprocess.run(command, check=True, capture_output=True).stdout
    t, height, width, _ = shape
    return np.frombuffer(planes, np.uint8).reshape(t, 3, height, width)[:, [2, 0, 1]].transpose(0, 2, 3, 1)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg's command line")
@pytest.mark.parametrize(("container", "codec", "pixels", "chroma", "matrix", "color_range", "height"), CASES)
def test_read_as_ffmpeg_reads_it(tmp_path, container, codec, pixels, chroma, matrix, color_range, height):
    y, x = np.mgrid[:height, :64]
    frames = [np.stack([x * 4, 255 - y * 255 // height, (x * 3 + y * 2 + 40 * t) % 256], -1) for t in range(2)]
    path = tmp_path / f"clip.{container}"
    encode(path, np.uint8(frames), codec, pixels, options=FAST.get(codec), tags=(matrix, color_range))
    frames = read_video(path).frames
    # FFmpeg takes videos without tags as BT.601 at any size; browsers, and the lab, do so below 720 lines.
    untagged = matrix == 2 or codec == "mpeg4" or container == "nut"
    hd = untagged and height >= 720 and codec not in ("mjpeg", "utvideo")
    other = decoded(path, frames.shape, ":".join(filter(None, (chroma, "in_color_matrix=bt709" if hd else ""))))
    deep_and_full = color_range == 2 and pixels.endswith("10le")  # where FFmpeg takes 1023 for 1020
    assert np.abs(frames.astype(int) - other).max() <= deep_and_full


def test_there_are_many_cases():
    assert len(set(CASES)) >= 60 and {case[5] for case in CASES} == {1, 2} and {case[4] for case in CASES} == set(TAGS)
