import gc
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.helpers.video import CLIP, LONG, encode
from vae_lab import iter_video, read_video, write_video
from vae_lab.video import decoding
from vae_lab.video.colours import Converter
from vae_lab.video.decoding import count_frames
from vae_lab.video.reading import scan_video


def test_a_window_reads_no_more_frames_than_it_needs(tmp_path, monkeypatch):
    frames = np.repeat(CLIP.frames, 30, axis=0)  # 720 frames: key frames lie at most 250 apart
    write_video(tmp_path / "long.mp4", frames)
    seen = []
    convert = Converter.rgb
    monkeypatch.setattr(Converter, "rgb", lambda by, frame: (seen.append(frame.pts), convert(by, frame))[1])
    clip = read_video(tmp_path / "long.mp4", 600, 5)
    assert len(seen) == 5
    assert np.array_equal(clip.frames, read_video(tmp_path / "long.mp4").frames[600:605])


@pytest.mark.parametrize("options", [{"g": "5", "bf": "3"}, {"g": "6", "bf": "2", "x264-params": "open-gop=1"}])
@pytest.mark.parametrize("container_format", ["mp4", "matroska", "mpegts", "avi"])
def test_windows_next_to_key_frames_with_b_frames(tmp_path, container_format, options):
    path = tmp_path / "clip.video"
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in CLIP.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    whole = read_video(path).frames
    assert len(whole) == 24
    for t in range(24):
        assert np.array_equal(read_video(path, t, 1).frames[0], whole[t]), t


@pytest.mark.parametrize("height", [480, 720])
def test_a_video_without_colour_tags_is_read_as_browsers_read_it(tmp_path, height):
    path, matrix = tmp_path / "clip.mp4", "ITU709" if height >= 720 else "ITU601"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = height, 16, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((height, 16, 3), (20, 200, 60), np.uint8), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=matrix)
        picture.colorspace = 2  # unspecified
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert np.abs(read_video(path).frames[0, 8, 8].astype(int) - (20, 200, 60)).max() <= 3


def test_rotation_tags_are_followed(tmp_path):
    write_video(tmp_path / "clip.mp4", CLIP.frames[:2])
    upright = read_video(tmp_path / "clip.mp4").frames
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # after version, flags and the fixed fields
    one = (1 << 16).to_bytes(4, "big")
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero, w = bytes(4), (1 << 30).to_bytes(4, "big")
    assert content[matrix : matrix + 36] == one + zero * 3 + one + zero * 3 + w
    content[matrix : matrix + 36] = zero + one + zero + minus + zero * 4 + w  # shown turned clockwise by 90 degrees
    (tmp_path / "turned.mp4").write_bytes(content)
    assert np.array_equal(read_video(tmp_path / "turned.mp4").frames, np.rot90(upright, -1, axes=(1, 2)))
    assert scan_video(tmp_path / "turned.mp4")[:3] == (2, 64, 48)


def test_a_whole_file_with_hidden_frames_is_read(tmp_path):
    """Its edit list starts after the first frames, which the header still counts."""
    with av.open(str(tmp_path / "clip.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream("libx264", rate=24, options={"g": "6", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for t, frame in enumerate(CLIP.frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = t - 8, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    whole = read_video(tmp_path / "clip.mp4").frames
    assert 0 < len(whole) < 24
    for t in range(len(whole)):
        assert np.array_equal(read_video(tmp_path / "clip.mp4", t, 1).frames[0], whole[t])


def test_file_names_are_no_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("concat:a {t} $x_{y$ é.mp4", CLIP.frames[:2])
    assert len(read_video("concat:a {t} $x_{y$ é.mp4")) == 2


def test_broken_videos(tmp_path):
    for name in ("whole.mp4", "whole.webm"):
        write_video(tmp_path / name, CLIP.frames)
    mp4, webm = ((tmp_path / name).read_bytes() for name in ("whole.mp4", "whole.webm"))
    for name, content, message in (
        ("half.mp4", mp4[: len(mp4) // 2], r"half.mp4 breaks off after \d+ frames"),
        ("tail.mp4", mp4[:-300], r"tail.mp4 breaks off after \d\d frames"),
        ("head.mp4", mp4[:100], "head.mp4 is empty or cut off"),
        ("nothing.mp4", b"", "nothing.mp4 is not a video that FFmpeg can read"),
        ("half.webm", webm[: len(webm) // 2], r"half.webm breaks off after \d\.\d\d of 1\.00 seconds"),
        ("text.mp4", b"just some text\n" * 50, "text.mp4 is not a video that FFmpeg can read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_video(tmp_path / name)
    clip = read_video(tmp_path / "half.mp4", 0, 3)  # what is there can be had
    assert len(clip) == 3


def test_audio_only_and_no_frames(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="sound.mp4 has no video stream, only audio"):
        read_video(tmp_path / "sound.mp4")
    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width = stream.height = 16
        stream.pix_fmt = "bgr0"
        container.start_encoding()
    with pytest.raises(ValueError, match="none.mkv has no frames"):
        read_video(tmp_path / "none.mkv")


def test_a_stream_that_begins_late(tmp_path):
    """In an FLV file, streams are known by their first packets."""
    path = encode(tmp_path / "clip.flv", CLIP.frames, "flv")
    sound = b"\x2e" + bytes(100)  # MP3, in a tag of sound
    path.write_bytes(path.read_bytes() + b"\x08" + len(sound).to_bytes(3, "big") + bytes(7) + sound + bytes(4))
    assert len(read_video(path)) == 24 and count_frames(path) == 24


def test_files_that_are_refused_are_closed(tmp_path, monkeypatch):
    """Also while the error, whose traceback holds what was opened, is still in use."""
    opened, real = [], decoding._open
    monkeypatch.setattr(decoding, "_open", lambda path: opened.append(real(path)) or opened[-1])
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>')
    for read in (read_video, scan_video, count_frames):
        with pytest.raises(ValueError, match="a.svg cannot be decoded") as refused:
            read(tmp_path / "a.svg")
        with pytest.raises(AssertionError, match="Container is not open"):
            opened.pop().seek(0)
        assert refused.tb


def test_what_has_no_decoder_is_refused_in_these_words(tmp_path):
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>')
    with pytest.raises(ValueError, match="a.svg cannot be decoded: FFmpeg has no decoder for it .piped svg"):
        read_video(tmp_path / "a.svg")


def test_frames_are_counted_by_decoding(tmp_path):
    """Of a video that was cut before its second picture, the ones before the next key frame cannot be shown."""
    write_video(tmp_path / "whole.mp4", np.repeat(LONG.frames, 3, axis=0))  # a key frame every 250
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "cut.mkv"), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size and number:
                packet.stream = stream
                cut.mux(packet)
    with av.open(str(tmp_path / "cut.mkv")) as container:
        packets = sum(1 for packet in container.demux(video=0) if packet.size)
    assert packets == 299
    assert scan_video(tmp_path / "cut.mkv").num_frames == len(read_video(tmp_path / "cut.mkv")) < 299


def test_frames_are_freed_at_once(tmp_path):
    """Without the garbage collector, which would come late for memory that it does not count."""
    write_video(tmp_path / "clip.mp4", CLIP.frames)
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in iter_video(tmp_path / "clip.mp4")) == 24
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) <= 1
    finally:
        gc.enable()
