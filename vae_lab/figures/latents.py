"""Pictures of latents and of what edits do to them: arrays in, a matplotlib Figure out; nothing is displayed.

COLOURS has none for single channels: they take their colours from a scale, which is numbered beside the picture.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.tables import Axes, Axis, Figure, SubFigure
from ..utils.text import count, span
from .frames import ERROR_GAIN, error_map, evenly_chosen, latent_pictures, picture_grid
from .style import COLOURS, LINE, OTHER_COLOURS, WIDTH, colour_map, new_axis, new_figure, show_image, styled

PIXELS = "RMS difference\n(pixels in [-1, 1])"


def _plot_channels(figure: Figure | SubFigure, axes: Sequence[Axes], *values: np.ndarray, x: Any = None) -> None:
    """Draw a curve for each channel, (C, N) on each axis, over x or 0 ... N - 1, and the scale that tells channels."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    channels = len(values[0])
    colours = colormaps["viridis"](np.linspace(0, 0.85, channels))
    for axis, curves in zip(axes, values, strict=True):
        for colour, curve in zip(colours, curves, strict=True):
            axis.plot(range(len(curve)) if x is None else x, curve, marker=".", color=colour)
    scale = ScalarMappable(BoundaryNorm(np.arange(channels + 1) - 0.5, channels), ListedColormap(colours))
    figure.colorbar(scale, ax=list(axes), label="channel", ticks=evenly_chosen(channels, 8))


def _plain_logarithm(axis: Axis) -> None:
    """Write numbers such as 0.1, 0.2, 0.3 and 0.5 on a logarithmic axis of a decade or two."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _as_pictures(frames: np.ndarray) -> np.ndarray:
    """(3, T, H, W) in [-1, 1] -> uint8 (T, H, W, 3)."""
    return np.rint((np.moveaxis(np.asarray(frames), 0, -1).clip(-1, 1) + 1) * 127.5).astype(np.uint8)


@styled
def latent_filmstrip(
    latent: np.ndarray,
    frames: np.ndarray | None = None,
    groups: Sequence[range] | None = None,
    columns: int = 9,
    rows: int = 16,
) -> Figure:
    """Draw PCA and every channel over latent frames, below the frames that each latent frame stands for.

    latent: (C, L, h, w), scaled as by `latent_pictures`; the scales are written at the rows.
    frames: uint8 (T, H, W, 3); groups: the frames of each latent frame (`shapes.frame_groups`), of which the middle one
      is shown; both or neither.
    columns: the largest number of latent frames, evenly chosen; rows: of channels, the first ones.
    """
    if (frames is None) != (groups is None):
        raise ValueError("frames and groups must be given together")
    latent = np.asarray(latent)
    some = "" if len(latent) <= rows else f"; {count(rows, 'channel')} of {len(latent)}"
    pictures = latent_pictures(latent)
    pictures = dict(list(pictures.items())[: len(pictures) - max(0, len(latent) - rows)])
    if frames is not None and groups is not None:
        if len(groups) != latent.shape[1]:
            raise ValueError(f"groups must be one for each of {latent.shape[1]} latent frames, got {len(groups)}")
        if groups[-1].stop != len(frames):
            raise ValueError(f"groups must cover the {len(frames)} frames, got {groups[-1].stop}")
        middles = np.stack([frames[(group.start + group.stop - 1) // 2] for group in groups])
        pictures = {"frames": middles, **pictures}
    chosen = evenly_chosen(latent.shape[1], columns)
    cell = min(1.0, (WIDTH - 1.4) / len(chosen))
    height = max(latent.shape[2] / latent.shape[3], 0.3)  # of a picture of width 1
    figure, axis = new_axis(0.8 + (cell * height + 0.06) * len(pictures), 1.6 + (cell + 0.06) * max(len(chosen), 3))
    gap = 0.06 / cell
    steps = 1 + gap, height + gap  # from picture to picture: one axis for each would take seconds to draw
    for row, shown in enumerate(pictures.values()):
        for column, index in enumerate(chosen):
            left, top = column * steps[0], row * steps[1]
            show_image(axis, shown[index], extent=(left, left + 1, top + height, top))
    labels = [short_numbers(name).replace(" (", "\n(") for name in pictures]
    axis.set_yticks(np.arange(len(labels)) * steps[1] + height / 2, labels, fontsize=8)
    covered = ["" if groups is None else "\n" + span(groups[index], " to ") for index in chosen]
    titles = [f"{index}{text}" for index, text in zip(chosen, covered, strict=True)]
    axis.set_xticks(np.arange(len(chosen)) * steps[0] + 0.5, titles, fontsize=8)
    axis.set(xlim=(0, len(chosen) * steps[0] - gap), ylim=(len(labels) * steps[1] - gap, 0), aspect="equal")
    axis.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    axis.set_title("latent frame" + ("" if groups is None else ", and the frames it stands for") + some)
    return figure


def short_numbers(title: str) -> str:
    """Shorten numbers with six or more digits before the point, in a title of `latent_pictures`, to three digits."""
    return re.sub(r"\d{6,}\.\d", lambda number: f"{float(number[0]):.3g}", title)


@styled
def moment_curves(mean: np.ndarray, std: np.ndarray, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw mean and standard deviation of every channel over latent frames, each (C, L)."""
    figure = figure or new_figure(2.8)
    axes = figure.subplots(1, 2)
    _plot_channels(figure, axes, mean, std)
    for axis, label in zip(axes, ("mean", "standard deviation"), strict=True):
        axis.set(xlabel="latent frame", ylabel=label)
        axis.locator_params("x", integer=True)
    axes[1].set_ylim(bottom=0)
    return figure


@styled
def correlation_matrix(matrix: np.ndarray, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw the correlations between channels, (C, C) from -1 to 1, with numbers if there are at most 16 channels."""
    channels = len(matrix)
    side = min(2.2 + 0.4 * channels, 8)
    figure = figure or new_figure(side, side + 1)
    axis = figure.subplots()
    scale = colour_map(COLOURS["input"], "white", COLOURS["error"]).with_extremes(bad=COLOURS["padding"])
    picture = show_image(axis, matrix, cmap=scale, vmin=-1, vmax=1)
    if channels <= 16:
        size = 8 if channels <= 8 else 6
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=size, color="black")
    axis.set(xlabel="channel", ylabel="channel")
    figure.colorbar(picture, ax=axis, label="correlation")
    return figure


@styled
def lag_curves(correlation: np.ndarray, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw the correlation of each channel with itself some latent frames later, (C, lags + 1)."""
    figure = figure or new_figure(2.8)
    axis = figure.subplots()
    _plot_channels(figure, [axis], correlation)
    axis.axhline(0, color=LINE, linewidth=1)
    lowest = min(-0.05, np.nanmin([*correlation.flat, 0]))
    axis.set(xlabel="lag in latent frames", ylabel="correlation", ylim=(lowest, 1.05))
    axis.locator_params("x", integer=True)
    return figure


@styled
def spectrum_curves(
    frequency: np.ndarray, power: np.ndarray, unit: str, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw power (C, F) over frequency (F,), both logarithmic; points without power are left out."""
    figure = figure or new_figure(2.8)
    axis = figure.subplots()
    drawn = np.where(np.asarray(power) > 0, power, np.nan)
    _plot_channels(figure, [axis], drawn, x=frequency)
    if np.isfinite(drawn).any():
        axis.set(xscale="log", yscale="log")
        _plain_logarithm(axis.xaxis)
    else:
        words = "no power" if drawn.size else "one sample has no spectrum"
        axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
    axis.set(xlabel=unit, ylabel="power")
    return figure


@styled
def posterior_bars(kl: np.ndarray, mean_variance: np.ndarray, active_variance: float) -> Figure:
    """Draw the KL divergence and the variance of the posterior mean of every channel (C,); dead channels are grey."""
    figure = new_figure(2.8)
    colours = [COLOURS["latent"] if value > active_variance else COLOURS["padding"] for value in mean_variance]
    left, right = figure.subplots(1, 2)
    shown = {"KL in nats per element": kl, "variance of the posterior mean": mean_variance}
    for axis, (label, values) in zip((left, right), shown.items(), strict=True):
        axis.bar(range(len(kl)), values, color=colours)
        axis.set(xlabel="channel", ylabel=label)
        axis.grid(False)
        axis.locator_params("x", integer=True)
    right.axhline(active_variance, color=COLOURS["error"], linestyle="--", label=f"active above {active_variance:g}")
    right.set_yscale("log")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right")
    return figure


@styled
def scale_picture(mean: np.ndarray, std: np.ndarray, expected: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw mean and standard deviation of every channel (C,), and the (mean, std) that each hypothesis expects."""
    figure = new_figure(3.2)
    axes = figure.subplots(1, 2)
    places = np.arange(len(mean))
    colours = (COLOURS["output"], COLOURS["input"], *OTHER_COLOURS)
    for index, (axis, label) in enumerate(zip(axes, ("mean", "standard deviation"), strict=True)):
        axis.bar(places, (mean, std)[index], color=COLOURS["latent"], label="measured")
        for colour, marker, (name, values) in zip(colours, "_os^v", expected.items(), strict=True):
            size = 400 / len(mean) if marker == "_" else 30
            axis.scatter(places, values[index], color=colour, marker=marker, s=size, label=name, zorder=3)
        axis.set(xlabel="channel", ylabel=label)
        axis.locator_params("x", integer=True)
    axes[1].set_yscale("log")
    _plain_logarithm(axes[1].yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


@styled
def report_picture(report: Any) -> Figure:
    """Draw moments, correlations and spectra of a `latents.latent_report`."""
    figure = new_figure(8.4)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2.6, 3.2, 2.6], squeeze=False)[:, 0]
    moment_curves(report.frames.mean, report.frames.std, top)
    left, right = middle.subfigures(1, 2)
    correlation_matrix(report.correlation, left)
    lag_curves(report.time_correlation, right)
    for part, spectrum in zip(bottom.subfigures(1, 2), (report.spatial, report.temporal), strict=True):
        spectrum_curves(spectrum.frequency, spectrum.power, spectrum.unit, part)
    return figure


@styled
def effect_picture(original: np.ndarray, changed: np.ndarray, rms: np.ndarray, columns: int = 6) -> Figure:
    """Draw frames before and after an edit, their difference times ERROR_GAIN, and the RMS difference of every frame.

    original, changed: (1, 3, T, H, W) in [-1, 1]. rms: (T,).
    """
    before, after = (_as_pictures(frames[0]) for frames in (original, changed))
    rows = {"original": before, "changed": after, f"difference\nx{ERROR_GAIN}": error_map(before, after)}
    chosen = evenly_chosen(len(before), columns)
    height = (WIDTH - 1) / columns * max(before.shape[1] / before.shape[2], 0.3) + 0.06
    figure = new_figure(2.4 + 3 * height)
    above, below = figure.subfigures(2, 1, height_ratios=[0.3 + 3 * height, 2.1], squeeze=False)[:, 0]
    picture_grid(above, {name: frames[chosen] for name, frames in rows.items()}, [f"t = {t}" for t in chosen])
    axis = below.subplots()
    axis.plot(rms, marker=".", color=COLOURS["error"])
    axis.set(xlabel="frame", ylabel=PIXELS, ylim=(0, 1.1 * np.max(rms) or 1))
    axis.locator_params("x", integer=True)
    return figure


@styled
def channel_effect_bars(names: Sequence[str], rms: np.ndarray) -> Figure:
    """Draw the RMS difference (C, K) that each of K edits makes, grouped by channel."""
    channels, changes = np.shape(rms)
    figure, axis = new_axis(2.8, xlabel="channel", ylabel=PIXELS, xlim=(-0.6, channels - 0.4))
    colours = (COLOURS["padding"], COLOURS["latent"], COLOURS["spatial"], *OTHER_COLOURS)
    for index, name in enumerate(names):
        places = np.arange(channels) + (index - (changes - 1) / 2) * 0.8 / changes
        axis.bar(places, np.asarray(rms)[:, index], 0.8 / changes, color=colours[index % len(colours)], label=name)
    axis.locator_params("x", integer=True)
    axis.grid(False, axis="x")
    axis.legend()
    return figure


@styled
def paint_picture(difference: np.ndarray, main: Sequence[tuple[int, int]] | None = None, title: str = "") -> Figure:
    """Draw what one latent cell changes, (T, H, W): the largest change of every pixel, and of every frame.

    main: (first, last) of frames, rows and columns, drawn as a box and a band. Exact zeros stay white. Both scales are
    logarithmic and end at a ten-thousandth of the largest change, or a little below the smallest frame.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    picture, by_frame = difference.max(axis=0), difference.max(axis=(1, 2))
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    top = float(picture.max()) or 1.0
    scale = colour_map("white", COLOURS["error"], "#4D2200")
    shown = np.ma.masked_equal(picture, 0)
    image = show_image(left, shown, cmap=scale, norm=LogNorm(top / 1e4, top, clip=True))
    left.set(xlabel="column", ylabel="row", facecolor="white")
    figure.colorbar(image, ax=left, label="largest change")
    right.bar(range(len(by_frame)), by_frame, color=COLOURS["error"])
    right.grid(False, axis="x")
    if by_frame.any():
        right.set(yscale="log", ylim=(min(top / 1e4, by_frame[by_frame > 0].min() / 2), top * 1.5))
    right.set(xlabel="frame", ylabel="largest change\n(pixels in [-1, 1])")
    right.locator_params("x", integer=True)
    if main is not None:
        (first, last), (row, last_row), (column, last_column) = main
        size = last_column - column + 1, last_row - row + 1
        box = Rectangle((column - 0.5, row - 0.5), *size, fill=False, edgecolor=COLOURS["input"], linewidth=2)
        left.add_patch(box)
        right.axvspan(first - 0.5, last + 0.5, color=COLOURS["input"], alpha=0.15)
    figure.suptitle(title)
    return figure


@styled
def interpolation_picture(weights: np.ndarray, frames: np.ndarray, frame: int = 0) -> Figure:
    """Draw one frame of (steps, 3, T, H, W) in [-1, 1] at each weight, above the cross-fade of the pixels."""
    steps, weight = np.asarray(frames)[:, :, frame].swapaxes(0, 1), np.asarray(weights)[:, None, None]
    fades = (1 - weight) * steps[:, :1] + weight * steps[:, -1:]
    cell = min(1.8, (WIDTH - 1) / len(weights))
    height = cell * max(steps.shape[2] / steps.shape[3], 0.3) + 0.06
    figure = new_figure(0.8 + 2 * height)
    rows = {"latents": _as_pictures(steps), "pixels\n(cross-fade)": _as_pictures(fades)}
    picture_grid(figure, rows, [f"{weight:.2f}" for weight in weights])
    figure.suptitle(f"weight of the other clip; frame {frame}")
    return figure
