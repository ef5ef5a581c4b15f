"""The diagonal Gaussian posterior of a VAE, for images (4-D), videos (5-D) or any other rank."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class DiagonalGaussian:
    """N(mean, exp(logvar)) per element, with diffusers' names (`mode`, `sample`, `kl`, `mean`, `logvar`, `std`, `var`).

    Args:
        moments: (B, 2 * C, ...): mean and log variance, one behind the other on the channel axis. The log variance is
          clamped to [-30, 20] as in diffusers' DiagonalGaussianDistribution and in Open-Sora.

    diffusers' class sums its KL over three fixed axes, which leaves one axis of a video over; this one sums over all
    axes but the batch.
    """

    def __init__(self, moments: Tensor):
        if moments.ndim < 2 or moments.shape[1] % 2:
            raise ValueError(
                f"moments must have an even number of channels on axis 1, got shape {tuple(moments.shape)}"
            )
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def moments(self) -> Tensor:
        return torch.cat([self.mean, self.logvar], dim=1)

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + std * noise, drawn on the generator's device, so that a CPU seed gives the same draw on any device."""
        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from N(0, 1), in nats, summed over all axes but the batch: shape (B,)."""
        return 0.5 * (self.mean**2 + self.var - 1.0 - self.logvar).flatten(1).sum(1)

    def scaled(self, factor: float) -> "DiagonalGaussian":
        """The distribution of `factor` times this one's variable. The clamp is not applied a second time."""
        return self._from(self.mean * factor, self.logvar + 2 * math.log(factor))

    @classmethod
    def cat(cls, parts: Sequence["DiagonalGaussian"], dim: int = 2) -> "DiagonalGaussian":
        """Join posteriors along an axis, e.g. those of consecutive chunks along time."""
        return cls._from(torch.cat([p.mean for p in parts], dim), torch.cat([p.logvar for p in parts], dim))

    @classmethod
    def _from(cls, mean: Tensor, logvar: Tensor) -> "DiagonalGaussian":
        self = cls.__new__(cls)
        self.mean, self.logvar = mean, logvar
        return self
