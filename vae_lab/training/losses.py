"""The losses that training minimises: reconstruction, KL, identity and perceptual, each a mean over elements.

A weight therefore means the same at any length, size and batch. The reference sums instead (see `TrainConfig`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..families.codec import codec_of
from ..gaussian import DiagonalGaussian
from ..magvit_v2 import BinaryCode
from ..spatial_vae import SpatialVAE
from .config import Stage, TrainConfig


class Objective(nn.Module):
    """The losses of a VAE, or of one half, as one module, so that several processes can share its gradients.

    Args:
        vae: the model that is trained: a half, a VideoVAE, or one of diffusers' video VAEs.
        spatial: the frozen 2D half, if `vae` is a temporal half.
        perceptual: a module of two batches of images (N, 3, H, W) in [-1, 1], which returns their distances (N, ...).
    """

    def __init__(
        self,
        config: TrainConfig,
        vae: nn.Module,
        spatial: SpatialVAE | None = None,
        perceptual: nn.Module | None = None,
    ):
        super().__init__()
        self.config, self.vae, self.spatial, self.perceptual = config, vae, spatial, perceptual
        for frozen in (spatial, perceptual):
            if frozen is not None:
                frozen.requires_grad_(False).eval()

    def forward(self, stage: Stage, x: Tensor | None, latents: Tensor | None, seeds: list[int]) -> dict[str, Tensor]:
        """Return the mean of each loss over this batch, by name: "loss" is the weighted sum of the others.

        x: pixels (B, 3, T, H, W) in [-1, 1]; None if the target is latents.
        latents: scaled 2D latents (B, C, T, h, w) of x, for a temporal half.
        seeds: one per clip, for its posterior sample: the noise does not depend on how processes share the clips.
        """
        config, codec = self.config, codec_of(self.vae)
        source = x if latents is None else latents
        target = x if stage.target == "pixels" else latents
        assert source is not None and target is not None  # a stage has what it encodes and what it aims at
        posterior = codec.posterior(source)
        z = posterior.mean + posterior.std * noise_like(posterior.mean, seeds)
        y = codec.decode(z, source.shape[2])
        if self.spatial is not None and latents is not None and stage.target == "pixels":
            y = self.spatial.decode(y).sample
        if y.shape != target.shape:
            raise ValueError(
                f"{codec.name} turned clips of {tuple(target.shape[2:])} (frames, height, width) into "
                f"{tuple(y.shape[2:])}: train it on num_frames that it keeps"
            )
        error = y - target
        values = {"mse": error.square().mean(), "l1": error.abs().mean(), "kl": kl_per_element(posterior)}
        loss = config.mse_weight * values["mse"] + config.l1_weight * values["l1"] + config.kl_weight * values["kl"]
        if stage.identity_weight and source.shape[2] == 1:
            values["identity"] = (posterior.mean - source).square().mean()
            loss = loss + stage.identity_weight * values["identity"]
        if self.perceptual is not None and stage.target == "pixels":
            images, targets = (v.transpose(1, 2).flatten(0, 1) for v in (y, target))
            values["perceptual"] = self.perceptual(images, targets).mean()
            loss = loss + config.perceptual_weight * values["perceptual"]
        return {"loss": loss} | values


def kl_per_element(posterior: DiagonalGaussian | BinaryCode) -> Tensor:
    """Return the divergence from N(0, 1) in nats per latent element, which does not grow with T, H, W or batch.

    A BinaryCode has no such divergence: it is the quantizer's loss, which takes its place.
    """
    if isinstance(posterior, BinaryCode):
        return posterior.loss()
    return posterior.kl().sum() / posterior.mean.numel()


@contextmanager
def layers_seeded(seeds: list[int], device: torch.device) -> Iterator[None]:
    """Seed torch's generators, from which layers such as dropout draw, with these clips; restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds[0] + 1)  # + 1: other numbers than the posterior's noise
        yield


def noise_like(x: Tensor, seeds: list[int]) -> Tensor:
    """Draw standard normal noise (B, ...), for clip b from seeds[b] alone, the same on every device."""
    if len(seeds) != len(x):
        raise ValueError(f"seeds must have one number for each of {len(x)} clips, got {len(seeds)}")
    noise = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(noise).to(x)
