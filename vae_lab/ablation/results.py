"""What came out of an ablation, as pandas tables and pictures: means, spread over seeds, paired differences."""

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
from ..utils.checks import check_known
from ..utils.files import write_beside
from ..utils.text import count
from .metrics import METRICS, METRICS_BY_FRAME, SAME, UNDECIDED, Metric

BASE = "base"
TABLES = ("trials", "frames", "table")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ablation:
    """What `run_ablation` returns. Variants stand in the order they were given, the base first."""

    trials: pd.DataFrame
    """One row a trial: variant, seed, the metrics (NaN where a model has none), seconds, error ("" if none), key."""
    frames: pd.DataFrame
    """One row a measured frame: variant, seed, clip, frame (from 0), time_error and psnr (`trial_metrics`)."""
    metrics: Mapping[str, Metric]
    """Name of each metric in the tables -> what it is."""

    @classmethod
    def of_results(cls, results: Iterable[Mapping[str, Any]], metrics: Mapping[str, Metric]) -> "Ablation":
        """Of finished trials as they are kept, with their variant, seed and key."""
        results = list(results)
        rows = [
            {name: r[name] for name in ("variant", "seed")}
            | {name: r["metrics"].get(name, np.nan) for name in metrics}
            | {name: r[name] for name in ("seconds", "error", "key")}
            for r in results
        ]
        frames = [
            {"variant": r["variant"], "seed": r["seed"], "clip": clip, "frame": t}
            | {name: series[t] for name, series in values.items()}
            for r in results
            for clip, values in r["frames"].items()
            for t in range(len(next(iter(values.values()))))  # as many of each
        ]
        columns = ["variant", "seed", "clip", "frame", *METRICS_BY_FRAME]
        return cls(pd.DataFrame(rows), pd.DataFrame(frames, columns=columns), metrics)

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(self.trials["variant"]))

    @property
    def failed(self) -> pd.DataFrame:
        """The trials that failed."""
        return self.trials[self.trials["error"] != ""]

    def table(self, *metrics: str) -> pd.DataFrame:
        """One row for each variant and metric (all, if none is named), over the seeds whose trials did not fail.

        n: seeds. mean, std: over them (std with n - 1). difference: the mean of variant minus base, seed by seed; low,
        high: its confidence interval of 95 % by Student's t, which takes differences as normal; pairs: seeds in it.
        Each interval stands alone: of twenty, one misses.
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
        """The base and these variants."""
        check_known("an ablation", variants, self.variants, "variant")
        kept = [BASE, *variants]
        parts = (frame[frame["variant"].isin(kept)].reset_index(drop=True) for frame in (self.trials, self.frames))
        return Ablation(*parts, self.metrics)

    def value(self, variant: str, metric: str, column: str = "mean") -> float:
        """One number of `table(metric)`, for a sentence."""
        check_known("an ablation", [variant], self.variants, "variant")
        rows = self.table(metric).set_index("variant")
        check_known("an ablation's table", [column], [name for name in rows.columns if name != "metric"], "column")
        value = rows.loc[variant, column]
        return np.nan if pd.isna(value) else float(value)

    def write(self, folder: Path) -> None:
        """TABLES as CSV files, numbers with all their digits."""
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
        what = "mean ± std over seeds; difference from the base (its 95 % interval): what that says"
        lines.append(f"{metric.label}, {what}")
        for row in self.table(first).itertuples():
            text = f"  {row.variant}: {row.mean:.4g}" if row.n else f"  {row.variant}: no {first}"
            if row.n > 1:
                text += f" ± {row.std:.2g}"
            if row.variant != BASE and row.n and not row.pairs:
                text += "; no seed in common with the base"
            elif row.variant != BASE and row.n:
                text += f"; {row.difference:+.2g} "
                if row.pairs > 1:
                    text += f"({row.low:+.2g} to {row.high:+.2g}): {metric.verdict(row.low, row.high)}"
                else:
                    text += "with one seed, which says nothing of chance"
            lines.append(text)
        return "\n".join(lines)

    @styled
    def plot(self, metric: str | None = None, label: str | None = None):
        """A matplotlib Figure: every trial as a dot, seeds joined; beside it the paired differences, with intervals.

        metric: one of `metrics`; None: the first. label: at its axis; None: what `metrics` has.
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
        widths = np.abs(shown[["low", "high"]].to_numpy().T - shown["difference"].to_numpy())
        right.errorbar(
            shown["difference"], shown["variant"].map(places), xerr=np.nan_to_num(widths), fmt="o", capsize=4,
            color=COLOURS["output"],
        )  # fmt: skip
        right.axvline(0, color=COLOURS["input"], linewidth=1, linestyle="--")
        none = set(table["variant"][table["n"] == 0])
        names = [f"{variant} (none)" if variant in none else variant for variant in places]
        left.set_yticks(list(places.values()), names)
        left.set_ylim(len(places) - 0.5, -0.5)
        left.set(xlabel=f"{label}, a dot a seed, bar: mean")
        right.set(xlabel="difference from the base, 95 % interval")
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(5))  # numbers of seven characters still have a gap between them
        return figure

    @styled
    def plot_frames(self, metric: str = "time_error", clips: Sequence[str] | None = None):
        """A matplotlib Figure: a metric over frames, mean over seeds and clips; the band spans the seeds' means.

        metric: one of METRICS_BY_FRAME. clips: names of measured clips; None: all.
        """
        check_known("what is kept by frame", [metric], METRICS_BY_FRAME, "metric")
        check_known("an ablation", clips or (), list(self.frames["clip"].unique()), "clip")
        frames = self.frames if clips is None else self.frames[self.frames["clip"].isin(clips)]
        frames = frames.dropna(subset=metric)
        if frames.empty:
            raise ValueError(f"there is no {metric} of these trials and clips to draw")
        figure, axis = new_axis(3.2)
        shown, colours = [], cycle([COLOURS["output"], COLOURS["latent"], *OTHER_COLOURS])
        for variant in self.variants:
            rows = frames[frames["variant"] == variant]
            if rows.empty:  # all its trials failed
                continue
            by_seed = rows.groupby(["frame", "seed"])[metric].mean().unstack()
            colour = COLOURS["input"] if variant == BASE else next(colours)
            shown.append(variant)
            axis.plot(by_seed.index, by_seed.mean(axis=1), marker=".", color=colour)
            axis.fill_between(by_seed.index, by_seed.min(axis=1), by_seed.max(axis=1), color=colour, alpha=0.15)
        axis.set(xlabel="frame", ylabel=self.metrics[metric].label)
        texts = axis.legend(axis.lines, map(str, range(len(shown)))).get_texts()
        for text, variant in zip(texts, shown, strict=True):  # a label of matplotlib's must not begin with _
            text.set_text(variant)
        return figure


def _std(values: pd.Series) -> float:
    """With n - 1; exactly 0 where all are equal, NaN of one."""
    return 0.0 if len(values) > 1 and values.nunique() == 1 else values.std()


def paired_difference(values: pd.Series, base: pd.Series) -> dict[str, float]:
    """Mean of values minus base over the seeds (index) that both have, with its interval by Student's t."""
    differences = (values - base).dropna()
    pairs, mean = len(differences), differences.mean()
    half = np.nan
    if pairs > 1:
        half = stdtrit(pairs - 1, (1 + CONFIDENCE) / 2) * differences.std() / np.sqrt(pairs)
    return {"difference": mean, "low": mean - half, "high": mean + half, "pairs": pairs}


ROUNDING = 1e-9  # an interval narrower than this share of the values has no width: what is counted is without chance


class Prose(str):
    """Text that Jupyter shows as Markdown, and that prints as it is."""

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def interval(ablation: "Ablation", variant: str, metric: str) -> tuple[float, float]:
    """(low, high) of the paired difference, variant minus base, as `Ablation.table` has them; NaN below 2 pairs."""
    return ablation.value(variant, metric, "low"), ablation.value(variant, metric, "high")


def verdict(metric: str, low: float, high: float) -> str:
    """What the interval of a difference from the base says: "better" or "worse" of time_error, psnr and image_psnr,
    "more" or "less" of others, "the same" where it is 0 alone, "cannot tell" where 0 is in it or it is NaN.
    """
    return METRICS[metric].verdict(low, high)


def say(ablation: "Ablation", *metrics: str) -> Prose:
    """A sentence on each variant against the base for each of these metrics, as a Markdown list. Such as: time error
    0.2842 against the base's 0.2870: better by 0.0028, or 1.0 % (95 % interval of 3 seeds: 0.0014 to 0.0042).
    """
    base, *variants = ablation.variants
    lines = [f"- **{v}**: {_sentence(ablation, metric, base, v)}." for metric in metrics for v in variants]
    return Prose("\n".join(lines))


def _sentence(ablation: "Ablation", metric: str, base: str, variant: str) -> str:
    columns = ("mean", "difference", "low", "high", "pairs")
    mean, difference, low, high, pairs = (ablation.value(variant, metric, column) for column in columns)
    own_base = ablation.value(base, metric)
    name, unit = METRICS[metric].name, METRICS[metric].unit and f" {METRICS[metric].unit}"
    if isnan(difference):
        return f"{name} {'none' if isnan(mean) else f'{mean:.3g}{unit}'}, so there is nothing to compare"
    size, half, seeds = max(abs(mean), abs(own_base)), (high - low) / 2, count(int(pairs), "seed")
    counted = half <= ROUNDING * size
    digits = max(_decimals(size, 3), _decimals(abs(difference) if counted else half, 2))
    text = f"{name} {mean:.{digits}f} against the base's {own_base:.{digits}f}{unit}"
    if isnan(low):
        return f"{text}, with one seed, which says nothing of chance"
    said = verdict(metric, low, high)
    if said == SAME:
        return f"{text}, the same with each of {seeds}"
    if said == UNDECIDED:
        span = f"{low:+.{digits}f} to {high:+.{digits}f}"
        return f"{text}: {seeds} cannot tell (95 % interval of the difference: {span})"
    text = f"{text}: {said} by {abs(difference):.{digits}f}"
    if own_base and METRICS[metric].unit != "dB":  # a share of decibels means nothing
        share = abs(difference / own_base)
        text += f", or {100 * share:.{1 if share < 0.1 else 0}f} %" if share > 0.001 else ", or less than 0.1 %"
    if counted:
        return f"{text}, with each of {seeds}"
    near, far = sorted((abs(low), abs(high)))
    return f"{text} (95 % interval of {seeds}: {near:.{digits}f} to {far:.{digits}f})"


def _decimals(value: float, significant: int) -> int:
    """Decimals that show so many digits of a positive number; of 0 and NaN none are needed."""
    return max(0, significant - 1 - floor(log10(value))) if value > 0 else 0


def over_frames(ablation: "Ablation", where: str) -> "Ablation":
    """The same ablation, its time_error (RMS) over some frames of the measured clips alone.

    where: which, as `pandas.DataFrame.query` takes it, of frame (from 0) and clip: "frame < 4".
    """
    frames = ablation.frames.query(where)
    if frames.empty:
        raise ValueError(f"where must leave a frame, got {where!r}")
    squares = frames.assign(time_error=frames["time_error"] ** 2).groupby(["variant", "seed"])["time_error"].mean()
    trials = ablation.trials.drop(columns="time_error").merge((squares**0.5).reset_index(), how="left")
    return replace(ablation, trials=trials, frames=frames)
