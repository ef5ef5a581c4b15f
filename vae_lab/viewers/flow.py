"""The flow viewer: from noise to a clip along t, beside the clip that one step from there would give."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..figures.frames import evenly_chosen, picture_grid
from ..figures.style import COLOURS, OTHER_COLOURS, new_figure, styled
from ..metrics import rms
from ..utils.checks import check_above, finite
from ..utils.text import count
from ..video.frames import Clip
from .frames import clip_frames
from .pictures import MAX_VIEWER_BYTES, ROOM, PictureBudget, check_sides
from .widgets import Viewer

POINTS, ANSWERS = "the latents at t, decoded", "one step from there to t = 0"
SHOWN, CELL = 3, 1.5  # in the static picture: points, and inches of a frame


def explore_flow(
    points: Sequence[Tensor | np.ndarray | Clip],
    answers: Sequence[Tensor | np.ndarray | Clip],
    timesteps: Sequence[float],
    *,
    fps: float = 12.0,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> Viewer:
    """Show a walk from noise to a clip: a slider runs along t, another one over the frames.

    Args:
        points: the decoded clip at each timestep, as `compare_frames` takes clips; the last one is the result.
        answers: the clip that a single step from each point would give (`generation.FlowPath.answers`).
        timesteps: of the points, falling.
        fps: speed of Play.
        max_bytes: of the viewer; frames are left out or shrunk to stay below it, and the viewer says so.
    """
    times = [finite("timesteps", t) for t in timesteps]
    if len(times) < 2 or any(later >= t for t, later in zip(times, times[1:], strict=False)):
        raise ValueError(f"timesteps must be at least two falling numbers, got {times}")
    clips = {
        name: [clip_frames(f"{name}[{i}]", clip) for i, clip in enumerate(given)]
        for name, given in (("points", points), ("answers", answers))
    }
    for name, given in clips.items():
        if len(given) != len(times):
            raise ValueError(f"{name} must be one clip for each of {len(times)} timesteps, got {len(given)}")
        for i, frames in enumerate(given):
            if frames.shape != clips["points"][0].shape:
                raise ValueError(f"{name}[{i}] must have the shape of points[0], got {frames.shape}")
    check_above("fps", fps, 0)
    result = clips["points"][-1].astype(float)
    num_frames, height, width, _ = result.shape
    check_sides("points", (height, width))
    budget = PictureBudget(max_bytes, reserved=ROOM)
    images, thinning = budget.frames([*clips["points"], *clips["answers"]], budget.left)
    distances = {name: [float(rms(frames - result)) for frames in given] for name, given in clips.items()}
    shrink = thinning.shrink
    data = {
        "kind": "flow",
        "timesteps": times,
        "frames": list(range(0, num_frames, thinning.stride)),
        "fps": float(fps) / thinning.stride,
        "note": budget.note(thinning),
        "height": -(-height // shrink),
        "width": -(-width // shrink),
        "panels": [
            {"title": title, "colour": colour, "images": pictures, "values": [round(v, 2) for v in distances[name]]}
            for name, title, colour, pictures in (
                ("points", POINTS, COLOURS["latent"], images[: len(times)]),
                ("answers", ANSWERS, OTHER_COLOURS[0], images[len(times) :]),
            )
        ],
    }
    spans = ", ".join(f"{name} {values[0]:.1f} to {values[-1]:.1f}" for name, values in distances.items())
    text = (
        f"{len(times)} points from t = {times[0]:g} to {times[-1]:g}, {count(num_frames, 'frame')} of {height}x{width} "
        f"(height x width); RMS difference from the last point, in levels of 255: {spans}"
    )

    @styled
    def sheet():
        """Draw a few points, each with its one-step answer below; the last point is its own."""
        rows, shown = {}, evenly_chosen(num_frames)
        for i in evenly_chosen(len(times), SHOWN):
            rows[f"t = {times[i]:.0f}"] = clips["points"][i][shown]
            if i + 1 < len(times):
                rows[f"one step from {times[i]:.0f}"] = clips["answers"][i][shown]
        figure = new_figure(0.4 + CELL * len(rows), 0.4 + CELL * len(shown))
        picture_grid(figure, rows, [f"frame {t}" for t in shown])
        return figure

    return Viewer(data, "Flow viewer", text, sheet)
