import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vae_lab.ablation import metrics as trial_metrics
from vae_lab.ablation.results import Ablation, paired_difference

METRICS = {name: trial_metrics.METRICS[name] for name in ("psnr", "time_error")}


def result(variant: str, seed: int, psnr: float | None, time_error: float = 1.0) -> dict:
    """A finished trial as it is kept; without a psnr it failed."""
    good = psnr is not None
    frames = (
        {
            "a": {"time_error": [0.1, 0.2], "psnr": [psnr, psnr + 2]},
            "b": {"time_error": [0.3, 0.4], "psnr": [psnr, psnr]},
        }
        if good
        else {}
    )
    return dict(
        variant=variant,
        seed=seed,
        key=f"{variant}{seed}",
        seconds=1.5,
        frames=frames,
        error="" if good else "ValueError: no",
        metrics=dict(psnr=psnr, time_error=time_error) if good else {},
    )


@pytest.fixture
def ablation() -> Ablation:
    values = {
        "base": [20.0, 21.0, 23.0],
        "better": [22.0, 22.5, 26.0],
        "broken": [20.0, None, 24.0],
        "dead": [None] * 3,
    }
    rows = [result(name, seed, psnr) for name, row in values.items() for seed, psnr in enumerate(row)]
    return Ablation.of_results(rows, METRICS)


def test_means_spread_and_paired_differences(ablation):
    table = ablation.table("psnr").set_index("variant")
    assert list(table.index) == ["base", "better", "broken", "dead"]
    assert table.loc["base", "mean"] == pytest.approx(64 / 3)
    assert table.loc["base", "std"] == pytest.approx(np.std([20, 21, 23], ddof=1))
    assert pd.isna(table.loc["base", "difference"]) and pd.isna(table.loc["base", "pairs"])
    row = table.loc["better"]
    assert row["difference"] == pytest.approx(6.5 / 3)
    # differences 2, 1.5, 3: standard deviation sqrt(7 / 12), and t of 2 degrees of freedom is 4.3027 at 97.5 %
    half = 4.30265 * np.sqrt(7 / 12) / np.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((6.5 / 3 - half, 6.5 / 3 + half), abs=1e-4)


def test_failed_trials_leave_pairs_out(ablation):
    table = ablation.table("psnr").set_index("variant")
    assert table.loc["broken", ["n", "mean", "difference", "pairs"]].tolist() == pytest.approx([2, 22, 0.5, 2])
    assert table.loc["dead", ["n", "pairs"]].tolist() == [0, 0]
    assert table.loc["dead", ["mean", "std", "difference", "low", "high"]].isna().all()
    assert ablation.failed["key"].tolist() == ["broken1", "dead0", "dead1", "dead2"]


def test_the_interval_is_scipys():
    random = np.random.default_rng(0)
    for pairs in (2, 3, 5, 20):
        base, values = random.normal(size=(2, pairs))
        ours = paired_difference(pd.Series(values), pd.Series(base))
        theirs = stats.ttest_rel(values, base).confidence_interval(0.95)
        assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(
    ("values", "base", "difference", "low", "high", "pairs"),
    [
        ([2.0], [1.5], 0.5, np.nan, np.nan, 1),
        ([2.0, np.nan, 5.0], [1.5, 7.0, np.nan], 0.5, np.nan, np.nan, 1),  # pairs, not values, are counted
        ([np.nan, 1.0], [1.0, np.nan], np.nan, np.nan, np.nan, 0),
        ([3.0, 4.0, np.nan], [1.0, 2.0, 3.0], 2.0, 2.0, 2.0, 2),  # no chance
        ([np.inf, 1.0], [0.0, 0.0], np.inf, np.nan, np.nan, 2),
        ([np.inf, 3.0, 4.0], [np.inf, 1.0, 2.0], 2.0, 2.0, 2.0, 2),  # inf - inf is no difference
    ],
)
def test_pairs_that_are_few_equal_or_infinite(values, base, difference, low, high, pairs):
    found = paired_difference(pd.Series(values), pd.Series(base))
    assert found == pytest.approx(dict(difference=difference, low=low, high=high, pairs=pairs), nan_ok=True)


def test_only_and_value(ablation):
    some = ablation.only("broken")
    assert some.variants == ["base", "broken"]
    assert set(some.frames["variant"]) == {"base", "broken"}
    assert some.value("broken", "psnr") == 22
    assert some.value("broken", "psnr", "difference") == 0.5
    with pytest.raises(ValueError, match="an ablation has no variant 'brokken'; close matches: broken"):
        ablation.only("brokken")
    with pytest.raises(ValueError, match="an ablation's table has no field 'psn'; close matches: psnr"):
        ablation.table("psn")
    with pytest.raises(ValueError, match="an ablation's table has no column 'means'; close matches: mean"):
        ablation.value("base", "psnr", "means")


def test_repr(ablation):
    assert repr(ablation).splitlines() == [
        "Ablation: the base and 3 variants, 3 seeds, 4 failed trials",
        "PSNR in dB, mean ± std over seeds; difference from the base (its 95 % interval): verdict",
        "  base: 21.33 ± 1.5",
        "  better: 23.5 ± 2.2; +2.2 (+0.27 to +4.1): better",
        "  broken: 22 ± 2.8; +0.5 (-5.9 to +6.9): cannot tell",
        "  dead: no psnr",
    ]
    apart = Ablation.of_results([result("base", 0, 0.7), result("other", 1, 0.7), result("other", 2, 0.7)], METRICS)
    assert repr(apart).splitlines()[3] == "  other: 0.7 ± 0; no seed in common with the base"
    assert np.isnan(apart.value("other", "psnr", "difference")) and np.isnan(apart.value("base", "psnr", "pairs"))
    alone = Ablation.of_results([result("base", 0, 20.0), result("other", 0, 21.0)], METRICS)
    assert repr(alone).splitlines()[2:] == [
        "  base: 20",
        "  other: 21; +1 with one seed, which says nothing about chance",
    ]


def test_plot(ablation):
    left, right = ablation.plot("psnr").axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["base", "better", "broken", "dead (none)"]
    assert left.get_xlabel().startswith("PSNR in dB")
    dots = [line for line in left.lines if line.get_marker() == "o"]
    assert sorted(dots[1].get_xdata()) == [22.0, 22.5, 26.0]
    assert all(len(axis.get_xticks()) <= 7 for axis in (left, right))  # one of them may be outside at each end
    seeds = [line.get_xdata().tolist() for line in left.lines if line.get_color() == "#999999"]
    assert seeds == [[20, 22, 20], [21, 22.5], [23, 26, 24]]  # what failed is passed over
    assert ablation.plot().axes[0].get_xlabel() == left.get_xlabel()  # the first metric
    (bars,) = right.containers
    points, _, (spans,) = bars.lines
    assert points.get_xdata().tolist() == pytest.approx([6.5 / 3, 0.5])
    table = ablation.table("psnr").set_index("variant").loc[["better", "broken"]]
    assert [tuple(span[:, 0]) for span in spans.get_segments()] == [
        pytest.approx((row.low, row.high)) for row in table.itertuples()
    ]


def test_plot_frames(ablation):
    (axis,) = ablation.plot_frames("psnr").axes
    assert axis.lines[0].get_ydata().tolist() == pytest.approx(
        [64 / 3, 64 / 3 + 1]
    )  # clip a is 2 dB better in frame 1, b is not
    assert axis.get_xlabel() == "frame" and axis.get_ylabel() == "PSNR in dB"
    (axis,) = ablation.only("better").plot_frames("time_error", clips=["b"]).axes
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.4])
    shown = ablation.plot_frames("psnr").axes[0].get_legend().get_texts()
    assert [text.get_text() for text in shown] == ["base", "better", "broken"]  # all trials of dead failed
    hidden = Ablation.of_results([result("base", 0, 1.0), result("_hidden", 0, 2.0)], METRICS)
    shown = hidden.plot_frames("psnr").axes[0].get_legend().get_texts()
    assert [text.get_text() for text in shown] == ["base", "_hidden"]
    with pytest.raises(ValueError, match="the table of frames has no metric 'leak'; choose from time_error, psnr"):
        ablation.plot_frames("leak")
    with pytest.raises(ValueError, match="these trials and clips have no psnr to draw"):
        ablation.plot_frames("psnr", clips=[])
    with pytest.raises(ValueError, match="an ablation has no clip 'c'; choose from a, b"):
        ablation.plot_frames("psnr", clips=["a", "c"])
    low, high = axis.collections[0].get_paths()[0].vertices[:, 1].min(), 0.4
    assert (low, high) == pytest.approx((0.3, 0.4))
