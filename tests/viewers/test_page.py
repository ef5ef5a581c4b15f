import numpy as np
import pytest

from tests.helpers import canvas_pixels
from vae_lab import photo_clip
from vae_lab.figures.style import COLOURS
from vae_lab.shapes import Timeline
from vae_lab.viewers import page as pages
from vae_lab.viewers.pictures import Curve, Panel, PictureBudget, View, player_data

FRAMES = photo_clip("coffee", 18, (24, 40)).frames
PANELS = {
    "original": FRAMES,
    "negative": 255 - FRAMES,
    "noise": np.random.default_rng(0).integers(0, 256, FRAMES.shape, np.uint8),
}
PSNR = Curve("full", [20.0 + t if t != 5 else np.inf for t in range(18)], COLOURS["output"])


def panels_of(clips: dict) -> list[Panel]:
    return [Panel(name, [View(name, name, frames)]) for name, frames in clips.items()]


def page_text(**arguments) -> str:
    data = player_data(panels_of(PANELS), 24, [PSNR], Timeline(18), **arguments)
    section = pages.section_parts(data, text="a <title>")
    return "".join(pages.page_parts("a <title>", section, {"fact & name": "</script>"}))


@pytest.fixture(params=["light", "dark"])
def page(open_page, tmp_path, request):
    (tmp_path / "index.html").write_text(page_text(first_frame=100))
    return open_page(tmp_path / "index.html", request.param)


def shown(page) -> int:
    return int(page.get_attribute(".vae-lab", "data-frame"))


def assert_frame(page, t: int) -> None:
    assert shown(page) == 100 + t
    assert page.input_value("input[type=range]") == str(t)
    for canvas, frames in zip(page.locator("canvas").all(), PANELS.values(), strict=True):
        assert np.array_equal(canvas_pixels(canvas), frames[t])


def test_keys_and_slider_move_all_panels_and_pixels_are_exact(page):
    assert_frame(page, 0)
    for key, t in [
        ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("PageDown", 11), ("End", 17), ("ArrowRight", 17),
        ("PageUp", 7), ("Home", 0), ("ArrowLeft", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert_frame(page, t)
    page.fill("input[type=range]", "9")
    assert_frame(page, 9)
    page.focus("input[type=range]")
    page.keyboard.press("ArrowRight")  # one step, not one by the page and one by the slider
    assert_frame(page, 10)


def test_caption_and_plot(page):
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".caption") == "t = 101latent frame 1full 21.00 dB"
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.inner_text(".caption") == "t = 105latent frame 2full identical"
    assert page.locator("rect.latent").count() == 6  # 17 + 1 frames: 5 + 1 latents
    assert page.locator("rect.latent.current").count() == 1
    assert page.locator("line.chunk").count() == 1  # before frame 17
    box = page.locator("svg.plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.995, box["y"] + 20)
    assert shown(page) == 117


def test_play_plays_and_pauses(page):
    page.click("button.play")
    page.wait_for_function("Number(document.querySelector('.vae-lab').dataset.frame) > 103")
    assert page.inner_text("button.play") == "❚❚ Pause"
    page.keyboard.press("Home")
    assert page.inner_text("button.play") == "▶ Play"
    assert_frame(page, 0)


def test_nothing_is_cut_off(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.inner_text("h1") == "a <title>"
    assert page.inner_text(".facts th") == "fact & name"
    assert page.inner_text(".facts td") == "</script>"
    assert page.locator(".note").count() == 0


@pytest.mark.parametrize(
    ("max_bytes", "note", "second"),
    [
        (80_000, "Every 2nd of 18 frames is kept, so that all pictures stay under 0.08 MB.", 2),
        (
            30_000,
            "Every 2nd of 18 frames is kept and pictures are shrunk 2 times in height and width (means, not exact "
            "pixels), so that all pictures stay under 0.03 MB.",
            2,
        ),
    ],
)
def test_large_clips_are_thinned_then_shrunk_and_the_page_says_so(browser, tmp_path, max_bytes, note, second):
    (tmp_path / "index.html").write_text(page_text(budget=PictureBudget(max_bytes)))
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("[data-ready=true]")
    assert page.inner_text(".note") == note
    page.keyboard.press("ArrowRight")
    assert shown(page) == second
    assert page.locator("canvas").first.get_attribute("width") == ("20" if "shrunk" in note else "40")
    page.close()


def test_what_is_kept_fits():
    panels = panels_of(PANELS)
    for max_bytes in (100_000, 60_000, 30_000, 8_000):
        data = player_data(panels, 24, budget=PictureBudget(max_bytes))
        size = sum(len(image) for panel in data["panels"] for view in panel["views"] for image in view["images"])
        assert size <= max_bytes
        assert data["fps"] == 24 * len(data["frames"]) / 18
    assert player_data(panels, 24, budget=PictureBudget(400_000))["note"] == ""
    frames = PANELS["noise"].copy()
    frames[[0, 9, 17]] = 0  # the frames that are looked at first say little of the others
    data = player_data(panels_of({"a": frames}), 24, budget=PictureBudget(35_000))
    assert sum(map(len, data["panels"][0]["views"][0]["images"])) <= 35_000 and len(data["frames"]) == 9


def test_panels_of_latents_with_one_name_keep_their_own_views():
    first, second = ([View("PCA", title, FRAMES[:5] + shift)] for shift, title in ((0, "one"), (50, "another")))
    data = player_data([*panels_of({"a": FRAMES}), Panel("latent", first, True), Panel("latent", second, True)], 24)
    (one,), (another,) = (panel["views"] for panel in data["panels"] if panel["latent"])
    assert (one["title"], another["title"]) == ("one", "another") and one["images"] != another["images"]


def test_titles_cannot_fill_in_other_places():
    data = player_data(panels_of({"{{data}}<!--<script>": FRAMES[:1]}), 24)
    text = "".join(pages.page_parts("{{script}} {{data}}", pages.section_parts(data)))
    assert "<h1>{{script}} {{data}}</h1>" in text
    assert "{{data}}\\u003c!--\\u003cscript>" in text
