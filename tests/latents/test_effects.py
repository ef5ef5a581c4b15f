import numpy as np
import pytest
import torch

from tests.helpers import small_vae
from tests.helpers.latents import OTHER, Z, enlarge
from vae_lab.families import decode as decode_with
from vae_lab.latents.edits import amplify_channel, change_cell, interpolate, shift_channel, swap_channel, zero_channel
from vae_lab.latents.effects import Extent, channel_effects, effect, interpolation, paint
from vae_lab.metrics import psnr
from vae_lab.probes.dependency import frame_dependency
from vae_lab.shapes import frame_groups


def others_stay(changed, channel):
    rest = [c for c in range(3) if c != channel]
    return changed.shape == Z.shape and torch.equal(changed[:, rest], Z[:, rest])


def test_changes_of_a_channel():
    before = Z.clone()
    zeroed = zero_channel(Z, 1)
    assert others_stay(zeroed, 1) and not zeroed[:, 1].any()
    louder = amplify_channel(Z, 2, 3.0)
    mean = Z[:, 2].mean()
    assert others_stay(louder, 2) and torch.allclose(louder[:, 2], mean + 3 * (Z[:, 2] - mean), atol=1e-6)
    assert torch.equal(amplify_channel(Z, 2, 1), Z)
    assert torch.equal(amplify_channel(Z, 0, 0)[:, 0], Z[:, 0].mean().expand(1, 4, 2, 5))
    swapped = swap_channel(Z, OTHER, 0)
    assert others_stay(swapped, 0) and torch.equal(swapped[:, 0], OTHER[:, 0])
    assert torch.equal(Z, before)


@pytest.mark.parametrize(("shift", "source"), [(0, [0, 1, 2, 3]), (1, [0, 0, 1, 2]), (-2, [2, 3, 3, 3]), (3, [0] * 4)])
def test_shift_repeats_the_edge_frame(shift, source):
    shifted = shift_channel(Z, 1, shift)
    assert others_stay(shifted, 1) and torch.equal(shifted[:, 1], Z[:, 1, source])


def test_interpolation_of_latents():
    assert torch.equal(interpolate(Z, OTHER, 0), Z) and torch.equal(interpolate(Z, OTHER, 1.0), OTHER)
    assert torch.allclose(interpolate(Z, OTHER, 0.25), 0.75 * Z + 0.25 * OTHER)


def test_one_cell_changes():
    changed = change_cell(Z, (3, 1, 4), (1.0, 2.0, -3.0))
    difference = changed - Z
    assert torch.allclose(difference[0, :, 3, 1, 4], torch.tensor([1.0, 2.0, -3.0]))
    assert (difference != 0).sum() == 3
    difference = change_cell(Z, (0, 0, 0), 2, channel=1) - Z
    assert torch.isclose(difference[0, 1, 0, 0, 0], torch.tensor(2.0)) and (difference != 0).sum() == 1


def test_results_share_no_memory_and_keep_the_type():
    z = Z.to(torch.bfloat16)
    changes = [
        zero_channel(z, 0), amplify_channel(z, 0, 2), shift_channel(z, 0, 1), swap_channel(z, z + 1, 0),
        interpolate(z, z + 1, 0), change_cell(z, (0, 0, 0), 1),
    ]  # fmt: skip
    before = z.clone()
    for changed in changes:
        assert changed.dtype == torch.bfloat16
        changed.fill_(9)
        assert torch.equal(z, before)
    assert not interpolate(Z.clone().requires_grad_(), OTHER, 0.5).requires_grad
    grown = Z.clone().requires_grad_()
    for changed in (amplify_channel(grown, 0, 2), swap_channel(OTHER, grown, 0), interpolate(OTHER, grown, 0.5)):
        assert not changed.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_amplified_channel_keeps_its_mean_in_16_bits(dtype):
    """1.003 lies between two numbers of bfloat16, 1.000 and 1.008: a mean that is rounded to one of them moves."""
    z = (torch.randn(1, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1 + 1.003).to(dtype)
    moved = amplify_channel(z, 0, 50).double().mean() - z.double().mean()
    assert abs(moved) < 0.002


def test_bad_changes_are_refused():
    bad = Z.clone()
    bad[0, 0, 0, 0, 0] = float("nan")
    for call, message in (
        (lambda: zero_channel(Z, 3), "channel must be an integer from 0 to 2, got 3"),
        (lambda: zero_channel(Z, -1), "channel must be an integer from 0 to 2, got -1"),
        (lambda: zero_channel(Z, True), "channel must be an integer from 0 to 2, got True"),
        (lambda: zero_channel(Z[0], 0), r"z must be \(1, C, L, h, w\), the latents of one clip, got shape"),
        (lambda: zero_channel(bad, 0), "z must be finite, got 1 of 120"),
        (lambda: zero_channel(Z.numpy(), 0), r"z must be a tensor \(1, C, L, h, w\), got ndarray"),
        (lambda: amplify_channel(Z, 0, float("inf")), "factor must be a finite number, got inf"),
        (lambda: amplify_channel(Z, 0, 10**400), "factor must be a finite number, got 1000"),
        (
            lambda: amplify_channel(Z.to(torch.float8_e4m3fn), 0, 2),
            "z must be of at least 16 bits, .* got torch.float8",
        ),
        (lambda: change_cell(Z, (0, 0, 0), 10**400), "amount must be a number or 3 of them, got 1000"),
        (lambda: change_cell(Z, (0, 0, 0), "1.5"), "amount must be a number or 3 of them, got '1.5'"),
        (lambda: change_cell(Z, (0, 0, 0), True), "amount must be a number or 3 of them, got True"),
        (lambda: amplify_channel(Z, 0, "2"), "factor must be a finite number, got '2'"),
        (lambda: shift_channel(Z, 0, 4), "latent_frames must be an integer from -3 to 3, got 4"),
        (lambda: shift_channel(Z, 0, 0.5), "latent_frames must be an integer from -3 to 3, got 0.5"),
        (lambda: swap_channel(Z, OTHER[:, :, :2], 0), r"other must have the shape of z, \(1, 3, 4, 2, 5\), got"),
        (lambda: swap_channel(Z, None, 0), r"other must be a tensor \(1, C, L, h, w\), got NoneType"),
        (lambda: interpolate(Z, bad, 0.5), "other must be finite"),
        (lambda: interpolate(Z, OTHER, 1.5), "weight must be from 0 to 1, got 1.5"),
        (lambda: change_cell(Z, (0, 2, 0), 1), "row of cell must be an integer from 0 to 1, got 2"),
        (lambda: change_cell(Z, (4, 0, 0), 1), "latent frame of cell must be an integer from 0 to 3, got 4"),
        (lambda: change_cell(Z, (0, 0), 1), r"cell must be \(latent frame, row, column\), got \(0, 0\)"),
        (lambda: change_cell(Z, (0, 0, 0), [1, 2]), "amount must be a finite number, or one for each of 3 channels"),
        (lambda: change_cell(Z, (0, 0, 0), [1, 2, 3], 0), r"amount must be a finite number, got \[1, 2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# ---- effects -------------------------------------------------------------------------------------------------------


def test_effect_of_a_known_decoder():
    found = effect(enlarge, Z, change_cell(Z, (1, 0, 2), 3.0, channel=2))
    assert torch.equal(found.original, enlarge(Z)) and found.changed.shape == (1, 3, 8, 8, 20)
    expected = 0.3 * np.sqrt(1 / (3 * 2 * 5))  # one colour of one cell in ten differs by 0.3
    assert np.allclose(found.rms, [0, 0, expected, expected, 0, 0, 0, 0], atol=1e-8)
    assert np.isclose(found.total, expected / 2)
    assert np.isclose(found.psnr, 20 * np.log10(2 / found.total))
    assert repr(found).startswith("Effect on 8 frames: RMS 0.0274, PSNR 37.27 dB; most in frame ")
    table = found.table()
    assert np.allclose(table["psnr"], psnr(found.original, found.changed, data_range=2.0)[0]) and len(table) == 8


def test_no_change_is_no_effect():
    found = effect(enlarge, Z, Z.clone())
    assert found.total == 0 and found.psnr == float("inf") and not found.rms.any()


def test_frames_are_compared_as_they_are_shown():
    bright = torch.full_like(Z, 10.0)  # decoded to 1
    assert effect(enlarge, bright, bright * 5).total == 0
    assert effect(lambda z: enlarge(z) * 7, Z, -Z).original.abs().max() == 1


def test_effects_of_all_channels():
    found = channel_effects(enlarge, Z, OTHER, factor=3, latent_frames=-1)
    assert found.names == ("zero", "amplify 3", "shift -1", "swap") and found.rms.shape == (3, 4)
    for channel in range(3):
        z = Z[0, channel].double() / 10
        later = z[[1, 2, 3, 3]]
        differences = (z, 2 * (z - z.mean()), later - z, OTHER[0, channel].double() / 10 - z)
        expected = [(difference.square().mean() / 3).sqrt().item() for difference in differences]
        assert np.allclose(found.rms[channel], expected, rtol=1e-5)
    assert np.allclose(found.psnr, 20 * np.log10(2 / found.rms))
    assert found.table().columns.tolist() == list(found.names)
    assert repr(found).splitlines()[1].startswith("  channel 0: 0.0")


def test_what_cannot_be_changed_is_left_out():
    assert channel_effects(enlarge, Z[:, :, :1]).names == ("zero", "amplify 2")
    same = channel_effects(enlarge, torch.zeros_like(Z))
    assert (same.rms == 0).all() and (same.psnr == np.inf).all()


def test_interpolation_of_a_linear_decoder_is_a_cross_fade():
    found = interpolation(enlarge, Z, OTHER, steps=3)
    assert found.weights.tolist() == [0, 0.5, 1] and found.frames.shape == (3, 3, 8, 8, 20)
    assert torch.allclose(found.frames[1:2], enlarge((Z + OTHER) / 2))
    assert np.allclose(found.crossfade, 0, atol=1e-7)
    squared = interpolation(lambda z: enlarge(z) ** 2, Z, -Z, steps=3)
    expected = enlarge(Z).double().pow(4).mean().sqrt()  # halfway there is 0, and the fade of two equal clips is one
    assert np.allclose(squared.crossfade, [0, expected, 0])
    assert repr(squared).endswith("from a cross-fade of pixels, at weight 0.50")
    assert squared.table().index.tolist() == [0, 0.5, 1]


def test_paint_of_a_known_decoder():
    found = paint(enlarge, Z, (1, 0, 2), amount=(0.5, -2.0, 1.0))
    box = Extent((2, 3), (0, 3), (8, 11))
    assert found.touched == found.main == box
    assert np.isclose(found.largest, 0.2) and np.count_nonzero(found.difference) == 2 * 4 * 4
    assert np.allclose(found.difference[2:4, 0:4, 8:12], 0.2)
    assert np.allclose(found.by_frame, [0, 0, 0.2, 0.2, 0, 0, 0, 0])
    assert found.picture.shape == (8, 20) and np.isclose(found.picture[3, 11], 0.2)
    assert found.table()["changed"].tolist() == [0, 0, 16, 16, 0, 0, 0, 0]
    assert repr(found).splitlines()[1:] == [
        "  changed at all: frames 2 to 3, rows 0 to 3, columns 8 to 11",
        "  by at least 10% of the largest: frames 2 to 3, rows 0 to 3, columns 8 to 11",
    ]


def test_paint_takes_each_channel_s_std_and_a_share_of_the_largest():
    found = paint(enlarge, Z, (0, 0, 0))
    assert np.isclose(found.largest, Z[0].double().flatten(1).std(dim=1, correction=0).max() / 10)
    one = paint(enlarge, Z, (0, 0, 0), channel=1)
    assert np.isclose(one.largest, Z[0, 1].double().std(correction=0) / 10)

    def fading(z):  # twice as weak from frame to frame
        return enlarge(z).cumsum(dim=2) * 0.5 ** torch.arange(8).view(1, 1, 8, 1, 1)

    found = paint(fading, torch.zeros_like(Z), (0, 0, 0), amount=1.0, share=0.2)
    assert found.touched.frames == (0, 7) and found.main.frames == (0, 3)  # 0.1, 0.1, 0.05, 0.025, 0.0125, ...
    assert found.table()["main"].tolist() == [16] * 4 + [0] * 4


def test_paint_is_not_clamped_and_may_be_nothing():
    assert np.isclose(paint(lambda z: enlarge(z) + 5, Z, (0, 0, 0), amount=1.0).largest, 0.1)
    nothing = paint(lambda z: enlarge(z) * 0, Z, (0, 0, 0))
    assert nothing.touched is None and nothing.main is None and nothing.largest == 0
    assert repr(nothing) == "Paint of latent frame 0, row 0, column 0: nothing changed"
    assert nothing.table()["main"].sum() == 0


def test_paint_of_a_real_model_stays_in_its_chunk():
    vae = small_vae()
    z = torch.randn(1, 4, 10, 3, 3, generator=torch.Generator().manual_seed(1))
    found = paint(lambda z: decode_with(vae, z, 34), z, (6, 1, 1))
    assert found.touched.frames == (17, 33)  # GroupNorm pools over the chunk, and chunks know nothing of each other
    assert found.by_frame[:17].max() == 0


def test_paint_of_half_a_decoder_agrees_with_moving_a_whole_latent_frame():
    vae = small_vae(temporal=dict(norm="frame_group")).temporal
    z = torch.randn(1, 4, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    half = lambda z: vae.decode(z, 17).sample  # noqa: E731
    moved = frame_dependency(half, z).moved
    for latent_frame, row in enumerate(moved):
        found = paint(half, z, (latent_frame, 1, 1))
        assert found.touched.frames == (row.argmax(), 16 - row[::-1].argmax())
        assert found.touched.frames[0] == frame_groups(17)[latent_frame].start  # nothing before its own frames


def test_bad_decoders_are_refused():
    for call, message in (
        (lambda: effect(None, Z, Z), "decode must be a function of latents to frames, got NoneType"),
        (lambda: effect(lambda z: z[:, :2], Z, Z), r"decode\(z\) must have 3 channels, got 2"),
        (lambda: effect(lambda z: torch.cat([z, z]), Z, Z), r"decode\(z\) must be one clip \(1, C, T, H, W\), got"),
        (lambda: effect(lambda z: z / 0, Z, Z), r"decode\(z\) must be finite"),
        (
            lambda: effect(lambda z: z[:, :, : 1 + (z[0, 0, 0, 0, 0] == 0)], Z, Z * 0),
            "decode must give frames of one shape",
        ),
        (lambda: effect(enlarge, Z, Z[:, :1]), "changed must have the shape of z"),
        (lambda: interpolation(enlarge, Z, OTHER, 1), "steps must be at least 2, got 1"),
        (lambda: paint(enlarge, Z, (0, 0, 0), share=2), "share must be from 0 to 1, got 2"),
        (lambda: paint(enlarge, Z, (0, 0, 9)), "column of cell must be an integer from 0 to 4, got 9"),
        (lambda: interpolation(enlarge, Z, OTHER).plot(8), "frame must be an integer from 0 to 7, got 8"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_decoders_that_work_in_place_change_nothing():
    before = Z.clone()

    def rude(z):
        assert not torch.is_grad_enabled()
        return enlarge(z.mul_(2))

    effect(rude, Z, OTHER)
    channel_effects(rude, Z, OTHER)
    assert torch.equal(Z, before)


def test_what_the_type_cannot_hold_is_refused_by_name():
    half, large = Z.half(), torch.full_like(Z, 1e6)
    for change, message in (
        (
            lambda: amplify_channel(Z, 0, 1e300),
            r"factor must keep z within torch.float32, at most 3.4e\+38, got 1e\+300",
        ),
        (lambda: amplify_channel(Z, 0, 3e38), r"factor must keep z within torch.float32, at most 3.4e\+38, got 3e\+38"),
        (lambda: swap_channel(half, large, 0), r"other must keep z within torch.float16, .* got up to 1e\+06"),
        (lambda: interpolate(half, large, 1), "other must keep z within torch.float16"),
        (lambda: change_cell(half, (0, 0, 0), 1e6, 0), "amount must keep z within torch.float16"),
        (lambda: change_cell(half, (0, 0, 0), 1e6), "amount must keep z within torch.float16"),
        (lambda: channel_effects(enlarge, Z, factor="a"), "factor must be a finite number, got 'a'"),
        (
            lambda: channel_effects(enlarge, Z, latent_frames="x"),
            "latent_frames must be an integer from -3 to 3, got 'x'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            change()
