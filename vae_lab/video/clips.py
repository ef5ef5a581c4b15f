"""Synthetic clips whose content is known exactly, and camera moves over real photographs."""

from collections.abc import Sequence
from functools import cache
from numbers import Integral

import numpy as np
from PIL import Image

from ..utils.checks import check_one_of, integer_within, is_number, plain, positive_int
from ..utils.files import bundled_file
from .frames import Clip, check_size

FPS = 24.0
SYNTHETIC_KINDS = ("shapes", "texture", "static", "cut", "impulse")

# Colour and grey photographs: one in data/, one inside matplotlib, the others inside scikit-image.
PHOTOS = (
    "astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "colorwheel", "dandelion", "grace_hopper",
    "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "logo", "moon", "motorcycle_left",
    "motorcycle_right", "page", "retina", "rocket", "text",
)  # fmt: skip
HELD_OUT_PHOTOS = ("astronaut", "chelsea", "coffee")  # held out from the training of the bundled weights


def photo(name: str) -> np.ndarray:
    """Return a photograph by its name in PHOTOS: uint8 (H, W, 3), grey ones with three equal channels.

    Licences are given in the docstrings of `skimage.data`; dandelion is CC0 (data/README.md), grace_hopper an official
    portrait of the US Navy, in the public domain.
    """
    check_one_of("photo", name, PHOTOS)
    return _photo(name)


@cache
def _photo(name: str) -> np.ndarray:
    if name == "dandelion":
        image = np.asarray(Image.open(bundled_file("dandelion.jpg")))
    elif name == "grace_hopper":
        from matplotlib.cbook import get_sample_data

        image = np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    else:
        from skimage import data

        if name.startswith("motorcycle"):
            left, right, _ = data.stereo_motorcycle()
            image = left if name.endswith("left") else right
        else:
            image = getattr(data, name)()
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    image = np.ascontiguousarray(image[:, :, :3])
    image.flags.writeable = False  # shared by all callers
    return image


def photo_clip(
    name: str,
    num_frames: int = 51,
    size: Sequence[int] = (128, 128),
    start: Sequence[float] | None = None,
    stop: Sequence[float] | None = None,
    seed: int = 0,
) -> Clip:
    """Make a clip of a camera gliding over a photograph: sub-pixel pan and zoom, anti-aliased, 24 frames per second.

    Args:
        name: one of PHOTOS.
        size: (H, W) of the frames.
        start, stop: the view in the first and the last frame, (x, y, zoom): x and y in [0, 1] from the leftmost and
          topmost to the rightmost and lowest possible place of the view, zoom >= 1 (1 shows as much as fits). The
          camera moves evenly; zoom changes by a constant factor per frame. None: drawn from `seed`.
    """
    positive_int("num_frames", num_frames)
    height, width = check_size(size)
    random = np.random.default_rng(integer_within("seed", seed, 0))
    image = Image.fromarray(photo(name))
    widest = min(image.width / width, image.height / height)  # photo pixels per frame pixel at zoom 1
    views: list[tuple[float, ...]] = []
    for view_name, view in (("start", start), ("stop", stop)):
        drawn = (*random.uniform(0, 1, 2), np.exp(random.uniform(0, np.log(max(widest, 1.5)))))
        view = drawn if view is None else plain(view)
        numbers = isinstance(view, list | tuple) and len(view) == 3 and all(map(is_number, view))
        if not numbers or not (0 <= view[0] <= 1 and 0 <= view[1] <= 1 and 1 <= view[2] < float("inf")):
            raise ValueError(f"{view_name} must be (x, y, zoom) with x, y in [0, 1] and zoom >= 1, got {view!r}")
        x, y, zoom = map(float, view)
        views.append((x, y, np.log(zoom)))
    frames = []
    for x, y, log_zoom in np.linspace(views[0], views[1], num_frames):
        pixel = widest / np.exp(log_zoom)
        left, top = x * (image.width - width * pixel), y * (image.height - height * pixel)
        box = (left, top, min(left + width * pixel, image.width), min(top + height * pixel, image.height))
        frames.append(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
    return Clip(np.stack([np.asarray(frame) for frame in frames]), FPS)


def synthetic_clip(
    kind: str, num_frames: int = 17, size: Sequence[int] = (64, 64), seed: int = 0, at: int | None = None
) -> Clip:
    """Make a clip whose content is known exactly. The same arguments give the same bytes.

    Args:
        kind: "shapes": discs and boxes over a gradient, each with a constant velocity; what leaves on one side returns
            on the other;
          "texture": a smooth texture gliding at a constant sub-pixel velocity; it is periodic, so what leaves on one
            side returns on the other;
          "static": one frame of that texture, repeated bit for bit;
          "cut": two gliding textures; frame `at` is the first of the second;
          "impulse": mid-grey (127), except the middle pixel of frame `at`, which is white (255).
        size: (H, W).
        at: for "cut" and "impulse" only; default num_frames // 2.
    """
    positive_int("num_frames", num_frames)
    height, width = check_size(size)
    check_one_of("kind", kind, SYNTHETIC_KINDS)
    if at is not None and kind not in ("cut", "impulse"):
        raise ValueError(f'at belongs to the kinds "cut" and "impulse", not {kind!r}')
    at = num_frames // 2 if at is None else at
    if not is_number(at, Integral) or not 0 <= at < num_frames:
        raise ValueError(f"at must be a frame of the clip, 0 to {num_frames - 1}, got {at!r}")
    at = int(at)
    random = np.random.default_rng(integer_within("seed", seed, 0))
    match kind:
        case "shapes":
            frames = _shapes(num_frames, height, width, random)
        case "texture":
            frames = _texture(num_frames, height, width, random)
        case "static":
            frames = np.repeat(_texture(1, height, width, random), num_frames, axis=0)
        case "cut":
            before, after = (_texture(num_frames, height, width, random) for _ in range(2))
            frames = np.concatenate([before[:at], after[at:]])
        case "impulse":
            frames = np.full((num_frames, height, width, 3), 127 / 255)
            frames[at, height // 2, width // 2] = 1
    return Clip(np.clip(np.rint(frames * 255), 0, 255).astype(np.uint8), FPS)


def _shapes(num_frames: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    corners = random.uniform(0, 1, (2, 3))
    ramp = ((x / width + y / height) / 2)[:, :, None]
    background = corners[0] * (1 - ramp) + corners[1] * ramp
    frames = np.repeat(background[None], num_frames, axis=0)
    side = min(height, width)
    for number in range(6):
        radius = side * random.uniform(0.08, 0.2)
        place = random.uniform(0, 1, 2) * (height, width)
        velocity = random.uniform(-0.04, 0.04, 2) * side  # pixels per frame, (y, x)
        colour = random.uniform(0, 1, 3)
        for t in range(num_frames):
            dy, dx = (
                (grid - centre + extent / 2) % extent - extent / 2
                for grid, centre, extent in zip((y, x), place + t * velocity, (height, width), strict=True)
            )
            distance = np.hypot(dy, dx) - radius if number % 2 else np.maximum(abs(dy), abs(dx)) - radius
            cover = np.clip(0.5 - distance, 0, 1)[:, :, None]  # anti-aliased over one pixel
            frames[t] = frames[t] * (1 - cover) + colour * cover
    return frames


def _texture(num_frames: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Waves with whole periods across the frame, so exact at any shift; amplitudes differ between colour channels."""
    y, x = np.arange(height) / height, np.arange(width) / width
    velocity = random.uniform(0.3, 1.5, 2) * random.choice([-1, 1], 2)  # pixels per frame, (y, x)
    shifts = np.outer(np.arange(num_frames), velocity / (height, width))  # in periods
    waves = 24
    frequency = random.integers(-6, 7, (waves, 2))
    frequency[(frequency == 0).all(1)] = 1  # a wave without a period would only tint the clip
    amplitude = random.normal(0, 1, (waves, 3)) / np.linalg.norm(frequency, axis=1)[:, None]
    phase = random.uniform(0, 1, waves)
    frames = np.zeros((num_frames, height, width, 3))
    for (fy, fx), a, p in zip(frequency, amplitude, phase, strict=True):
        turns = fy * (y[None, :, None] - shifts[:, 0, None, None]) + fx * (x[None, None, :] - shifts[:, 1, None, None])
        frames += np.cos(2 * np.pi * (turns + p))[..., None] * a
    return 0.5 + 0.5 * np.tanh(0.6 * frames)
