"""Pictures of clips: arrays in, arrays or a matplotlib Figure out; nothing is displayed or written."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..utils.tables import Figure, SubFigure
from ..video.frames import check_frames
from .style import COLOURS, OTHER_COLOURS, mark_borders, new_axis, new_figure, show_image, styled

ERROR_GAIN = 4  # differences are multiplied by this before they are shown
LABEL_HEIGHT = 20  # pixels
PANEL_WIDTH = 160  # pixels; narrower panels are enlarged by a whole factor to at least this, so that titles fit
SMALL = 9  # points, of text around small pictures


def error_map(x: np.ndarray, y: np.ndarray, gain: float = ERROR_GAIN) -> np.ndarray:
    """Return the mean absolute difference over the channels, times `gain`, as colours.

    x, y: frames uint8 (T, H, W, 3), as the result. Black is 0, white is 255 / gain or more, and vermilion lies between.
    """
    check_frames(x)
    check_frames(y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {x.shape} and {y.shape}")
    error = np.abs(x.astype(np.int16) - y).mean(axis=3) * gain
    return colour_scale("error")[np.clip(np.rint(error), 0, 255).astype(np.uint8)]


def colour_scale(name: str) -> np.ndarray:
    """uint8 (256, 3): from black through a colour of COLOURS to white, with rising luminance."""
    stops = np.array([(0, 0, 0), [int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5)], (255, 255, 255)])
    scale = [np.interp(np.arange(256), (0, 150, 255), channel) for channel in stops.T]
    return np.stack(scale, 1).round().astype(np.uint8)


def latent_pictures(latent: np.ndarray) -> dict[str, np.ndarray]:
    """Turn latents (C, L, h, w) into pictures: title -> frames uint8 (L, h, w, 3), one pixel per latent cell.

    Latents with three or more channels have "PCA" first: the three directions in which the cells of all frames vary
    most, as red, green and blue. Every channel follows, from black (its smallest value) to white (its largest). Scales
    are fixed over time, so a change of brightness is a change of the latent.
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
        directions[strengths < 1e-9 * strengths[0]] = 0  # a direction without variance stays black
        signs = np.sign(np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1))
        components = ((directions * signs) @ centred).reshape(3, *latent.shape[1:])
        pictures["PCA"] = np.stack([_to_bytes(component) for component in components], -1)
    scale = colour_scale("latent")
    for index, channel in enumerate(latent):
        pictures[f"channel {index} ({channel.min():.1f} to {channel.max():.1f})"] = scale[_to_bytes(channel)]
    return pictures


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """The smallest value becomes 0, the largest 255."""
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put clips of equal size beside one another under their titles, enlarged by a whole factor if they are small.

    panels: title -> frames uint8 (T, H, W, 3). Returns frames uint8 (T, H', W', 3) with even sides.
    """
    clips = list(panels.values())
    for frames in clips:
        check_frames(frames)
        if frames.shape != clips[0].shape:
            raise ValueError(f"panels must have the same shape, got {frames.shape} and {clips[0].shape}")
    factor = -(-PANEL_WIDTH // clips[0].shape[2])
    pictures = np.concatenate(clips, axis=2).repeat(factor, axis=1).repeat(factor, axis=2)
    num_frames, height, width, _ = pictures.shape
    even_height, even_width = (side + side % 2 for side in (LABEL_HEIGHT + height, width))
    label = Image.new("RGB", (even_width, LABEL_HEIGHT), "white")
    draw, font = ImageDraw.Draw(label), ImageFont.load_default(size=13)
    for i, title in enumerate(panels):
        middle = (i + 0.5) * width / len(clips), LABEL_HEIGHT / 2
        draw.text(middle, title, fill="black", font=font, anchor="mm")
    canvas = np.full((num_frames, even_height, even_width, 3), 255, np.uint8)
    canvas[:, :LABEL_HEIGHT] = np.asarray(label)
    canvas[:, LABEL_HEIGHT : LABEL_HEIGHT + height, :width] = pictures
    return canvas


def evenly_chosen(num_frames: int, at_most: int = 6) -> list[int]:
    """Choose at most `at_most` frame numbers, spread evenly; the first frame and, from two on, the last are included.

    >>> evenly_chosen(100, 4)
    [0, 33, 66, 99]
    """
    return np.unique(np.linspace(0, num_frames - 1, min(at_most, num_frames)).round().astype(int)).tolist()


def picture_grid(
    figure: Figure | SubFigure,
    rows: Mapping[str, np.ndarray | Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draw rows of small pictures, name -> as many (H, W, 3), with titles above the first row and names at the left.

    captions: name of a row -> one text below each of its pictures.
    """
    columns = len(next(iter(rows.values())))
    for row, (name, pictures) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True):
        below = (captions or {}).get(name, [""] * columns)
        for axis, picture, caption in zip(row, pictures, below, strict=True):
            show_image(axis, picture)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(caption, fontsize=SMALL)
        row[0].set_ylabel(name, fontsize=SMALL)
    for axis, title in zip(figure.axes, titles, strict=False):
        axis.set_title(title, fontsize=SMALL)


@styled
def contact_sheet(
    panels: Mapping[str, np.ndarray],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    columns: int = 6,
    first_frame: int = 0,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Draw evenly chosen frames side by side, one row for each clip, with their numbers above.

    Args:
        panels: row title -> frames uint8 (T, H, W, 3), all with the same T.
        captions: row title -> one short text for each frame (its PSNR, for example), written below the chosen ones.
        columns: the largest number of frames in a row; the first and the last are always shown.
        first_frame: number of the first frame in its file; or `numbers` of all frames, if they do not follow it.
    """
    clips = list(panels.values())
    for frames in clips:
        check_frames(frames)
        if len(frames) != len(clips[0]):
            raise ValueError(f"panels must have the same number of frames, got {len(frames)} and {len(clips[0])}")
    num_frames, height, width, _ = clips[0].shape
    chosen = evenly_chosen(num_frames, columns)
    numbers = range(first_frame, first_frame + num_frames) if numbers is None else numbers
    cell = 1.9  # inches
    row_height = min(max(cell * height / width, 0.3), 3 * cell)
    figure = new_figure(0.7 + (row_height + 0.3) * len(panels), 1.2 + cell * len(chosen))
    figure.suptitle(title)
    picture_grid(
        figure,
        {name: frames[chosen] for name, frames in panels.items()},
        [f"t = {numbers[t]}" for t in chosen],
        {name: [texts[t] for t in chosen] for name, texts in (captions or {}).items()},
    )
    return figure


@styled
def frame_curves(
    curves: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    colours: Mapping[str, str] | None = None,
    chunk_starts: Sequence[int] = (),
) -> Figure:
    """Draw numbers over frames, or over places in a chunk, counted from 0.

    curves: name -> one value for each frame. colours: name -> key of COLOURS; the other curves take OTHER_COLOURS.
    chunk_starts: frames at which a chunk begins; marked by dashed lines.
    """
    figure, axis = new_axis(2.8, xlabel=xlabel, ylabel=ylabel)
    others = cycle(OTHER_COLOURS)
    for name, values in curves.items():
        colour = COLOURS[colours[name]] if colours and name in colours else next(others)
        axis.plot(values, marker=".", label=name, color=colour)
    mark_borders(axis, chunk_starts)
    axis.legend()
    return figure


@styled
def training_picture(
    log: Sequence[Mapping], panels: Mapping[str, np.ndarray] | None = None, columns: int = 6
) -> Figure:
    """Draw loss and PSNR over the steps of a training, and how a clip is reconstructed at present.

    log: rows as `training.run_folder.read_log` returns them; dashed lines mark where a stage begins.
    panels: row title -> frames uint8 (T, H, W, 3), drawn below the curves, at most `columns` of each.
    """
    if not log:
        raise ValueError("log must have at least one row")
    clips = panels or {}
    heights = [2.6] + [1.4] * len(clips)
    figure = new_figure(sum(heights))
    curves, *strips = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    left, right = curves.subplots(1, 2)
    for axis, name, colour, label in ((left, "loss", "error", "loss"), (right, "psnr", "output", "PSNR in dB")):
        points = [(row["step"], row[name]) for row in log if name in row]
        if points:
            axis.plot(*zip(*points, strict=True), color=COLOURS[colour], marker="." if len(points) < 40 else "")
        mark_borders(axis, [a["step"] + 1 for a, b in pairwise(log) if a["stage"] != b["stage"]])
        axis.set(xlabel="step", ylabel=label)
    if min(row["loss"] for row in log) > 0:
        left.set_yscale("log")
    for strip, (name, frames) in zip(strips, clips.items(), strict=True):
        chosen = evenly_chosen(len(frames), columns)
        picture_grid(strip, {name: frames[chosen]}, captions={name: [f"t = {t}" for t in chosen]})
    return figure
