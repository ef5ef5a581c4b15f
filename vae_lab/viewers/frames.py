"""What the frame viewer shows: clips and latents in, its data, a text and a figure out; no widget is made."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, cycle
from typing import Any

import numpy as np
from torch import Tensor

from ..figures.frames import ERROR_GAIN, contact_sheet, error_map, latent_pictures
from ..figures.style import COLOURS, OTHER_COLOURS
from ..metrics import DATA_RANGE, psnr
from ..shapes import MICRO_FRAME_SIZE, TEMPORAL_RATIO, chunk_lengths, frame_groups
from ..utils.checks import check_above, positive_int
from ..utils.text import count
from ..video.frames import Clip, check_frames, to_frames, to_tensor
from .pictures import MAX_VIEWER_BYTES, ROOM, Curve, Panel, View, player_data
from .widgets import Viewer

# ---- frames --------------------------------------------------------------------------------------------------------


NAMED_COLOURS = {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}


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
    check_above("gain", gain, 0)
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
    data = player_data(panels, fps, curves, groups, starts, first_frame, max_bytes - ROOM)
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


def compare_frames(
    videos: Mapping[str, Tensor | np.ndarray | Clip],
    latent: Tensor | None = None,
    *,
    temporal_ratio: int = TEMPORAL_RATIO,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    gain: float = ERROR_GAIN,
    fps: float = 12.0,
    first_frame: int = 0,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> Viewer:
    """Clips side by side under one frame number, with their differences from the first one and the latents.

    Args:
        videos: title -> pixels (1, 3, T, H, W) in [-1, 1] (what overshoots is clamped), frames uint8 (T, H, W, 3) or
          a Clip; the first one is the original. The others get a PSNR curve and a difference, mean absolute over the
          channels times `gain`.
        latent: raw latents (1, C, L, h, w) of the clip; adds a panel with PCA and channels, each latent frame shown
          with the frames that it stands for, and marks those.
        temporal_ratio, micro_frame_size: the law by which frames belong to latent frames (`shapes.frame_groups`).
        fps: speed of Play.
        first_frame: number of the first frame in its file.
        max_bytes: of the viewer; where it would be more, frames are left out or shrunk and the viewer says so.
    """
    shown = frame_view(
        videos,
        latent,
        temporal_ratio=temporal_ratio,
        micro_frame_size=micro_frame_size,
        gain=gain,
        fps=fps,
        first_frame=first_frame,
        max_bytes=max_bytes,
    )
    return Viewer(*shown)
