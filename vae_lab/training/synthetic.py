"""Endless synthetic clips to train on: photographs, drawn pictures and waves, still or moving, strongly augmented.

Everything is drawn from the generator that is passed in: the same generator state gives the same bytes.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from ..utils.checks import positive_int
from ..video.clips import HELD_OUT_PHOTOS, PHOTOS, photo

TRAIN_PHOTOS = tuple(name for name in PHOTOS if name not in HELD_OUT_PHOTOS)
# Photographs of the everyday world are few among them, and drawn more often than a retina or a page of text.
EVERYDAY_PHOTOS = ("dandelion", "grace_hopper", "rocket", "motorcycle_left", "motorcycle_right")
EVERYDAY_SHARE = 0.5
SUPERSAMPLING = 3  # drawn pictures are made this much larger and averaged down: their edges are anti-aliased


def random_clip(random: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    """Draw a moving clip of photographs, drawn pictures or both, in changed colours: uint8 (num_frames, size, size, 3).

    Half are a photograph under a moving camera, a quarter drawn shapes and letters that move by themselves, a tenth
    smooth waves, the rest two photographs or drawings blended, one behind a moving mask of the other, faded or cut from
    one to the other. An image is a clip of one frame. The photographs in `clips.HELD_OUT_PHOTOS` are never used.
    """
    positive_int("num_frames", num_frames)
    positive_int("size", size)
    kind = random.random()
    layer = _photo_layer if kind < 0.5 else _waves_layer if kind < 0.6 else _drawn_layer if kind < 0.85 else _mixed
    clip = _change_colours(random, layer(random, num_frames, size))
    return np.rint(np.clip(clip, 0, 1) * 255).astype(np.uint8)


def _path(random: np.random.Generator, num_frames: int) -> np.ndarray:
    """Return the place (x, y) in each frame relative to frame 0, in pixels: (num_frames, 2). A quarter stand still."""
    if random.random() < 0.25:
        return np.zeros((num_frames, 2))
    velocity = random.normal(0, 1, 2) * np.exp(random.normal(0.4, 0.9))  # pixels per frame
    swing = random.normal(0, 1, 2) * np.exp(random.normal(-0.5, 1))  # pixels
    turn, phase = random.uniform(0.1, 0.8), random.uniform(0, 2 * np.pi)  # radians per frame, radians
    t = np.arange(num_frames)[:, None]
    return t * velocity + swing * (np.sin(turn * t + phase) - np.sin(phase))


def _photo_layer(random: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    """Move a camera over a photograph, 0.7 to 5 photo pixels per pixel; it stops at the edges of the photograph."""
    name = str(random.choice(EVERYDAY_PHOTOS if random.random() < EVERYDAY_SHARE else TRAIN_PHOTOS))
    image = Image.fromarray(photo(name))
    longest = min(image.width, image.height)
    side = min(size * np.exp(random.uniform(np.log(0.7), np.log(5))), longest)
    zoom = np.exp(random.normal(0, 0.02) if random.random() < 0.5 else 0.0)  # per frame
    sides = np.minimum(side * zoom ** np.arange(num_frames), longest)
    room = np.array([image.width, image.height]) - sides[:, None]
    corners = np.clip(random.uniform(0, 1, 2) * room[0] + _path(random, num_frames) * side / size, 0, room)
    frames = [
        image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + s, y + s))
        for (x, y), s in zip(corners, sides, strict=True)
    ]
    clip = np.stack([np.asarray(frame) for frame in frames]) / 255.0
    if (clip[0] == clip[0, :, :, :1]).all() and random.random() < 0.6:  # grey: from black and white to two colours
        dark, bright = random.uniform(0, 1, (2, 3))
        clip = dark * (1 - clip) + bright * clip
    return clip


def _drawn_layer(random: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    """Draw flat shapes and letters of many sizes over one another, often saturated, on common or separate paths.

    Sizes fall as in "dead leaves" images, whose statistics are close to those of natural ones (Lee, Mumford and Huang
    2001, "Occlusion models for natural images").
    """
    side = size * SUPERSAMPLING
    colours = random.uniform(0, 1, (int(random.integers(2, 9)), 3))
    if random.random() < 0.6:  # saturated: most channels near their ends
        colours = np.where(random.random(colours.shape) < 0.6, np.round(colours) * 0.9 + colours * 0.1, colours)
    palette = [(int(red), int(green), int(blue)) for red, green, blue in colours * 255]
    outline = (0, 0, 0) if random.random() < 0.3 else None
    smallest, largest = side * np.exp(random.uniform(np.log(0.02), np.log(0.1))), side * 0.6
    count = int(np.exp(random.uniform(np.log(3), np.log(50))))
    # radius with density ~ radius**-3 between the two bounds, the large ones first, so that small ones stay visible
    radii = np.sort(1 / np.sqrt(random.uniform(largest**-2, smallest**-2, count)))[::-1]
    shapes = [_shape(random, radius, palette, outline) for radius in radii]
    places = random.uniform(0, side, (count, 2))
    together = _path(random, num_frames)
    paths = [(together if random.random() < 0.5 else _path(random, num_frames)) * SUPERSAMPLING for _ in shapes]
    frames = []
    for t in range(num_frames):
        image = Image.new("RGB", (side, side), palette[0])
        draw = ImageDraw.Draw(image)
        for shape, place, path in zip(shapes, places, paths, strict=True):
            shape(draw, place + path[t])
        frames.append(np.asarray(image.reduce(SUPERSAMPLING)))
    clip = np.stack(frames) / 255.0
    if random.random() < 0.5:  # light from one side
        ramp = np.linspace(-0.5, 0.5, size)
        for slope in (ramp[:, None, None], ramp[None, :, None]):
            clip = clip + random.uniform(-0.5, 0.5, 3) * slope
    return clip


def _shape(random: np.random.Generator, radius: float, palette, outline) -> Callable:
    """Return a function that draws one shape on an ImageDraw at a place (x, y)."""
    fill = palette[int(random.integers(len(palette)))]
    width = max(1, int(radius * random.uniform(0.03, 0.15)))
    kind = random.random()
    if kind < 0.35:
        axes = radius * np.array([1, random.uniform(0.4, 1)])
        return lambda draw, place: draw.ellipse([*(place - axes), *(place + axes)], fill, outline, width)
    if kind < 0.75:
        angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 7))))
        corners = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return lambda draw, place: draw.polygon([tuple(c) for c in corners + place], fill, outline, width)
    if kind < 0.9:
        angle = random.uniform(0, 2 * np.pi)
        end = 2 * radius * np.array([np.cos(angle), np.sin(angle)])
        return lambda draw, place: draw.line([*(place - end), *(place + end)], fill, 2 * width)
    letters = "".join(chr(code) for code in random.integers(ord("!"), ord("z"), int(random.integers(1, 8))))
    return lambda draw, place: draw.text(tuple(place), letters, fill, font_size=max(8, radius))


def _waves_layer(random: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    """Draw coloured waves that glide together, the long ones the strongest: content that is easy to compress."""
    y, x = np.mgrid[:size, :size]
    count = int(random.integers(1, 16))
    longest = size * np.exp(random.uniform(np.log(0.5), np.log(4)))
    lengths = np.exp(random.uniform(np.log(8), np.log(longest), count))  # pixels
    angles, phases = random.uniform(0, 2 * np.pi, (2, count))
    colours = random.normal(0, 1, (count, 3)) * (lengths / longest)[:, None]
    clip = np.zeros((num_frames, size, size, 3))
    for t, (dx, dy) in enumerate(_path(random, num_frames)):
        for length, angle, phase, colour in zip(lengths, angles, phases, colours, strict=True):
            place = (x - dx) * np.cos(angle) + (y - dy) * np.sin(angle)
            clip[t] += np.cos(2 * np.pi * place / length + phase)[..., None] * colour
    return 0.5 + 0.5 * np.tanh(clip)


def _mixed(random: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    a, b = ((_photo_layer if random.random() < 0.6 else _drawn_layer)(random, num_frames, size) for _ in range(2))
    kind = random.random()
    if kind < 0.4:
        mask = np.array(random.uniform(0, 1))
    elif kind < 0.8:
        mask = (_drawn_layer(random, num_frames, size)[..., :1] > 0.5).astype(float)
    elif kind < 0.9:  # a fade
        start, stop = random.uniform(0, 1, 2)
        mask = np.linspace(start, stop, num_frames)[:, None, None, None]
    else:  # a cut
        mask = (np.arange(num_frames) < random.integers(num_frames + 1)).astype(float)[:, None, None, None]
    return a * mask + b * (1 - mask)


def _change_colours(random: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    """Change the order of the channels, saturation, contrast, brightness and tint, and flip: the whole clip alike."""
    if random.random() < 0.4:
        clip = clip[..., random.permutation(3)]
    if random.random() < 0.1:
        clip = 1 - clip
    if random.random() < 0.5:
        grey = clip.mean(-1, keepdims=True)
        clip = grey + (clip - grey) * random.uniform(0.3, 2.5)
    if random.random() < 0.5:
        clip = 0.5 + (clip - 0.5) * np.exp(random.uniform(-0.7, 0.5)) + random.uniform(-0.2, 0.2)
    if random.random() < 0.2:
        clip = clip + random.uniform(-0.15, 0.15, 3)
    if random.random() < 0.15:  # exposure that changes over the clip
        clip = clip * np.linspace(1, np.exp(random.normal(0, 0.25)), len(clip))[:, None, None, None]
    if random.random() < 0.5:
        clip = clip[:, :, ::-1]
    if random.random() < 0.3:
        clip = clip[:, ::-1]
    if random.random() < 0.3:
        clip = clip.transpose(0, 2, 1, 3)
    return clip
