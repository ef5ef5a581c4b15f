"""The frame viewer: clips side by side under one frame number."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from torch import Tensor

from ..figures.frames import ERROR_GAIN, contact_sheet, error_map
from ..figures.style import OTHER_COLOURS, RECONSTRUCTION_COLOURS
from ..latents.arrays import check_latent
from ..metrics import DATA_RANGE, psnr
from ..shapes import Timeline
from ..utils.checks import check_above
from ..utils.text import count
from ..video.frames import Clip, check_frames, to_frames, to_tensor
from .pictures import MAX_VIEWER_BYTES, ROOM, Curve, Panel, PictureBudget, View, check_sides, latent_views, player_data
from .widgets import Viewer


def compare_frames(
    videos: Mapping[str, Tensor | np.ndarray | Clip],
    latent: Tensor | None = None,
    *,
    timeline: Timeline | None = None,
    gain: float = ERROR_GAIN,
    fps: float = 12.0,
    first_frame: int = 0,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> Viewer:
    """Show clips side by side under one frame number, with their differences from the first one and the latents.

    Args:
        videos: title -> pixels (1, 3, T, H, W) in [-1, 1] (clamped), frames uint8 (T, H, W, 3) or a Clip; the first one
          is the original. The others get a PSNR curve and a difference: mean absolute over the channels, times `gain`.
        latent: raw latents (1, C, L, h, w) of the clip; adds a panel with PCA and channels, in which each latent frame
          is shown with the frames that it stands for, and marks those.
        timeline: which frames each latent frame stands for; default: `Timeline(T)`, the law of Open-Sora 1.2.
        fps: speed of Play. first_frame: number of the first frame in its file.
        max_bytes: of the viewer; frames are left out or shrunk to stay below it, and the viewer says so.
    """
    if not isinstance(videos, Mapping):
        raise ValueError(f"videos must be a dict, title -> clip, got {type(videos).__name__}")
    if not videos:
        raise ValueError("videos must hold at least one clip")
    clips = {name: clip_frames(name, video) for name, video in videos.items()}
    (reference, original), *others = clips.items()
    for name, frames in others:
        if frames.shape != original.shape:
            raise ValueError(
                f"videos must have the same shape, got {reference!r} {original.shape} and {name!r} {frames.shape}"
            )
    check_sides(repr(reference), original.shape[1:3])
    check_above("gain", gain, 0)
    check_above("fps", fps, 0)
    budget = PictureBudget(max_bytes, reserved=ROOM)
    num_frames, height, width, _ = original.shape

    def pixels(name: str) -> Tensor:
        video = videos[name]
        return video.detach().float().cpu().clamp(-1, 1) if isinstance(video, Tensor) else to_tensor(clips[name])

    x = pixels(reference)
    quality = {name: psnr(x, pixels(name), DATA_RANGE)[0].numpy() for name, _ in others}
    panels = [Panel(name, [View(name, name, frames)]) for name, frames in clips.items()]
    differences = [
        View(name, f"difference ×{gain:g}: {name}", error_map(original, frames, gain))
        for name, frames in reversed(others)
    ]
    if differences:
        panels.append(Panel(f"difference ×{gain:g}", differences))
    values = None if latent is None else check_latent(latent, "latent")
    timeline = timeline_of(num_frames, timeline, "latent", None if values is None else values.shape[1])
    if values is not None:
        check_sides("latent", values.shape[2:], "cells")
        panels.append(Panel("latent", latent_views(values, "latent "), latent=True))
    colours = cycle(OTHER_COLOURS)
    curves = [
        Curve(name, db.tolist(), RECONSTRUCTION_COLOURS.get(name) or next(colours)) for name, db in quality.items()
    ]
    data = player_data(panels, fps, curves, None if latent is None else timeline, first_frame, budget)
    text = f"{count(num_frames, 'frame')} of {height}x{width} (height x width), panels "
    text += ", ".join(panel.name for panel in panels)
    if quality:
        means = ", ".join(f"{name} {values.mean():.2f} dB" for name, values in quality.items())
        text += f"; mean PSNR against {reference}: {means}"

    def sheet():
        """Draw the first view of every panel, latents with the frames that they belong to."""
        rows = {}
        for panel in panels:
            groups = timeline.groups if panel.latent else []
            index = [i for i, group in enumerate(groups) for _ in group] or slice(None)
            rows[panel.views[0].title] = panel.views[0].frames[index]
        captions = {name: [f"{value:.1f} dB" for value in values] for name, values in quality.items()}
        return contact_sheet(rows, captions, first_frame=first_frame)

    return Viewer(data, "Frame viewer", text, sheet)


def clip_frames(name: str, video: Tensor | np.ndarray | Clip) -> np.ndarray:
    """Return a clip as frames, uint8 (T, H, W, 3)."""
    if not isinstance(name, str):
        raise ValueError(f"titles must be text, got {name!r}")
    if isinstance(video, Tensor):
        return to_frames(video)
    frames = video.frames if isinstance(video, Clip) else video
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"{name!r} must be a tensor, frames uint8 (T, H, W, 3) or a Clip, got {type(video).__name__}")
    check_frames(frames)
    return np.ascontiguousarray(frames)


def check_timeline(timeline: Timeline | None) -> None:
    """Refuse anything but a Timeline or None."""
    if not isinstance(timeline, Timeline | None):
        raise ValueError(f"timeline must be a shapes.Timeline, got {type(timeline).__name__}")


def timeline_of(num_frames: int, timeline: Timeline | None, name: str, num_latents: int | None) -> Timeline:
    """Return the timeline of a clip, Open-Sora's if none is given; it must agree with the latents called `name`."""
    check_timeline(timeline)
    timeline = Timeline(num_frames) if timeline is None else timeline
    if timeline.num_frames != num_frames:
        raise ValueError(f"timeline must be of {count(num_frames, 'frame')}, got one of {timeline.num_frames}")
    if num_latents not in (None, timeline.num_latents):
        raise ValueError(
            f"{name} has {count(num_latents, 'latent frame')}, but {count(num_frames, 'frame')} have "
            f"{timeline.num_latents} by timeline: pass that of the model"
        )
    return timeline
