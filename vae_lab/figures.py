"""Pictures of clips: arrays in, arrays or a matplotlib Figure out; nothing is displayed or written.

One visual language: what a thing is decides its colour, everywhere in the lab. The colours are from Okabe and Ito's
colour-blind safe set and are readable on light and on dark ground.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .video import check_frames

COLOURS = {
    "input": "#0072B2",  # input frames: blue
    "padding": "#999999",  # padding: grey
    "latent": "#E69F00",  # latents: orange
    "spatial": "#56B4E9",  # through the 2D half only: sky blue
    "output": "#009E73",  # through both halves: green
    "error": "#D55E00",  # error: vermilion
}
ERROR_GAIN = 4  # differences are shown this many times as large
LABEL_HEIGHT = 20  # pixels
PANEL_WIDTH = 160  # panels are enlarged by whole factors to at least this, so that titles fit


def error_map(x: np.ndarray, y: np.ndarray, gain: float = ERROR_GAIN) -> np.ndarray:
    """Mean absolute difference over the channels, times `gain`: black (none), vermilion, white (255 / gain or more).

    x, y: frames uint8 (T, H, W, 3). Returns the same. The scale is fixed, so all frames can be compared.
    """
    check_frames(x)
    check_frames(y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {x.shape} and {y.shape}")
    error = np.abs(x.astype(np.int16) - y).mean(axis=3) * gain
    return _error_colours()[np.clip(np.rint(error), 0, 255).astype(np.uint8)]


def _error_colours() -> np.ndarray:
    """uint8 (256, 3): luminance rises all along."""
    vermilion = [int(COLOURS["error"][i : i + 2], 16) for i in (1, 3, 5)]
    stops = np.array([(0, 0, 0), vermilion, (255, 255, 255)])
    return (
        np.stack([np.interp(np.arange(256), (0, 150, 255), stops[:, c]) for c in range(3)], 1).round().astype(np.uint8)
    )


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Clips of equal size beside one another under their titles, enlarged by a whole factor where they are small.

    panels: title -> frames uint8 (T, H, W, 3). Returns frames uint8 (T, H', W', 3) with even sides.
    """
    clips = list(panels.values())
    for frames in clips:
        check_frames(frames)
        if frames.shape != clips[0].shape:
            raise ValueError(f"panels must have the same shape, got {frames.shape} and {clips[0].shape}")
    num_frames, height, width, _ = clips[0].shape
    factor = -(-PANEL_WIDTH // width)
    pictures = [frames.repeat(factor, axis=1).repeat(factor, axis=2) for frames in clips]
    height, width = height * factor, width * factor
    even_height, even_width = (side + side % 2 for side in (LABEL_HEIGHT + height, width * len(clips)))
    label = Image.new("RGB", (even_width, LABEL_HEIGHT), "white")
    draw, font = ImageDraw.Draw(label), ImageFont.load_default(size=13)
    for i, title in enumerate(panels):
        draw.text((i * width + width / 2, LABEL_HEIGHT / 2), title, fill="black", font=font, anchor="mm")
    canvas = np.full((num_frames, even_height, even_width, 3), 255, np.uint8)
    canvas[:, :LABEL_HEIGHT] = np.asarray(label)
    for i, picture in enumerate(pictures):
        canvas[:, LABEL_HEIGHT : LABEL_HEIGHT + height, i * width : (i + 1) * width] = picture
    return canvas


def contact_sheet(
    panels: Mapping[str, np.ndarray],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    columns: int = 6,
    first_frame: int = 0,
):
    """A matplotlib Figure: one row a clip, evenly chosen frames side by side, their numbers above.

    Args:
        panels: row title -> frames uint8 (T, H, W, 3), all with the same T.
        captions: row title -> one short text a frame (its PSNR, say), written under the chosen ones.
        columns: at most so many frames; the first and the last are always among them.
        first_frame: number of the first frame in its file.
    """
    from matplotlib.figure import Figure

    clips = list(panels.values())
    for frames in clips:
        check_frames(frames)
        if len(frames) != len(clips[0]):
            raise ValueError(f"panels must have the same number of frames, got {len(frames)} and {len(clips[0])}")
    num_frames, height, width, _ = clips[0].shape
    chosen = np.unique(np.linspace(0, num_frames - 1, min(columns, num_frames)).round().astype(int))
    cell = 1.9  # inches
    figure = Figure(
        figsize=(1.2 + cell * len(chosen), 0.7 + (cell * height / width + 0.3) * len(panels)), layout="constrained"
    )
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(len(panels), len(chosen), squeeze=False)
    for row, (name, frames) in zip(axes, panels.items(), strict=True):
        for axis, t in zip(row, chosen, strict=True):
            axis.imshow(frames[t], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if captions and name in captions:
                axis.set_xlabel(captions[name][t], fontsize=9)
        row[0].set_ylabel(name, fontsize=10)
    for axis, t in zip(axes[0], chosen, strict=True):
        axis.set_title(f"t = {first_frame + t}", fontsize=10)
    return figure
