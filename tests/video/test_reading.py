from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.video import CLIP, LONG, closeness
from vae_lab import read_video, write_video
from vae_lab.video.reading import iter_video, scan_video


@pytest.fixture(scope="module", params=[".mp4", ".webm", ".mkv", ".gif", ""])
def written(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / f"clip{request.param}"
    write_video(path, CLIP.frames, 24, lossless=request.param in (".mkv", ""))
    return path


def test_round_trip(written):
    clip = read_video(written)
    if written.suffix in (".mkv", ""):
        assert np.array_equal(clip.frames, CLIP.frames)
    else:
        assert closeness(clip.frames, CLIP.frames) > {".mp4": 33, ".webm": 33, ".gif": 25}[written.suffix]
    assert clip.fps == pytest.approx(25 if written.suffix == ".gif" else 24, rel=0.01)  # a gif counts in 1/100 s
    if clip.times is not None:
        assert clip.times == pytest.approx(np.arange(24) / clip.fps, abs=0.0011)


@pytest.mark.parametrize(("start", "num_frames"), [(0, 3), (1, 1), (11, 7), (23, 1), (20, None)])
def test_a_window_is_exactly_that_part_of_the_whole(written, start, num_frames):
    whole, window = read_video(written), read_video(written, start, num_frames)
    stop = None if num_frames is None else start + num_frames
    assert np.array_equal(window.frames, whole.frames[start:stop])
    if whole.times is not None:
        assert window.times == pytest.approx(whole.times[start:stop])


def test_windows_and_arguments_that_are_refused(written):
    for arguments, message in (
        (dict(start=24), "has 24 frames, so it has no frame 24"),
        (dict(start=20, num_frames=5), "has 24 frames, but 20 to 24 were requested"),
        (dict(start=-1), "start must be a frame number of at least 0, got -1"),
        (dict(num_frames=0), "num_frames must be at least 1, got 0"),
        (dict(size=(0, 4)), "size must be at least 1, got 0"),
        (dict(size=(4,)), r"size must be \(H, W\), got \(4,\)"),
        (dict(size=5), r"size must be \(H, W\), got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            read_video(written, **arguments)
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        read_video(written.parent / "nothing.mp4")


def test_iter_and_scan_give_what_read_gives(tmp_path):
    source = tmp_path / "clip.mp4"
    write_video(source, LONG.frames)
    write_video(tmp_path / "clip.gif", LONG.frames[:9])
    write_video(tmp_path / "images", LONG.frames[:9], lossless=True)
    for path in (source, tmp_path / "clip.gif", tmp_path / "images"):
        for window in ((0, None, None), (3, 4, (16, 20)), (8, 1, None)):
            clip, info = read_video(path, *window), scan_video(path, *window)
            assert np.array_equal(np.stack(list(iter_video(path, *window))), clip.frames)
            assert (info.num_frames, info.height, info.width) == clip.frames.shape[:3]
            assert info.fps == clip.fps and info.breaks_off is None
            assert (info.times is None) == (clip.times is None) and np.array_equal(info.times, clip.times)
    with pytest.raises(ValueError, match="has 9 frames, but 5 to 9 were requested"):
        scan_video(tmp_path / "images", 5, 5)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):  # at once, not at the first frame
        iter_video(source, 0, 0)
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        iter_video(tmp_path / "nothing.mp4")
    (tmp_path / "text.mp4").write_text("just some text")
    broken = iter_video(tmp_path / "text.mp4")
    with pytest.raises(ValueError, match="text.mp4 is not a video that FFmpeg can read"):
        next(broken)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_a_title_in_another_encoding(tmp_path, suffix):
    """Titles of old files are in Latin-1, Shift JIS or nothing at all. They are not the picture."""
    with av.open(tmp_path / f"a{suffix}", "w") as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        for frame in LONG.frames[:3, :24, :32]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    data = (tmp_path / f"a{suffix}").read_bytes()
    plain = read_video(tmp_path / f"a{suffix}")
    assert b"a title" in data
    (tmp_path / f"a{suffix}").write_bytes(data.replace(b"a title", b"\xe9t\xe9s \x83\xff"))
    assert np.array_equal(read_video(tmp_path / f"a{suffix}").frames, plain.frames)
