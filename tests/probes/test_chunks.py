import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from tests.helpers.probes import clip, drifting, encoder, small
from vae_lab.probes.chunks import PlanResult, chunk_invariance, periodogram

# ---- chunk invariance ----------------------------------------------------------------------------------------------


def cumulative(x, lengths):
    """Causal, with its memory carried from chunk to chunk: the chunks do not matter but for rounding."""
    past, pieces = torch.zeros_like(x[:, :, :1]), []
    for chunk in x.split(lengths, dim=2):
        pieces.append(past + chunk.cumsum(dim=2))
        past = pieces[-1][:, :, -1:]
    return torch.cat(pieces, dim=2)


def test_chunk_invariance_of_a_map_with_memory():
    whole_numbers = clip(12).mul(8).round()  # sums of whole numbers are exact
    found = chunk_invariance(cumulative, whole_numbers, [(12,), (5, 7), [4, 4, 4], (1,) * 12])
    assert found.invariant and found.tolerance == 0
    assert [plan.relative for plan in found.plans] == [0, 0, 0, 0]
    assert repr(found).splitlines()[1:] == [
        "  chunks of 12: 12 output frames, compared with",
        "  5+7: the same to the bit",
        "  4+4+4: the same to the bit",
        "  1 (12 times): the same to the bit",
    ]
    rounded = chunk_invariance(cumulative, clip(12), [(12,), (5, 7)])
    assert not rounded.invariant and 0 < rounded.plans[1].relative < 1e-14 and rounded.plans[1].first_frame >= 5
    near = chunk_invariance(cumulative, clip(12), [(12,), (5, 7)], tolerance=1e-14)
    assert near.invariant and near.plans[1].first_frame is None and near.plans[1].largest > 0
    assert repr(near).endswith("of the largest value)")


def restarted(x, lengths):
    return torch.cat([chunk.cumsum(dim=2) for chunk in x.split(lengths, dim=2)], dim=2)


def test_chunk_invariance_names_the_first_frame_that_differs():
    x = torch.ones(1, 1, 6, 1, 1, dtype=torch.double)
    found = chunk_invariance(restarted, x, [(6,), (4, 2), (2, 4)])
    assert not found.invariant
    assert [plan.first_frame for plan in found.plans] == [None, 4, 2]
    assert found.plans[1].difference.tolist() == [0, 0, 0, 0, 4, 4]
    assert (found.plans[1].largest, found.plans[1].relative) == (4, 4 / 6)
    assert "4+2: largest difference 4.0e+00 (6.7e-01 of the largest value), from output frame 4 on" in repr(found)
    assert found.table()["first_frame"].tolist() == [-1, 4, 2]
    assert not chunk_invariance(restarted, x, [(6,), (4, 2)], tolerance=0.5).invariant
    assert "within 5.0e-01 of" in repr(chunk_invariance(restarted, x, [(6,), (4, 2)], tolerance=0.5))
    figure = found.plot()
    assert [line.get_label() for line in figure.axes[0].lines] == ["chunks of 4+2", "chunks of 2+4"]
    assert len(repr(chunk_invariance(restarted, x, [(6,)] * 9)).splitlines()) == 9


def test_open_soras_chunks_give_another_number_of_latents():
    vae = small(norm="frame_group")
    run = lambda x, lengths: torch.cat([encoder(vae)(chunk) for chunk in x.split(lengths, dim=2)], dim=2)  # noqa: E731
    found = chunk_invariance(run, clip(51, size=1), [(51,), (17, 17, 17), (35, 16)], 1e-12)
    assert [plan.shape[2] for plan in found.plans] == [13, 15, 13]
    assert not found.invariant
    assert found.plans[1].difference is None and found.plans[1].first_frame is None
    assert found.plans[1].relative == found.plans[1].largest == float("inf")
    assert "17+17+17: another shape, (1, 4, 15, 1, 1) for (1, 4, 13, 1, 1)" in repr(found)
    assert found.plans[2].first_frame == 9  # the latents of frames 0 to 34 are the same ones
    assert found.table()["same_shape"].tolist() == [True, False, True]
    assert len(found.plot().axes[0].lines) == 1


def test_chunk_invariance_of_zeros():
    zero = lambda x, lengths: torch.zeros_like(x) + (len(lengths) - 1)  # noqa: E731
    assert chunk_invariance(zero, clip(2), [(2,), (2,)]).invariant
    assert chunk_invariance(zero, clip(2), [(2,), (1, 1)]).plans[1].relative == float("inf")


def test_names_of_plans():
    assert PlanResult((17, 17, 17, 1), (), None, 0, None).name == "17+17+17+1"
    assert PlanResult((3, *[17] * 4, 1, 1), (), None, 0, None).name == "3+17 (4 times)+1+1"


def test_a_map_that_works_in_place_changes_nothing_of_the_callers():
    x = clip(6)
    before = x.clone()
    assert not chunk_invariance(lambda x, lengths: x.mul_(len(lengths)), x, [[6], [3, 3]]).invariant
    assert torch.equal(x, before)


X = clip(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chunk_invariance(None, X, [(3,), (1, 2)]), "run must be a function .*, got NoneType"),
        (lambda: chunk_invariance(restarted, X[0], [(3,), (1, 2)]), "x must be a tensor of shape"),
        (lambda: chunk_invariance(restarted, X, [(3,)]), "plans must be at least 2, .*, got 1"),
        (lambda: chunk_invariance(restarted, X, [(3,), (1, 1)]), r"add up to the 3 frames of x, got \(1, 1\): 2"),
        (lambda: chunk_invariance(restarted, X, [(3,), (3, 0)]), "lengths in plans must be at least 1, got 0"),
        (lambda: chunk_invariance(restarted, X, [(3,), (1, 2)], -1), "tolerance must be .* at least 0, got -1"),
        (lambda: chunk_invariance(lambda x, n: drifting(x), X, [(3,), (1, 2)]), "f must give the same output twice"),
    ],
)
def test_chunk_invariance_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- periodograms --------------------------------------------------------------------------------------------------


@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 2**31))
def test_periodogram_is_an_analysis_of_variance(period, num_periods, seed):
    """Two ways to one number: power at the period's multiples, and what the place in the chunk explains."""
    curve = np.random.default_rng(seed).normal(size=period * num_periods) + 3
    found = periodogram([*curve, *[100.0] * (period - 1)], period)  # the rest is no whole period
    assert found.num_periods == num_periods
    assert found.power.sum() == pytest.approx(curve.var())
    assert found.share == pytest.approx(curve.reshape(-1, period).mean(0).var() / curve.var())
    assert found.frequencies[found.harmonics] == pytest.approx(np.arange(1, period // 2 + 1) / period)


def test_periodogram_of_one_sine():
    t = np.arange(51)
    found = periodogram(5 + np.sin(2 * np.pi * 2 * t / 17), 17)
    assert found.share == pytest.approx(1)
    assert found.frequencies[found.power.argmax()] == pytest.approx(2 / 17)
    assert found.power.max() == pytest.approx(0.5)
    assert periodogram(5 + np.sin(2 * np.pi * 2.5 * t / 25.5), 17).share < 0.1
    assert periodogram(np.full(51, 0.1), 17).share == 0
    assert periodogram(np.sin(2 * np.pi * 2 * t / 17), 17, flat=0.8).share == 0
    assert periodogram(np.arange(33.0), 17) is None


@pytest.mark.parametrize(
    ("curve", "period", "message"),
    [
        (np.ones(4), 1, "period must be at least 2, got 1"),
        (np.ones((2, 4)), 2, r"curve must be one row of finite numbers, got shape \(2, 4\)"),
        ([1.0, np.nan, 1.0, 1.0], 2, "curve must be one row of finite numbers"),
    ],
)
def test_periodogram_errors(curve, period, message):
    with pytest.raises(ValueError, match=message):
        periodogram(curve, period)
