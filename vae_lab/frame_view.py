"""What the frame viewer shows: clips and latents in, its data, a text and a figure out; no widget is made."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, cycle
from typing import Any

import numpy as np
from torch import Tensor

from . import pages
from .figures import COLOURS, OTHER_COLOURS, contact_sheet, error_map, latent_pictures
from .metrics import psnr
from .pages import ROOM, Curve, Panel, View
from .shapes import chunk_lengths, count, frame_groups, positive_int
from .video import Clip, check_frames, to_frames, to_tensor

NAMED_COLOURS = {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}
DATA_RANGE = 2.0  # of pixels in [-1, 1]


def frame_view(
    videos: Mapping[str, Tensor | np.ndarray | Clip],
    latent: Tensor | None,
    *,
    temporal_ratio: int,
    micro_frame_size: int | None,
    gain: float,
    fps: float,
    first_frame: int,
    max_bytes: int,
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """(data, text, figure) of `viewers.compare_frames`, whose arguments these are; figure is called to be drawn."""
    if not videos:
        raise ValueError("videos must hold at least one clip")
    clips = {name: clip_frames(name, video) for name, video in videos.items()}
    (reference, original), *others = clips.items()
    for name, frames in others:
        if frames.shape != original.shape:
            raise ValueError(
                f"videos must have the same shape, got {reference!r} {original.shape} and {name!r} {frames.shape}"
            )
    if not 0 < gain < float("inf"):
        raise ValueError(f"gain must be above 0 and finite, got {gain}")
    if positive_int("max_bytes", max_bytes) < 2 * ROOM:
        raise ValueError(f"max_bytes must be at least {2 * ROOM}, got {max_bytes}")
    num_frames, height, width, _ = original.shape
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size) if latent is not None else []
    starts = [0, *accumulate(chunk_lengths(num_frames, micro_frame_size))][:-1] if latent is not None else []
    quality = {
        name: psnr(_pixels(videos[reference]), _pixels(videos[name]), DATA_RANGE)[0].numpy() for name, _ in others
    }
    differences = [
        View(name, f"difference ×{gain:g}: {name}", error_map(original, frames, gain))
        for name, frames in reversed(others)
    ]
    panels = [Panel(name, [View(name, name, frames)]) for name, frames in clips.items()]
    if differences:
        panels.append(Panel(f"difference ×{gain:g}", differences))
    if latent is not None:
        panels.append(_latent_panel(latent, len(groups), num_frames))
    others_colours = cycle(OTHER_COLOURS)
    curves = [Curve(name, values, NAMED_COLOURS.get(name) or next(others_colours)) for name, values in quality.items()]
    data = pages.player_data(panels, fps, curves, groups, starts, first_frame, max_bytes - ROOM)
    text = f"Frame viewer: {count(num_frames, 'frame')} of {height}x{width} (height x width), panels "
    text += ", ".join(panel.name for panel in panels)
    if quality:
        means = ", ".join(f"{name} {values.mean():.2f} dB" for name, values in quality.items())
        text += f"; mean PSNR against {reference}: {means}"
    return data, text, lambda: _sheet(panels, groups, quality, first_frame)


def clip_frames(name: str, video: Tensor | np.ndarray | Clip) -> np.ndarray:
    if not isinstance(name, str):
        raise ValueError(f"titles must be text, got {name!r}")
    if isinstance(video, Tensor):
        return to_frames(video)
    frames = video.frames if isinstance(video, Clip) else video
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"{name!r} must be a tensor, frames uint8 (T, H, W, 3) or a Clip, got {type(video).__name__}")
    check_frames(frames)
    return np.ascontiguousarray(frames)


def _pixels(video: Tensor | np.ndarray | Clip) -> Tensor:
    if isinstance(video, Tensor):
        return video.detach().float().cpu().clamp(-1, 1)
    return to_tensor(video.frames if isinstance(video, Clip) else video)


def _latent_panel(latent: Tensor, num_groups: int, num_frames: int) -> Panel:
    if not isinstance(latent, Tensor) or latent.ndim != 5 or len(latent) != 1:
        got = tuple(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
        raise ValueError(f"latent must be a tensor of one clip, (1, C, L, h, w), got {got}")
    if latent.shape[2] != num_groups:
        raise ValueError(
            f"latent has {latent.shape[2]} frames, but {num_frames} frames have {num_groups} by temporal_ratio and "
            f"micro_frame_size: pass those of the model"
        )
    pictures = latent_pictures(latent[0].detach().float().cpu().numpy())
    return Panel(
        "latent",
        [View(name.split(" (")[0], f"latent {name}", frames) for name, frames in pictures.items()],
        latent=True,
    )


def _sheet(panels: Sequence[Panel], groups: Sequence[range], quality: Mapping[str, np.ndarray], first_frame: int):
    """The first view of every panel as a contact sheet; latents stand with the frames they belong to."""
    rows = {}
    for panel in panels:
        view = panel.views[0]
        index = [i for i, group in enumerate(groups) for _ in group] if panel.latent else slice(None)
        rows[view.title] = view.frames[index]
    captions = {name: [f"{value:.1f} dB" for value in values] for name, values in quality.items()}
    return contact_sheet(rows, captions, first_frame=first_frame)
