"""What a viewer shows, as JSON: panels of pictures compressed without loss, within a budget of bytes."""

import base64
import io
from bisect import bisect_right
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..figures.frames import latent_pictures
from ..figures.latents import short_numbers
from ..figures.style import COLOURS
from ..shapes import Timeline
from ..utils.checks import positive_int
from ..utils.text import count, ordinal

MAX_PAGE_BYTES = 32_000_000  # of compressed frames in a page
MAX_VIEWER_BYTES = 4_000_000  # of a viewer with everything in it
ROOM = 500_000  # of those, for everything but pictures: the PNG that stands in, the numbers and the script
MAX_SIDE = 16383  # pixels, the most that WebP allows
FEWEST_FRAMES = 8  # frames are left out until so few remain, then they are shrunk


class Curve(NamedTuple):
    """PSNR of every frame in dB, drawn under the panels."""

    name: str
    values: Sequence[float]
    colour: str


class View(NamedTuple):
    """One of the things that a panel can show."""

    name: str  # on the button that chooses it
    title: str  # above the picture
    frames: np.ndarray  # uint8 (T, H, W, 3); in a panel of latents (L, h, w, 3)


def latent_views(values: np.ndarray, prefix: str = "") -> list[View]:
    """Return PCA and every channel of latents (C, L, h, w) as views, whose titles begin with `prefix`."""
    return [
        View(title.partition(" (")[0], prefix + short_numbers(title), frames)
        for title, frames in latent_pictures(values).items()
    ]


class Panel(NamedTuple):
    """One place beside the others; several views get buttons."""

    name: str
    views: Sequence[View]
    latent: bool = False  # its views have a picture for each latent frame, drawn as large as the frames


class Thinning(NamedTuple):
    """The frames of a clip that are kept as pictures: every `stride`-th one, shrunk `shrink` times in both sides."""

    num_frames: int
    stride: int = 1
    shrink: int = 1

    def of(self, frames: np.ndarray) -> list[np.ndarray]:
        """Return the kept ones of frames, uint8 (T, H, W, 3), as small as they are kept."""
        return [np.asarray(Image.fromarray(frame).reduce(self.shrink)) for frame in frames[:: self.stride]]


class PictureBudget:
    """The bytes that all pictures of a page may take. It hands out shares and says what did not fit.

    max_bytes: of the whole page, as its reader limited them. reserved: the part that is not for pictures, at most half.
    """

    def __init__(self, max_bytes: int, reserved: int = 0):
        self.max_bytes = positive_int("max_bytes", max_bytes)
        if self.max_bytes < 2 * reserved:
            raise ValueError(f"max_bytes must be at least {2 * reserved}, got {max_bytes}")
        self.left = self._all = self.max_bytes - reserved

    def share(self, part: float) -> int:
        """Return a part, from 0 to 1, of the bytes that are left."""
        return int(self.left * part)

    def latents(self, views: Sequence[View], room: int) -> tuple[list[dict[str, Any]], list[str]]:
        """Compress views of latents that fit into `room` bytes: (JSON of these views, names of those left out)."""
        shown, left_out = [], []
        for view in views:
            images, size = [], 0
            for frame in view.frames:
                images.append(as_text(webp(frame)))
                size += len(images[-1])
                if size > room:  # the rest of this view need not be compressed
                    left_out.append(view.name)
                    break
            else:
                room, self.left = room - size, self.left - size
                shown.append(view_data(view.name, view.title, images, view.frames.shape[1:3]))
        return shown, left_out

    def frames(self, clips: Sequence[np.ndarray], room: int) -> tuple[list[list[str]], Thinning]:
        """Compress clips of equal length into `room` bytes: (pictures of each clip, what is kept of it).

        Every second (third, ...) frame is kept if all would be more, down to FEWEST_FRAMES, and then they are shrunk.
        Three frames of each clip give a first estimate; the compressed size then decides. Refuses to go below a pixel.
        """
        num_frames, room = len(clips[0]), max(room, 1)
        probe = sorted({0, num_frames // 2, num_frames - 1})
        estimate = sum(len(as_text(webp(clip[t]))) for clip in clips for t in probe) * num_frames / len(probe)
        most = max(1, num_frames // FEWEST_FRAMES)
        stride, shrink = min(most, ceil(estimate / room)), max(1, round(sqrt(estimate / most / room)))
        while True:
            images = [[as_text(webp(frame, shrink)) for frame in clip[::stride]] for clip in clips]
            size = sum(len(image) for strip in images for image in strip)
            if size <= room:
                self.left -= size
                return images, Thinning(num_frames, stride, shrink)
            if stride < most:
                stride += 1
            else:
                shrink = self.shrink_further(shrink, size, room, max(max(clip.shape[1:3]) for clip in clips))

    def clip(self, name: str, frames: np.ndarray, room: int) -> tuple[dict[str, Any], Thinning]:
        """Compress one clip into `room` bytes: (JSON of a view with its stride, what is kept of the clip)."""
        ((images,), thinning) = self.frames([frames], room)
        view = view_data(name, name, images, frames.shape[1:3], thinning.shrink)
        return view | {"stride": thinning.stride}, thinning

    def shrink_further(self, shrink: int, size: int, room: int, largest: int) -> int:
        """Return the next factor to shrink pictures by, whose longest side is `largest`: `size` bytes need `room`.

        Raises ValueError if they are single pixels already.
        """
        if shrink >= largest:
            raise ValueError(f"max_bytes ({self.max_bytes}) must hold at least {size} bytes, one pixel a kept frame")
        return max(shrink + 1, round(shrink * sqrt(size / room)))

    def note(self, thinning: Thinning, left_out: Sequence[str] = ()) -> str:
        """One sentence about the pictures that are missing, empty if none is. left_out: names of views of latents."""
        parts = []
        if thinning.stride > 1:
            parts.append(f"every {ordinal(thinning.stride)} of {thinning.num_frames} frames is kept")
        if thinning.shrink > 1:
            parts.append(f"pictures are shrunk {thinning.shrink} times in height and width (means, not exact pixels)")
        if left_out:
            views = count(len(left_out), "view")
            parts.append(f"{views} of the latents cannot be chosen ({left_out[0]} the first of them)")
        text = " and ".join(parts)
        return f"{text[0].upper()}{text[1:]}, so that all pictures stay under {self._all / 1e6:.3g} MB." if text else ""


def check_sides(name: str, size: Sequence[int], unit: str = "pixels") -> None:
    """Refuse a size (H, W) beyond what WebP allows."""
    if max(size) > MAX_SIDE:
        raise ValueError(f"{name} must be at most {MAX_SIDE} {unit} high and wide, got {tuple(size)}")


def webp(frame: np.ndarray, shrink: int = 1) -> bytes:
    """Encode a frame, uint8 (H, W, 3), as lossless WebP, first downscaled by `shrink`."""
    buffer = io.BytesIO()  # from quality 25 on, libwebp searches 1.6 times as long for less than 1 % of the bytes
    Image.fromarray(frame).reduce(shrink).save(buffer, "WEBP", lossless=True, quality=20, method=2)
    return buffer.getvalue()


def as_text(picture: bytes) -> str:
    """Return bytes as base64, for JSON."""
    return base64.b64encode(picture).decode()


def player_data(
    panels: Sequence[Panel],
    fps: float,
    curves: Sequence[Curve] = (),
    timeline: Timeline | None = None,
    first_frame: int = 0,
    budget: PictureBudget | None = None,
) -> dict[str, Any]:
    """Return the frame player's JSON: panels side by side under one slider, Play and one set of keys.

    Args:
        panels: at least one, all of clips of T frames; kept without loss (WebP).
        curves: T values each, with the current frame marked; infinite ones are left out of the plot.
        timeline: which frames each latent frame stands for and where chunks begin; both are marked in the plot.
        first_frame: number of the first frame in its file, where frames are counted from.
        budget: frames are left out or shrunk to stay within it; latents may take half of it, and further views are left
          out. The player says so. None: MAX_PAGE_BYTES.
    """
    clips = [view.frames for panel in panels if not panel.latent for view in panel.views]
    budget = budget or PictureBudget(MAX_PAGE_BYTES)
    for_frames, left_out, latents = budget.left - budget.share(1 / 2), [], []
    for panel in panels:
        if panel.latent:
            kept, names = budget.latents(panel.views, budget.left - for_frames)
            latents.append(kept)
            left_out += names
    images, thinning = budget.frames(clips, budget.left)
    of_latents, pictures, data = iter(latents), iter(images), []
    for panel in panels:
        if panel.latent:
            views = next(of_latents)
        else:
            views = [
                view_data(name, title, next(pictures), frames.shape[1:3], thinning.shrink)
                for name, title, frames in panel.views
            ]
        if views:
            data.append({"name": panel.name, "latent": panel.latent, "views": views})
    note = budget.note(thinning, left_out)
    return assemble(data, len(clips[0]), thinning.stride, note, fps, curves, timeline, first_frame)


def view_data(name: str, title: str, images: Any, size: Sequence[int], shrink: int = 1) -> dict[str, Any]:
    """Return the JSON of a panel's view. images: compressed pictures of frames of `size` (H, W), shrunk by `shrink`."""
    height, width = (-(-side // shrink) for side in size)
    return {"name": name, "title": title, "images": images, "height": height, "width": width}


def assemble(
    panels: Sequence[dict[str, Any]],
    num_frames: int,
    stride: int,
    note: str,
    fps: float,
    curves: Sequence[Curve] = (),
    timeline: Timeline | None = None,
    first_frame: int = 0,
) -> dict[str, Any]:
    """Return `player_data` of compressed pictures, of every `stride`-th of num_frames frames."""
    groups, chunk_starts = (timeline.groups, timeline.chunk_starts) if timeline else ([], [0])
    latent_of = {t: index for index, group in enumerate(groups) for t in group}
    return {
        "kind": "player",
        "fps": float(fps) / stride,
        "note": note,
        "frames": [
            {
                "t": int(first_frame) + t,
                "latent": latent_of.get(t),
                "chunk": bisect_right(chunk_starts, t) - 1,
                "values": [round(float(c.values[t]), 4) if np.isfinite(c.values[t]) else None for c in curves],
            }
            for t in range(0, num_frames, stride)
        ],
        "panels": list(panels),
        "curves": [{"name": c.name, "colour": c.colour} for c in curves],
        "latentColour": COLOURS["latent"],
    }
