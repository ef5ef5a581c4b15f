"""Sentences from tables of ablations: what they claim, and how many digits they show."""

import math

import numpy as np
import pytest
from IPython.core.formatters import format_display_data

from vae_lab.ablation.metrics import METRICS
from vae_lab.ablation.results import Ablation, Prose, interval, over_frames, say, verdict


def ablation_of(metric: str, **values: list) -> Ablation:
    """An ablation of one metric; a value for each seed, None for a trial that failed."""
    return Ablation.of_results(
        [
            dict(variant=variant, seed=seed, key="", seconds=1.0, error="" if value is not None else "no", frames={},
                 metrics={} if value is None else {metric: value})
            for variant, row in values.items() for seed, value in enumerate(row)
        ],
        {metric: METRICS[metric]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("time_error", 0.1, 0.2, "worse"),
        ("time_error", -0.2, -0.1, "better"),
        ("psnr", 0.1, 0.2, "better"),
        ("image_psnr", -0.2, -0.1, "worse"),
        ("kl", 0.1, 0.2, "more"),
        ("leak", -0.2, -0.1, "less"),
        ("psnr", -0.1, 0.2, "cannot tell"),
        ("psnr", 0.0, 0.2, "cannot tell"),
        ("kl", -0.2, 0.0, "cannot tell"),
        ("kl", 0.0, 0.0, "the same"),
        ("psnr", math.nan, math.nan, "cannot tell"),
    ],
)
def test_verdicts(metric, low, high, said):
    assert verdict(metric, low, high) == said


def test_a_verdict_on_no_metric_is_refused():
    with pytest.raises(ValueError, match="metric must be one of time_error, psnr, .*, held_out_loss, got 'x'"):
        verdict("x", 0.1, 0.2)


def test_a_difference_that_can_be_told():
    # differences 0.1, 0.2, 0.3: 0.2 ± 4.3027 * 0.1 / sqrt(3) = 0.2484; with a tenth of the spread: 0.0248
    values = {"wide": [1.1, 2.2, 3.3], "middle": [1.17, 2.2, 3.23], "narrow": [1.19, 2.2, 3.21]}
    found = ablation_of("time_error", base=[1.0, 2.0, 3.0], **values)
    assert interval(found, "narrow", "time_error") == pytest.approx((0.17516, 0.22484), abs=1e-5)
    assert say(found, "time_error") == (
        "- **wide**: time error 2.20 against the base's 2.00: 3 seeds cannot tell (95 % interval of the difference: "
        "-0.05 to +0.45).\n"
        "- **middle**: time error 2.200 against the base's 2.000: worse by 0.200, or 10 % (95 % interval of 3 seeds: "
        "0.125 to 0.275).\n"
        "- **narrow**: time error 2.200 against the base's 2.000: worse by 0.200, or 10 % (95 % interval of 3 seeds: "
        "0.175 to 0.225)."
    )


def test_decibels_have_no_share_and_the_interval_is_shown_without_sign():
    found = ablation_of("psnr", base=[20.0, 21.0, 23.0], lower=[19.0, 20.01, 21.99])
    assert say(found, "psnr") == (
        "- **lower**: PSNR 20.333 against the base's 21.333 dB: worse by 1.000 "
        "(95 % interval of 3 seeds: 0.975 to 1.025)."
    )


def test_what_is_counted_has_no_interval():
    found = ablation_of("training_gflop", base=[982.4] * 3, same=[982.4] * 3, half=[491.2] * 3, near=[982.0] * 3)
    assert say(found, "training_gflop").splitlines() == [
        "- **same**: training 982 against the base's 982 GFLOP, the same with each of 3 seeds.",
        "- **half**: training 491 against the base's 982 GFLOP: less by 491, or 50 %, with each of 3 seeds.",
        "- **near**: training 982.00 against the base's 982.40 GFLOP: less by 0.40, or less than 0.1 %, with each of "
        "3 seeds.",
    ]


def test_nothing_is_claimed_where_there_is_nothing():
    found = ablation_of("leak", base=[0.2, 0.3], failed=[None, None], none=[0.0, 0.0], one=[0.2, None])
    failed, none, one = say(found, "leak").splitlines()
    assert failed == "- **failed**: leak none, so there is nothing to compare."
    # differences -0.2 and -0.3; t of 1 degree of freedom is 12.7062
    assert none.endswith("2 seeds cannot tell (95 % interval of the difference: -0.885 to +0.385).")
    assert one == "- **one**: leak 0.200 against the base's 0.250, with one seed, which says nothing about chance."
    away = say(ablation_of("kl", base=[None], a=[2.0]), "kl")
    assert away == "- **a**: KL 2 nats per element, so there is nothing to compare."
    zeros = say(ablation_of("leak", base=[0.0] * 3, a=[0.1] * 3), "leak")
    assert zeros == "- **a**: leak 0.100 against the base's 0.000: more by 0.100, with each of 3 seeds."


def test_several_metrics_and_an_unknown_one():
    found = ablation_of("kl", base=[1.0, 1.0], a=[1.0, 1.0])
    assert len(say(found, "kl", "kl").splitlines()) == 2
    with pytest.raises(ValueError, match="an ablation's table has no field 'lk'; choose from kl"):
        say(found, "lk")


def test_prose_is_markdown_in_jupyter_and_text_elsewhere():
    data, _ = format_display_data(Prose("**a** is\n2"))
    assert data == {"text/plain": "**a** is\n2", "text/markdown": "**a** is\n2"}


@pytest.fixture
def framed() -> Ablation:
    rng = np.random.default_rng(0)
    frames = {clip: {"time_error": rng.random(6).tolist(), "psnr": [20.0] * 6} for clip in ("a", "b")}
    trial = dict(seed=0, key="", seconds=1.0, error="", metrics={"time_error": 9.0, "psnr": 20.0})
    broken = dict(variant="broken", seed=0, key="", seconds=1.0, error="no", metrics={}, frames={})
    results = [trial | dict(variant="base", frames=frames), trial | dict(variant="a", frames=frames), broken]
    return Ablation.of_results(results, {name: METRICS[name] for name in ("time_error", "psnr")})


def test_the_error_over_some_frames_is_their_root_mean_square(framed):
    some = over_frames(framed, "frame % 4 < 2 and clip == 'b'")
    errors = framed.frames.query("variant == 'a' and clip == 'b'")["time_error"].to_numpy()[[0, 1, 4, 5]]
    assert some.value("a", "time_error") == pytest.approx(np.sqrt((errors**2).mean()))
    assert some.variants == framed.variants and some.value("a", "psnr") == 20
    assert math.isnan(some.value("broken", "time_error")) and len(some.failed) == 1
    assert sorted(some.frames["frame"].unique()) == [0, 1, 4, 5] and framed.value("a", "time_error") == 9
    with pytest.raises(ValueError, match=r"where must leave a frame, got 'frame > 99'"):
        over_frames(framed, "frame > 99")
