"""Pictures of clips: arrays in, arrays or a matplotlib Figure out; nothing is displayed or written.

One visual language: what a thing is decides its colour, everywhere in the lab. The colours are from Okabe and Ito's
colour-blind safe set and are readable on light and on dark ground.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..video.frames import check_frames
from .style import COLOURS, OTHER_COLOURS

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
    return _colour_scale("error")[np.clip(np.rint(error), 0, 255).astype(np.uint8)]


def _colour_scale(name: str) -> np.ndarray:
    """uint8 (256, 3): black, the thing's own colour, white; luminance rises all along."""
    colour = [int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5)]
    stops = np.array([(0, 0, 0), colour, (255, 255, 255)])
    return (
        np.stack([np.interp(np.arange(256), (0, 150, 255), stops[:, c]) for c in range(3)], 1).round().astype(np.uint8)
    )


def latent_pictures(latent: np.ndarray) -> dict[str, np.ndarray]:
    """Latents (C, L, h, w) -> title -> frames uint8 (L, h, w, 3), one pixel a latent cell.

    With three channels or more the first is "PCA": the three directions in which the cells of all frames vary most, as
    red, green and blue. Then every channel: black is its smallest value, white its largest. All scales are fixed over
    time, so that a change of brightness is a change of the latent.
    """
    if latent.ndim != 4 or 0 in latent.shape:
        raise ValueError(f"latent must be (C, L, h, w) with something in it, got {latent.shape}")
    if not np.isfinite(latent).all():
        raise ValueError("latent must be finite, got NaN or infinite values")
    latent = latent.astype(np.float64)
    pictures = {}
    if len(latent) >= 3:
        cells = latent.reshape(len(latent), -1)
        centred = cells - cells.mean(axis=1, keepdims=True)
        strengths, directions = np.linalg.eigh(centred @ centred.T)
        strengths, directions = strengths[:-4:-1], directions[:, :-4:-1].T  # rows, the strongest first
        directions[strengths < 1e-9 * strengths[0]] = 0  # what does not vary stays black
        signs = np.sign(np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1))
        pictures["PCA"] = np.stack(
            [_to_bytes(component) for component in ((directions * signs) @ centred).reshape(3, *latent.shape[1:])], -1
        )
    scale = _colour_scale("latent")
    for index, channel in enumerate(latent):
        pictures[f"channel {index} ({channel.min():.1f} to {channel.max():.1f})"] = scale[_to_bytes(channel)]
    return pictures


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """The smallest value becomes 0, the largest 255."""
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


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


def evenly_chosen(num_frames: int, at_most: int = 6) -> list[int]:
    """Frame numbers, at most so many, evenly over a clip; the first and the last are among them (of one, the first).

    >>> evenly_chosen(100, 4)
    [0, 33, 66, 99]
    """
    return np.unique(np.linspace(0, num_frames - 1, min(at_most, num_frames)).round().astype(int)).tolist()


def contact_sheet(
    panels: Mapping[str, np.ndarray],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    columns: int = 6,
    first_frame: int = 0,
    numbers: Sequence[int] | None = None,
):
    """A matplotlib Figure: one row a clip, evenly chosen frames side by side, their numbers above.

    Args:
        panels: row title -> frames uint8 (T, H, W, 3), all with the same T.
        captions: row title -> one short text a frame (its PSNR, say), written under the chosen ones.
        columns: at most so many frames; the first and the last are always among them.
        first_frame: number of the first frame in its file.
        numbers: where the panels hold only some frames of the file, the number of each; first_frame is not looked at.
    """
    from matplotlib.figure import Figure

    clips = list(panels.values())
    for frames in clips:
        check_frames(frames)
        if len(frames) != len(clips[0]):
            raise ValueError(f"panels must have the same number of frames, got {len(frames)} and {len(clips[0])}")
    num_frames, height, width, _ = clips[0].shape
    chosen = evenly_chosen(num_frames, columns)
    if numbers is None:
        numbers = range(first_frame, first_frame + num_frames)
    cell = 1.9  # inches
    row_height = min(max(cell * height / width, 0.3), 3 * cell)
    figure = Figure(figsize=(1.2 + cell * len(chosen), 0.7 + (row_height + 0.3) * len(panels)), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(len(panels), len(chosen), squeeze=False)
    for row, (name, frames) in zip(axes, panels.items(), strict=True):
        for axis, t in zip(row, chosen, strict=True):
            axis.imshow(frames[t], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if captions and name in captions:
                axis.set_xlabel(captions[name][t], fontsize=9, parse_math=False)
        row[0].set_ylabel(name, fontsize=10, parse_math=False)
    for axis, t in zip(axes[0], chosen, strict=True):
        axis.set_title(f"t = {numbers[t]}", fontsize=10)
    return figure


def frame_curves(
    curves: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    colours: Mapping[str, str] | None = None,
    chunk_starts: Sequence[int] = (),
):
    """A matplotlib Figure of numbers over frames (or places in a chunk), counted from 0.

    Args:
        curves: name -> one value a frame.
        colours: name -> key of COLOURS; the rest take OTHER_COLOURS.
        chunk_starts: frames at which a chunk begins; dashed lines before them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axis = figure.subplots()
    others = cycle(OTHER_COLOURS)
    for name, values in curves.items():
        colour = COLOURS[colours[name]] if colours and name in colours else next(others)
        axis.plot(range(len(values)), values, marker=".", label=name, color=colour)
    for start in chunk_starts:
        if start:
            axis.axvline(start - 0.5, color="#777777", linestyle="--", linewidth=1)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.25)
    for text in axis.legend(fontsize=9, loc="best").get_texts():
        text.set_parse_math(False)
    return figure


def training_picture(log: Sequence[Mapping], panels: Mapping[str, np.ndarray] | None = None, columns: int = 6):
    """A matplotlib Figure of a training: loss and PSNR over steps, and what a clip looks like by now.

    Args:
        log: rows as `train_files.read_log` gives them; dashed lines stand where a stage begins.
        panels: row title -> frames uint8 (T, H, W, 3), all with the same T, shown under the curves.
        columns: frames of a panel, at most.
    """
    from matplotlib.figure import Figure

    if not log:
        raise ValueError("log must have at least one row")
    clips = panels or {}
    figure = Figure(figsize=(9, 2.6 + 1.4 * len(clips)), layout="constrained")
    curves, *strips = figure.subfigures(1 + len(clips), 1, height_ratios=[2.6] + [1.4] * len(clips), squeeze=False)[
        :, 0
    ]
    left, right = curves.subplots(1, 2)
    for axis, name, colour, label in ((left, "loss", "error", "loss"), (right, "psnr", "output", "PSNR in dB")):
        points = [(row["step"], row[name]) for row in log if name in row]
        if points:
            axis.plot(*zip(*points, strict=True), color=COLOURS[colour], marker="." if len(points) < 40 else "")
        for before, row in zip(log, log[1:], strict=False):
            if row["stage"] != before["stage"]:
                axis.axvline(before["step"] + 0.5, color="#777777", linestyle="--", linewidth=1)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.25)
    if min(row["loss"] for row in log) > 0:
        left.set_yscale("log")
    for strip, (name, frames) in zip(strips, clips.items(), strict=True):
        chosen = evenly_chosen(len(frames), columns)
        for axis, t in zip(strip.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
            axis.imshow(frames[t], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(f"t = {t}", fontsize=8)
            if t == chosen[0]:
                axis.set_ylabel(name, fontsize=9, parse_math=False)
    return figure
