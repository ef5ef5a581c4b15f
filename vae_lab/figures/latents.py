"""Pictures of latents and of what changing them does: arrays in, a matplotlib Figure out; nothing is displayed.

Channels have no colours of their own in the lab's language, so they take those of a scale, numbered beside it.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..utils.text import count, span
from .frames import ERROR_GAIN, error_map, evenly_chosen, latent_pictures
from .style import COLOURS, OTHER_COLOURS

WIDTH = 9  # inches


def _figure(height: float, width: float = WIDTH):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _channel_colours(channels: int) -> list:
    from matplotlib import colormaps

    return [colormaps["viridis"](position) for position in np.linspace(0, 0.85, channels)]


def _name_channels(figure, axes, channels: int) -> None:
    """A scale that tells which colour is which channel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    scale = ScalarMappable(BoundaryNorm(np.arange(channels + 1) - 0.5, channels), None)
    scale.set_cmap(ListedColormap(_channel_colours(channels)))
    figure.colorbar(scale, ax=axes, label="channel", ticks=evenly_chosen(channels, 8))


def _whole_numbers(*axes) -> None:
    for axis in axes:
        axis.get_major_locator().set_params(integer=True)


def _plain_logarithm(axis) -> None:
    """Numbers such as 0.1, 0.2, 0.3 and 0.5 on a logarithmic axis of a decade or two."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _as_pictures(frames: np.ndarray) -> np.ndarray:
    """(3, T, H, W) in [-1, 1] -> uint8 (T, H, W, 3)."""
    return np.rint((np.moveaxis(np.asarray(frames), 0, -1).clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def _show(axis, picture: np.ndarray, title: str = "", **options) -> None:
    axis.imshow(picture, interpolation="nearest", **options)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9, parse_math=False)


# ---- latents -------------------------------------------------------------------------------------------------------


def latent_filmstrip(
    latent: np.ndarray,
    frames: np.ndarray | None = None,
    groups: Sequence[range] | None = None,
    columns: int = 9,
    rows: int = 16,
):
    """A matplotlib Figure: PCA and every channel over latent frames, under the frames that each one stands for.

    Args:
        latent: (C, L, h, w). Scales are fixed over time, as `figures.latent_pictures` says, and stand in the titles.
        frames: uint8 (T, H, W, 3); groups: the frames of each latent frame (`shapes.frame_groups`), both or neither.
          Of each group the middle frame is shown.
        columns: latent frames at most, evenly chosen; rows: channels at most, the first of them.
    """
    latent = np.asarray(latent)
    if (frames is None) != (groups is None):
        raise ValueError("frames and groups must be given together")
    pictures = latent_pictures(latent)
    some = "" if len(latent) <= rows else f"; {count(rows, 'channel')} of {len(latent)}"
    pictures = dict(list(pictures.items())[: len(pictures) - max(0, len(latent) - rows)])
    if groups is not None:
        if len(groups) != latent.shape[1]:
            raise ValueError(f"groups must be one for each of {latent.shape[1]} latent frames, got {len(groups)}")
        if groups[-1].stop != len(frames):
            raise ValueError(f"groups must cover the {len(frames)} frames, got {groups[-1].stop}")
        middles = np.stack([frames[(group.start + group.stop - 1) // 2] for group in groups])
        pictures = {"frames": middles, **pictures}
    chosen = evenly_chosen(latent.shape[1], columns)
    cell = min(1.0, (WIDTH - 1.4) / len(chosen))
    height = max(latent.shape[2] / latent.shape[3], 0.3)  # of a picture, where its width is 1
    figure = _figure(0.8 + (cell * height + 0.06) * len(pictures), 1.6 + (cell + 0.06) * max(len(chosen), 3))
    axis, gap = figure.subplots(), 0.06 / cell
    steps = 1 + gap, height + gap  # from picture to picture: axes of their own would take seconds to draw
    for row, shown in enumerate(pictures.values()):
        for column, index in enumerate(chosen):
            left, top = column * steps[0], row * steps[1]
            axis.imshow(shown[index], interpolation="nearest", extent=(left, left + 1, top + height, top))
    labels = [short_numbers(name).replace(" (", "\n(") for name in pictures]
    axis.set_yticks(np.arange(len(labels)) * steps[1] + height / 2, labels, fontsize=8, parse_math=False)
    covered = ["" if groups is None else "\n" + span(groups[index], " to ") for index in chosen]
    titles = [f"{index}{text}" for index, text in zip(chosen, covered, strict=True)]
    axis.set_xticks(np.arange(len(chosen)) * steps[0] + 0.5, titles, fontsize=8)
    axis.set(xlim=(0, len(chosen) * steps[0] - gap), ylim=(len(labels) * steps[1] - gap, 0), aspect="equal")
    axis.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    axis.set_title("latent frame" + ("" if groups is None else ", and the frames it stands for") + some, fontsize=9)
    return figure


def short_numbers(title: str) -> str:
    """A title of `figures.latent_pictures` with three digits of the numbers that have six or more before the point."""
    return re.sub(r"\d{6,}\.\d", lambda number: f"{float(number[0]):.3g}", title)


def moment_curves(mean: np.ndarray, std: np.ndarray, figure=None):
    """A matplotlib Figure: mean and std of every channel over latent frames, each (C, L)."""
    figure = _figure(2.8) if figure is None else figure
    axes = figure.subplots(1, 2)
    for axis, values, label in zip(axes, (mean, std), ("mean", "standard deviation"), strict=True):
        for colour, curve in zip(_channel_colours(len(values)), values, strict=True):
            axis.plot(range(len(curve)), curve, marker=".", color=colour)
        axis.set(xlabel="latent frame", ylabel=label)
        _whole_numbers(axis.xaxis)
        axis.grid(alpha=0.25)
    axes[1].set_ylim(bottom=0)
    _name_channels(figure, list(axes), len(mean))
    return figure


def correlation_matrix(matrix: np.ndarray, figure=None):
    """A matplotlib Figure of correlations between channels, (C, C) from -1 to 1, with numbers up to 16 channels."""
    from matplotlib.colors import LinearSegmentedColormap

    channels = len(matrix)
    side = min(2.2 + 0.4 * channels, 8)
    figure = _figure(side, side + 1) if figure is None else figure
    axis = figure.subplots()
    scale = LinearSegmentedColormap.from_list("correlation", [COLOURS["input"], "white", COLOURS["error"]])
    picture = axis.imshow(
        matrix, cmap=scale.with_extremes(bad=COLOURS["padding"]), vmin=-1, vmax=1, interpolation="nearest"
    )
    if channels <= 16:
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8 if channels <= 8 else 6,
                      color="black")  # fmt: skip
    axis.set(xlabel="channel", ylabel="channel")
    _whole_numbers(axis.xaxis, axis.yaxis)
    figure.colorbar(picture, ax=axis, label="correlation")
    return figure


def lag_curves(correlation: np.ndarray, figure=None):
    """A matplotlib Figure of the correlation of each channel with itself later: (C, lags + 1)."""
    figure = _figure(2.8) if figure is None else figure
    axis = figure.subplots()
    for colour, curve in zip(_channel_colours(len(correlation)), correlation, strict=True):
        axis.plot(range(len(curve)), curve, marker=".", color=colour)
    axis.axhline(0, color="#777777", linewidth=1)
    axis.set(
        xlabel="lag in latent frames", ylabel="correlation", ylim=(min(-0.05, np.nanmin([*correlation.flat, 0])), 1.05)
    )
    _whole_numbers(axis.xaxis)
    axis.grid(alpha=0.25)
    _name_channels(figure, axis, len(correlation))
    return figure


def spectrum_curves(frequency: np.ndarray, power: np.ndarray, unit: str, figure=None):
    """A matplotlib Figure of power (C, F) over frequency (F,), both logarithmic; what has no power is not drawn."""
    figure = _figure(2.8) if figure is None else figure
    axis = figure.subplots()
    power = np.asarray(power)
    drawn = np.where(power > 0, power, np.nan)
    for colour, curve in zip(_channel_colours(len(power)), drawn, strict=True):
        axis.plot(frequency, curve, marker=".", color=colour)
    if np.isfinite(drawn).any():
        axis.set(xscale="log", yscale="log")
        _plain_logarithm(axis.xaxis)
    else:
        words = "no power" if power.size else "one sample has no spectrum"
        axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
    axis.set(xlabel=unit, ylabel="power")
    axis.grid(alpha=0.25)
    _name_channels(figure, axis, len(power))
    return figure


def posterior_bars(kl: np.ndarray, mean_variance: np.ndarray, active_variance: float):
    """A matplotlib Figure: KL and variance of the posterior mean of every channel (C,); dead ones in grey."""
    figure = _figure(2.8)
    colours = [COLOURS["latent"] if value > active_variance else COLOURS["padding"] for value in mean_variance]
    left, right = figure.subplots(1, 2)
    left.bar(range(len(kl)), kl, color=colours)
    left.set(ylabel="KL in nats per element")
    right.bar(range(len(kl)), mean_variance, color=colours)
    right.axhline(active_variance, color=COLOURS["error"], linestyle="--", label=f"active above {active_variance:g}")
    right.set(ylabel="variance of the posterior mean", yscale="log")
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside lower right")
    for axis in (left, right):
        axis.set(xlabel="channel")
        _whole_numbers(axis.xaxis)
    return figure


def scale_picture(mean: np.ndarray, std: np.ndarray, expected: Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """A matplotlib Figure: mean and std of every channel (C,), and where each hypothesis (mean, std) has them."""
    figure = _figure(3.2)
    axes = figure.subplots(1, 2)
    places = np.arange(len(mean))
    colours = (COLOURS["output"], COLOURS["input"], *OTHER_COLOURS)
    for axis, index, label in zip(axes, (0, 1), ("mean", "standard deviation"), strict=True):
        axis.bar(places, (mean, std)[index], color=COLOURS["latent"], label="measured")
        for colour, marker, (name, values) in zip(colours, "_os^v", expected.items(), strict=True):
            size = 400 / len(mean) if marker == "_" else 30
            axis.scatter(places, values[index], color=colour, marker=marker, s=size, label=name, zorder=3)
        axis.set(xlabel="channel", ylabel=label)
        _whole_numbers(axis.xaxis)
        axis.grid(alpha=0.25)
    axes[1].set_yscale("log")
    _plain_logarithm(axes[1].yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=6)
    return figure


def report_picture(report):
    """A matplotlib Figure of a `latent_statistics.LatentReport`: moments, correlations, spectra."""
    figure = _figure(8.4)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2.6, 3.2, 2.6])
    moment_curves(report.frames.mean, report.frames.std, top)
    left, right = middle.subfigures(1, 2)
    correlation_matrix(report.correlation, left)
    lag_curves(report.time_correlation, right)
    for part, spectrum in zip(bottom.subfigures(1, 2), (report.spatial, report.temporal), strict=True):
        spectrum_curves(spectrum.frequency, spectrum.power, spectrum.unit, part)
    return figure


# ---- what changing them does ---------------------------------------------------------------------------------------


def effect_picture(original: np.ndarray, changed: np.ndarray, rms: np.ndarray, columns: int = 6):
    """A matplotlib Figure: frames before and after, their difference times ERROR_GAIN, and the RMS of every frame.

    original, changed: (1, 3, T, H, W) in [-1, 1]. rms: (T,).
    """
    before, after = (_as_pictures(frames[0]) for frames in (original, changed))
    rows = {"original": before, "changed": after, f"difference\nx{ERROR_GAIN}": error_map(before, after)}
    chosen = evenly_chosen(len(before), columns)
    cell = (WIDTH - 1) / columns
    height = cell * max(before.shape[1] / before.shape[2], 0.3) + 0.06
    figure = _figure(2.4 + 3 * height)
    above, below = figure.subfigures(2, 1, height_ratios=[0.3 + 3 * height, 2.1])
    for row, (name, frames) in zip(above.subplots(3, len(chosen), squeeze=False), rows.items(), strict=True):
        for axis, t in zip(row, chosen, strict=True):
            _show(axis, frames[t], f"t = {t}" if name == "original" else "")
        row[0].set_ylabel(name, fontsize=9)
    axis = below.subplots()
    axis.plot(range(len(rms)), rms, marker=".", color=COLOURS["error"])
    axis.set(xlabel="frame", ylabel="RMS difference\n(pixels in [-1, 1])", ylim=(0, 1.1 * np.max(rms) or 1))
    _whole_numbers(axis.xaxis)
    axis.grid(alpha=0.25)
    return figure


def channel_effect_bars(names: Sequence[str], rms: np.ndarray):
    """A matplotlib Figure: RMS difference (C, K) of K changes, grouped by channel; a dashed line between the groups."""
    figure = _figure(2.8)
    axis = figure.subplots()
    channels, changes = np.shape(rms)
    colours = (COLOURS["padding"], COLOURS["latent"], COLOURS["spatial"], *OTHER_COLOURS)
    for index, name in enumerate(names):
        places = np.arange(channels) + (index - (changes - 1) / 2) * 0.8 / changes
        axis.bar(places, np.asarray(rms)[:, index], 0.8 / changes, color=colours[index % len(colours)], label=name)
    axis.set(xlabel="channel", ylabel="RMS difference\n(pixels in [-1, 1])", xlim=(-0.6, channels - 0.4))
    _whole_numbers(axis.xaxis)
    axis.grid(alpha=0.25, axis="y")
    axis.legend(fontsize=8)
    return figure


def paint_picture(difference: np.ndarray, main=None, title: str = ""):
    """A matplotlib Figure of what one cell paints: (T, H, W), the largest change of every pixel, and of every frame.

    main: frames, rows and columns, (first, last) each, drawn as a box and a band. Exact zeros stay white. Both scales
    are logarithmic and end at a ten-thousandth of the largest change, or a little below the smallest frame.
    """
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.patches import Rectangle

    picture, by_frame = difference.max(axis=0), difference.max(axis=(1, 2))
    figure = _figure(3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    top = float(picture.max()) or 1.0
    scale = LinearSegmentedColormap.from_list("error", ["white", COLOURS["error"], "#4D2200"])
    shown = np.ma.masked_where(picture == 0, picture)
    image = left.imshow(shown, cmap=scale, norm=LogNorm(top / 1e4, top, clip=True), interpolation="nearest")
    left.set(xlabel="column", ylabel="row", facecolor="white")
    figure.colorbar(image, ax=left, label="largest change")
    right.bar(range(len(by_frame)), by_frame, color=COLOURS["error"])
    if by_frame.any():
        right.set_yscale("log")
        right.set_ylim(min(top / 1e4, by_frame[by_frame > 0].min() / 2), top * 1.5)
    right.set(xlabel="frame", ylabel="largest change\n(pixels in [-1, 1])")
    if main is not None:
        (first, last), (top_row, low_row), (left_column, right_column) = main
        box = Rectangle(
            (left_column - 0.5, top_row - 0.5), right_column - left_column + 1, low_row - top_row + 1, fill=False,
            edgecolor=COLOURS["input"], linewidth=2,
        )  # fmt: skip
        left.add_patch(box)
        right.axvspan(first - 0.5, last + 0.5, color=COLOURS["input"], alpha=0.15)
    _whole_numbers(left.xaxis, left.yaxis, right.xaxis)
    right.grid(alpha=0.25, axis="y")
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def interpolation_picture(weights: np.ndarray, frames: np.ndarray, frame: int = 0):
    """A matplotlib Figure: one frame (of steps, 3, T, H, W in [-1, 1]) at each weight, over the pixels' cross-fade."""
    chosen = np.asarray(frames)[:, :, frame : frame + 1]
    fades = [(1 - weight) * chosen[0] + weight * chosen[-1] for weight in weights]
    rows = {"latents": chosen, "pixels\n(cross-fade)": fades}
    cell = min(1.8, (WIDTH - 1) / len(weights))
    height = cell * max(chosen.shape[3] / chosen.shape[4], 0.3) + 0.06
    figure = _figure(0.8 + 2 * height)
    for row, (name, steps) in zip(figure.subplots(2, len(weights), squeeze=False), rows.items(), strict=True):
        for axis, step, weight in zip(row, steps, weights, strict=True):
            _show(axis, _as_pictures(step)[0], f"{weight:.2f}" if name == "latents" else "")
        row[0].set_ylabel(name, fontsize=9)
    figure.suptitle(f"weight of the other clip; frame {frame}", fontsize=9)
    return figure
