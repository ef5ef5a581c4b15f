"""A damaged packet costs its frames, not the rest, and what is missing is said."""

from contextlib import suppress

import av
import numpy as np
import pytest

from tests.helpers.video import encode, moving, overwrite, packets
from vae_lab import read_video
from vae_lab.video import decoding
from vae_lab.video.decoding import BreaksOffError
from vae_lab.video.reading import iter_video, scan_video

FRAMES = moving(30)
X264 = {"g": "10", "bf": "0"}
KINDS = {  # name: (suffix, codec, pixel format, options)
    "h264": ("mp4", "libx264", "yuv420p", X264),
    "h264, b-frames": ("mp4", "libx264", "yuv420p", {"g": "10", "bf": "3"}),
    "h264, mkv": ("mkv", "libx264", "yuv420p", X264),
    "hevc": ("mp4", "libx265", "yuv420p", {"x265-params": "keyint=10:log-level=0"}),
    "vp9": ("webm", "libvpx-vp9", "yuv420p", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
    "vp8": ("webm", "libvpx", "yuv420p", {"g": "10", "deadline": "realtime"}),
    "av1": ("mp4", "libsvtav1", "yuv420p", {"g": "10", "preset": "12", "svtav1-params": "lookahead=0"}),
    "prores": ("mov", "prores_ks", "yuv422p10le", {}),
    "mpeg4": ("avi", "mpeg4", "yuv420p", {"g": "10"}),
    "ffv1 with check sums": ("mkv", "ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    suffix, codec, pixels, options = KINDS[request.param]
    return encode(tmp_path_factory.mktemp("whole") / f"clip.{suffix}", FRAMES, codec, pixels, options=options)


@pytest.mark.parametrize("damaged", [(0,), (15,), (3, 15, 16), (29,)], ids=str)
def test_a_damaged_packet_costs_its_frames_only(whole, tmp_path, damaged):
    assert len(read_video(whole)) == 30 and not read_video(whole).notes
    places = packets(whole)
    bad = tmp_path / f"bad{whole.suffix}"
    overwrite(whole, bad, [(places[i][0] + 8, max(0, places[i][1] - 8)) for i in damaged])
    clip, info = read_video(bad), scan_video(bad)
    assert 30 - 12 * len(damaged) <= len(clip) <= 30  # a key frame costs those that are predicted from it
    assert len(clip) == 30 or any(f"{30 - len(clip)} frame" in note and "of 30" in note for note in clip.notes)
    assert (info.num_frames, info.notes) == (len(clip), clip.notes)
    for start in range(0, len(clip) - 2, 5):
        assert np.array_equal(read_video(bad, start, 3).frames, clip.frames[start : start + 3])
    if clip.notes:
        with pytest.raises(BreaksOffError, match="breaks off or is damaged (after frame|at its first)"):
            read_video(bad, strict=True)
        with pytest.raises(BreaksOffError):
            list(iter_video(bad, strict=True))


@pytest.mark.parametrize("damaged", range(4, 30, 7))
def test_a_frame_that_is_filled_up_is_said(tmp_path, damaged):
    path = encode(tmp_path / "clip.mkv", FRAMES, options=X264)
    position, size = packets(path)[damaged]
    content = bytearray(path.read_bytes())
    content[position + size // 2 : position + size // 2 + 40] = bytes(40)
    (tmp_path / "bad.mkv").write_bytes(content)
    with av.open(str(tmp_path / "bad.mkv")) as container:
        container.streams.video[0].codec_context.thread_count = 1
        corrupt = [n for n, frame in enumerate(container.decode(video=0)) if frame.is_corrupt]
    clip = read_video(tmp_path / "bad.mkv")
    assert len(clip) == 30 and set(corrupt) <= {damaged}
    assert clip.notes == tuple(f"1 frame could be decoded only in part: {n} of 30" for n in corrupt)


def test_as_many_frames_as_ffmpeg_decodes_without_the_damaged_packets(tmp_path):
    path = encode(tmp_path / "clip.mp4", moving(50), options=X264)
    for damaged in ((20,), (0, 31), (49,), (7, 8, 9)):
        bad = overwrite(path, tmp_path / "bad.mp4", [])
        content = bytearray(bad.read_bytes())
        for i in damaged:
            position = packets(path)[i][0]
            content[position : position + 4] = b"\xff" * 4  # the length of the packet's first unit
        bad.write_bytes(content)
        expected = []
        with av.open(str(bad)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for packet in container.demux(video=0):
                with suppress(av.error.InvalidDataError):
                    expected += [frame.time for frame in packet.decode()]
        clip = read_video(bad)
        assert np.array_equal(clip.times, np.array(expected) - expected[0])
        assert f"{50 - len(clip)} frame" in clip.notes[0] and "of 50" in clip.notes[0]
    assert clip.notes == (
        "3 frames could not be decoded: 7, 8, 9 of 50; those up to the next key frame may show traces of it",
    )


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_packets_that_the_container_loses_are_said(tmp_path, suffix):
    path = encode(tmp_path / f"clip.{suffix}", FRAMES, "libvpx", options={"g": "5"})
    position, _ = packets(path)[12]
    for where in ((position, 1), (position - 3, 2)):  # the number of the track; the block's ID
        content = bytearray(path.read_bytes())
        content[where[0] : where[0] + where[1]] = b"\x85" * where[1]
        (tmp_path / f"bad.{suffix}").write_bytes(content)
        clip = read_video(tmp_path / f"bad.{suffix}")
        assert len(clip) < 30 and any("packets, and with them frames, are lost" in note for note in clip.notes)
        with pytest.raises(BreaksOffError, match="packets are lost"):
            read_video(tmp_path / f"bad.{suffix}", strict=True)


@pytest.mark.parametrize("length", [4, 8], ids=["ID", "ID and size"])
def test_a_cluster_that_is_not_one_any_more_is_said(tmp_path, length):
    path = encode(tmp_path / "clip.mkv", FRAMES, "ffv1", "bgr0", container_options={"cluster_time_limit": "100"})
    content = bytearray(path.read_bytes())
    at = content.index(b"\x1f\x43\xb6\x75", len(content) // 2)
    content[at : at + length] = b"\x18\x5c\xbb\xfa" + b"\0" * (length - 4)
    path.write_bytes(content)
    assert len(read_video(path)) < 30 and "packets, and with them frames, are lost" in read_video(path).notes[0]


def test_a_transport_stream_says_what_it_lost(tmp_path):
    path = encode(tmp_path / "clip.ts", FRAMES, options=X264)
    content = path.read_bytes()
    at = len(content) // 376 * 188
    path.write_bytes(content[:at] + content[at + 188 :])
    assert "packets, and with them frames, are lost" in read_video(path).notes[-1]
    with pytest.raises(BreaksOffError):
        read_video(path, strict=True)
    path.write_bytes(content[:-188])  # the end of a recording
    assert not any("lost" in note for note in read_video(path).notes)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("ts", "mpeg2video"), ("flv", "flv"), ("asf", "mpeg4"), ("nut", "mpeg4")]
)
def test_a_gap_in_a_container_that_keeps_no_sizes_is_said(tmp_path, suffix, codec):
    path = encode(tmp_path / f"clip.{suffix}", FRAMES, codec, pts=[*range(14), *range(15, 31)], options={"bf": "0"})
    assert read_video(path).notes == ("time stamps are far apart after frame 13: frames may be lost there",)
    at = np.cumsum([0, *[1, 2, 4, 3, 1] * 6])[:30]
    assert not read_video(encode(path, FRAMES, codec, pts=at, options={"bf": "0"})).notes


def test_windows_of_a_long_file_agree_once_damage_is_known(tmp_path, monkeypatch):
    """Where a window is sought by packets, those that cannot be decoded would count."""
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", 0)
    path = encode(tmp_path / "clip.mp4", moving(50), options=X264)
    position, size = packets(path)[15]
    bad = overwrite(path, tmp_path / "bad.mp4", [(position, size)])
    whole = read_video(bad).frames
    assert len(whole) < 50
    for start in (5, 16, 30, 40):
        assert np.array_equal(read_video(bad, start, 3).frames, whole[start : start + 3])


SOUGHT = {  # name: (suffix, codec, pixel format, options)
    **{name: KINDS[name] for name in ("h264", "h264, b-frames", "hevc", "vp9", "av1", "prores")},
    "hevc, mkv": ("mkv", *KINDS["hevc"][1:]),
    "vp9, mp4": ("mp4", *KINDS["vp9"][1:]),
    "mpeg2": ("mkv", "mpeg2video", "yuv420p", {"g": "10", "bf": "2"}),
    "mpeg4": ("mp4", "mpeg4", "yuv420p", {"g": "10"}),
    "mjpeg": ("mov", "mjpeg", "yuvj420p", {}),
}


@pytest.mark.parametrize("name", SOUGHT)
def test_a_window_of_a_long_file_knows_of_damage_before_it(tmp_path, monkeypatch, name):
    """As in a process that has read nothing of the file yet: a window is numbered like the frames of the whole."""
    monkeypatch.setattr(decoding, "WORTH_A_SEEK", 0)
    suffix, codec, pixels, options = SOUGHT[name]
    path = encode(tmp_path / f"clip.{suffix}", FRAMES, codec, pixels, options=options)
    seen = 0
    for damaged in (3, 10, 14):
        position, size = packets(path)[damaged]
        bad = overwrite(path, tmp_path / f"bad.{suffix}", [(position, size)])
        whole = read_video(bad).frames
        seen += len(whole) < 30
        for start in range(12, len(whole) - 1, 4):
            monkeypatch.setattr(decoding, "_damaged", set())
            assert np.array_equal(read_video(bad, start, 2).frames, whole[start : start + 2]), (damaged, start)
    assert seen


def test_a_file_of_damaged_packets_only(tmp_path):
    path = encode(tmp_path / "clip.mp4", FRAMES, "prores_ks", "yuv422p10le", container_format="mov")
    bad = overwrite(path, tmp_path / "bad.mp4", packets(path))
    with pytest.raises(ValueError, match="none of its frames can be decoded"):
        read_video(bad)
