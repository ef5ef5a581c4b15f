"""Read image files, folders of them and animated images as frames uint8 (H, W, 3), one after another."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
NO_DURATION = 100  # milliseconds for which browsers show a frame of an animation with duration 0
BACKGROUND = (255, 255, 255)  # behind transparent pixels


class Shown(NamedTuple):
    """A frame of a source and the time at which it is shown."""

    frame: np.ndarray  # uint8 (H, W, 3); zeros that take no memory if only sizes and times were asked for
    time: float | None = None  # seconds from the source's start; None if the source has no time for this frame
    fps: float | None = None  # frames per second, as far as the source has been read; None if it has no rate
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel over its height
    tick: float | None = None  # seconds to which times are rounded; None if `fps` is the mean by the times already


class BreaksOffError(ValueError):
    """A source that ends earlier than it promises, or cannot be decoded any further."""


def iter_folder(
    path: Path, start: int, num_frames: int | None, size: tuple[int, int] | None, pixels: bool = True
) -> Iterator[Shown]:
    """Read the images in a folder as frames, in natural order (2 before 10). pixels: False reads their sizes only."""
    entries = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    files = [p for p in entries if p.is_file()]
    if not files:
        raise ValueError(f"{path} is a folder without images ({', '.join(IMAGE_SUFFIXES)})")
    if start >= len(files):
        raise ValueError(f"{path} has {len(files)} frames, so it has no frame {start}")
    files.sort(key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", p.name)])
    for file in files[start : None if num_frames is None else start + num_frames]:
        with _open(file) as image:
            yield Shown(_frame(image, size, pixels))


def iter_image(
    path: Path, start: int, num_frames: int | None, size: tuple[int, int] | None, pixels: bool = True
) -> Iterator[Shown]:
    """Read one image, or the frames of an animated one. pixels: False reads sizes and times only."""
    with _open(path) as image:
        total = getattr(image, "n_frames", 1)
        if start >= total:
            raise ValueError(f"{path} has {total} frames, so it has no frame {start}")
        end = 0.0  # of the frame before
        for t in range(total if num_frames is None else min(total, start + num_frames)):
            image.seek(t)
            image.load()  # before this, the duration of the frame is unknown
            time, end = end, end + (image.info.get("duration") or NO_DURATION) / 1000
            if t >= start and total == 1:  # a still image has no rate
                yield Shown(_frame(image, size, pixels))
            elif t >= start:
                yield Shown(_frame(image, size, pixels), time, (t + 1) / end)


def _frame(image: Image.Image, size: tuple[int, int] | None, pixels: bool) -> np.ndarray:
    if pixels:
        return fit(to_rgb(image), size)
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by 90 degrees
    return blank(size or (image.size if turned else image.size[::-1]))


def blank(shape: tuple[int, int]) -> np.ndarray:
    """Return a black frame (H, W, 3) that takes one byte of memory."""
    return np.broadcast_to(np.uint8(0), (*shape, 3))


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read") from None
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a whole image: {error}") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, upright, with transparent pixels on BACKGROUND.

    16-bit grey is rounded to 8 bits; Pillow keeps the upper 8 bits of 16-bit colour.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("images of floating-point values have no agreed range; save them as 8 or 16 bit")
    if image.mode.startswith("I"):  # 16 bit, or 32 bit with values of 16
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"image values must be within 16 bit, got {values.min()} to {values.max()}")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """Scale an image, anti-aliased, until it covers `size` (H, W), and crop it to the middle. None: leave its size."""
    if size is not None and (image.height, image.width) != size:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image)
