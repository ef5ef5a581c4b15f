"""Read from the pixels of a clip what it shows, so that the quality of generated clips is a number."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..utils.checks import check_one_of
from ..utils.tables import DataFrame, table_of
from ..utils.text import count
from ..video.frames import check_frames
from .prompted_clips import AREA
from .prompts import COLOURS, DIRECTIONS, SPEEDS, Prompt, prompts_of

LEAST_SATURATION = 0.2  # of an object, in [0, 1]; a grey one is not seen
SMALLEST, LARGEST = 0.1 * AREA, 3 * AREA  # pixels of an object; smaller spots are specks, larger ones a background
IN_PLANE = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # neighbours (T, H, W) of one object
EDGE = 2  # pixels that a VAE may smooth an edge over
AGREEMENT = 0.9  # share of frames that must show the same colour, or the same shape
SLOWEST = 0.25  # pixels per frame; what is slower stands still
LARGEST_ANGLE = 22.5  # degrees between the motion and its direction; half-way to the diagonal
STRAIGHTNESS = 0.8  # least R2 of a line through the centres
ELONGATION = 1.8  # between that of a disc, 1, and of a bar, 3.4; their geometric mean, rounded
SPEED_TOLERANCE = 0.25  # of one clip's speed; the two speeds differ by a factor of 2


class Reading(NamedTuple):
    """What a clip shows. None: frames do not agree, or nothing known is seen."""

    colour: str | None
    shape: str | None
    direction: str | None
    speed: float
    """Pixels per frame along a straight line through the centres; 0 if fewer than two frames show an object."""
    straightness: float
    """R2 of that line: the share of the centres' variance that it explains."""
    objects: tuple[int, ...]
    """Number of objects in each frame, specks left out."""

    @property
    def one_object(self) -> bool:
        """Whether every frame has exactly one object."""
        return set(self.objects) == {1}

    def describe(self) -> str:
        """Say in a line what is seen: "red disc, left, 1.98 pixels per frame, one object in every frame"."""
        what = f"{self.colour or 'no constant colour'} {self.shape or 'of no constant shape'}"
        where = f"{self.direction or 'no clear direction'}, {self.speed:.2f} pixels per frame"
        wrong = sum(number != 1 for number in self.objects)
        objects = f"not exactly one object in {wrong} of {count(len(self.objects), 'frame')}"
        return f"{what}, {where}, {'one object in every frame' if self.one_object else objects}"


class Scores(NamedTuple):
    """How many of several clips show what their prompts say."""

    prompts: tuple[Prompt, ...]
    readings: tuple[Reading, ...]

    def right(self, kind: str) -> list[bool]:
        """Say for each clip whether its "colour", "shape", "direction", "speed" or "one object" is right."""
        check_one_of("kind", kind, KINDS)
        pairs = zip(self.prompts, self.readings, strict=True)
        if kind == "speed":
            return [abs(reading.speed / SPEEDS[prompt.speed] - 1) <= SPEED_TOLERANCE for prompt, reading in pairs]
        if kind == "one object":
            return [reading.one_object for reading in self.readings]
        return [getattr(prompt, kind) == getattr(reading, kind) for prompt, reading in pairs]

    def share(self, kind: str) -> float:
        """Return the share of clips in which a kind is right."""
        return float(np.mean(self.right(kind)))

    @property
    def relative_speed(self) -> float:
        """The mean of each clip's speed divided by the asked one; 1 is right."""
        pairs = zip(self.prompts, self.readings, strict=True)
        return float(np.mean([reading.speed / SPEEDS[prompt.speed] for prompt, reading in pairs]))

    def table(self) -> DataFrame:
        """Return a row for each clip: its prompt, what it shows, and whether each of these is right."""
        names = ("colour", "shape", "direction", "speed", "straightness")
        columns: dict[str, list] = {"prompt": list(map(str, self.prompts))}
        columns |= {name: [getattr(reading, name) for reading in self.readings] for name in names}
        columns |= {f"{kind} right": self.right(kind) for kind in KINDS}
        return table_of(columns, "clip")

    def __repr__(self) -> str:
        shares = ", ".join(f"{kind} {self.share(kind):.0%}" for kind in KINDS)
        return f"<{len(self.prompts)} clips; right: {shares}; speed {self.relative_speed:.3f} of the asked>"


KINDS = ("colour", "shape", "direction", "speed", "one object")


def read_clip(frames: np.ndarray) -> Reading:
    """Read colour, shape, direction, speed and number of objects from a clip, uint8 (T, H, W, 3).

    An object is what is more saturated than half of the clip's most saturated pixels. In each frame the largest one
    gives the colour (the nearest in direction from grey), the shape (how much higher than wide it is) and the centre. A
    line through the centres, fitted by least squares, gives direction and speed.
    """
    check_frames(frames)
    pixels = frames / 255.0
    saturation = pixels.max(-1) - pixels.min(-1)
    limit = max(LEAST_SATURATION, np.quantile(saturation, 0.99)) / 2
    labels, number = ndimage.label(saturation > limit, IN_PLANE)
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    areas[0] = 0
    valid = (areas >= SMALLEST) & (areas <= LARGEST)
    colours, shapes, objects, times, centres = Counter[str](), Counter[str](), [], [], []
    for t, places in enumerate(labels):
        here = np.unique(places)
        here = here[valid[here]]
        objects.append(len(here))
        if not len(here):
            continue
        mask = places == here[areas[here].argmax()]
        times.append(t)
        y, x = np.nonzero(mask)
        centres.append((x.mean(), y.mean()))
        colours[_colour(pixels[t][mask].mean(0))] += 1
        shapes["bar" if elongation(saturation[t], mask) > ELONGATION else "disc"] += 1
    velocity, straightness = _line(np.array(times), np.array(centres))
    speed = float(np.hypot(*velocity))
    return Reading(
        colour=_agreed(colours, len(frames)),
        shape=_agreed(shapes, len(frames)),
        direction=_direction(velocity) if speed >= SLOWEST and straightness >= STRAIGHTNESS else None,
        speed=speed,
        straightness=straightness,
        objects=tuple(objects),
    )


def score(prompts: Sequence[Prompt | str], clips: Sequence[np.ndarray]) -> Scores:
    """Read each clip, uint8 (T, H, W, 3), and compare it with its prompt."""
    parsed = tuple(prompts_of(prompts))
    if len(parsed) != len(clips):
        raise ValueError(f"prompts and clips must be as many, got {len(parsed)} and {len(clips)}")
    return Scores(parsed, tuple(map(read_clip, clips)))


def _agreed(counts: Counter[str], num_frames: int) -> str | None:
    return next((word for word, number in counts.items() if number >= AGREEMENT * num_frames), None)


def _colour(mean: np.ndarray) -> str:
    """The colour whose direction from the grey of equal brightness is nearest."""

    def direction(rgb: np.ndarray) -> np.ndarray:
        hue = rgb - rgb.mean()
        return hue / np.linalg.norm(hue)

    return max(COLOURS, key=lambda name: direction(mean) @ direction(np.array(COLOURS[name])))


def elongation(saturation: np.ndarray, mask: np.ndarray) -> float:
    """Return the variance along height divided by that along width: 1 for a disc, (12 / 6.5)^2 = 3.4 for a bar.

    Pixels are those of the mask and its soft edge, weighted by saturation (H, W).
    """
    places = np.stack(np.nonzero(ndimage.binary_dilation(mask, np.ones((3, 3)), EDGE)))
    weights = saturation[tuple(places)] / saturation[tuple(places)].sum()
    height, width = (places - (places @ weights)[:, None]) ** 2 @ weights
    return float(height / width) if width else np.inf


def _line(times: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a line through centres (N, 2): the velocity (x, y), and the share of their variance that it explains."""
    if len(times) < 2:
        return np.zeros(2), 0.0
    t, place = times - times.mean(), centres - centres.mean(0)
    velocity = t @ place / (t @ t)
    rest = place - t[:, None] * velocity
    total = (place**2).sum()
    return velocity, float(1 - (rest**2).sum() / total) if total else 0.0


def _direction(velocity: np.ndarray) -> str | None:
    name = max(DIRECTIONS, key=lambda name: velocity @ np.array(DIRECTIONS[name]))
    along = velocity @ np.array(DIRECTIONS[name]) / np.hypot(*velocity)
    return name if along >= np.cos(np.radians(LARGEST_ANGLE)) else None
