import numpy as np
import pytest
import torch

from tests.helpers import small_vae
from tests.helpers.latents import OTHER, Z, enlarge
from vae_lab.families import codec_of
from vae_lab.latents.edits import change_cell
from vae_lab.latents.effects import Extent, cell_footprint, channel_effects, effect, interpolation
from vae_lab.metrics import psnr
from vae_lab.probes.dependency import frame_dependency
from vae_lab.shapes import frame_groups


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


def test_a_footprint_of_a_known_decoder():
    found = cell_footprint(enlarge, Z, (1, 0, 2), amount=(0.5, -2.0, 1.0))
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


def test_a_footprint_takes_each_channel_s_std_and_a_share_of_the_largest():
    found = cell_footprint(enlarge, Z, (0, 0, 0))
    assert np.isclose(found.largest, Z[0].double().flatten(1).std(dim=1, correction=0).max() / 10)
    one = cell_footprint(enlarge, Z, (0, 0, 0), channel=1)
    assert np.isclose(one.largest, Z[0, 1].double().std(correction=0) / 10)

    def fading(z):  # twice as weak from frame to frame
        return enlarge(z).cumsum(dim=2) * 0.5 ** torch.arange(8).view(1, 1, 8, 1, 1)

    found = cell_footprint(fading, torch.zeros_like(Z), (0, 0, 0), amount=1.0, share=0.2)
    assert found.touched.frames == (0, 7) and found.main.frames == (0, 3)  # 0.1, 0.1, 0.05, 0.025, 0.0125, ...
    assert found.table()["main"].tolist() == [16] * 4 + [0] * 4


def test_a_footprint_is_not_clamped_and_may_be_nothing():
    assert np.isclose(cell_footprint(lambda z: enlarge(z) + 5, Z, (0, 0, 0), amount=1.0).largest, 0.1)
    nothing = cell_footprint(lambda z: enlarge(z) * 0, Z, (0, 0, 0))
    assert nothing.touched is None and nothing.main is None and nothing.largest == 0
    assert repr(nothing) == "CellFootprint of latent frame 0, row 0, column 0: nothing changed"
    assert nothing.table()["main"].sum() == 0


def test_a_footprint_of_a_real_model_stays_in_its_chunk():
    vae = small_vae()
    z = torch.randn(1, 4, 10, 3, 3, generator=torch.Generator().manual_seed(1))
    found = cell_footprint(lambda z: codec_of(vae).decode(z, 34), z, (6, 1, 1))
    assert found.touched.frames == (17, 33)  # GroupNorm pools over the chunk, and chunks know nothing of each other
    assert found.by_frame[:17].max() == 0


def test_a_footprint_of_half_a_decoder_agrees_with_moving_a_whole_latent_frame():
    vae = small_vae(temporal=dict(norm="frame_group")).temporal
    z = torch.randn(1, 4, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    half = lambda z: vae.decode(z, 17).sample  # noqa: E731
    moved = frame_dependency(half, z).moved
    for latent_frame, row in enumerate(moved):
        found = cell_footprint(half, z, (latent_frame, 1, 1))
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
        (lambda: cell_footprint(enlarge, Z, (0, 0, 0), share=2), "share must be from 0 to 1, got 2"),
        (lambda: cell_footprint(enlarge, Z, (0, 0, 9)), "column of cell must be an integer from 0 to 4, got 9"),
        (lambda: channel_effects(enlarge, Z, factor="a"), "factor must be a finite number, got 'a'"),
        (
            lambda: channel_effects(enlarge, Z, latent_frames="x"),
            "latent_frames must be an integer from -3 to 3, got 'x'",
        ),
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
