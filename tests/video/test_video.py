import warnings
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from vae_lab import Clip, photo_clip, read_video, to_frames, to_tensor, write_video
from vae_lab.utils.files import write_beside
from vae_lab.video.reading import scan_video

CLIP = photo_clip("coffee", 24, (48, 64), seed=3)


def closeness(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.fixture(scope="module", params=[".mp4", ".webm", ".mkv", ".gif", ""])
def written(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / f"clip{request.param}"
    write_video(path, CLIP.frames, 24, lossless=request.param in (".mkv", ""))
    return path


# ---- tensors -------------------------------------------------------------------------------------------------------


def test_tensors_and_back_for_every_value():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 8, 8, 3)
    x = to_tensor(frames)
    assert x.shape == (1, 3, 4, 8, 8)
    assert (x.min(), x.max(), x.dtype) == (-1, 1, torch.float32)
    assert x[0, 0, 0, 0, 1].item() == pytest.approx(1 / 127.5 - 1)
    assert np.array_equal(to_frames(x), frames)
    louder = np.clip(np.rint(frames.astype(float) * 1.5 - 63.75), 0, 255)
    assert np.abs(to_frames(x * 1.5) - louder).max() <= 1  # clamped, not wrapped


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_to_tensor_refuses_other_arrays(frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, H, W, 3\), at least one, got"):
        to_tensor(frames)


def test_to_frames_refuses_other_tensors():
    for x in (torch.zeros(2, 3, 1, 4, 4), torch.zeros(1, 4, 1, 4, 4), torch.zeros(3, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"x must be one clip of shape \(1, 3, T, H, W\), got"):
            to_frames(x)
    with pytest.raises(ValueError, match="x must be finite"):
        to_frames(torch.full((1, 3, 1, 2, 2), torch.nan))


# ---- round trips ---------------------------------------------------------------------------------------------------


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


def test_a_window_reads_no_more_frames_than_it_needs(tmp_path, monkeypatch):
    frames = np.repeat(CLIP.frames, 30, axis=0)  # 720 frames: key frames lie at most 250 apart
    write_video(tmp_path / "long.mp4", frames)
    seen = []
    from vae_lab.video import decoding as streams

    convert = streams._frame_to_image
    monkeypatch.setattr(streams, "_frame_to_image", lambda frame, by: (seen.append(frame.pts), convert(frame, by))[1])
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


def test_the_same_frames_give_the_same_file(tmp_path):
    """x264's macroblock tree did not, in small frames: it read memory that nobody had written."""
    noise = np.random.default_rng(0).integers(90, 160, (60, 24, 32, 3), np.uint8)
    files = set()
    for _ in range(6):
        write_video(tmp_path / "clip.mp4", noise)
        files.add((tmp_path / "clip.mp4").read_bytes())
        read_video(tmp_path / "clip.mp4")  # leaves other bytes in the memory that is free
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


# ---- images --------------------------------------------------------------------------------------------------------


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


def test_animation_with_a_frame_of_no_length(tmp_path):
    pictures = [Image.fromarray(frame) for frame in CLIP.frames[:3]]
    pictures[0].save(
        tmp_path / "clip.webp", save_all=True, append_images=pictures[1:], duration=[40, 0, 40], lossless=True
    )
    whole = read_video(tmp_path / "clip.webp")
    assert whole.times == pytest.approx([0, 0.04, 0.14])  # browsers show such a frame for 0.1 s
    assert read_video(tmp_path / "clip.webp", 1, 2).times == pytest.approx(whole.times[1:])


def test_folder_in_natural_order(tmp_path):
    for name, value in (("frame10.png", 30), ("frame2.png", 20), ("frame1.png", 10)):
        iio.imwrite(tmp_path / name, np.full((4, 6, 3), value, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    assert read_video(tmp_path).frames[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert read_video(tmp_path, 1, 1).frames[:, 0, 0, 0].tolist() == [20]
    iio.imwrite(tmp_path / "frame3.png", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="frame 2 is 5x6 .height x width., the ones before 4x6; give a size"):
        read_video(tmp_path)
    assert read_video(tmp_path, size=(4, 4)).frames.shape == (4, 4, 4, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((4, 4), 77, np.uint8), (77, 77, 77)),
        (np.full((4, 4), 257 * 77, np.uint16), (77, 77, 77)),
        (np.full((4, 4), 65535, np.uint16), (255, 255, 255)),
        (np.full((4, 4, 4), (200, 100, 0, 255), np.uint8), (200, 100, 0)),
        (np.full((4, 4, 4), (200, 100, 0, 0), np.uint8), (255, 255, 255)),
        (np.full((4, 4, 4), (200, 100, 0, 51), np.uint8), (244, 224, 204)),
        (np.full((4, 4, 2), (100, 0), np.uint8), (255, 255, 255)),
    ],
)
def test_grey_16_bit_and_alpha(tmp_path, image, expected):
    Image.fromarray(image).save(tmp_path / "image.png")
    clip = read_video(tmp_path / "image.png")
    assert clip.frames.shape == (1, 4, 4, 3)
    assert clip.frames[0, 0, 0].tolist() == list(expected)


def test_image_tags_are_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(CLIP.frames[0]).save(tmp_path / "image.png", exif=exif)
    assert np.array_equal(read_video(tmp_path / "image.png").frames[0], np.rot90(CLIP.frames[0], -1))


def test_images_that_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point values have no agreed range"):
        read_video(tmp_path / "float.tif")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="text.png is not an image that can be read"):
        read_video(tmp_path / "text.png")
    Image.fromarray(CLIP.frames[0]).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut.png is not a whole image"):
        read_video(tmp_path / "cut.png")
    write_video(tmp_path / "whole.gif", CLIP.frames)
    gif = (tmp_path / "whole.gif").read_bytes()
    for length in range(20, len(gif), len(gif) // 15):
        (tmp_path / "cut.gif").write_bytes(gif[:length])
        try:
            read_video(tmp_path / "cut.gif")  # Pillow reads the frames before the cut, where there are any
        except ValueError as error:
            assert "cut.gif is not" in str(error)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is a folder without images"):
        read_video(tmp_path / "empty")


def test_size_covers_and_crops_the_middle():
    frames = np.zeros((40, 80, 3), np.uint8)
    frames[:, 20:60] = 255  # the middle square
    from vae_lab.video.images import fit

    assert fit(Image.fromarray(frames), (20, 20)).shape == (20, 20, 3)
    assert fit(Image.fromarray(frames), (20, 20))[:, 2:-2].min() > 250


# ---- what is refused -----------------------------------------------------------------------------------------------


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


def test_windows_and_arguments_that_are_refused(written):
    for arguments, message in (
        (dict(start=24), "has 24 frames, so it has no frame 24"),
        (dict(start=20, num_frames=5), "has 24 frames, so it has no frames 20 to 24"),
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
