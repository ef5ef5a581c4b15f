import numpy as np
import pytest
import torch

from vae_lab import psnr, synthetic_clip, to_tensor
from vae_lab.probes.seams import seam_profile, static_video_test

FRAMES, PERIOD = 51, 17
BORDERS = (16, 17, 33, 34)
SHAPE = (2, 3, FRAMES, 6, 8)


def clip(*shape, dtype=torch.double) -> torch.Tensor:
    return torch.rand(*(shape or SHAPE), dtype=dtype) * 2 - 1


# ---- the seam profile ----------------------------------------------------------------------------------------------


def test_an_error_that_stays_the_same_has_no_seam():
    x = clip()
    profile = seam_profile(x, x + 0.1 * clip(2, 3, 1, 6, 8), PERIOD)
    assert profile.ratio == pytest.approx(1.0)
    assert profile.psnr_borders == pytest.approx(profile.psnr_inside)
    assert profile.jump_borders == pytest.approx(0, abs=1e-12) and profile.excess_jump == pytest.approx(0, abs=1e-12)
    assert profile.error_periodogram.share == profile.jump_periodogram.share == 0  # flat: there is no power at all
    assert profile.by_place == pytest.approx(np.full(PERIOD, profile.error_inside))


def test_an_error_at_the_borders_only():
    x = clip()
    y = x.clone()
    y[:, :, BORDERS] += 0.2
    profile = seam_profile(x, y, PERIOD)
    assert profile.border_samples == BORDERS
    assert profile.error_borders == pytest.approx(0.2) and profile.error_inside == 0
    assert profile.ratio == float("inf") and profile.psnr_inside == float("inf")
    assert profile.psnr_borders == pytest.approx(20)  # a tenth of the range
    assert (
        profile.by_place[[0, 16]] == pytest.approx(0.2 * np.sqrt([2 / 3, 2 / 3])) and not profile.by_place[1:16].any()
    )


def test_ratio_psnr_and_inside_of_a_known_error():
    x = clip()
    y = x + 0.01
    y[:, :, BORDERS] += 0.02
    profile = seam_profile(x, y, PERIOD)
    assert profile.inside_samples == tuple(t for t in range(1, 50) if t not in BORDERS)
    assert profile.ratio == pytest.approx(3)
    assert profile.psnr_inside - profile.psnr_borders == pytest.approx(20 * np.log10(3))
    inside = 4 * 10 ** (psnr(x, y, 2.0) / -10)[:, list(profile.inside_samples)]  # mean squared errors again
    assert profile.psnr_inside == pytest.approx(10 * np.log10(4 / inside.mean().item()))


def test_the_ends_of_the_clip_are_no_seams():
    x = clip()
    y = x + 0.01
    y[:, :, [0, -1]] += 5
    assert seam_profile(x, y, PERIOD).ratio == pytest.approx(1)


def test_a_step_at_every_border_is_found_among_noise():
    x = clip()
    steps = torch.tensor([0.0, 0.3, -0.3]).repeat_interleave(PERIOD).view(1, 1, -1, 1, 1)
    profile = seam_profile(x, x + steps, PERIOD)
    steps_rms = np.sqrt((0.3**2 + 0.6**2) / 2)
    assert profile.jump_borders == pytest.approx(steps_rms, rel=1e-6)
    assert profile.jump_inside == pytest.approx(0, abs=1e-7)
    assert profile.excess_jump == pytest.approx(steps_rms, rel=1e-6)
    assert profile.jump_periodogram.share > 0.8 > profile.jump_periodogram.chance
    large = torch.rand(1, 3, FRAMES, 32, 32, dtype=torch.double)
    noisy = seam_profile(large, large + steps + torch.randn_like(large) * 0.5, PERIOD)
    assert noisy.excess_jump == pytest.approx(steps_rms, rel=0.1)
    assert noisy.jump_inside == pytest.approx(0.5 * np.sqrt(2), rel=0.02)


def test_noise_that_knows_nothing_of_chunks():
    x = torch.zeros(1, 1, 1000, 8, 8)
    profile = seam_profile(x, torch.randn(x.shape), 10)
    assert profile.ratio == pytest.approx(1, abs=0.03)
    assert profile.jump_borders == pytest.approx(profile.jump_inside, rel=0.03)
    assert profile.error_periodogram.chance == 9 / 999
    assert profile.error_periodogram.share < 0.03


def test_a_short_last_chunk_and_uneven_chunks():
    x = clip(1, 1, 20, 4, 4)
    y = x.clone()
    y[:, :, 18] += 1
    assert seam_profile(x, y, 6).starts == (0, 6, 12, 18)
    short = seam_profile(x, y, 6)
    assert short.border_samples == (5, 6, 11, 12, 17, 18)
    assert short.by_place.shape == (6,) and short.by_place[0] == pytest.approx(0.5)  # one of four chunks
    assert short.period == 6 and short.error_periodogram.num_periods == 3
    uneven = seam_profile(x, y, starts=(0, 4, 14))
    assert uneven.period is None and uneven.error_periodogram is None and uneven.jump_periodogram is None
    assert uneven.by_place.shape == (10,)
    assert seam_profile(x, y, starts=(0, 8, 12)).period is None  # only the last chunk may be shorter,
    assert seam_profile(x, y, starts=(0, 5)).period is None  # and none longer
    assert seam_profile(x, y, starts=range(0, 20, 6)).period == 6


@pytest.mark.parametrize(("axis", "dim"), [("time", 2), ("height", 3), ("width", 4)])
def test_every_axis(axis, dim):
    x = clip(1, 2, 12, 13, 14)
    y = x.clone()
    y.select(dim, 5).add_(0.5)
    profile = seam_profile(x, y, 5, axis=axis)
    assert profile.error == pytest.approx(np.where(np.arange(x.shape[dim]) == 5, 0.5, 0))
    assert profile.jump.tolist() == pytest.approx([0.5 if i in (4, 5) else 0 for i in range(x.shape[dim] - 1)])
    assert {"time": "frame 5", "height": "row 5", "width": "column 5"}[axis] in repr(profile)


def test_a_short_clip_has_a_ratio_but_no_periodogram():
    profile = seam_profile(clip(1, 1, 18, 4, 4), clip(1, 1, 18, 4, 4), 17)
    assert profile.error_periodogram is None and profile.ratio > 0
    assert "power" not in repr(profile)
    profile.plot()


def test_seam_profile_says_and_shows():
    x = clip(1, 3, 51, 16, 16)
    y = x + 0.05 * torch.randn_like(x)
    y[:, :, ::17] += 0.1
    profile = seam_profile(x, y, PERIOD)
    text = repr(profile)
    assert text.splitlines()[0] == "SeamProfile along time: 51 frames, 2 borders, before frame 17, 34"
    assert f"ratio {profile.ratio:.2f}" in text and f"PSNR   {profile.psnr_borders:.2f} dB at borders" in text
    assert "power at the period: error 100%" in text and "(32% by chance)" in text
    table = profile.table()
    assert table.loc["borders", "frames"] == 4 and table.loc["inside", "frames"] == 45
    assert table.loc["borders", "PSNR in dB"] == pytest.approx(profile.psnr_borders)
    assert table.loc["inside", "PSNR in dB"] == pytest.approx(profile.psnr_inside)
    assert table.loc["borders", "RMS jump"] == pytest.approx(profile.jump_borders)
    before, after = table.loc["last before", "RMS error"], table.loc["first after", "RMS error"]
    assert before == pytest.approx(0.05, rel=0.1) and after == pytest.approx(np.hypot(0.05, 0.1), rel=0.1)
    along, place, frequency = profile.plot().axes
    assert along.lines[0].get_ydata() == pytest.approx(profile.error)
    assert along.lines[1].get_xydata()[0].tolist() == pytest.approx([0.5, profile.jump[0]])  # between two frames
    assert [line.get_xdata()[0] for line in along.lines[2:]] == [16.5, 33.5]
    assert (along.get_xlabel(), place.get_ylabel()) == ("frame", "RMS error")
    assert [bar.get_height() for bar in place.patches] == pytest.approx(profile.by_place)
    assert len(frequency.patches) == 25 + 8
    assert frequency.patches[0].get_width() < 1 / 51  # bars do not overlap
    assert frequency.patches[25].get_x() + frequency.patches[25].get_width() / 2 == pytest.approx(1 / 17)


CLIP = torch.zeros(1, 3, 20, 4, 4)


@pytest.mark.parametrize(
    ("y", "arguments", "message"),
    [
        (CLIP[:, :, :19], {"period": 5}, r"x and y must have the same shape, got \(1, 3, 20, 4, 4\) and"),
        (CLIP + torch.nan, {"period": 5}, "y must be finite"),
        (CLIP.byte(), {"period": 5}, "y must be floating point"),
        (CLIP, {}, "one of period and starts must be given"),
        (CLIP, {"period": 5, "starts": (0, 5)}, "only one of period and starts may be given, got period 5"),
        (CLIP, {"period": 20}, r"period \(20\) must be smaller than the clip's 20 frames"),
        (CLIP, {"period": 4, "axis": "width"}, r"period \(4\) must be smaller than the clip's 4 columns"),
        (CLIP, {"period": 0}, "period must be at least 1, got 0"),
        (CLIP, {"period": 2.5}, "period must be an integer of at least 1, got 2.5"),
        (CLIP, {"period": 2}, "chunks must leave a frame inside.* with starts 0, 2, .*, … of 20 there is none"),
        (CLIP, {"starts": (0, 9, 5)}, "starts must begin with 0 and rise, got 0, 9, 5"),
        (CLIP, {"starts": (5, 9)}, "starts must begin with 0 and rise, got 5, 9"),
        (CLIP, {"starts": ()}, "starts must begin with 0 and rise, got $"),
        (CLIP, {"starts": (0, 20)}, "starts must have a second one, and all below 20, got 0, 20"),
        (CLIP, {"starts": (0,)}, "starts must have a second one, and all below 20, got 0"),
        (CLIP, {"starts": (0, 5.0)}, r"starts must be integers, got \(0, 5.0\)"),
        (CLIP, {"period": 5, "axis": "depth"}, "axis must be one of time, height, width, got 'depth'"),
        (CLIP, {"period": 5, "data_range": 0}, "data_range must be above 0 and finite, got 0"),
    ],
)
def test_seam_errors(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        seam_profile(CLIP, y, **arguments)


# ---- the static video ----------------------------------------------------------------------------------------------

FRAME = to_tensor(synthetic_clip("static", 1, (8, 8)).frames)


def test_a_perfect_map_of_a_still_clip_is_still():
    result = static_video_test(lambda x: x, FRAME, 9, 4)
    assert result.largest_change == result.mean_change == result.mean_borders == result.mean_inside == 0
    assert result.first_moving is None
    assert "9 frames, nothing moves" in repr(result)
    result.plot()


def test_what_moves_in_a_still_clip():
    def f(x):
        y = x.double().clone()
        y[:, :, 4:] += 0.5  # a chunk in another brightness
        y[0, 0, 6:, 0, 0] += 2  # one number of 192 moves further on
        return y

    result = static_video_test(f, FRAME, 9, 4)
    assert result.starts == (0, 4, 8)
    assert result.largest.tolist() == pytest.approx([0, 0, 0, 0.5, 0, 2, 0, 0])
    assert result.mean.tolist() == pytest.approx([0, 0, 0, 0.5, 0, 2 / 192, 0, 0])
    assert result.first_moving == 4 and result.largest_change == pytest.approx(2)
    assert result.mean_borders == pytest.approx(0.25)
    assert result.mean_inside == pytest.approx(2 / 192 / 6)
    assert static_video_test(f, FRAME, 9, tolerance=0.6).first_moving == 6
    text = repr(result)
    assert "the first to move is frame 4" in text and "2 at most" in text and "0.25 across borders" in text
    table = result.table()
    assert table.index.tolist() == list(range(1, 9))
    assert table.index[table["begins a chunk"]].tolist() == [4, 8]
    assert table.loc[4, "mean change"] == pytest.approx(0.5)
    (axis,) = result.plot().axes
    assert axis.lines[0].get_xydata()[5].tolist() == pytest.approx([6, 2])
    assert [line.get_xdata()[0] for line in axis.lines[2:]] == [3.5, 7.5]


def test_an_encoder_may_change_the_number_of_frames():
    result = static_video_test(lambda x: x[:, :, ::4], FRAME, 17, output_frames=5)
    assert result.largest.shape == (4,) and result.mean_borders is None
    assert "across borders" not in repr(result)
    assert static_video_test(lambda x: x[:, :, :2], FRAME, 9, starts=(0, 1), output_frames=2).mean_inside is None


@pytest.mark.parametrize(
    ("f", "frame", "arguments", "message"),
    [
        (lambda x: x[:, :, 1:], FRAME, {}, r"f\(clip\) must have 9 frames, got 8"),
        (lambda x: x * torch.inf, FRAME, {}, r"f\(clip\) must be finite"),
        (lambda x: None, FRAME, {}, r"f\(clip\) must be a tensor of shape \(B, C, T, H, W\), got NoneType"),
        (None, FRAME.repeat(1, 1, 2, 1, 1), {}, r"frame must be \(B, C, 1, H, W\), one frame, got shape"),
        (None, FRAME[:, :, 0], {}, "frame must be a tensor of shape"),
        (None, FRAME, {"num_frames": 1}, "num_frames must be at least 2 to see a change, got 1"),
        (None, FRAME, {"output_frames": 1}, "output_frames must be at least 2 to see a change, got 1"),
        (None, FRAME, {"period": 9}, r"period \(9\) must be smaller than the clip's 9 frames"),
        (None, FRAME, {"tolerance": -1}, "tolerance must be a number of at least 0, got -1"),
    ],
)
def test_static_errors(f, frame, arguments, message):
    with pytest.raises(ValueError, match=message):
        static_video_test(f, frame, **{"num_frames": 9} | arguments)
