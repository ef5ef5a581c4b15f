"""Windows, rates and times of streams, which stream is read, and what is said of it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from tests.helpers.video import encode, moving
from vae_lab import iter_video, photo_clip, read_video, write_video
from vae_lab.video import decoding
from vae_lab.video.reading import scan_video

FRAMES, PHOTO = moving(48), photo_clip("coffee", 60, (48, 64), seed=1).frames
X265 = "keyint=10:log-level=0"
WINDOWED = {  # name: (suffix, codec, pixel format, options)
    "periodic intra refresh": ("mp4", "libx264", "yuv420p", {"intra-refresh": "1", "g": "12", "bf": "0"}),
    "periodic intra refresh, b-frames": (
        "mkv",
        "libx264",
        "yuv420p",
        {"intra-refresh": "1", "g": "20"},
    ),
    "periodic intra refresh, hevc": (
        "mp4",
        "libx265",
        "yuv420p",
        {"x265-params": f"intra-refresh=1:scenecut=0:{X265}"},
    ),
    "open gop": ("mp4", "libx264", "yuv420p", {"g": "10", "bf": "3", "x264-params": "open-gop=1"}),
    "open gop, mkv": ("mkv", "libx264", "yuv420p", {"g": "10", "bf": "3", "x264-params": "open-gop=1"}),
    "open gop, hevc": ("mp4", "libx265", "yuv420p", {"x265-params": f"open-gop=1:{X265}"}),
    "closed gop": ("mov", "libx264", "yuv420p", {"g": "10", "bf": "2"}),
    "interlaced": ("mp4", "libx264", "yuv420p", {"x264-params": "interlaced=1", "g": "10"}),
    "vp9, hidden frames": ("webm", "libvpx-vp9", "yuv420p", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp8, hidden frames": ("webm", "libvpx", "yuv420p", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "av1": ("mkv", "libsvtav1", "yuv420p", {"g": "16", "preset": "12"}),
    "mpeg4": ("mp4", "mpeg4", "yuv420p", {"g": "10", "bf": "2"}),
    "mpeg2": ("mkv", "mpeg2video", "yuv420p", {"g": "10", "bf": "2"}),
    "mpeg2, ts": ("ts", "mpeg2video", "yuv420p", {"g": "10", "bf": "2"}),
    "ffv1": ("mkv", "ffv1", "yuv420p", {"g": "7"}),
    "prores": ("mov", "prores_ks", "yuv422p10le", {}),
    "vc2, where FFmpeg cannot seek": ("mkv", "vc2", "yuv422p", {"strict": "-1", "b": "3M"}),
}


@pytest.fixture(scope="module", params=WINDOWED)
def windowed(request, tmp_path_factory):
    suffix, codec, pixels, options = WINDOWED[request.param]
    return encode(tmp_path_factory.mktemp("stream") / f"clip.{suffix}", PHOTO, codec, pixels, options=options)


def assert_windows_are_parts_of_the_whole(path):
    whole = read_video(path)
    assert len(whole) == 60
    for start in range(0, 60, 5):
        window = read_video(path, start, 3, strict=True)
        assert not decoding._damaged.intersection([decoding._identity(path)]) and window.notes == whole.notes
        assert np.array_equal(window.frames, whole.frames[start : start + 3]), start
        assert window.times == pytest.approx(whole.times[start : start + 3]) and window.fps == whole.fps


@pytest.mark.parametrize("worth", [0, decoding.WORTH_A_SEEK], ids=["sought", "from frame 0"])
def test_every_window_equals_the_frames_of_the_whole(windowed, monkeypatch, worth):
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", worth)
    assert_windows_are_parts_of_the_whole(windowed)


@pytest.mark.parametrize(
    ("name", "suffix"), [("closed gop", "mkv"), ("closed gop", "mp4"), ("mpeg4", "mkv"), ("mpeg4", "mp4")]
)
def test_packets_that_are_falsely_marked_as_key_frames(tmp_path, monkeypatch, name, suffix):
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", 0)
    _, codec, pixels, options = WINDOWED[name]
    encode(tmp_path / "clip.mp4", PHOTO, codec, pixels, options=options)
    with av.open(str(tmp_path / "clip.mp4")) as source, av.open(str(tmp_path / f"lie.{suffix}"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.is_keyframe, packet.stream = True, stream
                container.mux(packet)
    assert_windows_are_parts_of_the_whole(tmp_path / f"lie.{suffix}")


def test_a_long_way_to_a_window_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", 0)
    decoded = []
    frames = decoding._Video._frames
    monkeypatch.setattr(decoding._Video, "_frames", lambda video: (decoded.append(f) or f for f in frames(video)))
    path = encode(tmp_path / "clip.mp4", FRAMES, options={"g": "8", "bf": "0"})
    assert np.array_equal(read_video(path, 43, 2).frames, read_video(path).frames[43:45])
    assert len(decoded) - 48 <= 5


def copied(source, path, bitstream_filter=None):
    """Copy the packets of a video stream to another container."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        context = bitstream_filter and BitStreamFilterContext(bitstream_filter, old.streams.video[0])
        for packet in old.demux(video=0):
            for changed in context.filter(packet if packet.size else None) if context else [packet] * bool(packet.size):
                changed.stream = stream
                new.mux(changed)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("rotate", [90, 180])
def test_an_orientation_in_the_bitstream_holds_for_all_frames(tmp_path, monkeypatch, suffix, rotate):
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", 0)
    plain = encode(tmp_path / "plain.mp4", FRAMES[:20], options={"g": "6", "bf": "2"})
    said = f"h264_metadata=display_orientation=insert:rotate={rotate}"  # with the first frame only
    turned = copied(plain, tmp_path / f"turned.{suffix}", said)
    right = np.rot90(read_video(plain).frames, rotate // 90, axes=(1, 2))
    assert np.array_equal(read_video(turned).frames, right)
    for start in range(20):
        assert np.array_equal(read_video(turned, start, 1).frames[0], right[start])


# ---- rates and times ----


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
@pytest.mark.parametrize("times", [(0, 1, 3), (0, 0.1, 0.15, 0.9), tuple(np.cumsum([0, *[0.03, 0.037, 0.031] * 5]))])
def test_the_rate_is_the_mean_of_the_frames_own_times(tmp_path, suffix, times):
    path, count = tmp_path / f"clip.{suffix}", len(times)
    write_video(path, FRAMES[:count], 25, lossless=suffix == "mkv", times=np.array(times))
    clip = read_video(path)
    assert clip.fps == pytest.approx((count - 1) / (clip.times[-1] - clip.times[0]), rel=1e-3)
    assert clip.times == pytest.approx(times, abs=0.001)
    assert scan_video(path).fps == clip.fps
    window = read_video(path, 1, 2)
    assert window.fps == pytest.approx(1 / (window.times[1] - window.times[0]), rel=0.05)


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, 240])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
def test_a_constant_rate_is_that_of_the_header(tmp_path, suffix, rate):
    codec = "libvpx" if suffix == "webm" else "mpeg2video" if suffix == "ts" and rate <= 60 else "libx264"
    clip = read_video(encode(tmp_path / f"clip.{suffix}", FRAMES[:12], codec, rate=rate))
    assert clip.fps == pytest.approx(rate, rel=0.02)
    assert read_video(tmp_path / f"clip.{suffix}", 5, 1).fps == pytest.approx(rate, rel=0.06)


def test_the_rate_of_a_recording_that_has_none_in_its_header(tmp_path):
    """As browsers' recorders write it: no default duration, so FFmpeg takes the clock's rate, 1000."""
    write_video(tmp_path / "clip.webm", FRAMES[:20], 30, times=np.arange(20) * 0.033)
    content = bytearray((tmp_path / "clip.webm").read_bytes())
    at = content.index(b"\x23\xe3\x83\x84")  # DefaultDuration becomes Void
    content[at : at + 8] = b"\xec\x86" + bytes(6)
    (tmp_path / "clip.webm").write_bytes(content)
    assert read_video(tmp_path / "clip.webm").fps == pytest.approx(1 / 0.033)
    assert read_video(tmp_path / "clip.webm", 3, 1).fps < 100


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 12), (5, 1), (5, 6)])
def test_a_rate_that_counts_fields(tmp_path, start, count):
    """FFmpeg writes an H.264 stream that it copies into an AVI file with twice its rate."""
    path = encode(tmp_path / "clip.mp4", FRAMES[:12], options={"bf": "2"})
    path = copied(path, tmp_path / "clip.avi", "h264_mp4toannexb")
    assert read_video(path, start, count).fps == pytest.approx(25)


def test_dv_has_its_own_rate(tmp_path):
    path = encode(tmp_path / "clip.dv", np.zeros((4, 576, 720, 3), np.uint8), "dvvideo", container_format="dv")
    assert [read_video(path).fps, read_video(path, 1, 1).fps] == [25, 25]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4", "mov", "ts", "flv", "nut"])
def test_the_first_frame_is_at_0(tmp_path, suffix):
    codec = {"webm": "libvpx", "flv": "flv", "ts": "mpeg2video"}.get(suffix, "mpeg4")
    path = encode(tmp_path / f"clip.{suffix}", FRAMES[:12], codec, pts=range(130, 142))
    whole, window = read_video(path), read_video(path, 4, 3)
    assert whole.times == pytest.approx(np.arange(12) / 25, abs=0.001) and whole.fps == pytest.approx(25)
    assert window.times == pytest.approx(np.arange(4, 7) / 25, abs=0.001)


# ---- which stream ----


def two_streams(path, sizes, dispositions):
    with av.open(str(path), "w") as container:
        streams = []
        for (height, width), disposition in zip(sizes, dispositions, strict=True):
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt, stream.disposition = height, width, "yuv420p", disposition
            streams.append(stream)
        for t in range(6):
            for stream in streams:
                frame = moving(6, stream.height, stream.width)[t]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        for stream in streams:
            container.mux(stream.encode(None))
    return read_video(path)


SMALL, LARGE = (32, 48), (48, 64)
NONE, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize(
    ("suffix", "sizes", "dispositions", "right"),
    [
        ("mkv", (LARGE, SMALL), (NONE, DEFAULT), 1),
        ("mkv", (SMALL, LARGE), (NONE, DEFAULT), 1),
        ("mkv", (SMALL, LARGE), (DEFAULT, NONE), 0),
        ("mkv", (SMALL, LARGE), (NONE, NONE), 1),
        ("mp4", (LARGE, SMALL), (NONE, DEFAULT), 1),
        ("mp4", (SMALL, LARGE), (DEFAULT, DEFAULT), 1),
        ("avi", (SMALL, LARGE), (NONE, NONE), 1),
        ("ts", (LARGE, SMALL), (NONE, NONE), 0),
    ],
)
def test_of_several_streams_the_default_or_largest_is_read(tmp_path, suffix, sizes, dispositions, right):
    clip = two_streams(tmp_path / f"clip.{suffix}", sizes, dispositions)
    assert clip.frames.shape == (6, *sizes[right], 3)
    assert clip.notes == (f"2 video streams: number {right} is read",)


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov"])
def test_cover_art_is_not_read(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 96, 128, "yuvj420p", Disposition.attached_pic
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(moving(1, 96, 128)[0])))
        for frame in FRAMES[:5]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    clip = read_video(path)
    assert clip.frames.shape == (5, 48, 64, 3) and not clip.notes


# ---- what is said ----


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "options"),
    [
        ("mp4", "libx264", "yuv420p", {}),
        ("mkv", "libx264", "yuv420p", {}),
        ("mov", "prores_ks", "yuv422p10le", {}),
        ("avi", "mpeg4", "yuv420p", {}),
        ("ts", "libx264", "yuv420p", {}),
    ],
)
def test_the_shape_of_pixels_is_kept(tmp_path, suffix, codec, pixels, options):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    path = encode(tmp_path / f"clip.{suffix}", FRAMES[:3], codec, pixels, options=options, prepare=anamorphic)
    clip = read_video(path)
    assert clip.pixel_aspect == scan_video(path).pixel_aspect == Fraction(64, 45)
    assert "pixels are 64:45 (width to height)" in clip.notes and scan_video(path).notes == clip.notes
    for name in ("again.mp4", "again.webm", "again.mkv"):
        write_video(tmp_path / name, clip.frames, clip.fps, name == "again.mkv", pixel_aspect=clip.pixel_aspect)
        assert read_video(tmp_path / name).pixel_aspect == scan_video(tmp_path / name).pixel_aspect == Fraction(64, 45)
    for name, lossless in (("a.png", False), ("a.png", True), ("a.gif", False), ("folder", True)):
        with pytest.raises(ValueError, match=r"pixel_aspect can be kept in \.mp4, \.webm, \.mkv, not in"):
            write_video(tmp_path / name, clip.frames, pixel_aspect=clip.pixel_aspect, lossless=lossless)
    for wrong in (0, -1, float("nan"), "16:11", None):
        with pytest.raises(ValueError, match="pixel_aspect must be a pixel's width over its height, 0.01 to 100, got"):
            write_video(tmp_path / "b.mp4", clip.frames, pixel_aspect=wrong)


def test_turned_pixels_are_turned(tmp_path):
    def turned(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        stream.set_display_rotation(90)

    clip = read_video(encode(tmp_path / "clip.mp4", FRAMES[:2], prepare=turned))
    assert clip.frames.shape == (2, 64, 48, 3) and clip.pixel_aspect == Fraction(11, 16)


@pytest.mark.parametrize(
    ("transfer", "primaries", "said"),
    [
        (16, 9, ["transfer function PQ (HDR): values are read as they lie", "primaries BT.2020: values are read as"]),
        (18, 9, ["transfer function HLG (HDR): values are read as they lie", "primaries BT.2020: values are read as"]),
        (1, 12, ["primaries Display P3: values are read as they lie"]),
        (8, 1, ["transfer function linear: values are read as they lie"]),
        (1, 1, []),
        (6, 6, []),
    ],
)
def test_wide_colours_are_said(tmp_path, transfer, primaries, said):
    def tagged(stream):
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries

    path = encode(tmp_path / "clip.mp4", FRAMES[:2], pixels="yuv420p10le", prepare=tagged, tags=(9, 1))
    notes = read_video(path).notes
    assert len(notes) == len(said) and all(note.startswith(text) for note, text in zip(notes, said, strict=True))


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "order"),
    [
        ("mp4", "libx264", {"x264-params": "tff=1"}, " (top field first)"),
        ("mkv", "libx264", {"x264-params": "bff=1"}, " (bottom field first)"),
        ("ts", "mpeg2video", {"flags": "+ildct+ilme"}, ""),
        ("mov", "prores_ks", {"flags": "+ildct"}, ""),
    ],
)
def test_interlaced_video_is_said(tmp_path, suffix, codec, options, order):
    pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = encode(tmp_path / f"clip.{suffix}", FRAMES[:3], codec, pixels, options=options)
    (note,) = read_video(path).notes
    assert note.startswith(f"interlaced{order}") and note.endswith(": both fields stay in a frame")
    assert len(list(iter_video(path))) == 3


def test_ordinary_videos_say_nothing(tmp_path):
    for name in ("clip.mp4", "clip.webm", "clip.gif"):
        write_video(tmp_path / name, FRAMES[:4], 20)
        clip = read_video(tmp_path / name)
        assert clip.notes == () and clip.pixel_aspect == 1
