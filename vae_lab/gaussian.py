"""The diagonal Gaussian posterior of a VAE, for images (4-D), videos (5-D) or any other rank."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, for sums and statistics; others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class DiagonalGaussian:
    """N(mean, exp(logvar)) for each element, with the names of diffusers' DiagonalGaussianDistribution.

    Args:
        moments: (B, 2 * C, ...): the C channels of the mean, then those of the log variance. The log variance is
          clamped to [-30, 20], as in diffusers and in Open-Sora.

    One difference: diffusers sums the KL over three fixed axes, which omits one axis of a video. This class sums over
    all axes except the batch.
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
        """(B, 2 * C, ...): mean and (clamped) log variance."""
        return torch.cat([self.mean, self.logvar], dim=1)

    @property
    def std(self) -> Tensor:
        """Standard deviation, (B, C, ...)."""
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variance, (B, C, ...)."""
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        """The most likely value, which is the mean: (B, C, ...)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw mean + std * noise. The noise is drawn on the generator's device: a CPU seed gives it on any device."""
        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from N(0, 1), in nats, summed over all axes except the batch: shape (B,).

        It is float32 for moments of half precision: a sum over a video would overflow float16.
        """
        mean, logvar = at_least_float32(self.mean), at_least_float32(self.logvar)
        return 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).flatten(1).sum(1)

    def scaled(self, factor: float) -> "DiagonalGaussian":
        """Return the distribution of `factor` times the variable. The clamp is not applied again."""
        return self._from(self.mean * factor, self.logvar + 2 * math.log(factor))

    @classmethod
    def cat(cls, parts: Sequence["DiagonalGaussian"], dim: int = 2) -> "DiagonalGaussian":
        """Join posteriors along an axis, for example those of consecutive chunks along time."""
        return cls._from(torch.cat([p.mean for p in parts], dim), torch.cat([p.logvar for p in parts], dim))

    @classmethod
    def _from(cls, mean: Tensor, logvar: Tensor) -> "DiagonalGaussian":
        self = cls.__new__(cls)
        self.mean, self.logvar = mean, logvar
        return self
