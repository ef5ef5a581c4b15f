"""Colours against floating-point arithmetic, and the orientation of pictures."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.video import encode, moving
from vae_lab import photo_clip, read_video, write_video
from vae_lab.video.reading import scan_video
from vae_lab.video.writing import CODECS

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # H.273
COFFEE = photo_clip("coffee", 1, (120, 160), seed=1).frames


def planes_of(path) -> list[np.ndarray]:
    """The decoded planes, as numbers of 8 bits that may have a fraction."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    bits = frame.format.components[0].bits
    dtype, planes = np.uint16 if bits > 8 else np.uint8, []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1).view(dtype)
        planes.append(rows[:, : plane.width] / 2.0 ** (bits - 8))
    return planes


def rgb_of(planes, weights, full: bool, bits: int = 8) -> np.ndarray:
    """H.273 in floating point, with chroma that lies in the middle of its pixels and is interpolated linearly."""
    (height, width), (kr, kb), top = planes[0].shape, weights, (2**bits - 1) / 2.0 ** (bits - 8)
    chroma = (Image.fromarray(plane.astype(np.float32)) for plane in planes[1:])
    u, v = (np.asarray(c.resize((width, height), Image.Resampling.BILINEAR)) - 128.0 for c in chroma)
    y, u, v = (planes[0] / top, u / top, v / top) if full else ((planes[0] - 16) / 219, u / 224, v / 224)
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip(np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], -1) * 255, 0, 255)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv420p10le", "yuv422p10le", "yuv444p12le"]
)
def test_no_bias_against_floating_point(tmp_path, pixels, full):
    path = encode(tmp_path / "clip.mkv", COFFEE, "ffv1", pixels, tags=(1, 1 + full))
    bits = int(pixels[7:9]) if pixels.endswith("le") else 8
    error = read_video(path).frames[0] - rgb_of(planes_of(path), WEIGHTS[1], full, bits)
    mean, worst = np.abs(error.mean((0, 1))).max(), np.abs(error).max()
    deep_and_full = full and bits > 8  # through a limited range of 16 bits: see Converter
    assert mean < (0.3 if deep_and_full else 0.05) and worst < (1.1 if deep_and_full else 0.6)


@pytest.mark.parametrize("color_range", [0, 1, 2], ids=["no tag", "limited", "full"])
@pytest.mark.parametrize("pixels", ["gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le"])
def test_grey_of_any_depth_follows_its_range(tmp_path, pixels, color_range):
    """Without a tag it is in full range, as FFmpeg and x264 take it."""
    path = encode(tmp_path / "clip.mkv", moving(1), "ffv1", pixels, tags=(2, color_range))
    (plane,), frame = planes_of(path), read_video(path).frames[0]
    bits = int(pixels[4:].removesuffix("le") or 8)
    right = (plane - 16) * 255 / 219 if color_range == 1 else plane * 255 / ((2**bits - 1) / 2.0 ** (bits - 8))
    assert np.abs(frame - np.clip(right, 0, 255)[..., None]).max() <= 0.5001


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("ffv1", f"gbrp{bits}le") for bits in (9, 10, 12, 14, 16)]
    + [("ffv1", "gbrap16le"), ("rawvideo", "rgb48le"), ("rawvideo", "rgb48be"), ("rawvideo", "rgba64le")],
)
def test_deep_rgb_is_rounded(tmp_path, codec, pixels):
    values = np.random.default_rng(0).integers(0, 1 << 16, (48, 64, 3)).astype(np.uint16)
    with av.open(str(tmp_path / "clip.nut"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        picture = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format=pixels)
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    bits = picture.format.components[0].bits
    if codec == "ffv1":
        planes = [np.frombuffer(plane, np.uint16).reshape(48, -1)[:, :64] for plane in picture.planes]
        values = np.stack([planes[2], planes[0], planes[1]], -1)
    error = read_video(tmp_path / "clip.nut").frames[0] - values * (255 / (2**bits - 1))
    assert np.abs(error).max() <= 0.51 and abs(error.mean()) < 0.02


@pytest.mark.parametrize("height", [32, 704, 720, 1088])
@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
def test_a_tagged_matrix_holds_at_every_size(tmp_path, matrix, height):
    frames = np.full((1, height, 16, 3), (20, 200, 60), np.uint8)
    path = encode(tmp_path / "clip.mp4", frames, options={"qp": "0", "preset": "ultrafast"}, tags=(matrix, 1))
    assert np.abs(read_video(path).frames[0, height // 2, 8].astype(int) - (20, 200, 60)).max() <= 2


@pytest.mark.parametrize("height", [704, 720])
@pytest.mark.parametrize(("container", "tag"), [("avi", 2), ("avi", 1), ("mov", 5), ("mkv", 1)])
def test_motion_jpeg_is_bt601_of_full_range_at_every_size(tmp_path, container, tag, height):
    frames = np.full((1, height, 64, 3), (20, 200, 60), np.uint8)
    path = tmp_path / f"clip.{container}"
    encode(path, frames, "mjpeg", "yuvj420p", options={"qmin": "1", "qmax": "1"}, tags=(5, 2))
    assert np.abs(read_video(path).frames[0, 300, 30].astype(int) - (20, 200, 60)).max() <= 3


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p"])
def test_ycgco_is_read_and_what_the_scaler_does_not_know_is_said(tmp_path, pixels, color_range):
    r, g, b = 20, 200, 60
    y, cg, co = r / 4 + g / 2 + b / 4, g / 2 - (r + b) / 4, (r - b) / 2
    scale = (1, 1) if color_range == 2 else (219 / 255, 224 / 255)
    values = [round(y * scale[0]) + (color_range == 1) * 16, round(cg * scale[1]) + 128, round(co * scale[1]) + 128]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = 8, color_range
        picture = av.VideoFrame(16, 16, pixels)
        for plane, value in zip(picture.planes, values, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        picture.colorspace, picture.color_range = 8, color_range
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    clip = read_video(tmp_path / "clip.mkv")
    assert np.abs(clip.frames.astype(int) - (r, g, b)).max() <= 2 and not clip.notes
    for tag, name in ((10, "BT.2020 with constant luminance"), (14, "ICtCp")):
        encode(tmp_path / "clip.mkv", moving(1), "ffv1", tags=(tag, 1))
        assert any(name in note and "approximate" in note for note in read_video(tmp_path / "clip.mkv").notes)


def test_written_colours_are_exact(tmp_path, monkeypatch):
    """BT.709, limited range, with the mean of 2x2 pixels as chroma, whose place is tagged as their middle."""
    monkeypatch.setitem(CODECS[".mp4"][3], "crf", "0")  # lossless
    write_video(tmp_path / "clip.mp4", np.repeat(COFFEE, 2, axis=0))
    (kr, kb), rgb = WEIGHTS[1], COFFEE[0].astype(float)
    y = rgb @ (kr, 1 - kr - kb, kb)
    u, v = ((rgb[..., channel] - y) / (2 * (1 - k)) for channel, k in ((2, kb), (0, kr)))
    means = [plane.reshape(60, 2, 80, 2).mean((1, 3)) for plane in (u, v)]
    true, planes = [16 + y * 219 / 255, *(128 + mean * 224 / 255 for mean in means)], planes_of(tmp_path / "clip.mp4")
    for plane, values in zip(planes, true, strict=True):
        assert abs((plane - values).mean()) < 0.05 and np.abs(plane - values).max() < 0.6
    read = read_video(tmp_path / "clip.mp4").frames[0]
    assert np.abs(read - rgb_of(planes, WEIGHTS[1], full=False)).max() < 0.6  # with chroma in the middle


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("degrees", "mirrored", "right"),
    [
        (0, False, lambda f: f),
        (90, False, lambda f: np.rot90(f)),
        (180, False, lambda f: f[::-1, ::-1]),
        (270, False, lambda f: np.rot90(f, -1)),
        (0, True, lambda f: f[:, ::-1]),
        (180, True, lambda f: f[::-1]),
        (90, True, lambda f: np.rot90(f)[:, ::-1]),
        (270, True, lambda f: np.rot90(f, -1)[:, ::-1]),
        (89.6, False, lambda f: np.rot90(f)),
        (-0.4, True, lambda f: f[:, ::-1]),
        (30, False, None),
        (45, True, None),
    ],
)
def test_orientation(tmp_path, container, degrees, mirrored, right):
    frames = moving(2)
    plain = read_video(encode(tmp_path / "plain.mkv", frames, "mpeg4", options={"qscale": "2"})).frames
    path = encode(
        tmp_path / f"clip.{container}",
        frames,
        "mpeg4",
        options={"qscale": "2"},
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    clip = read_video(path)
    assert scan_video(path)[1:3] == clip.frames.shape[1:3]
    if right is None:
        assert np.array_equal(clip.frames, plain) and "frames are read as stored" in clip.notes[0]
    else:
        assert np.array_equal(clip.frames, [right(frame) for frame in plain]) and not clip.notes


def test_a_display_matrix_of_zeros_is_said(tmp_path):
    clip = read_video(
        encode(tmp_path / "clip.mp4", moving(1), prepare=lambda stream: stream.set_display_matrix([0] * 9))
    )
    assert clip.frames.shape == (1, 48, 64, 3) and "frames are read as stored" in clip.notes[0]
