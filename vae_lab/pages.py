"""A self-contained HTML page with a frame player: arrays in, text out. It opens offline and shows exact pixels."""

import base64
import html
import io
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from PIL import Image

from .figures import COLOURS
from .video import check_frames

MAX_RAW_BYTES = 48_000_000  # of pixels before compression; about half of it ends up in the page


class Curve(NamedTuple):
    """A number for every frame, drawn under the panels."""

    name: str
    values: Sequence[float]
    colour: str
    unit: str = "dB"


def frame_player(
    panels: Mapping[str, np.ndarray],
    title: str,
    fps: float,
    curves: Sequence[Curve] = (),
    groups: Sequence[range] = (),
    chunk_starts: Sequence[int] = (),
    facts: Mapping[str, str] | None = None,
    first_frame: int = 0,
    max_raw_bytes: int = MAX_RAW_BYTES,
) -> str:
    """A page with clips side by side and one slider, Play and set of keys (← → PageUp PageDown Home End space) for all.

    Args:
        panels: title -> frames uint8 (T, H, W, 3), all with the same T; kept without loss (WebP).
        fps: speed of Play.
        curves: plotted over t with the current frame marked; infinite values are left out of the plot.
        groups: the frames (counted from 0 in the clip) that each latent frame stands for.
        chunk_starts: frames (likewise) at which a chunk that is encoded alone begins; marked in the plot.
        facts: name -> text, a table under the player.
        first_frame: number of the first frame in its file, where frames are counted from.
        max_raw_bytes: where the pixels would be more, only every second (third, …) frame is kept, and the page says so.
    """
    clips = list(panels.values())
    if not clips:
        raise ValueError("panels must hold at least one clip")
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps must be above 0, got {fps}")
    for frames in clips:
        check_frames(frames)
        if len(frames) != len(clips[0]):
            raise ValueError(f"panels must have the same number of frames, got {len(frames)} and {len(clips[0])}")
    num_frames = len(clips[0])
    for curve in curves:
        if len(curve.values) != num_frames:
            raise ValueError(f"curve {curve.name!r} must have a value for each of {num_frames} frames")
    stride = max(1, -(-sum(frames.nbytes for frames in clips) // max_raw_bytes))
    kept = range(0, num_frames, stride)
    latent_of = {t: index for index, group in enumerate(groups) for t in group}
    data = {
        "fps": fps / stride,
        "frames": [
            {
                "t": first_frame + t,
                "latent": latent_of.get(t),
                "chunk": bisect_right(chunk_starts, t) - 1,
                "values": [_finite(curve.values[t]) for curve in curves],
            }
            for t in kept
        ],
        "panels": [
            {"title": name, "height": height, "width": width, "images": [_webp(frames[t]) for t in kept]}
            for name, frames in panels.items()
            for height, width in [frames.shape[1:3]]
        ],
        "curves": [{"name": c.name, "colour": c.colour, "unit": c.unit} for c in curves],
        "latentColour": COLOURS["latent"],
    }  # fmt: skip
    note = ""
    if stride > 1:
        note = f"Every {stride}{_ordinal(stride)} of {num_frames} frames is kept here, so that the page stays small."
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in (facts or {}).items()
    )
    assets = files("vae_lab") / "assets"
    parts = {
        "title": html.escape(title),
        "note": html.escape(note),
        "facts": f"<table class='facts'>{rows}</table>" if rows else "",
        "style": (assets / "player.css").read_text("utf-8"),
        "script": (assets / "player.js").read_text("utf-8"),
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # nothing in it can end the script
    }
    template = (assets / "player.html").read_text("utf-8")
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], template)  # one pass: what is filled in stays as it is


def _webp(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", lossless=True, quality=50, method=2)
    return base64.b64encode(buffer.getvalue()).decode()


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _ordinal(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number // 10 % 10 != 1 else 0, "th")
