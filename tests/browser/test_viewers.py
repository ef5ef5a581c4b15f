"""The viewers in a real Chromium, from saved pages, offline: pixels, keys, toggles, arithmetic, and time to paint."""

import re
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers import canvas_pixels, small_vae
from tests.helpers.browser import STEP
from vae_lab import CausalConv3d, DiagonalGaussian, families, photo_clip, psnr, shapes, to_frames, to_tensor
from vae_lab.figures.frames import error_map, latent_pictures
from vae_lab.latents.edits import EDITS, Cell, Channel, LatentFrames, Number, edit
from vae_lab.latents.statistics import spatial_spectrum, temporal_spectrum, time_correlation
from vae_lab.viewers.arithmetic import DECODER, explore_padding, explore_sizes
from vae_lab.viewers.flow import explore_flow
from vae_lab.viewers.frames import compare_frames
from vae_lab.viewers.latents import explore_latents
from vae_lab.viewers.widgets import save_html

CLIP = photo_clip("chelsea", 35, (128, 128))
OTHERS = {"2D only": np.roll(CLIP.frames, 1, axis=2), "full": 255 - CLIP.frames}
LATENT = torch.randn(1, 4, 11, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def open_viewer(open_page, tmp_path):
    """Opens a viewer's saved page."""

    def open_it(widget, scheme="light"):
        page = open_page(save_html(widget, tmp_path / "viewer.html"), scheme)
        page.wait_for_selector(".vae-lab")
        page.wait_for_timeout(50)
        return page

    return open_it


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


def test_nothing_overflows_a_phone(open_viewer, frames_viewer, flow_viewer):
    for viewer in (frames_viewer, flow_viewer, explore_padding(), explore_sizes()):
        page = open_viewer(viewer)
        for width in (320, 400):
            page.set_viewport_size({"width": width, "height": 700})
            page.wait_for_timeout(60)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


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


# ---- flow ----------------------------------------------------------------------------------------------------------

WALK = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 24, 32, 3), np.uint8)  # points and answers, 5 of 4 frames
TIMES = [1000, 900, 750, 500, 0]


@pytest.fixture(scope="module")
def flow_viewer():
    return explore_flow([*WALK[0]], [*WALK[1]], TIMES)


def test_both_panels_of_a_flow_move_together(open_viewer, flow_viewer):
    page = open_viewer(flow_viewer)

    def assert_at(point, frame):
        for found, clips in zip(pixels(page), WALK, strict=True):
            assert np.array_equal(found, clips[point, frame])
        distance = np.sqrt(((WALK[1, point] - WALK[0, -1].astype(float)) ** 2).mean())
        caption = page.inner_text(".caption")
        assert caption.startswith(f"t = {TIMES[point]}, frame {frame}") and f"{distance:.1f} from the result" in caption
        assert page.get_attribute("input[aria-label='from noise to clip']", "aria-valuetext") == f"t = {TIMES[point]}"

    assert_at(0, 0)
    page.focus(".vae-lab")
    steps = [("ArrowRight", 1, 0), ("ArrowUp", 1, 1), ("End", 4, 1), ("ArrowRight", 4, 1), ("ArrowLeft", 3, 1)]
    for key, point, frame in [*steps, ("ArrowDown", 3, 0), ("ArrowDown", 3, 0), ("Home", 0, 0)]:
        page.keyboard.press(key)
        assert_at(point, frame)
    page.fill("input[aria-label='from noise to clip']", "2")
    page.fill("input[aria-label=frame]", "3")
    assert_at(2, 3)
    box = page.locator("svg.plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 60)
    assert_at(4, 3)
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('.vae-lab').dataset.frame === '1'")  # round and round
    assert page.inner_text("button.play") == "❚❚ Pause"
    page.keyboard.press("ArrowLeft")  # along t while the frames play
    assert page.get_attribute(".vae-lab", "data-point") == "3"
    page.click("button.play")
    assert page.inner_text("button.play") == "▶ Play"


def test_a_flow_is_painted_at_once_and_fits(open_viewer, flow_viewer, capsys):
    page = open_viewer(flow_viewer, "dark")
    times = sorted(page.evaluate(STEP, key) for key in ["ArrowRight", "ArrowLeft"] * 20)
    with capsys.disabled():
        print(f"\nstep along t to paint: median {times[19]:.1f} ms, the slowest of 40 {times[-1]:.1f} ms")
    assert page.evaluate("document.documentElement.scrollHeight <= 800 && document.documentElement.scrollWidth <= 1280")
    assert page.evaluate("getComputedStyle(document.querySelector('canvas')).imageRendering") == "pixelated"


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
    for channels, compression in ((4, "163.2"), (8, "81.6")):
        page = open_viewer(explore_sizes(channels=channels))
        assert lines(page)["compression"] == f"{compression} numbers become one"


def test_size_explorer_says_what_families_say(open_viewer):
    page = open_viewer(explore_sizes(49, 480, 720, family="wan 2.2"))
    assert lines(page)["latent size"].startswith("48 channels × 13 × 30 × 45, for 3 × 49 × 480 × 720 ")
    assert not page.locator("button:visible").count() and "zeros" not in page.locator(".caption").inner_text()
    for name, t, height, width in (
        ("Mochi", 49, 480, 720), ("LTX 2", 49, 480, 720), ("MiniMax-H3", 56, 256, 256), ("SVD", 3, 8, 8),
        ("CogVideoX", 5, 64, 64), ("Wan 2.1", 18, 64, 64), ("MiniMax-H3", 17, 64, 64), ("MiniMax-H3", 49, 64, 64),
        ("Allegro", 24, 320, 320), ("Allegro", 28, 320, 320),
        ("Allegro", 24, 320, 328), ("Qwen-Image 2.1", 2, 64, 64), ("VidTok", 2, 64, 64),
    ):  # fmt: skip
        page.select_option("select", name)
        set_controls(page, frames=t, height=height, width=width)
        text, size, family = lines(page), families.clip_size(name, t, height, width), families.family_named(name)
        if size.latent is None or not family.is_legal(t):
            assert text["note"] == f"{name} {size.notes[-1]}"
            assert text["frames back"] == str(family.decoded_frames(t) or "none")
            back = family.decoded_frames(t) or 0  # frames that come back are grouped, others are left over
            groups = families.frame_groups(name, back) if back and back < t and family.is_legal(back) else []
            fits = family.sizes(*size.padded)
            assert page.locator("rect[y='74']").count() == (len(groups) if fits else 0)
            assert page.locator("rect[y='20'].unseen").count() == (t - back if groups and fits else 0)
            continue
        assert eval(text["in vae_lab"], {"families": families}) == size
        latent = " × ".join(map(str, size.latent))
        assert text["latent size"].startswith(f"{family.latent_channels} channels × {latent}, for 3 × {t} × ")
        assert text["compression"] == f"{size.compression:.1f} numbers become one"
        groups = families.frame_groups(name, t)
        assert page.locator("rect[y='74']").count() == len(groups)
        page.click(f"rect[y='74'][data-latent='{len(groups) - 1}']", force=True)
        page.mouse.move(640, 795)
        last = groups[-1]
        frames = f"frame {last[0]}" if len(last) == 1 else f"frames {last[0]} to {last[-1]}"
        assert lines(page)["chosen"] == f"latent frame {len(groups) - 1} stands for {frames}"
    page.select_option("select", "")
    assert lines(page)["in vae_lab"].startswith("shapes.latent_size(") and page.locator("button:visible").count() == 9


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


# ---- latents -------------------------------------------------------------------------------------------------------

STDS = torch.tensor([2, 1, 0.5, 3]).view(1, 4, 1, 1, 1)
Z = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(3)) * STDS
SHORT = photo_clip("chelsea", 18, (32, 48)).frames
GROUPS = shapes.frame_groups(18)
KEPT = [
    {"operation": "zero", "channel": 2},
    {"operation": "cell", "cell": [3, 1, 4], "amount": 2.5, "channel": None},
]


@pytest.fixture(scope="module")
def latent_viewer():
    posterior = DiagonalGaussian(torch.cat([Z, torch.full_like(Z, -3)], dim=1))
    widget = explore_latents(Z, SHORT, vae=small_vae(), posterior=posterior, other=Z.flip(3))
    widget.precompute(KEPT)
    return widget


def show_tab(page, name):
    page.get_by_role("group", name="show").get_by_role("button", name=name, exact=True).click()


def test_latents_of_every_channel_are_exact_and_move_with_the_frames(open_viewer, latent_viewer):
    page = open_viewer(latent_viewer)
    pictures = list(latent_pictures(Z[0].numpy()).values())

    def assert_shown(t):
        index = next(i for i, group in enumerate(GROUPS) if t in group)
        found = [canvas_pixels(canvas) for canvas in page.locator(".now canvas").all()]
        for picture, right in zip(found, [SHORT[t], *(channel[index] for channel in pictures)], strict=True):
            assert np.array_equal(picture, right)
        span = f"frames {GROUPS[index][0]} to {GROUPS[index][-1]}" if len(GROUPS[index]) > 1 else f"frame {t}"
        caption = page.inner_text(".caption")
        assert caption.startswith(f"t = {t}latent frame {index}, of {span}")
        row, column = map(int, page.get_attribute(".vae-lab", "data-cell").split(","))
        assert f"cell row {row}, column {column}, channel " in caption
        values = [page.inner_text(f"[data-value='{c}']").replace("−", "-").split(": ")[1] for c in range(4)]
        assert values == [f"{value:.2f}" for value in Z[0, :, index, row, column].tolist()]
        current = page.locator(".strip").first.locator(".current b").all_inner_texts()
        assert current == [str(index)]

    assert_shown(0)
    steps = ("ArrowLeft", 0), ("ArrowRight", 1), ("PageDown", 5), ("End", 17), ("ArrowRight", 17), ("PageUp", 13)
    for key, t in (*steps, ("ArrowLeft", 12), ("Home", 0)):
        page.keyboard.press(key)
        assert_shown(t)
    page.fill("input[aria-label=Frame]", "14")
    assert_shown(14)
    for key, cell in (("ArrowUp", "1,3"), ("ArrowUp", "0,3"), ("ArrowUp", "0,3"), ("ArrowRight", "0,4")):
        page.keyboard.press(f"Shift+{key}")
        assert page.get_attribute(".vae-lab", "data-cell") == cell
    assert_shown(14)
    page.keyboard.press(" ")
    assert page.inner_text("button.play") == "❚❚ Pause"
    page.wait_for_function("document.querySelector('.vae-lab').dataset.frame !== '14'")


def test_the_film_holds_every_latent_frame_with_its_frames_and_chooses_cells(open_viewer, latent_viewer):
    page = open_viewer(latent_viewer)
    strips = page.locator(".strip").all()
    names = [strip.locator(".name").inner_text().split("\n") for strip in strips]
    pictures = latent_pictures(Z[0].numpy())
    scales = [title.split("(")[1][:-1].replace("-", "−") for title in list(pictures)[1:]]
    assert names[:3] == [["latent frame", "its frames"], ["frames"], ["PCA"]]
    assert names[3:] == [[f"channel {c}", scale] for c, scale in enumerate(scales)]
    spans = [strip.split("\n")[1] for strip in strips[0].locator(".frame").all_inner_texts()]
    assert spans == ["0", "1–4", "5–8", "9–12", "13–16", "17"]
    thumbs = [canvas_pixels(canvas) for canvas in strips[1].locator("canvas").all()]
    assert np.array_equal(thumbs, SHORT)  # every frame, in the column of its latent frame
    counts = [cell.locator("canvas").count() for cell in strips[1].locator(".frame").all()]
    assert counts == [len(group) for group in GROUPS]
    for strip, right in zip(strips[2:], pictures.values(), strict=True):
        assert np.array_equal([canvas_pixels(canvas) for canvas in strip.locator("canvas").all()], right)
    canvas = strips[6].locator("canvas").nth(3)
    box = canvas.bounding_box()
    canvas.click(position={"x": (4 + 0.5) * box["width"] / 6, "y": (2 + 0.5) * box["height"] / 4})
    state = page.evaluate("({...document.querySelector('.vae-lab').dataset})")
    assert (state["latent"], state["frame"], state["channel"], state["cell"]) == ("3", "9", "3", "2,4")
    mark = page.evaluate("""() => {
      const box = document.querySelectorAll('.now .picture')[4], style = getComputedStyle(box, '::after');
      return [parseFloat(style.left) / box.clientWidth, parseFloat(style.top) / box.clientHeight];
    }""")
    assert np.allclose(mark, [4 / 6, 2 / 4], atol=0.01)  # the chosen cell is marked
    assert page.locator(".now figure.chosen").inner_text() == "channel 3"


def assert_drawn(line, x, y):
    """A curve's path has its points where the values are, but for where the axes begin and how long they are."""
    points = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", line.get_attribute("d")), float)
    for found, values, sign in ((points[:, 0], x, 1), (points[:, 1], y, -1)):
        slope, start = np.polyfit(values, found, 1)
        assert sign * slope > 0 and np.abs(slope * np.asarray(values) + start - found).max() < 0.2


def test_statistics_and_relations_say_what_python_measured(open_viewer, latent_viewer):
    page = open_viewer(latent_viewer)
    show_tab(page, "statistics")
    number = lambda text: float(text.replace("−", "-"))  # noqa: E731
    cells = lambda name: [number(text) for text in page.locator(f"[data-column={name}]").all_inner_texts()]  # noqa: E731
    flat = Z[0].double().flatten(1)
    assert cells("mean") == pytest.approx(flat.mean(1).tolist(), rel=6e-3)
    assert cells("std") == pytest.approx(flat.std(1, correction=0).tolist(), rel=6e-3)
    assert cells("posterior_std") == pytest.approx([np.exp(-1.5)] * 4, rel=6e-3)
    assert cells("kl") == pytest.approx((0.5 * (flat**2 + np.exp(-3) - 1 + 3)).mean(1).tolist(), rel=6e-3)
    assert page.locator("[data-column=active]").all_inner_texts() == ["active"] * 4
    assert page.locator("[data-column=latents_std]").all_inner_texts() == ["3.85", "2.32", "2.33", "3.06"]
    assert page.locator(".chart .line.chosen").count() and not page.locator(".wrong").count()
    page.locator("tbody tr").nth(2).click()
    assert page.get_attribute(".vae-lab", "data-channel") == "2"
    assert page.get_attribute("[aria-label=channel] button >> nth=2", "aria-pressed") == "true"
    for index, moment in enumerate([Z[0, 2].mean((1, 2)), Z[0, 2].std((1, 2), correction=0)]):
        assert_drawn(page.locator(".charts path.line.chosen").nth(index), range(6), moment)
    show_tab(page, "relations")
    space, over_time = spatial_spectrum(Z), temporal_spectrum(Z)
    found = [[number(page.text_content(f"[data-entry='{i},{j}']")) for j in range(4)] for i in range(4)]
    assert np.allclose(found, np.corrcoef(flat.numpy()), atol=0.0051)
    assert_drawn(page.locator(".curves path.line.chosen").nth(0), range(6), time_correlation(Z)[2])
    assert_drawn(page.locator(".curves path.line.chosen").nth(1), np.log(space.frequency), np.log(space.power[2]))
    assert_drawn(page.locator(".curves path.line.chosen").nth(2), over_time.frequency, np.log(over_time.power[2]))
    titles = page.locator(".relations .title").all_text_contents()
    assert titles == ["correlation between channels", "correlation over time", "power in space", "power in time"]


def test_a_warning_is_said_in_words(open_viewer):
    shift, scale = torch.tensor([-0.1, 0.3, 0.3, 1.0]), torch.tensor([3.9, 2.3, 2.3, 3.1])
    normalised = torch.randn(1, 4, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    page = open_viewer(explore_latents(normalised, latents_mean=shift, latents_std=scale))
    assert page.inner_text(".wrong").startswith("Warning: These latents look normalised")
    assert page.locator(".now canvas").count() == 5  # no frames: PCA and channels
    show_tab(page, "change")
    assert page.inner_text(".status").startswith("Nothing decodes these latents here")
    assert not page.is_visible(".decode") and not page.is_visible(".results")


def test_a_saved_page_shows_the_changes_it_keeps_and_says_that_it_has_no_others(open_viewer, latent_viewer):
    page = open_viewer(latent_viewer)
    show_tab(page, "change")
    zeroed, painted = Z.clone(), Z.clone()
    zeroed[:, 2] = 0
    painted[0, :, 3, 1, 4] += 2.5 * Z[0].flatten(1).std(1, correction=0)
    vae = small_vae()
    with torch.no_grad():
        decoded, *changed = [to_frames(vae.decode(z, 18).sample) for z in (Z, zeroed, painted)]
    kept = dict(zip((answer["name"] for answer in latent_viewer.data["changes"]["answers"]), changed, strict=True))
    assert page.locator(".kept button").all_inner_texts() == list(kept)
    assert page.inner_text(".kept [aria-pressed=true]") == "zero channel 2"  # it begins with what it has
    for name, frames in kept.items():
        page.click(f".kept button:text-is('{name}')")
        for t, gain in ((0, 4), (13, 4), (17, 16), (13, 1)):
            page.fill("input[aria-label=Frame]", str(t))
            page.click(f"[aria-label=difference] button:text-is('×{gain}')")
            page.wait_for_function(f"document.querySelector('.vae-lab').dataset.answerFrame === '{t}'")
            page.wait_for_timeout(30)
            found = pixels(page.locator(".results"))
            right = [decoded[t], frames[t], error_map(decoded[t : t + 1], frames[t : t + 1], gain)[0]]
            assert all(np.array_equal(*pair) for pair in zip(found, right, strict=True)), (name, t, gain)
            assert f"difference ×{gain}, RMS " in page.locator(".results figcaption").last.inner_text()
        assert page.inner_text(".status").startswith(f"{name}: RMS difference ")
    page.keyboard.press("Shift+ArrowLeft")  # another cell, which is not kept
    away = "This change is not kept in this page, and a page has no kernel to decode it (LatentViewer.precompute)."
    assert page.inner_text(".status") == away
    assert not page.is_visible(".results") and not page.is_visible(".decode")
    changes = {button.inner_text(): button for button in page.locator("[aria-label=change] button").all()}
    assert {name for name, button in changes.items() if button.is_enabled()} == {"zero", "one cell"}
    assert changes["amplify"].get_attribute("title") == away


def test_a_new_edit_is_one_declared_function(open_viewer, monkeypatch):
    """The errand of someone who adds an edit: nothing but this function, and the page has its form and its answer."""
    monkeypatch.setitem(EDITS, "mirror", EDITS["zero"])  # so that it is removed afterwards

    @edit(
        "mirror",
        Cell(),
        LatentFrames(),
        Number("share", 0, 3, step=0.5, default=1, label="share of the mirror image"),
        Channel(or_all=True),
        title="{channel} mirrored {share} times from {cell}, {latent_frames}",
        label="mirror left and right",
    )
    def mirror(z, cell, latent_frames, share, channel):
        chosen = slice(None) if channel is None else channel
        z[:, chosen, cell[0] + latent_frames] += share * z[:, chosen, cell[0]].flip(-1)
        return z

    with pytest.raises(ValueError, match="row of cell must be an integer from 0 to 3, got 4"):
        mirror(Z, (0, 4, 0), 1, 1.0, None)
    widget = explore_latents(Z, SHORT, vae=small_vae())
    request = {"operation": "mirror", "cell": [2, 1, 4], "latent_frames": -1, "share": 1.5, "channel": None}
    widget.precompute([request])
    with pytest.raises(ValueError, match="mirror takes cell, latent_frames, share, channel, got share"):
        widget.precompute([{"operation": "mirror", "share": 1}])
    page = open_viewer(widget)
    show_tab(page, "change")
    assert page.inner_text("[aria-label=change] [aria-pressed=true]") == "mirror left and right"
    sliders = {slider.get_attribute("aria-label"): slider for slider in page.locator(".tab:visible input").all()}
    shown = {name: slider for name, slider in sliders.items() if slider.is_visible()}
    limits = {
        name: [slider.get_attribute("min"), slider.get_attribute("max"), slider.input_value()]
        for name, slider in shown.items()
    }
    assert limits == {
        "in latent frame": ["0", "5", "2"],
        "latent frames": ["-5", "5", "-1"],
        "share of the mirror image": ["0", "3", "1.5"],
    }
    assert page.locator("[aria-label=of]:visible [aria-pressed=true]").inner_text() == "all channels"
    title = "all channels mirrored 1.5 times from (2, 1, 4), -1 latent frame"
    assert page.inner_text(".status").startswith(f"{title}: RMS difference ") and "It changes" in page.inner_text(
        ".status"
    )
    vae, edited = small_vae(), Z.clone()
    edited[:, :, 1] += 1.5 * Z[:, :, 2].flip(-1)
    with torch.no_grad():
        decoded, changed = (to_frames(vae.decode(z, 18).sample) for z in (Z, edited))
    page.wait_for_function("document.querySelector('.vae-lab').dataset.answerFrame === '5'")
    found = pixels(page.locator(".results"))
    right = [decoded[5], changed[5], error_map(decoded[5:6], changed[5:6])[0]]
    assert all(np.array_equal(*pair) for pair in zip(found, right, strict=True))
    shown["share of the mirror image"].fill("2")
    assert page.inner_text(".status").startswith("This change is not kept in this page")
    page.click(f".kept button:text-is('{title}')")
    assert page.locator("[aria-label='share of the mirror image']").input_value() == "1.5"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_latents_fit_a_screen_and_a_phone(open_viewer, latent_viewer, scheme):
    page = open_viewer(latent_viewer, scheme)
    for width, height in ((1280, 800), (320, 700), (400, 800)):
        page.set_viewport_size({"width": width, "height": height})
        for tab in ("latents", "statistics", "relations", "change"):
            show_tab(page, tab)
            page.wait_for_timeout(60)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (tab, width)
            assert width < 1280 or page.evaluate("document.documentElement.scrollHeight") <= 800, tab
    show_tab(page, "latents")  # on a phone, all latent frames scroll inside their own box
    assert page.evaluate("(film => film.scrollWidth > film.clientWidth)(document.querySelector('.film'))")


@pytest.mark.parametrize("shape", [(1, 16, 13, 8, 8), (1, 1, 1, 1, 1), (1, 2, 40, 3, 9)])
def test_latents_of_any_size(open_viewer, shape):
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    page = open_viewer(explore_latents(z))
    for tab in ("latents", "statistics", "relations", "change"):
        show_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.keyboard.press("End")
    assert page.get_attribute(".vae-lab", "data-latent") == str(shape[2] - 1)
    if shape[1] > 8:
        page.fill("input[aria-label=channel]", str(shape[1] - 1))
        assert page.get_attribute(".vae-lab", "data-channel") == str(shape[1] - 1)


@pytest.mark.parametrize(("channels", "cells"), [(16, 16), (48, 8), (128, 4)])
def test_captions_never_lie_on_one_another(open_viewer, channels, cells):
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    page = open_viewer(explore_latents(torch.randn(1, channels, 2, cells, cells), frames))
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)
        wider = """[...document.querySelectorAll('.now figure')].filter((figure) =>
          figure.querySelector('figcaption').scrollWidth > figure.clientWidth).map((figure) => figure.innerText)"""
        assert page.evaluate(wider) == []
        captions = page.locator(".now figcaption").all_inner_texts()
        assert captions[-1] in (f"channel {channels - 1}", str(channels - 1))
        assert captions[0] in ("frame 0", "t = 0") and captions[1] == "PCA"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_large_numbers_do_not_scroll_and_the_matrix_is_drawn_once(open_viewer):
    z = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1e30
    page = open_viewer(explore_latents(z, latents_mean=0, latents_std=1))
    page.set_viewport_size({"width": 360, "height": 800})
    for tab in ("latents", "statistics", "relations", "change"):
        show_tab(page, tab)
        page.wait_for_timeout(60)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab
    show_tab(page, "relations")
    page.evaluate("document.querySelector('[data-entry]').classList.add('same')")
    page.keyboard.press("ArrowRight")  # a step in time
    assert page.get_attribute(".vae-lab", "data-latent") == "1" and page.locator(".same").count() == 1
    page.locator("[aria-label=channel] button").nth(2).click()
    assert page.locator(".same").count() == 0 and page.locator(".relations .outline").count() == 1


def test_statistics_that_were_thinned_are_drawn_where_they_belong(open_viewer):
    z = torch.randn(1, 200, 150, 1, 1, generator=torch.Generator().manual_seed(0))
    viewer = explore_latents(z, max_bytes=1_000_000)
    every = viewer.data["statistics"]["every"]
    assert every > 1 and viewer.data["relations"]["correlation"] is None
    page = open_viewer(viewer)
    show_tab(page, "statistics")
    assert_drawn(page.locator(".charts path.line.chosen").nth(0), range(0, 150, every), z[0, 0, ::every, 0, 0])
    show_tab(page, "relations")
    assert page.locator(".relations .title").all_text_contents()[:1] == ["correlation over time"]
    lags = range(0, 150, every)
    assert_drawn(page.locator(".curves path.line.chosen").nth(0), lags, time_correlation(z)[0, ::every])


def test_opening_latents_is_timed(open_viewer, capsys):
    clip = photo_clip("chelsea", 33, (128, 128))
    z = torch.randn(1, 4, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    begin = time.perf_counter()
    viewer = explore_latents(z, clip, vae=small_vae())
    made = time.perf_counter() - begin
    page = open_viewer(viewer)
    opened = time.perf_counter() - begin - made
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    with capsys.disabled():
        print(f"\nlatents of 33 frames of 128 px: made in {made:.2f} s, page written and opened with all pictures in "
              f"{opened:.2f} s, its first paint after {painted:.0f} ms")  # fmt: skip
    assert painted > 0
