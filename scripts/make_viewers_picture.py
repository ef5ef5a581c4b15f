"""Record the pictures of the viewers in a real browser: `python scripts/make_viewers_picture.py` (needs Chromium).

docs/images/viewers.png shows two viewers; viewers_light.webp and viewers_dark.webp are the README's moving picture.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from vae_lab import load, read_video, to_tensor
from vae_lab.viewers.arithmetic import explore_padding
from vae_lab.viewers.frames import compare_frames
from vae_lab.viewers.widgets import Viewer, save_html

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 820, 470  # pixels of the moving picture; the still one is as high as the viewers are
STEP, PAUSE = 110, 900  # milliseconds that a picture stays
BORDER = 17  # the first frame of the second chunk


@torch.no_grad()
def viewers() -> dict[str, Viewer]:
    clip = read_video(ROOT / "data" / "chelsea.mp4", num_frames=33, size=(128, 128))
    result = load("lab").reconstruct(to_tensor(clip.frames))
    videos = {"original": clip, "2D only": result.spatial_only, "full": result.sample}
    return {
        "frames": compare_frames(videos, result.latent),
        "padding": explore_padding(3, stride=2, num_frames=17, layers=2),
    }


def open_page(browser: Browser, path: Path, scheme: str = "light") -> Page:
    page = browser.new_page(viewport={"width": WIDTH, "height": 700}, color_scheme=scheme)
    page.goto(path.as_uri())
    page.wait_for_selector("[data-ready=true]")
    page.add_style_tag(content="h1 { display: none } main { padding: 8px 20px }")
    return page


def photograph(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.locator(".vae-lab").screenshot())).convert("RGB")


def still(browser: Browser, pages: dict[str, Path], gap: int = 24) -> Image.Image:
    """The frame viewer at the border of its chunks, and below it the padding explorer."""
    pictures = []
    for name, path in pages.items():
        page = open_page(browser, path)
        if name == "frames":
            page.fill("input[aria-label=Frame]", str(BORDER))
        pictures.append(photograph(page))
        page.close()
    sheet = Image.new("RGB", (pictures[0].width, sum(picture.height + gap for picture in pictures) - gap), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + gap
    return sheet.quantize(256, dither=Image.Dither.NONE)


def film(browser: Browser, pages: dict[str, Path], scheme: str) -> Iterator[tuple[Image.Image, int]]:
    """(picture, milliseconds): a reader plays the clip, stops at the chunk's border, and then sets up a convolution."""

    def shot(duration: int) -> tuple[Image.Image, int]:
        return Image.open(io.BytesIO(page.screenshot(clip=window))).convert("RGB"), duration

    window = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
    page = open_page(browser, pages["frames"], scheme)
    for frame in range(33):
        page.fill("input[aria-label=Frame]", str(frame))
        yield shot(PAUSE if frame in (0, BORDER) else 3 * STEP if abs(frame - BORDER) == 1 else STEP)
    page.fill("input[aria-label=Frame]", str(BORDER))
    for choice in ("2D only", "channel 0", "channel 1", "channel 2", "channel 3"):
        page.click(f"button:text-is('{choice}')")
        yield shot(PAUSE if choice == "2D only" else 5 * STEP)
    page.close()
    page = open_page(browser, pages["padding"], scheme)
    page.fill("input[aria-label='stride s']", "1")
    yield shot(PAUSE)
    for control, value in (("stride s", 2), ("kernel k", 4), ("kernel k", 3), ("dilation d", 2), ("dilation d", 1)):
        page.fill(f"input[aria-label='{control}']", str(value))
        yield shot(PAUSE)
    page.focus(".vae-lab")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
        yield shot(PAUSE)
    page.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = {name: save_html(viewer, Path(folder) / f"{name}.html") for name, viewer in viewers().items()}
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        still(browser, pages).save(IMAGES / "viewers.png", optimize=True)
        for scheme in ("light", "dark"):
            pictures, durations = zip(*film(browser, pages, scheme), strict=True)
            pictures[0].save(
                IMAGES / f"viewers_{scheme}.webp",
                save_all=True,
                append_images=pictures[1:],
                duration=durations,
                loop=0,
                quality=75,
                method=6,
            )
        browser.close()


if __name__ == "__main__":
    main()
