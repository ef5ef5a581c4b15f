"""Moments of latents (1, C, L, h, w), and what their posterior knows. Arrays in, arrays out, computed in float64.

`vae.encode(x).latent_dist` gives latents of this shape for one clip: channels, latent frames, rows and columns.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from ..figures import latents as pictures
from ..utils.tables import table_of
from .arrays import check_latent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_LOGVAR = 174  # exp(174 / 2) is within float32
ACTIVE_VARIANCE = 0.01  # Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, section 5.2: active above this


class Moments(NamedTuple):
    """Moments by channel, arrays (C,), from `channel_moments`; by latent frame, (C, L), from `frame_moments`."""

    mean: np.ndarray
    std: np.ndarray
    """Population standard deviation (divided by the number of values); exactly 0 if all values are equal."""
    kurtosis: np.ndarray
    """Excess (Fisher's): fourth central moment / variance**2 - 3. 0 for a Gaussian, NaN if std is 0."""


def channel_moments(z: Tensor | np.ndarray) -> Moments:
    """Measure each channel over all cells of all latent frames: arrays (C,)."""
    return moments_of(check_latent(z), (1, 2, 3))


def frame_moments(z: Tensor | np.ndarray) -> Moments:
    """Measure each channel in each latent frame, over its cells: arrays (C, L)."""
    return moments_of(check_latent(z), (2, 3))


def moments_of(values: np.ndarray, axes: tuple[int, ...]) -> Moments:
    """Measure checked values (C, L, h, w) over these axes."""
    mean = values.mean(axis=axes, keepdims=True)
    squares = (values - mean) ** 2
    constant = values.max(axis=axes) == values.min(axis=axes)  # rounding alone would give them a std
    variance = np.where(constant, 0, squares.mean(axis=axes))
    kurtosis = np.full(variance.shape, np.nan)
    np.divide((squares**2).mean(axis=axes), variance**2, out=kurtosis, where=variance**2 > 0)
    return Moments(mean.squeeze(axes), np.sqrt(variance), kurtosis - 3)


class PosteriorStatistics(NamedTuple):
    """The result of `posterior_statistics`: one number a channel, arrays (C,)."""

    std: np.ndarray
    """Mean posterior standard deviation over the cells: how far a sample is from the mode."""
    kl: np.ndarray
    """Kullback-Leibler divergence of the posterior from N(0, 1), in nats per element: mean over the cells."""
    mean_variance: np.ndarray
    """Variance of the posterior mean over the cells."""

    @property
    def active(self) -> np.ndarray:
        """(C,) bool: whether the variance of the posterior mean is above 0.01 (Burda et al. 2016, arXiv:1509.00519).

        They measure it over a data set. Here it is over the cells of one clip, so a uniform clip has no active channel.
        """
        return self.mean_variance > ACTIVE_VARIANCE

    def __repr__(self) -> str:
        dead = ", ".join(map(str, np.flatnonzero(~self.active))) or "none"
        lines = [f"PosteriorStatistics: {self.active.sum()} of {len(self.std)} channels active; dead: {dead}"]
        lines += [
            f"  channel {channel}: posterior std {std:.2g}, KL {kl:.2f} nats per element, variance of the mean {v:.2g}"
            for channel, (std, kl, v) in enumerate(zip(*self, strict=True))
        ]
        return "\n".join(lines)

    def table(self) -> "DataFrame":
        """One row a channel: posterior_std, kl, mean_variance, active."""
        columns = dict(posterior_std=self.std, kl=self.kl, mean_variance=self.mean_variance, active=self.active)
        return table_of(columns, "channel")

    def plot(self) -> "Figure":
        """KL and variance of the posterior mean of every channel."""
        return pictures.posterior_bars(self.kl, self.mean_variance, ACTIVE_VARIANCE)


def posterior_statistics(posterior: Any) -> PosteriorStatistics:
    """Measure the posterior of one clip.

    posterior: anything with `.mean` and either `.std` or `.logvar`, each (1, C, L, h, w), such as vae_lab's
      DiagonalGaussian or diffusers' DiagonalGaussianDistribution (`vae.encode(x).latent_dist`).

    Raises ValueError if they are missing, if their shapes differ, or if a std is 0: the KL would be infinite.
    """
    has_std = hasattr(posterior, "std")
    if not hasattr(posterior, "mean") or not (has_std or hasattr(posterior, "logvar")):
        raise ValueError(f"posterior must have .mean and .std or .logvar, got {type(posterior).__name__}")
    mean = check_latent(posterior.mean, "posterior.mean")
    if has_std:
        std = check_latent(posterior.std, "posterior.std")
    else:
        logvar = check_latent(posterior.logvar, "posterior.logvar")
        if np.abs(logvar).max() > MOST_LOGVAR:
            raise ValueError(
                f"posterior.logvar must be from -{MOST_LOGVAR} to {MOST_LOGVAR}, so that its std is within float32, "
                f"got {logvar.min():.4g} to {logvar.max():.4g}"
            )
        std = np.exp(0.5 * logvar)
    if std.shape != mean.shape:
        raise ValueError(f"posterior.mean and its std must have the same shape, got {mean.shape} and {std.shape}")
    if std.min() <= 0:
        raise ValueError(f"posterior.std must be above 0, got {std.min()}: a deterministic posterior has no KL")
    cells = (1, 2, 3)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std))
    return PosteriorStatistics(std.mean(cells), kl.mean(cells), mean.var(cells))
