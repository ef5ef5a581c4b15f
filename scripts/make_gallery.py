"""Photograph one thing of each lesson for notebooks/README.md: `make notebooks`, then `python scripts/make_gallery.py`.

Needs Chromium. Writes docs/images/lesson_00.webp and so on, from the pages in out/site (or in the folder given).
"""

import argparse
import io
import shutil
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH = 480  # pixels of a picture


class Shot(NamedTuple):
    """What to photograph of a lesson's page."""

    number: int
    """Which of its viewers and figures, from 0."""
    frame: int = 0
    """Where the slider of a viewer stands, in steps."""
    slider: str = "Frame"
    """Its name."""


SHOTS = {
    "00": Shot(1),
    "01": Shot(0),
    "02": Shot(0),
    "03": Shot(0, frame=9),
    "04": Shot(3),
    "05": Shot(0, frame=8),
    "06": Shot(0),
    "07": Shot(1),
    "08": Shot(7),
    "09": Shot(6),
    "10": Shot(1, frame=5, slider="from noise to clip"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, nargs="?", default=ROOT / "out" / "site", help="pages of `make notebooks`")
    parser.add_argument("--only", nargs="+", choices=SHOTS, default=list(SHOTS), help="numbers of lessons")
    args = parser.parse_args(argv)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for lesson in args.only:
            (path,) = args.site.glob(f"{lesson}_*.html")
            page = browser.new_page(viewport={"width": 1000, "height": 800})
            page.goto(path.resolve().as_uri())
            page.wait_for_load_state()
            shown = page.locator("section.vae-lab, img").nth(SHOTS[lesson].number)
            if SHOTS[lesson].frame:
                shown.locator(f"input[aria-label='{SHOTS[lesson].slider}']").fill(str(SHOTS[lesson].frame))
            picture = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
            height = round(picture.height * WIDTH / picture.width)
            target = IMAGES / f"lesson_{lesson}.webp"
            picture.resize((WIDTH, height), Image.Resampling.LANCZOS).save(target, quality=85, method=6)
            print(f"wrote {target.relative_to(ROOT)}")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
