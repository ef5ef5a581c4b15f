"""Pictures of what the probes measure: arrays in, a matplotlib Figure out; nothing is displayed or written."""

from collections.abc import Mapping, Sequence

import numpy as np

from .style import COLOURS, OTHER_COLOURS

DECADES = 8  # of a logarithmic colour scale or axis, at most: what is smaller is drawn as small as this
LINE = "#777777"  # of chunks


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic scale for the positive ones among the values; they are never equal."""
    positive = values[values > 0]
    if not len(positive):
        return 0.1, 1.0
    high = positive.max()
    return min(max(positive.min(), high / 10**DECADES), high / 10), high


def _tint(colour: str) -> str:
    """A pale shade of a colour "#rrggbb", which can still be told from white."""
    return "#" + "".join(f"{255 - (255 - int(colour[i : i + 2], 16)) // 6:02x}" for i in (1, 3, 5))


def dependency_heatmap(
    matrix: np.ndarray, last_seen: Sequence[int] | None = None, quantity: str = "largest change", title: str = ""
):
    """A matplotlib Figure of which input frame reaches which output frame, and how strongly. Exact zeros stay white.

    Args:
        matrix: (input frames, output frames), not negative.
        last_seen: for each output frame the last input frame it may see, drawn as a staircase; what lies beyond it is
          in the colour of errors.
        quantity: what the numbers are, with their unit; the label of the colour scale.
    """
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not (matrix >= 0).all():
        raise ValueError(f"matrix must be (input frames, output frames) and not negative, got shape {matrix.shape}")
    inputs, outputs = matrix.shape
    if last_seen is not None and len(last_seen) != outputs:
        raise ValueError(f"last_seen must have one entry for each of {outputs} output frames, got {len(last_seen)}")
    figure = Figure(
        figsize=(min(12, 4.6 + 0.2 * inputs), min(10, max(2.8, 1.5 + 0.24 * outputs))), layout="constrained"
    )
    axis = figure.subplots()
    beyond = np.zeros(matrix.shape, bool)
    if last_seen is not None:
        beyond = np.arange(inputs)[:, None] > np.asarray(last_seen)[None]
    norm = LogNorm(*_log_limits(matrix), clip=True)
    for name, label, part in (("error", f"{quantity}, leaked", beyond), ("input", quantity, ~beyond)):
        shown = np.ma.masked_where(~(part & (matrix > 0)), matrix)
        if shown.count():
            scale = LinearSegmentedColormap.from_list(name, [_tint(COLOURS[name]), COLOURS[name]])
            picture = axis.imshow(shown.T, norm=norm, cmap=scale, aspect="auto", interpolation="nearest")
            figure.colorbar(picture, ax=axis, label=label)
    if last_seen is not None:
        edges, rows = np.asarray(last_seen) + 0.5, np.arange(outputs + 1) - 0.5
        axis.plot(edges.repeat(2), rows.repeat(2)[1:-1], color=COLOURS["latent"], linewidth=2,
                  label="may see up to here")  # fmt: skip
        figure.legend(fontsize=8, loc="outside lower center")
    axis.set(
        xlim=(-0.5, inputs - 0.5), ylim=(outputs - 0.5, -0.5), xlabel="input frame", ylabel="output frame",
        facecolor="white",
    )  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_title(title, fontsize=10, parse_math=False)
    return figure


def chunk_differences(differences: Mapping[str, np.ndarray], reference: str):
    """A matplotlib Figure of how far each plan of chunks is from the first, output frame by output frame.

    Args:
        differences: plan -> one number an output frame, the largest difference; zeros are not drawn.
        reference: the plan that the others are compared with.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    axis = figure.subplots()
    values = np.concatenate([np.asarray(difference) for difference in differences.values()] or [np.zeros(0)])
    low, high = _log_limits(values)
    colours = (COLOURS["error"], *OTHER_COLOURS)
    for index, (name, difference) in enumerate(differences.items()):
        shown = np.where(np.asarray(difference) > 0, difference, np.nan)
        label = f"chunks of {name}" + ("" if np.isfinite(shown).any() else ": no difference")
        axis.plot(np.arange(len(shown)), shown, marker=".", label=label, color=colours[index % len(colours)])
    longest = max((len(difference) for difference in differences.values()), default=1)
    axis.set(
        yscale="log", ylim=(low / 2, high * 2), xlim=(-0.5, longest - 0.5), xlabel="output frame",
        ylabel="largest difference",
    )  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title(f"compared with chunks of {reference}", fontsize=10, parse_math=False)
    axis.grid(alpha=0.25)
    if differences:
        axis.legend(fontsize=8, loc="best")
    return figure


def module_changes(changes: Mapping[str, float]):
    """A matplotlib Figure of how far each offending module moved its past, in the order in which they ran.

    changes: name -> largest change of an output frame that had to stand still.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.32 * max(1, len(changes))), layout="constrained")
    axis = figure.subplots()
    if changes:
        axis.barh(range(len(changes)), list(changes.values()), color=COLOURS["error"])
        axis.set_xlim(0, 1.1 * max(changes.values()))
    else:
        axis.text(0.5, 0.5, "no module moved its past", ha="center", va="center", transform=axis.transAxes)
    axis.set_yticks(range(len(changes)), list(changes), fontsize=8, parse_math=False)
    axis.invert_yaxis()
    axis.set(xlabel="largest change of an output frame that had to stand still")
    return figure


def receptive_field_mass(
    mass: np.ndarray,
    window: tuple[int, int],
    reached: tuple[int, int],
    unit: str = "input frame",
    share: float = 0.99,
    chunk: int | None = None,
    title: str = "",
):
    """A matplotlib Figure of how the gradient of one output is spread over the input frames, rows or columns.

    Args:
        mass: share of the gradient's absolute sum in each frame.
        window: first and last frame of the shortest piece that holds `share` of it.
        reached: first and last frame with a gradient at all.
        chunk: length of a chunk, for comparison: drawn so that it ends where `reached` does.
    """
    from matplotlib.figure import Figure

    mass = np.asarray(mass)
    figure = Figure(figsize=(9, 3), layout="constrained")
    axis = figure.subplots()
    low, high = _log_limits(mass)
    axis.axvspan(window[0] - 0.5, window[1] + 0.5, color=COLOURS["latent"], alpha=0.25, linewidth=0,
                 label=f"{share:.0%} of the gradient: {window[1] - window[0] + 1}")  # fmt: skip
    axis.bar(np.arange(len(mass)), np.where(mass > 0, np.maximum(mass, low), 0), width=1.0, color=COLOURS["input"])
    for edge in (reached[0] - 0.5, reached[1] + 0.5):
        axis.axvline(edge, color=COLOURS["input"], linewidth=1, linestyle="--",
                     label=f"any gradient: {reached[1] - reached[0] + 1}" if edge < reached[1] else None)  # fmt: skip
    if chunk is not None:
        axis.plot([reached[1] + 0.5 - chunk, reached[1] + 0.5], [high, high], color=LINE, linewidth=4,
                  solid_capstyle="butt", label=f"one chunk: {chunk}")  # fmt: skip
    axis.set(
        yscale="log" if mass.any() else "linear",
        ylim=(low / 2, high * 2),
        xlim=(-0.5, len(mass) - 0.5),
        xlabel=unit,
        ylabel="share of the gradient",
    )
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.grid(alpha=0.25, axis="y")
    axis.legend(fontsize=8, loc="upper left")
    return figure


def _mark_borders(axis, starts: Sequence[int]) -> None:
    """A dashed line before each start but the first."""
    for start in starts[1:]:
        axis.axvline(start - 0.5, color=LINE, linestyle="--", linewidth=1)


def seam_curves(
    error: np.ndarray,
    jump: np.ndarray,
    starts: Sequence[int],
    by_place: np.ndarray,
    noun: str = "frame",
    spectrum: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
):
    """A matplotlib Figure of errors and borders: along the clip, by place in the chunk, and over frequency.

    Args:
        error: (N,) RMS error of each sample; jump: (N - 1,) RMS change of the error from sample i to i + 1.
        starts: where chunks begin; dashed lines before them.
        by_place: (longest chunk,) RMS error at each place in the chunk.
        noun: what a sample is: "frame", "row" or "column".
        spectrum: (frequencies in cycles per sample, power, which are multiples of 1 / period); None: not drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    rows = figure.subfigures(2, 1)
    along = rows[0].subplots()
    along.plot(range(len(error)), error, marker=".", color=COLOURS["error"], label="error")
    # a change lies between two samples
    along.plot(np.arange(len(jump)) + 0.5, jump, marker=".", color=COLOURS["padding"], label="change of the error")
    _mark_borders(along, starts)
    along.set(xlabel=noun, ylabel="RMS, in units of the clip", ylim=(0, None))
    along.legend(fontsize=9)
    place, *over_frequency = rows[1].subplots(1, 2 if spectrum else 1, squeeze=False)[0]
    place.bar(range(len(by_place)), by_place, color=COLOURS["error"])
    place.set(xlabel=f"place of the {noun} in its chunk", ylabel="RMS error", xlim=(-0.7, len(by_place) - 0.3))
    if spectrum:
        frequencies, power, harmonics = spectrum
        (axis,) = over_frequency
        width = 0.8 * frequencies[0]  # frequencies are multiples of the first
        axis.bar(frequencies, power, width, color=COLOURS["padding"], label="other frequencies")
        axis.bar(
            frequencies[harmonics], power[harmonics], width, color=COLOURS["error"], label="1 / chunk and its multiples"
        )
        axis.set(xlabel=f"frequency of the error, cycles per {noun}", ylabel="power")
        axis.legend(fontsize=8)
    for axis in (along, place):
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in (along, place, *over_frequency):
        axis.grid(alpha=0.25)
    return figure


def static_changes(mean: np.ndarray, largest: np.ndarray, starts: Sequence[int] = (0,)):
    """A matplotlib Figure of how much each output frame of a still clip differs from the one before.

    mean, largest: (T - 1,) absolute changes, from frame 0 to 1 first. starts: dashed lines before all but the first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axis = figure.subplots()
    frames = range(1, len(mean) + 1)
    axis.plot(frames, largest, marker=".", color=COLOURS["error"], label="largest")
    axis.plot(frames, mean, marker=".", color=COLOURS["output"], label="mean")
    _mark_borders(axis, starts)
    top = float(np.max(largest))
    axis.set(
        xlabel="output frame", ylabel="absolute change from\nthe frame before", xlim=(-0.5, len(mean) + 0.5),
        ylim=(0, 1.05 * top if top else 1),
    )  # fmt: skip
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title("output of a clip in which nothing moves", fontsize=10)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9)
    return figure


def misplacement_maps(maps: Mapping[str, np.ndarray], noun: str = "latent", over_time: np.ndarray | None = None):
    """A matplotlib Figure of how far each sample lies from its place, a map an axis; all share one scale from 0.

    Args:
        maps: axis -> (H, W) absolute misplacement along it, in latent samples.
        noun: what a sample of the maps is: "latent" or "pixel".
        over_time: (frames,) misplacement along time of each output frame, in latent frames; drawn above the maps.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    scale = LinearSegmentedColormap.from_list("error", ["white", COLOURS["error"]])
    top = max(float(np.max(values)) for values in maps.values())
    top = top if top > 1e-3 else 1.0  # rounding stays white
    curve = over_time is not None
    figure = Figure(figsize=(1 + 3.6 * len(maps), 3.4 + 2.2 * curve), layout="constrained")
    *above, below = figure.subfigures(1 + curve, 1, height_ratios=[2.2] * curve + [3.4], squeeze=False)[:, 0]
    if curve:
        axis = above[0].subplots()
        axis.plot(range(len(over_time)), over_time, marker=".", color=COLOURS["error"])
        axis.set(xlabel="output frame", ylabel="misplacement\nin latent frames")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(f"along time: {np.abs(over_time).max():.2f} at most", fontsize=10)
        axis.grid(alpha=0.25)
    axes = below.subplots(1, len(maps), squeeze=False)[0]
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        image = axis.imshow(values, cmap=scale, vmin=0, vmax=top, interpolation="nearest")
        axis.set(xlabel=f"{noun} column", ylabel=f"{noun} row")
        for side in (axis.xaxis, axis.yaxis):
            side.get_major_locator().set_params(integer=True)
        axis.set_title(f"along {name}: {np.max(values):.2f} at most", fontsize=10)
    below.colorbar(image, ax=list(axes), label="misplacement in latent samples")
    return figure
