"""Pictures of what the probes measure: arrays in, a matplotlib Figure out; nothing is displayed or written."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np

from ..utils.tables import DataFrame, Figure
from .style import COLOURS, LINE, OTHER_COLOURS, colour_map, mark_borders, new_axis, new_figure, show_image, styled

DECADES = 8  # a logarithmic scale spans at most this many; smaller values are drawn at its lower end


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic scale for those of the values that are above 0; never equal."""
    positive = values[values > 0]
    high = positive.max(initial=0) or 1.0
    return min(max(positive.min(initial=high), high / 10**DECADES), high / 10), high


@styled
def dependency_heatmap(
    matrix: np.ndarray, last_seen: Sequence[int] | None = None, quantity: str = "largest change", title: str = ""
) -> Figure:
    """Draw which input frame affects which output frame, and how strongly. Exact zeros stay white.

    matrix: (input frames, output frames), not negative. quantity: what its numbers are, with their unit.
    last_seen: for each output frame the last input frame it may see; a staircase, with errors' colour beyond it.
    """
    from matplotlib.colors import LogNorm, to_rgb

    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not (matrix >= 0).all():
        raise ValueError(f"matrix must be (input frames, output frames) and not negative, got shape {matrix.shape}")
    inputs, outputs = matrix.shape
    if last_seen is not None and len(last_seen) != outputs:
        raise ValueError(f"last_seen must have one entry for each of {outputs} output frames, got {len(last_seen)}")
    height, width = min(10, max(2.8, 1.5 + 0.24 * outputs)), min(12, 4.6 + 0.2 * inputs)
    figure, axis = new_axis(height, width, title=title, xlabel="input frame", ylabel="output frame", facecolor="white")
    beyond = np.zeros(matrix.shape, bool)
    if last_seen is not None:
        beyond = np.arange(inputs)[:, None] > np.asarray(last_seen)
        stairs = (np.asarray(last_seen) + 0.5).repeat(2), (np.arange(outputs + 1) - 0.5).repeat(2)[1:-1]
        axis.plot(*stairs, color=COLOURS["latent"], linewidth=2, label="may see up to here")
        figure.legend(loc="outside lower center")
    norm = LogNorm(*_log_limits(matrix), clip=True)
    for name, label, part in (("error", f"{quantity}, leaked", beyond), ("input", quantity, ~beyond)):
        shown = np.ma.masked_where(~(part & (matrix > 0)), matrix)
        if shown.count():
            pale = [1 - (1 - tone) / 6 for tone in to_rgb(COLOURS[name])]  # can still be told from white
            scale = colour_map(pale, COLOURS[name])
            figure.colorbar(show_image(axis, shown.T, norm=norm, cmap=scale, aspect="auto"), ax=axis, label=label)
    axis.set(xlim=(-0.5, inputs - 0.5), ylim=(outputs - 0.5, -0.5))
    axis.grid(False)
    axis.locator_params(integer=True)
    return figure


@styled
def chunk_differences(differences: Mapping[str, np.ndarray], reference: str) -> Figure:
    """Draw how far the result of each plan of chunks is from that of the first plan, for each output frame.

    differences: plan -> the largest difference of each output frame; zeros are not drawn. reference: the first plan.
    """
    title = f"compared with chunks of {reference}"
    figure, axis = new_axis(3, xlabel="output frame", ylabel="largest difference", title=title)
    low, high = _log_limits(np.concatenate([np.zeros(0), *differences.values()]))
    for colour, (name, difference) in zip(cycle((COLOURS["error"], *OTHER_COLOURS)), differences.items(), strict=False):
        shown = np.where(np.asarray(difference) > 0, difference, np.nan)
        label = f"chunks of {name}" + ("" if np.isfinite(shown).any() else ": no difference")
        axis.plot(shown, marker=".", label=label, color=colour)
    longest = max(map(len, differences.values()), default=1)
    axis.set(yscale="log", ylim=(low / 2, high * 2), xlim=(-0.5, longest - 0.5))
    axis.locator_params("x", integer=True)
    if differences:
        axis.legend()
    return figure


@styled
def module_changes(changes: Mapping[str, float]) -> Figure:
    """Draw how far each offending module moved its past, in the order in which the modules ran.

    changes: name -> the largest change of an output frame that must not change.
    """
    label = "largest change of an output frame that must not change"
    figure, axis = new_axis(1.2 + 0.32 * max(1, len(changes)), xlabel=label)
    axis.grid(False)
    if changes:
        axis.barh(range(len(changes)), list(changes.values()), color=COLOURS["error"])
        axis.set_xlim(0, 1.1 * max(changes.values()))
    else:
        axis.text(0.5, 0.5, "no module moved its past", ha="center", va="center", transform=axis.transAxes)
    axis.set_yticks(range(len(changes)), list(changes), fontsize=8)
    axis.invert_yaxis()
    return figure


@styled
def receptive_field_mass(
    mass: np.ndarray,
    window: tuple[int, int],
    reached: tuple[int, int],
    unit: str = "input frame",
    share: float = 0.99,
    chunk: int | None = None,
    title: str = "",
) -> Figure:
    """Draw how the gradient of one output is spread over the input frames, rows or columns.

    Args:
        mass: share of the gradient's absolute sum in each of them.
        window: first and last of the shortest range that holds `share` of it; reached: of those with any gradient.
        chunk: length of a chunk, drawn for comparison so that it ends where `reached` does.
    """
    mass = np.asarray(mass)
    figure, axis = new_axis(3, xlabel=unit, ylabel="share of the gradient", title=title)
    low, high = _log_limits(mass)
    first, last = reached[0] - 0.5, reached[1] + 0.5
    bulk = f"{share:.0%} of the gradient: {window[1] - window[0] + 1}"
    axis.axvspan(window[0] - 0.5, window[1] + 0.5, color=COLOURS["latent"], alpha=0.25, linewidth=0, label=bulk)
    axis.bar(np.arange(len(mass)), np.where(mass > 0, np.maximum(mass, low), 0), width=1.0, color=COLOURS["input"])
    for edge, label in ((first, f"any gradient: {reached[1] - reached[0] + 1}"), (last, None)):
        axis.axvline(edge, color=COLOURS["input"], linewidth=1, linestyle="--", label=label)
    if chunk is not None:
        (line,) = axis.plot([last - chunk, last], [high, high], color=LINE, label=f"one chunk: {chunk}")
        line.set(linewidth=4, solid_capstyle="butt")
    axis.set(yscale="log" if mass.any() else "linear", ylim=(low / 2, high * 2), xlim=(-0.5, len(mass) - 0.5))
    axis.locator_params("x", integer=True)
    axis.grid(False, axis="x")
    axis.legend(loc="upper left")
    return figure


@styled
def seam_curves(
    error: np.ndarray,
    jump: np.ndarray,
    starts: Sequence[int],
    by_place: np.ndarray,
    noun: str = "frame",
    spectrum: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Draw errors at the borders of chunks: along the clip, by place in the chunk, and over frequency.

    Args:
        error: (N,) RMS error of each sample; jump: (N - 1,) RMS change of the error from sample i to i + 1.
        starts: where chunks begin; marked by dashed lines.
        by_place: (longest chunk,) RMS error at each place in the chunk.
        noun: what a sample is: "frame", "row" or "column".
        spectrum: (frequencies in cycles per sample, power, which are multiples of 1 / period); None: not drawn.
    """
    figure = new_figure(5.2)
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    along = above.subplots()
    along.plot(error, marker=".", color=COLOURS["error"], label="error")
    # a change lies between two samples
    along.plot(np.arange(len(jump)) + 0.5, jump, marker=".", color=COLOURS["padding"], label="change of the error")
    mark_borders(along, starts)
    along.set(xlabel=noun, ylabel="RMS, in units of the clip", ylim=(0, None))
    along.legend()
    place, *over_frequency = below.subplots(1, 2 if spectrum else 1, squeeze=False)[0]
    place.bar(range(len(by_place)), by_place, color=COLOURS["error"])
    place.set(xlabel=f"place of the {noun} in its chunk", ylabel="RMS error", xlim=(-0.7, len(by_place) - 0.3))
    for axis in (along, place):
        axis.locator_params("x", integer=True)
    if spectrum:
        frequencies, power, harmonics = spectrum
        (axis,) = over_frequency
        width = 0.8 * frequencies[0]  # frequencies are multiples of the first
        axis.bar(frequencies, power, width, color=COLOURS["padding"], label="other frequencies")
        bars = axis.bar(frequencies[harmonics], power[harmonics], width, color=COLOURS["error"])
        bars.set_label("1 / chunk and its multiples")
        axis.set(xlabel=f"frequency of the error, cycles per {noun}", ylabel="power")
        axis.legend()
    return figure


@styled
def static_changes(mean: np.ndarray, largest: np.ndarray, starts: Sequence[int] = (0,)) -> Figure:
    """Draw how much each output frame of a still clip differs from the frame before.

    mean, largest: (T - 1,) absolute changes, from frame 0 to 1 first. starts: where chunks begin; dashed lines.
    """
    title = "output for a clip in which nothing moves"
    figure, axis = new_axis(2.8, xlabel="output frame", ylabel="absolute change from\nthe frame before", title=title)
    frames = range(1, len(mean) + 1)
    axis.plot(frames, largest, marker=".", color=COLOURS["error"], label="largest")
    axis.plot(frames, mean, marker=".", color=COLOURS["output"], label="mean")
    mark_borders(axis, starts)
    axis.set(xlim=(-0.5, len(mean) + 0.5), ylim=(0, 1.05 * float(np.max(largest)) or 1))
    axis.locator_params("x", integer=True)
    axis.legend()
    return figure


@styled
def misplacement_maps(
    maps: Mapping[str, np.ndarray], noun: str = "latent", over_time: np.ndarray | None = None
) -> Figure:
    """Draw how far each sample lies from its place, one map for each axis; all share one scale from 0.

    maps: axis -> (H, W) absolute misplacement along it, in latent samples. noun: a sample of them, "latent" or "pixel".
    over_time: (frames,) misplacement along time of each output frame, in latent frames; drawn above the maps.
    """
    scale = colour_map("white", COLOURS["error"])
    top = max(float(np.max(values)) for values in maps.values())
    top = top if top > 1e-3 else 1.0  # rounding stays white
    curve = over_time is not None
    figure = new_figure(3.4 + 2.2 * curve, 1 + 3.6 * len(maps))
    *above, below = figure.subfigures(1 + curve, 1, height_ratios=[2.2] * curve + [3.4], squeeze=False)[:, 0]
    if over_time is not None:
        axis = above[0].subplots()
        axis.plot(over_time, marker=".", color=COLOURS["error"])
        axis.set(xlabel="output frame", ylabel="misplacement\nin latent frames")
        axis.set_title(f"along time: {np.abs(over_time).max():.2f} at most")
        axis.locator_params("x", integer=True)
    axes = below.subplots(1, len(maps), squeeze=False)[0]
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        image = show_image(axis, values, cmap=scale, vmin=0, vmax=top)
        axis.set(xlabel=f"{noun} column", ylabel=f"{noun} row", title=f"along {name}: {np.max(values):.2f} at most")
    below.colorbar(image, ax=list(axes), label="misplacement in latent samples")
    return figure


@styled
def reach_grid(panels: Mapping[str, tuple[Sequence[range], Sequence[range]]], columns: int = 5) -> Figure:
    """Draw which frames each latent frame depends on, one small picture for each encoder.

    panels: title -> (seen, groups): for each latent frame the frames that it depends on, and those that it stands for.
    Frames after a latent's own group have the colour of errors.
    """
    if not panels:
        raise ValueError("panels must hold at least one encoder, got none")
    from matplotlib.colors import ListedColormap

    rows = -(-len(panels) // columns)
    figure = new_figure(0.4 + 1.35 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    scale = ListedColormap(["white", COLOURS["input"], COLOURS["error"]])
    for axis, (title, (seen, groups)) in zip(axes, panels.items(), strict=False):
        frames = np.arange(groups[-1].stop)
        starts, stops, own = (
            np.array(ends)[:, None]
            for ends in ([r.start for r in seen], [r.stop for r in seen], [group.stop for group in groups])
        )
        matrix = ((starts <= frames) & (frames < stops)) * np.where(frames < own, 1, 2)
        show_image(axis, matrix, cmap=scale, vmin=0, vmax=2, aspect="auto")
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    figure.supxlabel("frame", fontsize=9)
    figure.supylabel("latent frame", fontsize=9)
    return figure


@styled
def property_grid(table: DataFrame) -> Figure:
    """Draw a table of yes and no: a coloured cell for each. Missing values stay empty.

    table: bool or None, one row for each model, one column for each property.
    """
    values = table.eq(True).to_numpy(int) - table.eq(False).to_numpy(int)
    rows, columns = values.shape
    figure, axis = new_axis(0.7 + 0.26 * rows, 2.2 + 1.05 * columns)
    show_image(
        axis, values, cmap=colour_map(COLOURS["error"], "white", COLOURS["output"]), vmin=-1, vmax=1, aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, ("no", "", "yes")[value + 1], ha="center", va="center", color="white", fontsize=8)
    axis.set_xticks(range(columns), table.columns)
    axis.set_yticks(range(rows), table.index)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    axis.tick_params(which="minor", length=0)
    axis.grid(which="minor", color="white", linewidth=2, alpha=1)
    return figure
