"""The notebooks' pages in a real Chromium, offline: nothing is asked of the network, and every viewer works."""

import base64
import io
import json

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT, canvas_pixels, script

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STEMS = [path.stem for path in NOTEBOOKS]
make_stills = script("make_stills")


@pytest.fixture(params=["light", "dark"])
def open_notebook(open_page, request, pages_of_notebooks):
    return lambda stem: open_page(pages_of_notebooks.page(stem), request.param)


@pytest.mark.parametrize("stem", STEMS)
def test_pages_are_whole(open_notebook, stem):
    page = open_notebook(stem)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280  # nothing runs off to the right
    assert page.locator("section.vae-lab").count() >= (stem[:2] not in ("04", "08"))  # figures alone
    assert "widget-view" not in page.content() and "$$" not in page.inner_text("main")
    assert page.locator("nav a").all_inner_texts()[0] == "vae_lab" and page.locator("nav a[aria-current]").count() == 1
    if stem[:2] in ("01", "02", "03"):
        assert page.locator("math[display=block]").first.is_visible()
        folded = page.locator("details:has(pre)").first  # a solution or a check
        assert not folded.locator("pre").first.is_visible()
        folded.locator("summary").click()
        assert folded.locator("pre").first.is_visible()
    ground, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert ground != text
    fits_a_phone(page)


def fits_a_phone(page) -> None:
    """In a window of 400 pixels a page is no wider: tables, formulas and viewers scroll in boxes of their own."""
    page.set_viewport_size({"width": 400, "height": 800})
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    page.wait_for_function("document.documentElement.scrollWidth <= 400", timeout=5000)  # viewers take a moment


def test_frame_viewers_show_the_pixels_they_were_given(open_notebook):
    page = open_notebook("03_reconstruction")
    for viewer in page.locator("section.vae-lab:has(canvas)").all():
        data = json.loads(viewer.locator("script").text_content())
        viewer.focus()
        for key, index in (("Home", 0), ("ArrowRight", 1), ("PageDown", 11), ("End", len(data["frames"]) - 1)):
            page.keyboard.press(key)
            frame = data["frames"][index]
            assert viewer.get_attribute("data-frame") == str(frame["t"])
            for panel, canvas in zip(data["panels"], viewer.locator("canvas").all(), strict=True):
                image = panel["views"][0]["images"][frame["latent"] if panel["latent"] else index]
                wanted = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))
                assert np.array_equal(canvas_pixels(canvas), wanted)


def test_viewers_of_one_page_are_independent(open_notebook):
    page = open_notebook("03_reconstruction")
    first, second = page.locator("section.vae-lab:has(canvas)").all()[:2]
    first.focus()
    page.keyboard.press("End")
    assert first.get_attribute("data-frame") == "32" and second.get_attribute("data-frame") == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_index_lists_and_links_every_notebook(open_page, index_of_notebooks, scheme):
    page = open_page(index_of_notebooks, scheme)
    rows = page.locator("table.index tr").all()
    assert len(rows) == 2 + len(STEMS)
    for row in rows[1:]:
        seconds, memory = row.locator("td").all_inner_texts()[2:]
        assert seconds.endswith(" s") and 0 < float(memory.removesuffix(" GB")) < 2
    for stem in STEMS:
        page.click(f"table a[href='{stem}.html']")
        assert page.locator("h1").first.inner_text().startswith(f"{stem[:2]} · ")
        page.go_back()
    fits_a_phone(page)


def test_without_script_a_page_shows_pictures(browser, pages_of_notebooks):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(pages_of_notebooks.page("02_latent_sizes").as_uri())
    image = page.locator("section.vae-lab img")
    assert image.is_visible() and image.get_attribute("alt").startswith("Size explorer: 33x256x256")
    assert "This needs JavaScript to answer." in page.inner_text("section.vae-lab")
    context.close()


# ---- the pictures of the notebooks ---------------------------------------------------------------------------------


def cells_of_pictures(page) -> list[str]:
    """The id of the notebook's cell to which each viewer and figure of a page belongs."""
    cells = page.locator(make_stills.PICTURES).evaluate_all("(all) => all.map((one) => one.closest('.cell').id)")
    return [cell.removeprefix("cell-id=") for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stills_show_what_the_page_shows(open_page, pages_of_notebooks, path):
    """If this fails, run `make notebooks` and `python scripts/make_stills.py`.

    Notebooks that train, and are cut short here, have the pictures' sizes alone compared.
    """
    page = open_page(pages_of_notebooks.page(path.stem), width=make_stills.WINDOW)
    make_stills.fix_letters(page)
    cells, shown = nbformat.read(path, as_version=4).cells, cells_of_pictures(page)
    cut_short = any("parameters" in cell.metadata.get("tags", ()) and "smoke" in cell.source for cell in cells)
    viewers = page.locator("section.vae-lab").evaluate_all("(all) => all.map((one) => one.closest('.cell').id)")
    tagged = [i for i, cell in enumerate(cells) if "still" in cell.metadata.get("tags", ())]
    followed = {f"cell-id={cells[i - 1].id}" for i in tagged}
    assert tagged and [viewer for viewer in viewers if viewer not in followed] == []
    for name, text in make_stills.stills(path).items():
        assert len(text) > 20, f"{name} needs an alternative text"
        (still,) = [i for i, cell in enumerate(cells) if f"/{name}.webp)" in cell.source]
        assert cells[still - 1].id == shown[int(name[3:])], f"{name} is not a picture of the cell before it"
        stored, taken = Image.open(make_stills.IMAGES / f"{name}.webp"), make_stills.photograph(page, name)
        limit = np.finfo(float).max if cut_short else make_stills.LIMIT
        assert make_stills.difference(stored, taken) <= limit, f"{name} is old: see above"


def test_an_old_picture_is_found(open_page, pages_of_notebooks, monkeypatch):
    """Another frame of a viewer, another picture, other controls. The same in other letters is not old."""
    page = open_page(pages_of_notebooks.page("03_reconstruction"), width=make_stills.WINDOW)
    make_stills.fix_letters(page)
    monkeypatch.setattr(make_stills, "SLIDERS", {"03_0": ("Frame", 0)})
    first, other = make_stills.photograph(page, "03_0"), make_stills.photograph(page, "03_1")
    monkeypatch.setattr(make_stills, "SLIDERS", {"03_0": ("Frame", 9)})
    later = make_stills.photograph(page, "03_0")
    for old in (later, other, first.crop((0, 30, *first.size))):
        assert make_stills.difference(first, old) > make_stills.LIMIT
    page.add_style_tag(content="* { -webkit-text-stroke: 0.2px; }")
    make_stills.SLIDERS["03_0"] = ("Frame", 0)
    assert 0 < make_stills.difference(first, make_stills.photograph(page, "03_0")) < make_stills.LIMIT


def test_every_picture_is_named():
    named = {f"{name}.webp" for path in NOTEBOOKS for name in make_stills.stills(path)}
    assert {path.name for path in make_stills.IMAGES.glob("*")} == named
