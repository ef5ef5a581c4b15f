"""Maps and clips that the tests of several probes measure."""

import torch

from tests.helpers import SMALL_TEMPORAL
from vae_lab import TemporalVAE


def small(**config) -> TemporalVAE:
    torch.manual_seed(0)
    return TemporalVAE(**SMALL_TEMPORAL | dict(temporal_downsample=(True, True)) | config).eval().double()


def encoder(vae):
    return lambda x: vae.encode(x).latent_dist.mode()


def decoder(vae, num_frames):
    return lambda z: vae.decode(z, num_frames).sample


def clip(frames: int, size: int = 3, channels: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, channels, frames, size, size, generator=generator, dtype=torch.double)


def mix(weights) -> callable:
    """The map whose output frame j is the sum of input frames t, each times weights[t, j]."""
    weights = torch.as_tensor(weights, dtype=torch.double)
    return lambda x: torch.einsum("bcthw,tj->bcjhw", x, weights)


def drifting(x, calls=[]):  # noqa: B006  it is meant to remember
    calls.append(0)
    return x + len(calls)
