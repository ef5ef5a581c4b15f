"""The arguments of `vae-lab`, and what is refused before anything is read."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

MIN_SIDE = 8  # pixels: one latent cell
MAX_SIZE = 1_000_000  # frames or pixels along an axis
SHOWN_CHUNKS = 4


def parse_size(text: str, axes: Sequence[str], example: str) -> tuple[int, ...]:
    """Numbers joined by x, one for each axis: "51x256x256" becomes (51, 256, 256)."""
    parts = text.split("x")
    fits = [re.fullmatch(r"\d{1,7}", part) is not None and 1 <= int(part) <= MAX_SIZE for part in parts]
    if len(parts) != len(axes) or not all(fits):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be {' x '.join(axes)}, each from 1 to {MAX_SIZE}, as in {example}"
        )
    return tuple(map(int, parts))


def clip_size(text: str) -> tuple[int, ...]:
    return parse_size(text, ("frames", "height", "width"), "51x256x256")


def frame_size(text: str) -> tuple[int, ...]:
    return parse_size(text, ("height", "width"), "256x256")


def at_least(low: int):
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {low}")
        return int(text)

    return parse


def path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError('a path must not be empty; the current folder is "."')
    return Path(text)


def chunk(text: str) -> int | None:
    return None if text == "none" else at_least(1)(text)


def gain(text: str) -> float:
    try:
        gain = float(text)
    except ValueError:
        gain = 0.0
    if not 0 < gain < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return gain
