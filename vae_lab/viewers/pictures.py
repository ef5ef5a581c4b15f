"""What a viewer shows, as JSON: panels of pictures compressed without loss, within a budget of bytes."""

import base64
import io
from bisect import bisect_right
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..figures.style import COLOURS
from ..utils.checks import positive_int
from ..utils.text import count, ordinal
from ..video.frames import check_frames

MAX_PAGE_BYTES = 32_000_000  # of compressed frames in a page
MAX_VIEWER_BYTES = 4_000_000  # of a viewer with everything in it
ROOM = 500_000  # of those, for what is not frames: the picture, the numbers and the script
MAX_SIDE = 16383  # pixels, the largest of WebP
FEWEST_FRAMES = 8  # before frames are shrunk, they are left out, down to so many


class Curve(NamedTuple):
    """A number for every frame, drawn under the panels."""

    name: str
    values: Sequence[float]
    colour: str
    unit: str = "dB"


class View(NamedTuple):
    """What a panel can show."""

    name: str
    """On the button that chooses it."""
    title: str
    """Above the picture."""
    frames: np.ndarray
    """uint8 (T, H, W, 3); in a panel of latents (L, h, w, 3)."""


class Panel(NamedTuple):
    """One place beside the others; it has buttons where it has several views."""

    name: str
    views: Sequence[View]
    latent: bool = False
    """Its views have a picture for each latent frame, drawn as large as the frames."""


def player_data(
    panels: Sequence[Panel],
    fps: float,
    curves: Sequence[Curve] = (),
    groups: Sequence[range] = (),
    chunk_starts: Sequence[int] = (),
    first_frame: int = 0,
    max_bytes: int = MAX_PAGE_BYTES,
) -> dict[str, Any]:
    """What the frame player shows, as JSON: panels side by side and one slider, Play and set of keys for all of them.

    Args:
        panels: at least one, all of frames with the same T; kept without loss (WebP).
        fps: speed of Play.
        curves: plotted over t with the current frame marked; infinite values are left out of the plot.
        groups: the frames (counted from 0 in the clip) that each latent frame stands for.
        chunk_starts: frames (likewise) at which a chunk that is encoded alone begins; marked in the plot.
        first_frame: number of the first frame in its file, where frames are counted from.
        max_bytes: where the compressed pictures would be more, only every second (third, …) frame is kept, and where
          FEWEST_FRAMES would still be more, they are shrunk; latents may take half, and views beyond are left out. The
          player says so.
    """
    clips = [view.frames for panel in panels if not panel.latent for view in panel.views]
    if not clips:
        raise ValueError("panels must hold at least one clip")
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps must be above 0, got {fps}")
    for frames in clips:
        check_frames(frames)
        if len(frames) != len(clips[0]):
            raise ValueError(f"panels must have the same number of frames, got {len(frames)} and {len(clips[0])}")
    num_frames = len(clips[0])
    for panel in panels:
        if panel.latent and any(len(view.frames) != len(groups) for view in panel.views):
            raise ValueError(f"panel {panel.name!r} must have a picture for each of {len(groups)} latent frames")
    for curve in curves:
        if len(curve.values) != num_frames:
            raise ValueError(f"curve {curve.name!r} must have a value for each of {num_frames} frames")
        if np.isnan(np.asarray(curve.values, float)).any():
            raise ValueError(f"curve {curve.name!r} must hold numbers, got NaN")
    for view in (view for panel in panels for view in panel.views):
        if max(view.frames.shape[1:3]) > MAX_SIDE:
            raise ValueError(
                f"{view.title!r} must be at most {MAX_SIDE} pixels high and wide, got {view.frames.shape[1:3]}"
            )
    panels, left_out, images, stride, shrink = fit_pictures(panels, num_frames, positive_int("max_bytes", max_bytes))
    shown = [
        {
            "name": panel.name,
            "latent": panel.latent,
            "views": [
                view_data(view.name, view.title, strip, view.frames.shape[1:3], 1 if panel.latent else shrink)
                for view, strip in zip(panel.views, strips, strict=True)
            ],
        }
        for panel, strips in zip(panels, images, strict=True)
    ]
    note = thinning_note(num_frames, stride, shrink, max_bytes, left_out)
    return assemble(shown, num_frames, stride, note, fps, curves, groups, chunk_starts, first_frame)


def view_data(name: str, title: str, images: Any, size: Sequence[int], shrink: int = 1) -> dict[str, Any]:
    """A view of a panel, as JSON. images: compressed pictures of frames of `size` (H, W), shrunk so many times."""
    height, width = (-(-side // shrink) for side in size)
    return {"name": name, "title": title, "images": images, "height": height, "width": width}


def assemble(
    panels: Sequence[dict[str, Any]],
    num_frames: int,
    stride: int,
    note: str,
    fps: float,
    curves: Sequence[Curve] = (),
    groups: Sequence[range] = (),
    chunk_starts: Sequence[int] = (),
    first_frame: int = 0,
) -> dict[str, Any]:
    """`player_data` of compressed pictures, of every `stride`-th of num_frames frames."""
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
                "values": [_finite(curve.values[t]) for curve in curves],
            }
            for t in range(0, num_frames, stride)
        ],
        "panels": list(panels),
        "curves": [{"name": c.name, "colour": c.colour, "unit": c.unit} for c in curves],
        "latentColour": COLOURS["latent"],
    }


def fit_pictures(panels: Sequence[Panel], num_frames: int, max_bytes: int):
    """(panels, names of latent views left out, compressed pictures by panel and view, keep every so many-th frame,
    shrink so many times): what stays under max_bytes.

    Latents may take half of it. Then three frames of each view say about how much is too much; what was compressed
    says whether it still is.
    """
    panels, left_out, strips, latent_bytes = fit_latents(panels, max_bytes // 2)
    room = max_bytes - latent_bytes
    probe = sorted({0, num_frames // 2, num_frames - 1})
    views = [view for panel in panels if not panel.latent for view in panel.views]
    estimate = sum(len(_webp(view.frames[t])) for view in views for t in probe) * num_frames / len(probe)
    most = max(1, num_frames // FEWEST_FRAMES)
    stride, shrink = min(most, ceil(estimate / room)) or 1, 1
    if estimate / most > room:
        shrink = max(1, round(sqrt(estimate / most / room)))
    largest = max(max(view.frames.shape[1:3]) for view in views)
    while True:
        images = [strips.get(id(panel)) or _strips(panel, stride, shrink) for panel in panels]
        size = sum(len(image) for panel in images for strip in panel for image in strip)
        if size <= max_bytes:
            return panels, left_out, images, stride, shrink
        if stride < most:
            stride += 1
        elif shrink < largest:
            shrink = max(shrink + 1, round(shrink * sqrt(size / max_bytes)))
        else:
            raise ValueError(f"max_bytes ({max_bytes}) must hold at least {size} bytes, one pixel of every frame kept")


def fit_latents(panels: Sequence[Panel], room: int):
    """(panels, names of latent views left out, compressed pictures by id of panel, their bytes): latents that fit in
    `room` bytes, in the order of their views; panels of frames stay.
    """
    kept, left_out, strips, used = [], [], {}, 0
    for panel in panels:
        if panel.latent:
            fitting = []
            for view in panel.views:
                images, size = [], 0
                for frame in view.frames:
                    images.append(_webp(frame))
                    size += len(images[-1])
                    if used + size > room:  # the rest of it need not be compressed
                        left_out.append(view.name)
                        break
                else:
                    used += size
                    fitting.append((view, images))
            panel = panel._replace(views=[view for view, _ in fitting])
            strips[id(panel)] = [images for _, images in fitting]
        if panel.views:
            kept.append(panel)
    return kept, left_out, strips, used


def _strips(panel: Panel, stride: int, shrink: int) -> list[list[str]]:
    return [[_webp(frame, shrink) for frame in view.frames[::stride]] for view in panel.views]


def thinning_note(num_frames: int, stride: int, shrink: int, max_bytes: int, left_out: Sequence[str] = ()) -> str:
    """What a player says of pictures that it does not have, "" where it has all."""
    parts = []
    if stride > 1:
        parts.append(f"every {ordinal(stride)} of {num_frames} frames is kept")
    if shrink > 1:
        parts.append(f"pictures are shrunk {shrink} times in height and width (means, not exact pixels)")
    if left_out:
        parts.append(
            f"{count(len(left_out), 'view')} of the latents cannot be chosen ({left_out[0]} the first of them)"
        )
    if not parts:
        return ""
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]}, so that all pictures stay under {max_bytes / 1e6:.3g} MB."


def webp(frame: np.ndarray, shrink: int = 1) -> bytes:
    """A frame uint8 (H, W, 3) compressed without loss, but for shrinking it so many times."""
    buffer = io.BytesIO()
    image = Image.fromarray(frame)
    if shrink > 1:
        image = image.reduce(shrink)
    image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    return buffer.getvalue()


def _webp(frame: np.ndarray, shrink: int = 1) -> str:
    return base64.b64encode(webp(frame, shrink)).decode()


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
