"""The diagonal Gaussian posterior of a VAE, for images (4-D), videos (5-D) or any other rank."""

import math
from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .utils.checks import check_above


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

    @property
    def parameters(self) -> Tensor:
        """`moments`, by diffusers' name."""
        return self.moments

    deterministic = False
    """Whether samples have no noise. diffusers' class can be told so; this one is always a distribution."""

    def sample(self, generator: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
        """Draw mean + std * noise, the noise on the generator's device: one on the CPU gives the same on all devices.

        generator: one for the whole batch, or a list with one for each item.
        """
        generator = list(generator) if isinstance(generator, Sequence) else generator
        if isinstance(generator, list) and len(generator) != len(self.mean):
            raise ValueError(f"generator must be one, or a list of {len(self.mean)}, one for each item of the batch")
        for each in generator if isinstance(generator, list) else [generator]:
            if not isinstance(each, torch.Generator | None):
                raise ValueError(f"generator must be a torch.Generator, a list of them, or None, got {each!r}")
        noise = randn_tensor(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def kl(self, other: "DiagonalGaussian | None" = None) -> Tensor:
        """Kullback-Leibler divergence from another one, in nats, summed over all axes except the batch: shape (B,).

        other: any object with `mean` and `logvar`, diffusers' class included; default: N(0, 1).
        The result is float32 for moments of half precision: a sum over a video would overflow float16.
        """
        mean, logvar = at_least_float32(self.mean), at_least_float32(self.logvar)
        if other is None:
            return 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).flatten(1).sum(1)
        mean = mean - at_least_float32(other.mean)
        theirs = at_least_float32(other.logvar)
        return 0.5 * (mean**2 / theirs.exp() + (logvar - theirs).exp() - 1.0 - logvar + theirs).flatten(1).sum(1)

    def nll(self, sample: Tensor, dims: Sequence[int] | None = None) -> Tensor:
        """Negative log likelihood of a sample (B, C, ...), in nats, summed over `dims`.

        dims: default: all except the batch. diffusers' default is [1, 2, 3], which omits one axis of a video.
        """
        mean, logvar = at_least_float32(self.mean), at_least_float32(self.logvar)
        nll = 0.5 * (math.log(2 * math.pi) + logvar + (at_least_float32(sample) - mean) ** 2 / logvar.exp())
        return nll.sum(tuple(range(1, nll.ndim) if dims is None else dims))

    def scaled(self, factor: float) -> "DiagonalGaussian":
        """Return the distribution of `factor` (above 0) times the variable. The clamp is not applied again."""
        check_above("factor", factor, 0)
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
