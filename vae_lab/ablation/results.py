"""The results of an ablation as pandas tables, pictures and sentences: means, spread over seeds, paired differences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import floor, isnan, log10
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..figures.style import COLOURS, LINE, OTHER_COLOURS, new_axis, new_figure, styled
from ..utils.checks import check_known, check_one_of
from ..utils.files import write_beside
from ..utils.tables import Figure
from ..utils.text import count
from .metrics import GENERATION_METRICS, METRICS, METRICS_BY_FRAME, SAME, UNDECIDED, Metric

BASE = "base"
TABLES = ("trials", "frames", "table")


@dataclass(frozen=True)
class Ablation:
    """The results that `run_ablation` returns. The base comes first, then the variants in the order of the call."""

    trials: pd.DataFrame  # a row per trial: variant, seed, metrics (NaN: not measured), seconds, error ("": none), key
    frames: pd.DataFrame  # a row per measured frame: variant, seed, clip, frame (from 0), and METRICS_BY_FRAME
    metrics: Mapping[str, Metric]  # those in the tables, by name

    @classmethod
    def of_results(cls, results: Iterable[Mapping[str, Any]], metrics: Mapping[str, Metric]) -> "Ablation":
        """Build from finished trials as `TrialFolder.read` returns them, with their variant and seed."""
        results = list(results)
        rows = [
            {"variant": r["variant"], "seed": r["seed"]}
            | {name: r["metrics"].get(name, np.nan) for name in metrics}
            | {name: r[name] for name in ("seconds", "error", "key")}
            for r in results
        ]
        frames = [
            {"variant": r["variant"], "seed": r["seed"], "clip": clip, "frame": t}
            | {name: series[t] for name, series in values.items()}
            for r in results
            for clip, values in r["frames"].items()
            for t in range(len(next(iter(values.values()))))  # all have the same length
        ]
        columns = ["variant", "seed", "clip", "frame", *METRICS_BY_FRAME]
        return cls(pd.DataFrame(rows), pd.DataFrame(frames, columns=columns), metrics)

    @property
    def variants(self) -> list[str]:
        """The names of the base and the variants."""
        return list(dict.fromkeys(self.trials["variant"]))

    @property
    def failed(self) -> pd.DataFrame:
        """The trials that failed."""
        return self.trials[self.trials["error"] != ""]

    def table(self, *metrics: str) -> pd.DataFrame:
        """Return one row per metric (default: all) and variant.

        n is the number of seeds whose trials did not fail; mean and std are over them (std with n - 1). difference is
        the mean of variant minus base, seed by seed, over `pairs` seeds; low and high are its 95 % confidence interval
        by Student's t, for normal differences. Nothing corrects for many intervals: about one in twenty misses.
        """
        names = metrics or tuple(self.metrics)
        check_known("an ablation's table", names, list(self.metrics))
        rows = []
        for metric in names:
            values = self.trials.pivot(index="seed", columns="variant", values=metric)
            for variant in self.variants:
                own = values[variant].dropna()
                rows.append(
                    {"variant": variant, "metric": metric, "n": len(own), "mean": own.mean(), "std": _std(own)}
                    | ({} if variant == BASE else paired_difference(values[variant], values[BASE]))
                )
        columns = ["variant", "metric", "n", "mean", "std", "difference", "low", "high", "pairs"]
        return pd.DataFrame(rows, columns=columns).astype({"pairs": "Int64"})

    def only(self, *variants: str) -> "Ablation":
        """Keep only the base and these variants."""
        check_known("an ablation", variants, self.variants, "variant")
        kept = [BASE, *variants]
        trials, frames = (t[t["variant"].isin(kept)].reset_index(drop=True) for t in (self.trials, self.frames))
        return replace(self, trials=trials, frames=frames)

    def value(self, variant: str, metric: str, column: str = "mean") -> float:
        """Return one number of `table(metric)`; NaN if it is missing."""
        check_known("an ablation", [variant], self.variants, "variant")
        rows = self.table(metric).set_index("variant")
        check_known("an ablation's table", [column], [name for name in rows.columns if name != "metric"], "column")
        return float(rows[column].astype(float)[variant])

    def write(self, folder: Path) -> None:
        """Write TABLES as CSV files, with all digits."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in zip(TABLES, (self.trials, self.frames, self.table()), strict=True):
            with write_beside(folder / f"{name}.csv") as beside:
                table.to_csv(beside, index=False)

    def __repr__(self) -> str:
        seeds = count(self.trials["seed"].nunique(), "seed")
        lines = [f"Ablation: the base and {count(len(self.variants) - 1, 'variant')}, {seeds}"]
        if len(self.failed):
            lines[0] += f", {count(len(self.failed), 'failed trial')}"
        first, metric = next(iter(self.metrics.items()))
        what = "mean ± std over seeds; difference from the base (its 95 % interval): verdict"
        lines.append(f"{metric.label}, {what}")
        for row in self.table(first).itertuples():
            text = f"  {row.variant}: {row.mean:.4g}" if row.n else f"  {row.variant}: no {first}"
            if row.n > 1:
                text += f" ± {row.std:.2g}"
            if row.variant != BASE and row.n and not row.pairs:
                text += "; no seed in common with the base"
            elif row.variant != BASE and row.n:
                known = f"({row.low:+.2g} to {row.high:+.2g}): {metric.verdict(row.low, row.high)}"
                chance = known if row.pairs > 1 else "with one seed, which says nothing about chance"
                text += f"; {row.difference:+.2g} {chance}"
            lines.append(text)
        return "\n".join(lines)

    @styled
    def plot(self, metric: str | None = None, label: str | None = None) -> Figure:
        """Draw every trial as a dot, with lines that join equal seeds, and beside it the differences with intervals.

        metric: a name in `metrics`; None: the first one. label: for its axis; None: that of the metric.
        """
        from matplotlib.ticker import MaxNLocator

        metric = metric or next(iter(self.metrics))
        table = self.table(metric)
        label = label or self.metrics[metric].label
        figure = new_figure(1.2 + 0.42 * len(self.variants))
        left, right = figure.subplots(1, 2, sharey=True)
        places = {variant: place for place, variant in enumerate(self.variants)}
        for _, rows in self.trials.dropna(subset=metric).groupby("seed"):
            left.plot(rows[metric], rows["variant"].map(places), color=COLOURS["padding"], linewidth=0.6, alpha=0.6)
        for variant, rows in self.trials.groupby("variant", sort=False):
            colour = COLOURS["input"] if variant == BASE else COLOURS["output"]
            left.plot(rows[metric], [places[variant]] * len(rows), "o", color=colour, markersize=5)
        left.plot(table["mean"], table["variant"].map(places), "|", color=LINE, markersize=16, markeredgewidth=2)
        shown = table[(table["variant"] != BASE) & table["difference"].notna()]
        middles, rows = shown["difference"].to_numpy(), shown["variant"].map(places)
        widths = np.nan_to_num(np.abs(shown[["low", "high"]].to_numpy().T - middles))
        right.errorbar(middles, rows, xerr=widths, fmt="o", capsize=4, color=COLOURS["output"])
        right.axvline(0, color=COLOURS["input"], linewidth=1, linestyle="--")
        none = set(table["variant"][table["n"] == 0])
        names = [f"{variant} (none)" if variant in none else variant for variant in places]
        left.set_yticks(list(places.values()), names)
        left.set(ylim=(len(places) - 0.5, -0.5), xlabel=f"{label} (dot: seed, bar: mean)")
        right.set(xlabel="difference from the base, 95 % interval")
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(5))  # leaves a gap between numbers of seven characters
        return figure

    @styled
    def plot_frames(self, metric: str = "time_error", clips: Sequence[str] | None = None) -> Figure:
        """Draw a metric over frames: the mean over seeds and clips, and a band that spans the seeds' means.

        metric: one of METRICS_BY_FRAME. clips: names of measured clips; None: all.
        """
        check_known("the table of frames", [metric], METRICS_BY_FRAME, "metric")
        check_known("an ablation", clips or (), list(self.frames["clip"].unique()), "clip")
        frames = self.frames if clips is None else self.frames[self.frames["clip"].isin(clips)]
        frames = frames.dropna(subset=metric)
        if frames.empty:
            raise ValueError(f"these trials and clips have no {metric} to draw")
        figure, axis = new_axis(3.2)
        shown, colours = [], cycle([COLOURS["output"], COLOURS["latent"], *OTHER_COLOURS])
        for variant, rows in frames.groupby("variant", sort=False):
            by_seed = rows.groupby(["frame", "seed"])[metric].mean().unstack()
            colour = COLOURS["input"] if variant == BASE else next(colours)
            shown.append(variant)
            axis.plot(by_seed.index, by_seed.mean(axis=1), marker=".", color=colour)
            axis.fill_between(by_seed.index, by_seed.min(axis=1), by_seed.max(axis=1), color=colour, alpha=0.15)
        axis.set(xlabel="frame", ylabel=self.metrics[metric].label)
        texts = axis.legend(axis.lines, map(str, range(len(shown)))).get_texts()
        for text, variant in zip(texts, shown, strict=True):  # matplotlib hides a label that begins with _
            text.set_text(variant)
        return figure


def _std(values: pd.Series) -> float:
    """Return the standard deviation with n - 1: exactly 0 if all values are equal, NaN for one value."""
    return 0.0 if len(values) > 1 and values.nunique() == 1 else values.std()


def paired_difference(values: pd.Series, base: pd.Series) -> dict[str, float]:
    """Return the mean of values minus base over the seeds (index) that both have, with its interval by Student's t.

    The interval is that of `scipy.stats.ttest_rel`; NaN if there are fewer than 2 pairs.
    """
    differences = (values - base).dropna()
    pairs, mean = len(differences), differences.mean()
    with np.errstate(invalid="ignore"):  # infinite differences have no spread
        half_width = stdtrit(pairs - 1, 0.975) * differences.sem()  # scipy.stats would take 0.5 s to import
    return {"difference": mean, "low": mean - half_width, "high": mean + half_width, "pairs": pairs}


ROUNDING = 1e-9  # an interval narrower than this share of the values is one point: chance plays no part in the metric


class Prose(str):
    """A text that Jupyter shows as Markdown."""

    __repr__ = _repr_markdown_ = str.__str__


def interval(ablation: Ablation, variant: str, metric: str) -> tuple[float, float]:
    """Return (low, high) of the difference from the base in `Ablation.table`; NaN if there are fewer than 2 pairs."""
    return ablation.value(variant, metric, "low"), ablation.value(variant, metric, "high")


def verdict(metric: str, low: float, high: float) -> str:
    """Return what the interval of a difference from the base says, such as "better" (see `Metric.verdict`)."""
    known = METRICS | GENERATION_METRICS
    check_one_of("metric", metric, known)
    return known[metric].verdict(low, high)


def say(ablation: Ablation, *metrics: str) -> Prose:
    """Compare each variant with the base by each of these metrics, one sentence each, as a Markdown list.

    For example: time error 0.2842 against the base's 0.2870: better by 0.0028, or 1.0 % (95 % interval of 3 seeds:
    0.0014 to 0.0042).
    """
    lines = []
    for metric in metrics:
        base, *rows = ablation.table(metric).itertuples()
        lines += [f"- **{row.variant}**: {_sentence(ablation.metrics[metric], base.mean, row)}." for row in rows]
    return Prose("\n".join(lines))


def _sentence(metric: Metric, base_mean: float, row) -> str:
    """Compare a variant, as a row of `Ablation.table`, with the mean of the base."""
    mean, difference, low, high, pairs = row.mean, row.difference, row.low, row.high, row.pairs
    name, unit = metric.name, metric.unit and f" {metric.unit}"
    if isnan(difference):
        return f"{name} {'none' if isnan(mean) else f'{mean:.3g}{unit}'}, so there is nothing to compare"
    size, half, seeds = max(abs(mean), abs(base_mean)), (high - low) / 2, count(int(pairs), "seed")
    counted = half <= ROUNDING * size
    digits = max(_decimals(size, 3), _decimals(abs(difference) if counted else half, 2))
    text = f"{name} {mean:.{digits}f} against the base's {base_mean:.{digits}f}{unit}"
    if isnan(low):
        return f"{text}, with one seed, which says nothing about chance"
    said = metric.verdict(low, high)
    if said == SAME:
        return f"{text}, the same with each of {seeds}"
    if said == UNDECIDED:
        span = f"{low:+.{digits}f} to {high:+.{digits}f}"
        return f"{text}: {seeds} cannot tell (95 % interval of the difference: {span})"
    text = f"{text}: {said} by {abs(difference):.{digits}f}"
    if base_mean and metric.unit != "dB":  # a share of decibels means nothing
        share = abs(difference / base_mean)
        text += f", or {100 * share:.{1 if share < 0.1 else 0}f} %" if share > 0.001 else ", or less than 0.1 %"
    if counted:
        return f"{text}, with each of {seeds}"
    near, far = sorted((abs(low), abs(high)))
    return f"{text} (95 % interval of {seeds}: {near:.{digits}f} to {far:.{digits}f})"


def _decimals(value: float, significant: int) -> int:
    """Return how many decimals show that many significant digits of a positive number; 0 for 0 and NaN."""
    return max(0, significant - 1 - floor(log10(value))) if value > 0 else 0


def over_frames(ablation: Ablation, where: str) -> Ablation:
    """Return the ablation with time_error (RMS) over some frames of the measured clips only.

    where: the frames, as an expression for `pandas.DataFrame.query` of frame (from 0) and clip, such as "frame < 4".
    """
    frames = ablation.frames.query(where)
    if frames.empty:
        raise ValueError(f"where must leave a frame, got {where!r}")
    squares = frames.assign(time_error=frames["time_error"] ** 2).groupby(["variant", "seed"])["time_error"].mean()
    trials = ablation.trials.drop(columns="time_error").merge((squares**0.5).reset_index(), how="left")
    return replace(ablation, trials=trials, frames=frames)
