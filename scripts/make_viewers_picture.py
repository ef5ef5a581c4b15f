"""Photographs two viewers in a browser for the README: python scripts/make_viewers_picture.py (needs Chromium)."""

import shutil
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from vae_lab import load, read_video, to_tensor
from vae_lab.viewers.arithmetic import explore_padding
from vae_lab.viewers.frames import compare_frames
from vae_lab.viewers.widgets import save_html

DATA = Path(__file__).parents[1] / "data"


@torch.no_grad()
def main() -> None:
    clip = read_video(DATA / "chelsea.mp4", num_frames=33, size=(128, 128))
    result = load("lab").reconstruct(to_tensor(clip.frames))
    videos = {"original": clip, "2D only": result.spatial_only, "full": result.sample}
    viewers = [compare_frames(videos, result.latent), explore_padding(3, stride=2, num_frames=17, layers=2)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 820, "height": 700})
        pictures = []
        for number, viewer in enumerate(viewers):
            page.goto(save_html(viewer, Path(folder) / "page.html").as_uri())
            page.wait_for_selector("[data-ready=true]")
            for _ in range(17 if number == 0 else 0):
                page.keyboard.press("ArrowRight")
            path = Path(folder) / f"{number}.png"
            page.locator(".vae-lab").screenshot(path=path)
            pictures.append(Image.open(path).convert("RGB"))
        browser.close()
    gap = 24
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (pictures[0].width, height), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + gap
    sheet.quantize(256, dither=Image.Dither.NONE).save(DATA.parent / "docs" / "images" / "viewers.png", optimize=True)


if __name__ == "__main__":
    main()
