"""The viewers in a real Chromium, from saved pages, offline: pixels, keys, toggles, arithmetic, and time to paint."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.conftest import canvas_pixels
from vae_lab import CausalConv3d, photo_clip, psnr, shapes, to_tensor
from vae_lab.figures import error_map, latent_pictures
from vae_lab.tables import DECODER
from vae_lab.viewers import compare_frames, explore_padding, explore_sizes, save_html

CLIP = photo_clip("chelsea", 35, (128, 128))
OTHERS = {"2D only": np.roll(CLIP.frames, 1, axis=2), "full": 255 - CLIP.frames}
LATENT = torch.randn(1, 4, 11, 16, 16, generator=torch.Generator().manual_seed(0))

# Milliseconds from a key to the end of the frame in which its result is painted
STEP = """(key) => new Promise((done) => {
  const begin = performance.now();
  document.querySelector('.vae-lab').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  requestAnimationFrame(() => { const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now() - begin); channel.port2.postMessage(0); });
})"""


@pytest.fixture
def open_viewer(browser, tmp_path):
    """Opens a viewer's saved page offline; anything it asks the network for, and any error in it, fails the test."""
    problems, contexts = [], []

    def open_it(widget, scheme="light"):
        path = save_html(widget, tmp_path / "viewer.html")
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on(
            "request", lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or problems.append(asked.url)
        )
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready=true]")
        page.wait_for_timeout(50)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert problems == []


def pixels(page) -> list[np.ndarray]:
    return [canvas_pixels(canvas) for canvas in page.locator("canvas").all()]


@pytest.fixture(scope="module")
def frames_viewer():
    return compare_frames({"original": CLIP, **OTHERS}, LATENT, max_bytes=12_000_000)


def test_frames_latents_and_differences_move_together(open_viewer):
    clip = photo_clip("chelsea", 35, (40, 56)).frames
    others = {"2D only": np.roll(clip, 1, axis=2), "full": 255 - clip}
    page = open_viewer(compare_frames({"original": clip, **others}, LATENT))
    groups = shapes.frame_groups(35)
    pictures = list(latent_pictures(LATENT[0].numpy()).values())
    differences = {name: error_map(clip, frames, 4) for name, frames in others.items()}

    def assert_frame(t, difference="full", latent=0):
        index = next(i for i, group in enumerate(groups) if t in group)
        wanted = [clip[t], *(frames[t] for frames in others.values()), differences[difference][t]]
        for found, right in zip(pixels(page), [*wanted, pictures[latent][index]], strict=True):
            assert np.array_equal(found, right)
        value = psnr(to_tensor(clip[t : t + 1]), to_tensor(others["2D only"][t : t + 1]), 2.0).item()
        caption = page.inner_text(".caption")
        assert caption.startswith(f"t = {t}latent frame {index}2D only {value:.2f} dB")

    assert_frame(0)
    for key, t in (("ArrowRight", 1), ("PageDown", 11), ("End", 34), ("PageUp", 24), ("ArrowLeft", 23), ("Home", 0)):
        page.keyboard.press(key)
        assert_frame(t)
    for t in (16, 17, 18):  # over a chunk's border
        page.fill("input[type=range]", str(t))
        assert_frame(t)
    page.click("button:text-is('2D only')")
    assert_frame(18, "2D only")
    for c in range(4):
        page.click(f"button:text-is('channel {c}')")
        assert_frame(18, "2D only", c + 1)
        assert f"latent channel {c} (" in page.locator("figcaption").last.inner_text()
    assert page.get_attribute("button:text-is('channel 3')", "aria-pressed") == "true"
    assert page.get_attribute("button:text-is('PCA')", "aria-pressed") == "false"
    page.keyboard.press("ArrowRight")  # after a click on a toggle the keys still step
    assert_frame(19, "2D only", 4)


def test_latents_are_as_large_as_frames_and_sizes_switch(open_viewer, frames_viewer):
    page = open_viewer(frames_viewer, "dark")
    boxes = lambda: [canvas.bounding_box() for canvas in page.locator("canvas").all()]  # noqa: E731
    assert {(box["width"], box["height"]) for box in boxes()} == {(128, 128)}
    assert len({box["y"] for box in boxes()}) == 1  # side by side
    page.click("button:text-is('3×')")
    assert {(box["width"], box["height"]) for box in boxes()} == {(384, 384)}
    assert page.evaluate("getComputedStyle(document.querySelector('canvas')).imageRendering") == "pixelated"
    page.click("button:text-is('fit')")
    assert page.evaluate("document.documentElement.scrollHeight <= 800 && document.documentElement.scrollWidth <= 1280")


@pytest.mark.parametrize("size", [(64, 512), (64, 36), (400, 400), (1, 1)])
def test_any_size_of_frames_fits_and_keeps_still(open_viewer, size):
    page = open_viewer(compare_frames({"a": np.zeros((3, *size, 3), np.uint8)}))
    boxes = set()
    for width in range(840, 860, 3):  # about where a scroll bar comes and goes
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(60)
        boxes.add(tuple(page.locator("canvas").bounding_box().values())[2:])
    assert len(boxes) <= 2
    assert page.evaluate("document.documentElement.scrollHeight") <= 800


def test_nothing_overflows_a_phone(open_viewer, frames_viewer):
    for viewer in (frames_viewer, explore_padding(), explore_sizes()):
        page = open_viewer(viewer)
        page.set_viewport_size({"width": 320, "height": 700})
        page.wait_for_timeout(60)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_play_plays(open_viewer, frames_viewer):
    page = open_viewer(frames_viewer)
    page.click("button.play")
    page.wait_for_function("Number(document.querySelector('.vae-lab').dataset.frame) >= 5")
    page.keyboard.press("End")
    assert page.inner_text("button.play") == "▶ Play"
    page.keyboard.press(" ")
    assert page.inner_text("button.play") == "❚❚ Pause"
    page.wait_for_function("Number(document.querySelector('.vae-lab').dataset.frame) < 30")  # round and round


def test_step_to_paint_is_printed(open_viewer, capsys):
    page = open_viewer(compare_frames({"original": CLIP, **OTHERS}, max_bytes=12_000_000))
    for _ in range(5):
        page.evaluate(STEP, "ArrowRight")
    times = sorted(page.evaluate(STEP, key) for key in ["ArrowRight", "ArrowLeft"] * 50)
    with capsys.disabled():
        print(f"\nstep to paint, 4 panels of 128 px: median {times[49]:.1f} ms, 95th percentile {times[94]:.1f} ms")
    assert times[0] > 0


# ---- padding -------------------------------------------------------------------------------------------------------


def set_controls(page, **values):
    for name, value in values.items():
        if name == "mode":
            page.click(f"button:text-is('{value}')")
        else:
            page.fill(f"input[aria-label^='{name}']", str(value))


def lines(page) -> dict[str, str]:
    rows = page.locator(".lines tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def numbers(text: str) -> set[int]:
    """'1, 3 to 5' -> {1, 3, 4, 5}"""
    found = set()
    for part in re.findall(r"\d+(?: to \d+)?", text):
        first, *last = map(int, part.split(" to "))
        found |= set(range(first, (last or [first])[0] + 1))
    return found


CONFIGS = [  # frames, kernel, stride, dilation, layers, pad mode
    (8, 3, 1, 1, 1, "constant"), (17, 3, 2, 1, 1, "replicate"), (17, 3, 2, 1, 3, "constant"),
    (20, 5, 1, 3, 1, "reflect"), (20, 3, 1, 2, 3, "replicate"), (1, 5, 1, 3, 3, "constant"),
    (12, 4, 3, 1, 2, "constant"), (9, 2, 2, 1, 2, "replicate"), (5, 1, 1, 1, 2, "constant"),
    (13, 2, 3, 2, 1, "constant"), (20, 5, 3, 3, 2, "constant"), (8, 2, 2, 2, 1, "replicate"),
    (20, 5, 2, 1, 3, "reflect"), (20, 4, 1, 2, 2, "reflect"), (17, 3, 3, 2, 2, "replicate"),
]  # fmt: skip


def test_padding_explorer_says_what_the_real_modules_do(open_viewer):
    page = open_viewer(explore_padding())
    for t, k, s, d, layers, mode in CONFIGS:
        set_controls(page, frames=t, kernel=k, stride=s, dilation=d, layers=layers, mode=mode)
        text = lines(page)
        conv = eval(text["in vae_lab"], {"CausalConv3d": CausalConv3d}).double()
        conv.conv.weight.data.fill_(1)
        conv.conv.bias.data.zero_()
        x = torch.randn(1, 1, t, 1, 1, dtype=torch.double, requires_grad=True)
        line = text.get("in torch") or text["one layer in torch"]
        assert torch.equal(eval(line, {"F": F, "x": x, "weight": conv.conv.weight}), conv(x))
        assert text["padding in front"].endswith(f" = {conv.time_padding}")
        y, sizes = x, [t]
        for _ in range(layers):
            y = conv(y)
            sizes.append(y.shape[2])
        assert f"⌋ + 1 = {sizes[1]}" in text["outputs"]
        if layers > 1:
            assert text["outputs"].endswith(" → ".join(map(str, sizes)))
        (gradient,) = torch.autograd.grad(y[:, :, -1].sum(), x, retain_graph=True)  # all weights are 1: no cancellation
        seen, *rest = text["receptive field"].split(";")
        frames = re.search(r"sees (frames? [\d, to]+|no frame)", seen)[1]
        assert seen.startswith(f"output {sizes[-1] - 1} sees ")
        assert numbers(frames) == set(gradient.flatten().nonzero().flatten().tolist()), (t, k, s, d, layers, mode)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        unseen = set((gradient.flatten() == 0).nonzero().flatten().tolist())
        assert (numbers(rest[0]) if rest else set()) == unseen
        assert page.locator("rect.unseen").count() == len(unseen)
        assert page.evaluate("document.documentElement.scrollHeight") <= 800, (t, k, s, d, layers)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_padding_explorer_shows_the_librarys_refusals(open_viewer):
    page = open_viewer(explore_padding())
    set_controls(page, kernel=1, stride=2)
    with pytest.raises(ValueError) as refused:
        CausalConv3d(1, 1, (1, 1, 1), (2, 1, 1))
    assert page.inner_text(".wrong") == str(refused.value)
    assert not page.is_visible("svg") and lines(page) == {}
    set_controls(page, kernel=5, stride=1, frames=4, mode="reflect")
    assert 'pad_mode "reflect" needs more than' in page.inner_text(".wrong")
    set_controls(page, mode="constant")
    assert page.is_visible("svg") and not page.is_visible(".wrong")
    set_controls(page, stride=3, layers=3, frames=8)
    assert page.inner_text(".wrong") == "layer 1: size (2) plus padding (2) must be at least the kernel's reach (5)"


def test_padding_explorer_by_mouse_and_keys(open_viewer):
    page = open_viewer(explore_padding())
    field = lambda: lines(page)["receptive field"]  # noqa: E731
    assert field() == "output 7 sees frames 5 to 7"
    page.hover("rect[data-row='1'][data-cell='0'] >> nth=0")
    assert field() == "output 0 sees frame 0 and 2 padding cells (zeros)"
    page.hover("rect[data-row='0'][data-cell='3'] >> nth=0")
    assert field() == "frame 3 is seen by outputs 3 to 5"
    page.click("rect[data-row='1'][data-cell='2'] >> nth=0")
    page.mouse.move(640, 790)
    assert field() == "output 2 sees frames 0 to 2"
    page.hover("rect[data-row='1'][data-cell='7'] >> nth=0")
    page.focus("input[aria-label^=frames]")
    page.keyboard.press("ArrowLeft")  # the output under the mouse is gone
    assert field() == "output 6 sees frames 4 to 6"
    page.keyboard.press("ArrowRight")
    page.mouse.move(640, 790)
    page.click("rect[data-row='1'][data-cell='2'] >> nth=0")
    page.mouse.move(640, 790)
    page.focus(".vae-lab")
    for key, output in (("ArrowRight", 3), ("End", 7), ("ArrowRight", 7), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert field().startswith(f"output {output} sees")


# ---- sizes ---------------------------------------------------------------------------------------------------------


def test_size_explorer_says_what_shapes_says(open_viewer):
    page = open_viewer(explore_sizes())
    for t, height, width, chunk, ratio in (
        (51, 256, 256, 17, 4), (51, 256, 256, None, 4), (33, 64, 128, 17, 4), (18, 8, 1024, 5, 8), (1, 8, 8, 9, 2),
        (102, 720, 1024, 17, 4), (102, 512, 512, 5, 1), (16, 256, 256, 33, 8), (102, 256, 256, None, 2),
    ):  # fmt: skip
        set_controls(page, frames=t, height=height, width=width)
        page.click(f"button:text-is('{'none' if chunk is None else chunk}')")
        page.click(f"button:text-is('{ratio}×')")
        text = lines(page)
        size = eval(text["in vae_lab"], {"shapes": shapes})
        assert size == shapes.latent_size((t, height, width), ratio, micro_frame_size=chunk)
        assert text["latent size"] == (
            f"4 channels × {size[0]} × {size[1]} × {size[2]}, for 3 × {t} × {height} × {width} "
            "(channels × frames × height × width)"
        )
        total = lambda line: int(re.findall(r"\d+", line)[-1])  # noqa: E731  of "2 × 5 + 1 = 11"
        assert total(text["latent frames"]) == size[0]
        lengths = shapes.chunk_lengths(t, chunk)
        assert total(text["zero frames in front"]) == sum(shapes.front_padding(n, ratio) for n in lengths)
        assert text["compression"].startswith(f"{shapes.compression_ratio((t, height, width), size):.1f} ")
        clip, latent = 4 * 3 * t * height * width, 4 * 4 * size[0] * size[1] * size[2]
        largest = 4 * DECODER["channels"] * min(t, DECODER["frames"]) * height * width
        found = re.findall(r"([\d.]+) ([kMG]?B)", text["memory in float32"])
        units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
        for (number, unit), right in zip(found, (clip, latent, largest), strict=True):
            assert float(number) * units[unit] == pytest.approx(right, abs=0.0501 * units[unit])
        groups = shapes.frame_groups(t, ratio, chunk)
        assert page.locator("rect[y='74']").count() == len(groups)
        assert page.evaluate("document.documentElement.scrollHeight") <= 800
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        for latent in {0, len(groups) // 2, len(groups) - 1}:
            page.click(f"rect[y='74'][data-latent='{latent}']", force=True)
            page.mouse.move(640, 795)
            group = groups[latent]
            frames = f"frame {group[0]}" if len(group) == 1 else f"frames {group[0]} to {group[-1]}"
            assert lines(page)["chosen"].startswith(f"latent frame {latent} stands for {frames}")
            lit = page.locator("rect[y='20']:not(.faint)").all()
            assert {int(cell.get_attribute("data-frame")) for cell in lit if cell.get_attribute("data-frame")} == set(
                group
            )


def test_size_explorer_keys(open_viewer):
    page = open_viewer(explore_sizes(33))
    page.focus(".vae-lab")
    for key, latent in (("ArrowRight", 1), ("End", 8), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert lines(page)["chosen"].startswith(f"latent frame {latent} stands for")
    assert lines(page)["it can see"] == (
        "through causal convolutions frame 0, none later; through GroupNorm over time, as released, all of its chunk, "
        "frames 0 to 16"
    )
