import shutil
import subprocess
import warnings
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.helpers.video import CLIP, LONG, closeness, moving
from vae_lab import Clip, photo_clip, read_video, write_video
from vae_lab.utils.files import write_beside
from vae_lab.video.containers import CLUSTER, _elements
from vae_lab.video.writing import VideoWriter, join_videos, ticks


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_variable_frame_rate(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.2, 24))
    times -= times[0]
    write_video(path, CLIP.frames, 24, times=times, lossless=suffix == ".mkv")
    clip = read_video(path)
    assert clip.times == pytest.approx(times, abs=0.0006)  # Matroska counts milliseconds
    for t in (1, 9, 23):
        assert np.array_equal(read_video(path, t, 1).frames, clip.frames[t : t + 1])


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (250, 128, 10)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_survive(tmp_path, colour, suffix):
    path = tmp_path / f"clip{suffix}"
    write_video(path, np.full((2, 32, 32, 3), colour, np.uint8))
    assert np.abs(read_video(path).frames.astype(int) - colour).max() <= 3


def test_what_browsers_need(tmp_path):
    write_video(tmp_path / "clip.mp4", CLIP.frames)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, int(codec.colorspace), int(codec.color_range)) == ("h264", "yuv420p", 1, 1)
        assert (codec.color_primaries, codec.color_trc) == (1, 1)
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before all of it has arrived


@pytest.mark.parametrize("size", [(24, 32), (192, 192), (128, 256)])
def test_the_same_frames_give_the_same_file(size, tmp_path):
    """x264's macroblock tree did not, where rows of macroblocks end: it read memory that nobody had written."""
    frames = np.random.default_rng(0).integers(90, 160, (60, *size, 3), np.uint8)
    frames = frames if max(size) < 64 else photo_clip("coffee", 17, size).frames
    files, used = set(), []
    for number in range(6):
        write_video(tmp_path / "clip.mp4", frames)
        files.add((tmp_path / "clip.mp4").read_bytes())
        read_video(tmp_path / "clip.mp4")  # this and the next line leave other bytes in the memory that is free
        used = [np.full(10_000 << number, number, np.uint8) for _ in range(9 - len(used))]
    assert len(files) == 1


def test_odd_sizes(tmp_path):
    odd = CLIP.frames[:3, :33, :35]
    for name, lossless in (("clip.webm", False), ("clip.mkv", True), ("folder", True), ("clip.gif", False)):
        write_video(tmp_path / name, odd, lossless=lossless)
        assert read_video(tmp_path / name).frames.shape == odd.shape
    with pytest.warns(UserWarning, match="frames of 33x35 are stored as 34x36 in .mp4"):
        write_video(tmp_path / "clip.mp4", odd)
    frames = read_video(tmp_path / "clip.mp4").frames
    assert frames.shape == (3, 34, 36, 3)
    assert closeness(frames[:, :33, :35], odd) > 30


def test_write_refuses(tmp_path):
    for path, arguments, message in (
        ("clip.avi", {}, "path must end in .mp4"),
        ("clip.mp4", dict(lossless=True), "lossless video is written as .mkv, .png"),
        ("clip.mkv", {}, "ask for it with lossless=True"),
        ("clip.mp4", dict(fps=0), "fps must be above 0 and at most 1000, got 0"),
        ("clip.mp4", dict(fps=float("inf")), "fps must be above 0 and at most 1000, got inf"),
        ("clip.gif", dict(fps=60), "fps must be above 0 and at most 50 in a gif, got 60"),
        ("clip.gif", dict(times=np.arange(24)), "times can be kept in .mp4, .webm, .mkv, not in .gif"),
        ("clip.mp4", dict(times=np.arange(23)), "times must have one entry for each of 24 frames, got 23"),
        ("clip.mp4", dict(times=-np.arange(24.0)), "times must be seconds from 0, each at least 1/1000 after"),
        ("clip.mp4", dict(times=np.arange(24) / 1e4), "times must be seconds from 0, each at least 1/1000 after"),
        ("clip.mp4", dict(times=np.full(24, np.nan)), "times must be seconds from 0"),
        ("clip.png", {}, ".png holds one frame, got 24"),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / path, CLIP.frames, **arguments)
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, H, W, 3\)"):
        write_video(tmp_path / "clip.mp4", CLIP.frames / 255)
    for frames, got in ((CLIP, "an iterable of .H, W, 3., got Clip"), (None, "got NoneType"), ([[0, 1]], "got list")):
        with pytest.raises(ValueError, match=rf"frames must be uint8 \(T, H, W, 3\), .*{got}"):
            write_video(tmp_path / "clip.mp4", frames)
    with pytest.raises(ValueError, match="frames must hold at least one frame"):
        write_video(tmp_path / "clip.mp4", [])
    with pytest.raises(ValueError, match="frame 1 is 40x64, the ones before 48x64"):
        write_video(tmp_path / "clip.mp4", [CLIP.frames[0], CLIP.frames[0, :40]])
    for count in (23, 25):
        with pytest.raises(ValueError, match="times must have one entry for each"):
            write_video(tmp_path / "clip.mp4", iter(CLIP.frames), times=np.arange(count))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_video(tmp_path / "none" / "clip.mp4", CLIP.frames)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="it is not empty"):
        write_video(tmp_path / "full", CLIP.frames)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["full", "mine.txt"]  # nothing half-written is left


def test_a_failure_while_writing_leaves_what_was_there(tmp_path):
    (tmp_path / "clip.mp4").write_text("old")

    def broken():
        yield CLIP.frames[0]
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        write_video(tmp_path / "clip.mp4", broken())
    assert (tmp_path / "clip.mp4").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyboardInterrupt), write_beside(tmp_path / "clip.mp4") as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_frames_can_be_an_iterable(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_video(tmp_path / "clip.mkv", iter(CLIP.frames), lossless=True)
    assert np.array_equal(read_video(tmp_path / "clip.mkv").frames, CLIP.frames)
    assert len(Clip(CLIP.frames)) == 24


@pytest.mark.parametrize("case", ["constant", "variable", "late start", "one by one"])
def test_joined_files_show_the_same_pixels_at_the_given_times(tmp_path, case):
    random, fps = np.random.default_rng(0), 30_000 / 1001
    times = {"variable": np.cumsum(random.choice([0.002, 0.3, 0.04], 60)), "late start": 1.2 + np.arange(60) / 24}
    at = [ticks(t, fps, times.get(case)) for t in range(60)]
    cuts = list(range(61)) if case == "one by one" else [0, 17, 34, 59, 60]
    parts = [tmp_path / f"{first}.mp4" for first in cuts[:-1]]
    for part, first, last in zip(parts, cuts, cuts[1:], strict=False):
        with VideoWriter(part, fps) as writer:
            for t in range(first, last):
                writer.write(LONG.frames[t], at[t] - at[first])
    join_videos(parts, tmp_path / "all.mp4", at)
    whole = read_video(tmp_path / "all.mp4")
    assert np.array_equal(whole.frames, np.concatenate([read_video(part).frames for part in parts]))
    assert np.rint((whole.times + at[0] / 90_000) * 90_000).astype(int).tolist() == at
    with av.open(str(tmp_path / "all.mp4")) as container:
        packets = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.size]
    assert all(a < b for (a, _), (b, _) in zip(packets, packets[1:], strict=False))
    assert all(decoded <= shown for decoded, shown in packets)
    for t in (0, 16, 17, 33, 34, 59):
        assert np.array_equal(read_video(tmp_path / "all.mp4", t, 1).frames[0], whole.frames[t])


def test_parts_that_do_not_fit_together(tmp_path):
    for name, frames in (("a.mp4", LONG.frames[:5]), ("b.mp4", LONG.frames[:5, :16])):
        with VideoWriter(tmp_path / name, 24) as writer:
            for t, frame in enumerate(frames):
                writer.write(frame, ticks(t, 24))
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    at = [ticks(t, 24) for t in range(11)]
    with pytest.raises(ValueError, match="a.mp4 and the parts after it were coded with different settings"):
        join_videos([a, b], tmp_path / "c.mp4", at[:10])
    for number in (9, 11):
        with pytest.raises(ValueError, match="`?at`? "):
            join_videos([a, a], tmp_path / "c.mp4", at[:number])
    with (
        pytest.raises(OSError, match="No such file or directory: .*d.mp4"),
        VideoWriter(tmp_path / "none" / "d.mp4", 24) as w,
    ):
        w.write(LONG.frames[0], 0)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
@pytest.mark.parametrize(
    ("size", "aspect"),
    [
        ((48, 64), Fraction(64, 45)),
        ((480, 720), Fraction(32, 27)),
        ((46, 62), 0.5),
        ((128, 128), 0.01),
        ((128, 128), 100),
    ],
)
def test_the_shape_of_pixels_is_written_as_ffprobe_reads_it(tmp_path, suffix, size, aspect):
    path = tmp_path / f"clip{suffix}"
    frames = moving(3, *size)
    write_video(path, frames, 25, lossless=suffix == ".mkv", pixel_aspect=aspect)
    right = Fraction(aspect).limit_denominator(100)
    clip = read_video(path)
    assert clip.pixel_aspect == right and read_video(path, 1, 2).pixel_aspect == right
    assert suffix != ".mkv" or np.array_equal(clip.frames, frames)
    with av.open(str(path)) as container:
        assert "title" not in container.streams.video[0].metadata
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "warning", "-show_entries", "stream=sample_aspect_ratio", "-of", "csv=p=0", path]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == f"{right.numerator}:{right.denominator}" and not said.stderr


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_only_the_fields_of_the_display_size_change(tmp_path, suffix):
    """Clusters stay where they are, and the check sums of Matroska's elements are right."""
    contents = []
    for aspect in (1, Fraction(4, 3)):
        path = tmp_path / f"{aspect == 1}{suffix}"
        write_video(path, CLIP.frames[:3], 25, lossless=suffix == ".mkv", pixel_aspect=aspect)
        with path.open("rb") as file:
            elements = list(_elements(file, path.stat().st_size))
        content = path.read_bytes()
        if suffix == ".mkv":
            for kind, start, stop, _ in elements[1:]:
                element = content[start:stop]
                assert kind == 0xEC or element[2:6] == zlib.crc32(element[6:]).to_bytes(4, "little")
        contents.append([content[start:stop] for kind, start, stop, _ in elements if kind == CLUSTER])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_the_display_size_of_a_tall_frame_is_close_to_its_size(tmp_path, suffix):
    """Browsers take the display size as that of the video element."""
    path = tmp_path / f"clip{suffix}"
    write_video(path, moving(1, 576, 720), lossless=suffix == ".mkv", pixel_aspect=Fraction(64, 45))
    content = path.read_bytes()
    assert b"\x54\xb0\x84\0\0\x04\0\x54\xba\x84\0\0\x02\x40" in content  # 1024x576
