import pytest
import torch

from tests.helpers import SMALL_SPATIAL, SMALL_TEMPORAL
from vae_lab import DiagonalGaussian, SpatialVAE, TemporalVAE
from vae_lab.training.config import Stage, TrainConfig
from vae_lab.training.losses import Objective, kl_per_element, noise_like

STAGE = dict(name="s", steps=1, learning_rate=1e-3)


def objective(part: str = "temporal", distance=None, **changes) -> Objective:
    config = TrainConfig(part=part, stages=(Stage(**STAGE),), **changes)
    spatial = SpatialVAE(**SMALL_SPATIAL)
    if part == "spatial":
        return Objective(config, spatial, perceptual=distance)
    temporal = TemporalVAE(**SMALL_TEMPORAL, temporal_downsample=(True, True))
    return Objective(config, temporal, spatial, distance)


@torch.no_grad()
def test_losses_are_means_of_their_formulas():
    part = objective(kl_weight=0.01, mse_weight=0.7, l1_weight=0.3)
    x, latents, seeds = torch.rand(2, 3, 5, 16, 16) * 2 - 1, torch.randn(2, 4, 5, 2, 2), [1, 2]
    for target in ("latents", "pixels"):
        losses = part(Stage(**STAGE, target=target), x, latents, seeds)
        posterior = part.vae.encode(latents).latent_dist
        noise = torch.stack([torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(s)) for s in seeds])
        y = part.vae.decode(posterior.mean + posterior.logvar.mul(0.5).exp() * noise, 5).sample
        wanted = latents
        if target == "pixels":
            y, wanted = part.spatial.decode(y).sample, x
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar)
        assert losses["mse"] == pytest.approx(((y - wanted) ** 2).mean().item(), rel=1e-5)
        assert losses["l1"] == pytest.approx((y - wanted).abs().mean().item(), rel=1e-5)
        assert losses["kl"] == pytest.approx(kl.mean().item(), rel=1e-5)
        total = 0.7 * losses["mse"] + 0.3 * losses["l1"] + 0.01 * losses["kl"]
        assert losses["loss"] == pytest.approx(total.item(), rel=1e-5)
        assert list(losses) == ["loss", "mse", "l1", "kl"]


@pytest.mark.parametrize("repeats", [(3, 1, 1, 1, 1), (1, 1, 4, 1, 1), (1, 1, 1, 3, 2)])
def test_the_weight_of_kl_does_not_drift_with_batch_length_or_size(repeats):
    mean, logvar = torch.randn(2, 2, 4, 3, 5, 4)
    once = DiagonalGaussian(torch.cat([mean, logvar], 1))
    more = DiagonalGaussian(torch.cat([mean.repeat(repeats), logvar.repeat(repeats)], 1))
    assert kl_per_element(more) == pytest.approx(kl_per_element(once).item(), rel=1e-6)
    reference = [p.kl().sum() / p.mean.shape[0] for p in (once, more)]  # what the reference adds to sum / (B * T)
    if repeats != (3, 1, 1, 1, 1):
        assert reference[1] > 2 * reference[0]


@torch.no_grad()
def test_identity_holds_images_only():
    part, stage = objective(), Stage(**STAGE, target="latents", identity_weight=0.5)
    latents = torch.randn(2, 4, 1, 2, 2)
    losses = part(stage, None, latents, [1, 2])
    expected = (part.vae.encode(latents).latent_dist.mean - latents).square().mean()
    assert losses["identity"] == pytest.approx(expected.item(), rel=1e-5)
    without = part(Stage(**STAGE, target="latents"), None, latents, [1, 2])["loss"]
    assert losses["loss"] - without == pytest.approx(0.5 * expected.item(), rel=1e-4)
    assert "identity" not in part(stage, None, torch.randn(2, 4, 5, 2, 2), [1, 2])


@torch.no_grad()
def test_a_perceptual_function_sees_frames_of_pixels():
    class Distance(torch.nn.Module):
        def forward(self, x, y):
            assert x.shape == y.shape == (2, 3, 16, 16)
            return (x - y).abs().mean(dim=(1, 2, 3))

    part = objective("spatial", Distance(), perceptual="some:distance", perceptual_weight=2.0)
    losses = part(Stage(**STAGE), torch.rand(2, 3, 1, 16, 16), None, [1, 2])
    assert losses["perceptual"] == pytest.approx(losses["l1"].item())
    plain = objective("spatial")
    assert losses["loss"] - plain.config.l1_weight * losses["l1"] > 2 * losses["perceptual"]


def test_the_frozen_half_gets_no_gradient():
    part = objective()
    part(Stage(**STAGE), torch.rand(1, 3, 4, 16, 16), torch.randn(1, 4, 4, 2, 2), [5])["loss"].backward()
    assert all(p.grad is None for p in part.spatial.parameters())
    assert all(p.grad is not None for p in part.vae.parameters())


def test_noise_is_that_of_the_clip_alone():
    together = noise_like(torch.zeros(2, 4, 3), [7, 8])
    assert torch.equal(together[1:], noise_like(torch.zeros(1, 4, 3), [8]))
    with pytest.raises(ValueError, match="seeds must have one number for each of 2 clips, got 1"):
        noise_like(torch.zeros(2, 4), [1])
