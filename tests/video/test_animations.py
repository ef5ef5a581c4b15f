"""Animations as browsers show them: composition, times, damage. The reference is Chromium's ImageDecoder."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.helpers.animations import PALETTE, Part, chunk, gif, png, shown_by_chromium, webp
from vae_lab import read_video
from vae_lab.video.decoding import BreaksOffError
from vae_lab.video.reading import scan_video


def indices(value: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def pixels(colour: tuple[int, ...], height: int = 6, width: int = 8, bits: int = 8) -> np.ndarray:
    return np.tile(np.array(colour, np.uint16 if bits == 16 else np.uint8), (height, width, 1))


def gif_of(*parts: Part, size=(8, 6), **rest) -> bytes:
    return gif(size, parts, **rest)


def png_of(first: np.ndarray, *parts: Part, **rest) -> bytes:
    return png(first, parts=parts, **rest)


RED, BLACK, GREEN = pixels((200, 100, 50)), pixels((0, 0, 0, 255)), pixels((0, 255, 0, 255))
HALF = indices(0)
HALF[:, 4:] = 3
DOT = pixels((0, 0, 0, 0))
DOT[0, 0] = (0, 0, 255, 255)
LEVELS = pixels((30000, 2000, 65000, 50000), bits=16)
TWO = Part(indices(0)), Part(indices(1, 2, 3), (1, 1))
KEYS = chunk(b"PLTE", bytes(sum(PALETTE, ()))) + chunk(b"tRNS", bytes([255, 128, 0, 40]))

ANIMATIONS = {
    "disposals 0, 1, 2.gif": gif_of(
        Part(indices(0)),
        Part(indices(1, 2, 3), (1, 1), disposal=1),
        Part(indices(2, 2, 3), (4, 3), disposal=2),
        Part(indices(1, 1, 1)),
    ),
    **{
        f"disposal {d}.gif": gif_of(TWO[0], TWO[1]._replace(disposal=d), Part(indices(2, 2, 3), (4, 3)))
        for d in range(2, 8)
    },
    "first cleared to a background.gif": gif_of(TWO[0]._replace(disposal=2), TWO[1], background=2),
    "first cleared, transparent.gif": gif_of(Part(HALF, disposal=2, transparent=3), TWO[1], background=2),
    "first taken back.gif": gif_of(TWO[0]._replace(disposal=3), TWO[1], background=2),
    "two taken back.gif": gif_of(
        Part(indices(0), disposal=1),
        Part(indices(1, 3, 3), (1, 1), disposal=3),
        Part(indices(2, 3, 3), (2, 2), disposal=3),
        Part(indices(3, 1, 1), (7, 5)),
    ),
    "cleared, then left.gif": gif_of(TWO[0]._replace(disposal=2), TWO[1], Part(indices(2, 2, 2), (5, 3))),
    "first is a part.gif": gif_of(Part(indices(0, 2, 3), (2, 1)), TWO[1], background=2),
    "local colours.gif": gif_of(
        TWO[0], TWO[1]._replace(palette=[(9, 9, 9), (8, 200, 7)]), Part(HALF[:2], transparent=0)
    ),
    "first larger than the screen.gif": gif_of(Part(indices(0, 9, 12)), TWO[1]),
    "first beside the screen.gif": gif_of(Part(indices(0), (3, 2)), TWO[1]),
    "second beside the screen.gif": gif_of(TWO[0], Part(indices(1, 5, 5), (6, 4)), Part(indices(2, 5, 5), (16, 14))),
    "no screen.gif": gif_of(*TWO, size=(0, 0)),
    "part without pixels.gif": gif_of(TWO[0], Part(indices(1, 0, 3), (1, 1), disposal=2), TWO[1]),
    "no such colour.gif": gif_of(TWO[0], Part(indices(9, 2, 3), (1, 1), transparent=9), Part(indices(9, 2, 3))),
    "no trailer.gif": gif_of(*TWO, end=b""),
    "bytes behind.gif": gif_of(*TWO, end=b"\0\0;bytes"),
    "hidden default.png": png_of(pixels((255, 0, 0)), *(Part(pixels((0, 0, 60 * k))) for k in range(3))),
    "hidden default, one frame.png": png_of(RED, Part(pixels((1, 200, 3)))),
    "hidden default, small parts.png": png_of(
        RED, Part(pixels((1, 200, 3), 2, 2), (3, 1)), Part(pixels((0, 0, 200), 3, 3), (2, 2))
    ),
    "half over black.png": png_of(BLACK, Part(BLACK), Part(pixels((0, 0, 255, 128)))),
    "half in place of black.png": png_of(
        BLACK,
        Part(BLACK),
        Part(pixels((0, 0, 255, 128), 2, 3), (1, 1), over=False),
        Part(pixels((255, 0, 0, 60), 3, 3), (2, 2)),
    ),
    "taken back.png": png_of(GREEN, Part(GREEN), Part(pixels((255, 0, 0, 255)), disposal=2), Part(DOT)),
    "first taken back.png": png_of(GREEN, Part(GREEN, disposal=2), Part(DOT)),
    "cleared.png": png_of(
        GREEN,
        Part(GREEN),
        Part(pixels((255, 0, 0, 200), 2, 3), (1, 1), disposal=1),
        Part(pixels((0, 0, 200, 90), 3, 3), (2, 2), disposal=1),
        Part(DOT),
    ),
    "cleared, no alpha.png": png_of(RED, Part(RED, disposal=1), Part(pixels((0, 0, 200), 3, 3), (2, 2))),
    "palette.png": png_of(
        first := indices(0)[..., None],
        Part(first),
        Part(first[:2, :3] + 1, (1, 1)),
        Part(first[:2, :3] + 2, (3, 2), over=False),
        Part(first[:2, :3] + 3, (1, 1)),
        extra=KEYS,
        colour=3,
    ),
    "16 bits.png": png_of(LEVELS, Part(LEVELS), Part(LEVELS[:3, :2] // 3, (1, 1)), bits=16),
    "transparent colour.png": png_of(
        RED,
        Part(RED),
        Part(pixels((1, 2, 3), 2, 3), (1, 1)),
        Part(pixels((1, 2, 3), 2, 3), (3, 1), over=False),
        extra=chunk(b"tRNS", bytes([0, 1, 0, 2, 0, 3])),
    ),
    "parts over and in place.webp": webp(
        (8, 6),
        [
            Part(BLACK),
            Part(pixels((0, 0, 255, 128), 2, 4), (2, 2)),
            Part(pixels((255, 0, 0, 90), 2, 4), (4, 2), over=False),
        ],
    ),
    "cleared.webp": webp(
        (8, 6),
        [
            Part(pixels((0, 200, 0, 255))),
            Part(pixels((0, 0, 255, 128), 2, 4), (2, 2), disposal=1),
            Part(pixels((255, 0, 0, 90), 2, 2), (4, 2)),
        ],
    ),
    "first is a part.webp": webp(
        (8, 6),
        [
            Part(pixels((0, 200, 0, 255), 2, 2), (2, 2), disposal=1),
            Part(pixels((0, 0, 255, 128), 2, 4), (4, 2), disposal=1),
            Part(pixels((255, 0, 0, 90), 2, 2), (4, 2)),
        ],
    ),
}


def test_animations_are_composed_as_in_chromium(open_page, tmp_path):
    (tmp_path / "page.html").write_text("<p></p>")
    page = open_page(tmp_path / "page.html")
    for name, data in ANIMATIONS.items():
        (tmp_path / name).write_bytes(data)
        frames, _ = shown_by_chromium(page, data, name.rpartition(".")[2])
        clip = read_video(tmp_path / name)
        assert clip.frames.shape == frames.shape, name
        assert np.abs(clip.frames.astype(int) - frames).max() <= 1, name


@pytest.mark.parametrize(
    ("name", "place", "colours"),
    [
        ("hidden default.png", (0, 0), [(0, 0, 0), (0, 0, 60), (0, 0, 120)]),
        ("half over black.png", (4, 4), [(0, 0, 0), (0, 0, 128)]),
        ("taken back.png", (4, 4), [(0, 255, 0), (255, 0, 0), (0, 255, 0)]),
        ("first taken back.png", (4, 4), [(0, 255, 0), (255, 255, 255)]),
        ("cleared, no alpha.png", (0, 0), [(200, 100, 50), (255, 255, 255)]),
        ("first cleared to a background.gif", (0, 0), [(255, 0, 0), (255, 255, 255)]),
        ("disposal 2.gif", (1, 1), [(255, 0, 0), (0, 255, 0), (255, 255, 255)]),
        ("disposal 3.gif", (1, 1), [(255, 0, 0), (0, 255, 0), (255, 0, 0)]),
        ("cleared, then left.gif", (1, 1), [(255, 0, 0), (0, 255, 0), (0, 255, 0)]),
        ("parts over and in place.webp", (2, 2), [(0, 0, 0), (0, 0, 128), (0, 0, 128)]),
    ],
)
def test_a_pixel_by_hand(tmp_path, name, place, colours):
    (tmp_path / name).write_bytes(ANIMATIONS[name])
    shown = read_video(tmp_path / name).frames[:, *place]
    assert np.abs(shown - np.int64(colours)).max() <= (1 if name.endswith(".webp") else 0)  # libwebp rounds down


def test_the_same_bytes_under_any_name(tmp_path):
    for name, data in ANIMATIONS.items():
        clips = []
        for other in (name, f"{name}.apng", f"{name}.gif", f"{name}.png", f"{name}.mp4", f"{name}.bin", name[:-5]):
            (tmp_path / other).write_bytes(data)
            clips.append(read_video(tmp_path / other))
        for clip in clips[1:]:
            assert np.array_equal(clip.frames, clips[0].frames)
            assert np.array_equal(clip.times, clips[0].times)


def avif(milliseconds: list[int]) -> bytes:
    pictures = [Image.fromarray(pixels((40 * t, 0, 0), 16, 16)) for t in range(len(milliseconds))]
    file = io.BytesIO()
    pictures[0].save(file, "AVIF", save_all=True, append_images=pictures[1:], duration=milliseconds)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "milliseconds"),
    [
        ("a.gif", gif_of(*(Part(indices(t), delay=d) for t, d in enumerate((0, 1, 2, 30)))), (100, 100, 20, 300)),
        (
            "a.png",
            png_of(
                RED,
                *(
                    Part(RED + np.uint8(t), delay=delay, denominator=denominator)
                    for t, (delay, denominator) in enumerate(
                        ((0, 100), (1, 100), (1, 1000), (11, 1000), (5, 0), (0, 0), (1, 24), (300, 1000))
                    )
                ),
            ),
            (100, 100, 100, 11, 50, 100, 1000 / 24, 300),
        ),
        (
            "a.webp",
            webp((8, 6), [Part(pixels((40 * t, 0, 0)), delay=d) for t, d in enumerate((0, 5, 10, 11, 200))]),
            (100, 100, 100, 11, 200),
        ),
        ("a.avif", avif([250, 8, 40, 100]), (250, 100, 40, 100)),
    ],
)
def test_times_are_those_of_browsers(tmp_path, name, data, milliseconds):
    """A frame for 10 ms or less is shown for 100 ms: Chromium's DeferredImageDecoder, Firefox and WebKit agree."""
    (tmp_path / name).write_bytes(data)
    whole = read_video(tmp_path / name)
    assert whole.times == pytest.approx(np.cumsum([0, *milliseconds])[:-1] / 1000, abs=1e-9)
    for start in range(len(whole)):
        window = read_video(tmp_path / name, start, 1)
        assert np.array_equal(window.frames[0], whole.frames[start])
        assert window.times == pytest.approx(whole.times[start : start + 1])
    assert scan_video(tmp_path / name).num_frames == len(milliseconds)
    assert scan_video(tmp_path / name).times == pytest.approx(whole.times)


def test_a_single_frame_is_a_still(tmp_path):
    for name, data in (
        ("a.gif", gif_of(TWO[0])),
        ("a.png", png_of(RED, Part(GREEN[..., :3]))),
        ("a.webp", webp((8, 6), [Part(BLACK)])),
    ):
        (tmp_path / name).write_bytes(data)
        clip = read_video(tmp_path / name)
        assert clip.frames.shape == (1, 6, 8, 3)
        assert clip.times is None


def test_a_cut_animation_is_recognised(tmp_path):
    parts = [Part(np.random.default_rng(t).integers(0, 4, (6, 8)).astype(np.uint8)) for t in range(5)]
    moving = [Part(np.random.default_rng(t).integers(0, 256, (6, 8, 3)).astype(np.uint8)) for t in range(5)]
    for name, data in (
        ("a.gif", gif_of(*parts)),
        ("a.png", png_of(moving[0].pixels, *moving)),
        ("hidden.png", png_of(RED, *moving)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        whole = read_video(path).frames
        assert len(whole) == 5
        numbers = set()
        for end in range(60, len(data) - 1, 7):
            if data[end - 1 : end + 1] in (b"\0!", b"\0;"):
                continue  # between the pictures of a GIF nothing tells that more follow
            path.write_bytes(data[:end])
            with pytest.raises(ValueError, match=f"{name} (breaks off|is not)") as error:
                read_video(path)
            if isinstance(error.value, BreaksOffError):
                number = scan_video(path).num_frames
                numbers.add(number)
                assert np.array_equal(read_video(path, 0, number).frames, whole[:number])
        assert numbers >= {1, 2, 3, 4}


def test_a_damaged_frame_costs_only_itself(tmp_path):
    moving = [Part(np.random.default_rng(t).integers(0, 256, (6, 8, 3)).astype(np.uint8)) for t in range(5)]
    data = png_of(RED, *moving)
    (tmp_path / "a.png").write_bytes(data)
    whole = read_video(tmp_path / "a.png")
    for damaged in (0, 2, 4):
        at = [i for i in range(len(data)) if data[i : i + 4] == b"fdAT"][damaged]
        broken = bytearray(data)
        broken[at + 20 : at + 60] = bytes(40)
        (tmp_path / "a.png").write_bytes(broken)
        clip = read_video(tmp_path / "a.png")
        kept = [t for t in range(5) if t != damaged]
        assert np.array_equal(clip.frames, whole.frames[kept])
        assert clip.times == pytest.approx(whole.times[kept])
        assert clip.notes == scan_video(tmp_path / "a.png").notes == (f"1 frame could not be decoded: {damaged}",)
        with pytest.raises(ValueError, match="a.png (breaks off or is damaged|is not a whole image)"):
            read_video(tmp_path / "a.png", strict=True)


def test_hostile_animations_are_refused(tmp_path):
    huge = bytearray(png_of(RED, Part(RED.copy()), Part(RED.copy())))
    at = huge.index(b"fcTL") + 8
    huge[at : at + 8] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    cases = {
        "huge part.png": bytes(huge),
        "no frames.gif": b"GIF89a" + struct.pack("<HHBBB", 8, 6, 0, 0, 0) + b";",
        "only a head.gif": b"GIF89a",
        "huge screen.gif": gif((65535, 65535), [Part(indices(0, 1, 1))]),
        "only a head.png": png_of(RED)[:33],
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        if name == "huge part.png":
            assert len(read_video(tmp_path / name)) == 1  # the other part
        else:
            with pytest.raises(ValueError, match=name):
                read_video(tmp_path / name)
