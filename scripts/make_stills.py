"""Photograph what the lessons show to readers without viewers: `make notebooks`, then `python scripts/make_stills.py`.

A cell of a notebook that is tagged "still" names a picture: docs/images/lessons/NN_K.webp is picture K of the page of
notebook NN, whose viewers and figures are counted from 0. The pages are those in out/site, or in the folder given.
Needs Chromium. A viewer is photographed in the letters that matplotlib brings, so that it looks alike on all machines.
"""

import argparse
import base64
import io
import re
import shutil
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
NOTEBOOKS, IMAGES = ROOT / "notebooks", ROOT / "docs" / "images" / "lessons"
STILL = re.compile(r"!\[([^]]*)\]\(\.\./docs/images/lessons/(\d\d_\d+)\.webp\)")
PICTURES = "section.vae-lab, main img"  # what is counted
WIDTH = 700  # pixels of a picture, at most
WINDOW = WIDTH + 55  # its margins and its scroll bar take the rest
LETTERS = {"DejaVuSans": "letters", "DejaVuSans-Bold": "letters", "DejaVuSansMono": "code"}  # file -> its name in pages
LIMIT = 1.0  # of `difference`: an older picture has more
# The heights of lines are no whole pixels, so the text above would blur a viewer more or less
TO_A_WHOLE_PIXEL = """(viewer) => {
  Object.assign(viewer.style, { position: "relative", top: 0 });
  const y = viewer.getBoundingClientRect().top + scrollY;
  viewer.style.top = `${Math.ceil(y) - y}px`;
}"""
SLIDERS = {  # picture -> the name of a slider and the step where it stands; all others stay as they are at first
    "03_0": ("Frame", 17),  # the first of the second chunk
    "03_2": ("Frame", 6),  # between two frames that are kept
    "03_7": ("Frame", 5),
    "05_0": ("Frame", 8),
    "10_1": ("from noise to clip", 5),
}


def stills(notebook: Path) -> dict[str, str]:
    """The pictures that a notebook names, as NN_K, and their alternative texts.

    Raises ValueError for a cell tagged "still" that holds anything but one picture with such a name.
    """
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "still" in cell.metadata.get("tags", ()):
            match = STILL.fullmatch(cell.source.strip())
            if not match or not match[2].startswith(notebook.stem[:2]):
                raise ValueError(f"{notebook.name}: a cell tagged still must hold one picture only: {cell.source!r}")
            found[match[2]] = match[1]
    return found


def fix_letters(page: Page) -> None:
    """Let a page show matplotlib's letters, whatever fonts the machine has."""
    style = "* { font-family: letters !important; } :is(pre, code), :is(pre, code) * { font-family: code !important; }"
    for file, name in LETTERS.items():
        font = (Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{file}.ttf").read_bytes()
        source = f"url(data:font/ttf;base64,{base64.b64encode(font).decode()})"
        weight = "bold" if file.endswith("-Bold") else "normal"
        style += f"@font-face {{ font-family: {name}; font-weight: {weight}; src: {source}; }}"
    page.add_style_tag(content=style)
    page.evaluate("Promise.all([...document.fonts].map((font) => font.load()))")


def photograph(page: Page, name: str) -> Image.Image:
    """Return the picture NN_K of the page of lesson NN, at most WIDTH wide."""
    shown = page.locator(PICTURES).nth(int(name[3:]))
    if shown.evaluate("(shown) => shown.tagName") == "IMG":  # as it was drawn
        png = base64.b64decode(shown.get_attribute("src").split(",")[1])
        picture = Image.open(io.BytesIO(png)).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    else:
        if name in SLIDERS:
            slider, step = SLIDERS[name]
            shown.locator(f"input[aria-label='{slider}']").fill(str(step))
            page.evaluate("document.activeElement.blur()")
        shown.evaluate(TO_A_WHOLE_PIXEL)
        picture = Image.open(io.BytesIO(shown.screenshot()))
    picture = picture.convert("RGB")
    if picture.width <= WIDTH:
        return picture
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


def difference(a: Image.Image, b: Image.Image) -> float:
    """Return the mean difference, of 255, of two pictures' grey thumbnails; infinity if their sizes are not the same.

    Another processor, Chromium or way to smooth letters makes less than LIMIT, another frame of a viewer makes more.
    """
    if max(abs(x - y) for x, y in zip(a.size, b.size, strict=True)) > 3:  # a pixel is a matter of rounding
        return float("inf")
    thumbnails = [np.asarray(x.convert("L").resize((32, 32), Image.Resampling.BOX), float) for x in (a, b)]
    return np.abs(thumbnails[0] - thumbnails[1]).mean()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, nargs="?", default=ROOT / "out" / "site", help="pages of `make notebooks`")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NN", help="numbers of lessons")
    args = parser.parse_args(argv)
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WINDOW, "height": 800})
        for notebook in sorted(path for number in args.only for path in NOTEBOOKS.glob(f"{number}*.ipynb")):
            page.goto((args.site / f"{notebook.stem}.html").resolve().as_uri())
            fix_letters(page)
            for path in IMAGES.glob(f"{notebook.stem[:2]}_*.webp"):
                path.unlink()
            for name in stills(notebook):
                path = IMAGES / f"{name}.webp"
                photograph(page, name).save(path, quality=85, method=6)
                print(f"wrote {path.relative_to(ROOT)}")
        browser.close()


if __name__ == "__main__":
    main()
