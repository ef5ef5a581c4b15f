import math

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from vae_lab import DiagonalGaussian


def test_images_agree_with_diffusers():
    moments = torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(0)) * 20  # beyond the clamp too
    ours, theirs = DiagonalGaussian(moments), DiagonalGaussianDistribution(moments)
    assert torch.equal(ours.mode(), theirs.mode())
    assert torch.equal(ours.logvar, theirs.logvar)
    assert torch.equal(ours.std, theirs.std)
    torch.testing.assert_close(ours.kl(), theirs.kl())
    draws = [d.sample(torch.Generator().manual_seed(1)) for d in (ours, theirs)]
    assert torch.equal(*draws)


def test_kl_of_a_video_is_torchs_summed_over_all_but_the_batch():
    d = DiagonalGaussian(torch.randn(2, 4, 3, 5, 6, dtype=torch.double))
    normal = torch.distributions.Normal(d.mean, d.std)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3, 4))
    torch.testing.assert_close(d.kl(), expected)
    assert d.kl().shape == (2,)


def test_scaled_by_what_has_no_logarithm():
    posterior = DiagonalGaussian(torch.zeros(1, 2, 3))
    for factor in (0, -1, math.nan):
        with pytest.raises(ValueError, match="factor must be above 0 and finite"):
            posterior.scaled(factor)


def test_sample_is_the_generators():
    d = DiagonalGaussian(torch.zeros(1, 8, 1, 2, 2))
    one, again, other = (d.sample(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_scaled_and_cat():
    d = DiagonalGaussian(torch.tensor([1.0, 40.0]).view(1, 2, 1, 1, 1))  # log variance clamped to 20
    scaled = d.scaled(0.5)
    assert scaled.mean.item() == 0.5
    assert scaled.std.item() == pytest.approx(0.5 * d.std.item())
    assert DiagonalGaussian.cat([d, d, d]).mode().shape == (1, 1, 3, 1, 1)
    assert torch.equal(d.moments, torch.cat([d.mean, d.logvar], 1))


def test_odd_channels_are_refused():
    with pytest.raises(ValueError, match=r"even number of channels on axis 1, got shape \(1, 3, 2\)"):
        DiagonalGaussian(torch.zeros(1, 3, 2))
