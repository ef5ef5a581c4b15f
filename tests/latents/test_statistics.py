from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from tests.helpers import ROOT
from vae_lab import DiagonalGaussian, load, read_video, synthetic_clip, to_tensor
from vae_lab.latents.arrays import check_latent
from vae_lab.latents.statistics import (
    HYPOTHESES,
    channel_correlation,
    channel_moments,
    expectations,
    frame_moments,
    latent_report,
    posterior_statistics,
    scale_check,
    spatial_spectrum,
    temporal_spectrum,
    time_correlation,
)
from vae_lab.video.clips import SYNTHETIC_KINDS

RANDOM = np.random.default_rng(0)
Z = RANDOM.normal(size=(1, 3, 6, 5, 8)) * np.array([1, 2, 0.5]).reshape(1, 3, 1, 1, 1) + 1
CONSTANT = np.concatenate([Z, np.full_like(Z[:, :1], 0.1)], axis=1)


def test_one_clip_as_float64():
    for z in (Z, torch.from_numpy(Z), torch.from_numpy(Z).requires_grad_()):
        assert check_latent(z).dtype == np.float64 and np.array_equal(check_latent(z), Z[0])
    assert np.array_equal(check_latent(torch.ones(1, 1, 1, 1, 1, dtype=torch.bfloat16)), np.ones((1, 1, 1, 1)))


def test_what_is_no_clip_is_refused():
    bad = Z.copy()
    bad[0, 1, 2, 3, 4], bad[0, 2] = np.nan, np.inf
    for z, message in (
        ([1], r"z must be a tensor or array \(1, C, L, h, w\), got list"),
        (Z[0], r"z must be \(1, C, L, h, w\), the latents of one clip, got shape \(3, 6, 5, 8\)"),
        (np.concatenate([Z, Z]), r"of one clip, got shape \(2, 3, 6, 5, 8\)"),
        (Z[..., :0], r"z must not be empty, got shape \(1, 3, 6, 5, 0\)"),
        (torch.ones(1, 1, 1, 1, 1, dtype=torch.int32), "z must be floating point, got torch.int32"),
        (np.ones((1, 1, 1, 1, 1), np.uint8), "z must be floating point, got uint8"),
        (bad, "got 241 of 720 values NaN or infinite, the first in channel 1, latent frame 2, row 3, column 4"),
    ):
        with pytest.raises(ValueError, match=message):
            latent_report(z)


def test_moments_are_scipys():
    for moments, axes in ((channel_moments(Z), (1, 2, 3)), (frame_moments(Z), (2, 3))):
        assert np.allclose(moments.mean, Z[0].mean(axes)) and np.allclose(moments.std, Z[0].std(axes))
        flat = Z[0].reshape(3, -1) if len(axes) == 3 else Z[0].reshape(3, 6, -1)
        assert np.allclose(moments.kurtosis, scipy.stats.kurtosis(flat, axis=-1))
    assert channel_moments(Z).mean.shape == (3,) and frame_moments(Z).mean.shape == (3, 6)


def test_a_constant_channel_has_no_kurtosis_and_no_correlation():
    moments = channel_moments(CONSTANT)
    assert moments.std[3] == 0 and np.isnan(moments.kurtosis[3]) and np.isfinite(moments.kurtosis[:3]).all()
    matrix = channel_correlation(CONSTANT)
    assert np.isnan(matrix[3]).all() and np.isnan(matrix[:, 3]).all() and np.isfinite(matrix[:3, :3]).all()
    assert np.isnan(time_correlation(CONSTANT)[3]).all()
    two_values = np.array([-1.0, 1.0]).reshape(1, 1, 1, 1, 2)
    assert channel_moments(two_values).kurtosis == -2  # the smallest there is


def test_correlation_is_numpys_and_knows_signs():
    assert np.allclose(channel_correlation(Z), np.corrcoef(Z[0].reshape(3, -1)))
    copies = np.concatenate([Z[:, :1], 3 * Z[:, :1] + 2, -Z[:, :1]], axis=1)
    assert np.allclose(channel_correlation(copies), [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])


def test_time_correlation_of_known_clips():
    still = np.broadcast_to(Z[:, :, :1], Z.shape)
    assert np.allclose(time_correlation(still), 1)
    pulse = still - still.mean(axis=(3, 4), keepdims=True)
    alternating = time_correlation(pulse * np.array([1, -1] * 3).reshape(1, 1, 6, 1, 1))
    assert np.allclose(alternating, [[1, -1, 1, -1, 1, -1]] * 3)
    noise = time_correlation(RANDOM.normal(size=(1, 1, 4, 100, 100)), max_lag=2)
    assert noise.shape == (1, 3) and noise[0, 0] == 1 and np.abs(noise[0, 1:]).max() < 0.03


def test_time_correlation_by_its_formula():
    c = Z[0] - Z[0].mean(axis=(1, 2, 3), keepdims=True)
    a, b = c[1, :-2], c[1, 2:]
    assert np.isclose(time_correlation(Z)[1, 2], (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    for lag in (-1, 6, 1.5, True):
        with pytest.raises(ValueError, match=r"max_lag must be an integer from 0 to L - 1 = 5, got"):
            time_correlation(Z, lag)
    assert time_correlation(Z[:, :, :1]).tolist() == [[1], [1], [1]]


@pytest.mark.parametrize("size", [(8, 8), (5, 8), (9, 4), (7, 7), (1, 6), (2, 1), (1, 1)])
def test_parseval_in_space(size):
    z = RANDOM.normal(size=(1, 2, 3, *size)) + 5
    spectrum = spatial_spectrum(z)
    removed = z[0] - z[0].mean(axis=(2, 3), keepdims=True)
    assert np.allclose(spectrum.variance, (removed**2).mean(axis=(1, 2, 3)))
    assert spectrum.power.shape == (2, max(size) // 2) and np.isfinite(spectrum.power).all()
    assert spectrum.frequency.tolist() == [k / max(size) for k in range(1, max(size) // 2 + 1)]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8, 9])
def test_parseval_in_time(num_frames):
    z = RANDOM.normal(size=(1, 2, num_frames, 3, 4)) + 5
    spectrum = temporal_spectrum(z)
    assert np.allclose(spectrum.variance, z[0].var(axis=1).mean(axis=(1, 2)))
    assert np.allclose(spectrum.frequency, np.arange(1, num_frames // 2 + 1) / num_frames)


def test_white_noise_is_flat_at_its_variance():
    z = 3 * np.random.default_rng(1).normal(size=(1, 1, 64, 64, 64))
    for spectrum in (spatial_spectrum(z), temporal_spectrum(z)):
        assert np.allclose(spectrum.power, 9, rtol=0.08)
    assert np.isclose(spatial_spectrum(z).beyond[0] / 9, 1 - np.pi / 4, rtol=0.05)  # the square less the circle


def test_waves_are_where_they_belong():
    t, y, x = np.meshgrid(np.arange(10), np.arange(16), np.arange(32), indexing="ij")
    wave = 3 * np.cos(2 * np.pi * x * 4 / 32)
    slanted = np.cos(2 * np.pi * (3 * y / 16 + 8 * x / 32))  # |f| = hypot(3 / 16, 1 / 4) = 0.3125
    nearest = np.cos(2 * np.pi * (3 * y / 16 + 5 * x / 32))  # hypot(6, 5) / 32 = 7.8 / 32: in the ring of 8 / 32
    spectrum = spatial_spectrum(np.stack([wave, slanted, nearest])[None])
    assert spectrum.frequency[spectrum.power.argmax(axis=1)].tolist() == [4 / 32, 10 / 32, 8 / 32]
    assert np.allclose((spectrum.power * spectrum.weight)[0], np.where(spectrum.frequency == 4 / 32, 4.5, 0))
    spectrum = temporal_spectrum(np.cos(2 * np.pi * t * 3 / 10)[None, None])
    assert np.allclose(spectrum.power * spectrum.weight, [[0, 0, 0.5, 0, 0]])
    nyquist = temporal_spectrum(np.where(t % 2, -1.0, 1.0)[None, None])
    assert np.allclose(nyquist.power * nyquist.weight, [[0, 0, 0, 0, 1]])
    assert (temporal_spectrum(Z[:, :, :1].repeat(11, axis=2)).power == 0).all()  # exactly, by rounding too
    assert (spatial_spectrum(np.broadcast_to(Z[..., :1, :1], Z.shape)).power == 0).all()


def test_spectra_say_what_they_are():
    assert repr(spatial_spectrum(Z)) == "Spectrum of 3 channels: 4 frequencies, 0.125 to 0.5 cycles per latent cell"
    assert repr(temporal_spectrum(Z[:, :, :1])) == (
        "Spectrum of 3 channels: empty, there is one sample (cycles per latent frame)"
    )
    table = temporal_spectrum(Z).table()
    assert table.shape == (3, 3) and table.index.name == "cycles per latent frame"
    assert list(table.columns) == ["channel 0", "channel 1", "channel 2"]


# ---- the posterior -------------------------------------------------------------------------------------------------


def test_posterior_of_every_kind():
    moments = torch.randn(1, 6, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = DiagonalGaussian(moments), DiagonalGaussianDistribution(moments)
    only_logvar = SimpleNamespace(mean=ours.mean, logvar=ours.logvar)
    expected = posterior_statistics(ours)
    for posterior in (theirs, only_logvar):
        assert np.allclose(np.array(posterior_statistics(posterior)), np.array(expected))
    elements = ours.mean[0].numel()
    assert np.isclose(expected.kl.mean() * elements, ours.kl().item(), rtol=1e-5)
    assert np.allclose(expected.std, ours.std[0].mean(dim=(1, 2, 3)))
    assert np.allclose(expected.mean_variance, ours.mean[0].var(dim=(1, 2, 3), correction=0))


def test_dead_and_active_channels():
    mean = torch.zeros(1, 3, 1, 1, 2, dtype=torch.float64)
    mean[0, 1, 0, 0, 1] = 0.18  # variance 0.0081: not above 0.01
    mean[0, 2, 0, 0] = torch.tensor([1.0, 1.3]).double()
    found = posterior_statistics(
        SimpleNamespace(mean=mean, std=torch.tensor([1.0, 1, np.e]).view(1, 3, 1, 1, 1).expand(mean.shape))
    )
    assert found.active.tolist() == [False, False, True]
    assert np.allclose(found.mean_variance, [0, 0.0081, 0.0225])
    assert np.allclose(found.kl, [0, 0.0081, 0.5 * ((1 + 1.69) / 2 + np.e**2 - 1 - 2)])
    assert repr(found).splitlines()[0] == "PosteriorStatistics: 1 of 3 channels active; dead: 0, 1"
    assert found.table().columns.tolist() == ["posterior_std", "kl", "mean_variance", "active"]


def test_bad_posteriors():
    mean = torch.zeros(1, 1, 1, 1, 2)
    for posterior, message in (
        (mean, r"posterior.mean must be a tensor or array \(1, C, L, h, w\), got builtin"),
        (SimpleNamespace(mean=mean), "posterior must have .mean and .std or .logvar, got SimpleNamespace"),
        (SimpleNamespace(mean=mean, std=mean), "posterior.std must be above 0, got 0.0: a deterministic posterior"),
        (SimpleNamespace(mean=mean, std=mean[..., :1] + 1), "must have the same shape"),
        (SimpleNamespace(mean=mean, logvar=mean / 0), "posterior.logvar must be finite, got 2 of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            posterior_statistics(posterior)


# ---- shift and scale -----------------------------------------------------------------------------------------------

OPEN_SORA = ((-0.10, 0.34, 0.27, 0.98), (3.85, 2.32, 2.33, 3.06))


def used(raw, mean, std, how):
    """Latents that were used in one of the five ways."""
    return {
        "raw": lambda: raw,
        "normalised": lambda: (raw - mean) / std,
        "normalised twice": lambda: ((raw - mean) / std - mean) / std,
        "denormalised": lambda: raw * std + mean,
        "multiplied": lambda: (raw - mean) * std,
    }[how]()


@pytest.fixture(scope="module")
def normalised_clips():
    """name -> normalised latents of clips that the lab's weights encode."""
    vae = load("lab")
    clips = {
        path.stem: read_video(path, num_frames=17, size=(128, 128)) for path in sorted((ROOT / "data").glob("*.mp4"))
    }
    clips |= {f"synthetic {kind}": synthetic_clip(kind, 17) for kind in SYNTHETIC_KINDS}
    with torch.no_grad():
        return {name: vae.normalize(vae.encode(to_tensor(c.frames)).latent_dist.mean) for name, c in clips.items()}


def column(values):
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


RELEASED = {
    "lab": ((-0.19883, -0.34868, -0.46097, -0.088054), (2.1769, 2.0762, 2.1797, 0.96548)),
    "Open-Sora 1.2": OPEN_SORA,
    **{
        name: ((0.0,) * 4, (1 / factor,) * 4)
        for name, factor in dict(
            sd=0.18215, sdxl=0.13025, cogvideox=1.15258426, cogvideox_5b=0.7, hunyuan=0.476986
        ).items()
    },
    "sd3": ((0.0609,) * 4, (1 / 1.5305,) * 4),
    "flux": ((0.1159,) * 4, (1 / 0.3611,) * 4),
}


def test_right_use_is_never_warned_of(normalised_clips):
    cases = 0
    for mean, std in RELEASED.values():
        for n in normalised_clips.values():
            assert scale_check(n * column(std) + column(mean), mean, std).warning == ""
            cases += 1
    assert cases == len(RELEASED) * 11


def test_wrong_use_is_named_where_the_clip_can_tell(normalised_clips):
    mean, std = map(column, OPEN_SORA)
    noticed = dict.fromkeys(HYPOTHESES, 0)
    for n in normalised_clips.values():
        for how in HYPOTHESES:
            found = scale_check(used(n * std + mean, mean, std, how), mean, std)
            noticed[how] += found.decisive
            if found.decisive and how in ("normalised", "normalised twice"):
                assert found.best == how
            elif found.decisive:
                assert found.best in ("denormalised", "multiplied")
    assert noticed == {"raw": 0, "normalised": 3, "normalised twice": 8, "denormalised": 9, "multiplied": 9}


def test_the_lab_s_own_scale_is_too_small_to_tell(normalised_clips):
    vae = load("lab")
    for n in normalised_clips.values():
        raw = vae.denormalize(n)
        assert scale_check(raw, vae.shift, vae.scale).best in HYPOTHESES
        for wrong in (n, vae.denormalize(raw)):  # a dull clip, or one of much contrast, looks like that
            assert not scale_check(wrong, vae.shift, vae.scale).decisive


def test_the_warning_names_the_mistake(normalised_clips):
    mean, std = map(column, OPEN_SORA)
    found = [scale_check(used(n * std + mean, mean, std, "multiplied"), mean, std) for n in normalised_clips.values()]
    warnings = [check.warning for check in found if check.best == "multiplied" and check.decisive]
    assert warnings
    for warning in warnings:
        assert warning.startswith("These latents look multiplied by latents_std, the wrong way round (")
        assert warning.endswith("and diffusers' scaling_factor is 1 / latents_std.")


@pytest.mark.parametrize("how", HYPOTHESES)
def test_latents_like_their_statistics_are_told_apart(how):
    mean, std = map(column, OPEN_SORA)
    raw = torch.randn(1, 4, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * std + mean
    found = scale_check(used(raw, mean, std, how), *OPEN_SORA)
    assert found.best == how and found.decisive == (how != "raw") == bool(found.warning)
    assert (
        found.total[how]
        < 0.02
        < 1
        < min(total for name, total in found.total.items() if name not in (how, "denormalised", "multiplied"))
    )


def test_divergence_is_that_of_gaussians():
    z = torch.from_numpy(Z)
    found = scale_check(z, 0.5, (1.0, 2.0, 3.0))
    gaussian = torch.distributions.Normal
    measured = gaussian(torch.from_numpy(found.mean), torch.from_numpy(found.std))
    for name, (mean, std) in expectations(found.latents_mean, found.latents_std).items():
        expected = torch.distributions.kl_divergence(measured, gaussian(torch.from_numpy(mean), torch.from_numpy(std)))
        assert np.allclose(found.divergence[name], expected.numpy())
        undone = {
            "raw": (z - 0.5) / column((1, 2, 3)).double(),
            "normalised": z,
            "normalised twice": z * column((1, 2, 3)).double() + 0.5,
            "denormalised": ((z - 0.5) / column((1, 2, 3)).double() - 0.5) / column((1, 2, 3)).double(),
            "multiplied": z / column((1, 4, 9)).double(),
        }[name]
        m, s, _ = channel_moments(undone)
        assert np.allclose(found.divergence[name], 0.5 * (m**2 + s**2 - 1) - np.log(s))  # from N(0, 1)
        assert np.isclose(found.total[name], found.divergence[name].sum())


def test_what_cannot_be_told_is_not_told():
    one = scale_check(Z, 0.0, 1.0)  # all hypotheses are the same
    assert one.best == "raw" and len(set(one.total.values())) == 1 and one.warning == ""
    flat = scale_check(np.full((1, 2, 3, 4, 5), 0.25), 0.0, 5.0)
    assert set(flat.total.values()) == {np.inf} and flat.best == "raw" and not flat.decisive
    dull = scale_check(0.2 * (Z - 1), 0.0, (1.8, 1.9, 1.7))
    assert dull.best == "normalised twice" and dull.warning == ""
    assert repr(dull).startswith("ScaleCheck: normalised twice fits best, but one clip cannot tell\n  raw: ")


def test_scale_check_table_and_bad_statistics():
    table = scale_check(Z, [0, 0, 0], np.ones((1, 3, 1, 1, 1))).table()
    assert table.index.tolist() == list(HYPOTHESES) and table.columns.tolist() == [
        "total",
        *(f"channel {c}" for c in range(3)),
        "meaning",
    ]
    for mean, std, message in (
        ([0, 0], 1, r"latents_mean must be a finite number, or one for each of 3 channels, got \[0, 0\]"),
        (0, [1, 1, 0], "latents_std must be above 0, got 0.0"),
        (np.nan, 1, "latents_mean must be a finite number"),
        (0, "one", "latents_std must be a number or 3 of them, got 'one'"),
    ):
        with pytest.raises(ValueError, match=message):
            scale_check(Z, mean, std)


# ---- the report ----------------------------------------------------------------------------------------------------


def test_report_gathers_everything():
    posterior = SimpleNamespace(mean=torch.from_numpy(Z), std=torch.full(Z.shape, 0.5, dtype=torch.float64))
    report = latent_report(Z, posterior, 1.0, 4.0)
    assert report.shape == (3, 6, 5, 8)
    assert np.array_equal(report.moments.mean, channel_moments(Z).mean)
    assert np.array_equal(report.frames.std, frame_moments(Z).std)
    assert np.array_equal(report.correlation, channel_correlation(Z))
    assert np.array_equal(report.time_correlation, time_correlation(Z))
    assert np.array_equal(report.spatial.power, spatial_spectrum(Z).power)
    assert np.array_equal(report.temporal.power, temporal_spectrum(Z).power)
    table = report.table()
    assert np.allclose(table["normalised_mean"], (report.moments.mean - 1) / 4)
    assert np.allclose(table["normalised_std"], report.moments.std / 4)
    assert np.allclose(table["posterior_std"], 0.5) and table["active"].all() and len(table.columns) == 11
    lines = repr(report).splitlines()
    assert (
        lines[0] == "LatentReport: 3 channels, 6 latent frames of 5x8 cells" and lines[4] == "  3 of 3 channels active"
    )
    plain = latent_report(Z)
    assert plain.table().columns.tolist() == ["mean", "std", "kurtosis"] and plain.warning == ""
    wide = latent_report(16 * (Z - 1) / Z.std(axis=(2, 3, 4), keepdims=True), latents_mean=0, latents_std=4)
    assert wide.warning == wide.scale.warning and "the wrong way round" in wide.warning


def test_report_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="must be given together, got only latents_std"):
        latent_report(Z, latents_std=1.0)
    with pytest.raises(ValueError, match="must be given together, got only latents_mean"):
        latent_report(Z, latents_mean=0.0)
    other = SimpleNamespace(mean=torch.zeros(1, 3, 6, 5, 7), std=torch.ones(1, 3, 6, 5, 7))
    with pytest.raises(
        ValueError, match=r"posterior must have the shape of z, \(1, 3, 6, 5, 8\), got \(1, 3, 6, 5, 7\)"
    ):
        latent_report(Z, other)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: z.double() * 1e40, r"z must be within float32, at most 3.4e\+38, got"),
        (lambda z: z.double().numpy() * 1e300, "z must be within float32"),
        (lambda z: z.to("meta"), "z must be a dense tensor with values, got a meta tensor"),
        (lambda z: z.to_sparse(), "z must be a dense tensor with values, got torch.sparse_coo"),
        (lambda z: np.ma.masked_array(z.numpy(), z.numpy() > 0), "must be a tensor or array .*, got MaskedArray"),
        (lambda z: z.numpy().astype(np.longdouble), "z must be of at most 64 bits, got float128"),
    ],
)
def test_values_that_no_statistic_can_take_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        latent_report(wrong(torch.randn(1, 3, 2, 2, 2)))


def test_the_largest_values_have_statistics_without_a_warning():
    z = torch.randn(1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    large, plain = latent_report(z.double().numpy().astype(">f8") * 1e37), latent_report(z)
    assert np.allclose(large.moments.kurtosis, plain.moments.kurtosis)
    with pytest.raises(
        ValueError, match="posterior.logvar must be from -174 to 174, so that its std is within float32"
    ):
        posterior_statistics(SimpleNamespace(mean=z, logvar=z + 2000))
    for std in (1e200, 1e-200):
        with pytest.raises(ValueError, match="latents_mean and latents_std must be within float32"):
            latent_report(z, latents_mean=0, latents_std=std)


@pytest.mark.parametrize("width", [3, 4, 5, 7, 9, 11])
def test_stripes_of_the_highest_frequency_are_in_the_last_ring(width):
    """One row up, one down: all power at 1/2 along an axis, which is in no corner, whatever the width."""
    z = np.ones((1, 1, 1, 2, width))
    z[..., 1, :] = -1
    found = spatial_spectrum(z)
    assert found.beyond < 1e-20 and found.power[0, -1] > 0.1 and (found.power[0, :-1] < 1e-20).all()
    assert found.variance == pytest.approx([1])


def test_a_latent_frame_at_the_mean_has_no_correlation():
    z = np.zeros((1, 1, 3, 2, 2))
    z[0, 0] += np.array([0.2, 0.1, 0.3])[:, None, None]  # the first is the mean, but for rounding
    assert np.isnan(time_correlation(z)[0]).tolist() == [False, False, True]
