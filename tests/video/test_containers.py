"""Files that are cut off are recognised, and whole ones with odd endings are read."""

import av
import numpy as np
import pytest

from tests.helpers.video import encode, moving, packets
from vae_lab import read_video, write_video
from vae_lab.video.containers import has_lost_packets
from vae_lab.video.reading import scan_video

FRAMES = moving(40)
KINDS = {  # name: (suffix, codec, pixel format, options of the container)
    "mp4": ("mp4", "libx264", "yuv420p", {"movflags": "+faststart"}),
    "fragmented mp4": ("mp4", "libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("mov", "prores_ks", "yuv422p10le", {"movflags": "+faststart"}),
    "3gp": ("3gp", "mpeg4", "yuv420p", {"movflags": "+faststart"}),
    "mkv": ("mkv", "libx264", "yuv420p", {}),
    "mkv, index in front": ("mkv", "ffv1", "bgr0", {"reserve_index_space": "2000"}),
    "webm": ("webm", "libvpx", "yuv420p", {}),
    "avi": ("avi", "mjpeg", "yuvj420p", {}),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    suffix, codec, pixels, options = KINDS[request.param]
    path = tmp_path_factory.mktemp("whole") / f"clip.{suffix}"
    return encode(path, FRAMES, codec, pixels, options={"g": "8"}, container_options=options)


def test_files_that_are_cut_off(whole, tmp_path):
    content, path = whole.read_bytes(), tmp_path / f"cut{whole.suffix}"
    for share in (0.35, 0.5, 0.7, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ValueError, match=r"breaks off after \d"):
            read_video(path)
        assert 0 < scan_video(path).num_frames < 40 and "breaks off" in (scan_video(path).breaks_off or "")
        assert len(read_video(path, num_frames=scan_video(path).num_frames)) == scan_video(path).num_frames


@pytest.mark.parametrize(
    "tail",
    [b"", bytes(4), b"0123456789abcdefCAMERA!!", b"TAG" + bytes(125), b"\0\0\x10\0free\1\2", b"\xff" * 50, b"ab"],
)
def test_whole_files_with_something_behind(whole, tmp_path, tail):
    path = tmp_path / f"clip{whole.suffix}"
    path.write_bytes(whole.read_bytes() + tail)
    clip = read_video(path)
    assert len(clip) == 40 and not clip.notes and scan_video(path).breaks_off is None


@pytest.mark.parametrize("suffix", ["avi", "mkv", "webm"])
def test_a_torn_index_costs_no_frames(tmp_path, suffix):
    path = encode(tmp_path / f"clip.{suffix}", FRAMES, "libvpx" if suffix == "webm" else "mpeg4")
    path.write_bytes(path.read_bytes()[:-8])
    assert len(read_video(path)) == 40


TRACKS = b"\x16\x54\xae\x6b"


def put(path, at: int, new: bytes) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:at] + new + content[at + len(new) :])


@pytest.mark.parametrize("check_sum", [b"\xd7\x04\x80\x80", b"\xd7\x81\x05\x00"])
def test_a_check_sum_is_no_track(tmp_path, check_sum):
    """One file in 256 has a check sum that begins as a track's number does."""
    path = encode(tmp_path / "clip.mkv", FRAMES, "libvpx", options={"g": "5"})
    content = path.read_bytes()
    put(path, content.index(b"\xbf\x84", content[:1000].rindex(TRACKS)) + 2, check_sum)
    clip = read_video(path)
    assert len(clip) == 40 and not clip.notes
    position, _ = packets(path)[12]
    put(path, position, b"\x85")  # now it is of track 5, which there is not
    assert any("packets, and with them frames, are lost" in note for note in read_video(path).notes)


def test_a_number_of_gigabytes_is_none(tmp_path):
    path = encode(tmp_path / "clip.mkv", FRAMES, "libvpx")
    with av.open(str(path)) as container:
        assert not has_lost_packets(path, container)
        content = path.read_bytes()
        put(path, content.index(b"\xd7\x81\x01", content[:1000].rindex(TRACKS)), b"\xd7\x04\x80\x80")
        assert has_lost_packets(path, container)  # blocks of a track that is not declared any more


def test_dropped_frames_of_an_avi(tmp_path):
    encode(tmp_path / "clip.avi", FRAMES[:20], "mpeg4", pts=[*range(10), *range(14, 24)])
    assert len(read_video(tmp_path / "clip.avi")) == 20


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_a_last_picture_that_stands_long(tmp_path, suffix):
    write_video(tmp_path / "clip.webm", FRAMES[:10], 10)
    with av.open(str(tmp_path / "clip.webm")) as source, av.open(str(tmp_path / f"long.{suffix}"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stored = [packet for packet in source.demux(video=0) if packet.size]
        stored[-1].duration = 2000
        for packet in stored:
            packet.stream = stream
            container.mux(packet)
    clip = read_video(tmp_path / f"long.{suffix}")
    assert len(clip) == 10 and clip.fps == pytest.approx(10)


def test_a_live_recording_promises_nothing(tmp_path):
    path = encode(tmp_path / "live.webm", FRAMES, "libvpx", options={"g": "8"}, container_options={"live": "1"})
    assert len(read_video(path)) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(read_video(path)) < 40


@pytest.mark.parametrize("tag", ["00:00:09.000000000", "nonsense", "00:00:00.010000000", "9:9"])
def test_a_duration_tag_is_no_promise(tmp_path, tag):
    path = encode(tmp_path / "clip.mkv", FRAMES[:5], "ffv1", "bgr0")
    content = path.read_bytes()
    at = content.index(b"DURATION") + len(b"DURATION") + 3  # the tag's string follows
    path.write_bytes(content[:at] + tag.ljust(19, "\0").encode() + content[at + 19 :])
    assert np.array_equal(read_video(path).frames, FRAMES[:5])
