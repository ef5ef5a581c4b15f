"""Synthetic clips that show what a prompt says: one object of one colour on grey, moving straight."""

from collections.abc import Sequence

import numpy as np

from ..utils.checks import positive_int
from .prompts import COLOURS, DIRECTIONS, SPEEDS, Prompt

BACKGROUND = 0.5  # grey
RADIUS = 10.0  # of a disc, in pixels
HALF_BAR = np.array([6.5, 12.0])  # half the width and height of a bar, which stands upright, in pixels
AREA = np.pi * RADIUS**2  # pixels of a disc; a bar has nearly as many
MARGIN = 2.0  # pixels between the object and the border


def prompted_clip(
    random: np.random.Generator, prompt: Prompt | str, num_frames: int = 17, size: int = 64
) -> np.ndarray:
    """Draw a clip of a prompt, uint8 (num_frames, size, size, 3). The generator decides the place alone.

    The object stays inside the frame. Raises ValueError if it cannot: the clip is too long for its size.
    """
    if not isinstance(random, np.random.Generator):
        raise ValueError(f"random must be a generator of numpy, such as np.random.default_rng(0), got {random!r}")
    prompt = Prompt.of(prompt)
    positive_int("num_frames", num_frames)
    positive_int("size", size)
    step = np.array(DIRECTIONS[prompt.direction]) * SPEEDS[prompt.speed]
    travel = step * (num_frames - 1)
    reach = MARGIN + (RADIUS if prompt.shape == "disc" else HALF_BAR)
    low = reach - np.minimum(travel, 0)  # of the first frame's centre (x, y)
    high = size - reach - np.maximum(travel, 0)
    if (low > high).any():
        least = int(np.ceil((2 * reach + np.abs(travel)).max()))
        raise ValueError(f"size must be at least {least} for {num_frames} frames of {str(prompt)!r}, got {size}")
    start = random.uniform(low, high)
    return draw_object(prompt.colour, prompt.shape, start + np.arange(num_frames)[:, None] * step, size)


def draw_object(colour: str, shape: str, centres: Sequence | np.ndarray, size: int) -> np.ndarray:
    """Draw an object at a centre (x, y) in each frame, uint8 (T, size, size, 3), with smooth edges.

    Coordinates are in pixels; the middle of the first pixel is at (0.5, 0.5).
    """
    x, y = (np.asarray(centres, dtype=float)[:, axis, None, None] for axis in (0, 1))
    places = np.arange(size) + 0.5
    dx, dy = np.abs(places[None, None, :] - x), np.abs(places[None, :, None] - y)
    inside = RADIUS - np.hypot(dx, dy) if shape == "disc" else np.minimum(HALF_BAR[0] - dx, HALF_BAR[1] - dy)
    cover = np.clip(inside + 0.5, 0, 1)[..., None]
    frames = BACKGROUND + cover * (np.array(COLOURS[colour]) - BACKGROUND)
    return np.rint(frames * 255).astype(np.uint8)
