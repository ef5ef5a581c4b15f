"""Mean, standard deviation and kurtosis of latents, and what their posterior knows. Arrays in, arrays out: no model.

Latents are (1, C, L, h, w), as `vae.encode(x).latent_dist` gives them for one clip: channels, latent frames, rows and
columns of cells. All is computed in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .arrays import check_latent

MOST_LOGVAR = 174  # exp(174 / 2) is within float32
ACTIVE_VARIANCE = 0.01  # Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, section 5.2: active above this


class Moments(NamedTuple):
    """What `channel_moments` (arrays (C,)) and `frame_moments` (arrays (C, L)) return."""

    mean: np.ndarray
    std: np.ndarray
    """Of the population, so divided by the number of values; exactly 0 where all are equal."""
    kurtosis: np.ndarray
    """Excess (Fisher's): fourth central moment / variance**2 - 3. 0 for a Gaussian, NaN where std is 0."""


def channel_moments(z: Tensor | np.ndarray) -> Moments:
    """Moments of each channel over all cells of all latent frames: arrays (C,)."""
    return _moments(check_latent(z), (1, 2, 3))


def frame_moments(z: Tensor | np.ndarray) -> Moments:
    """Moments of each channel in each latent frame, over its cells: arrays (C, L)."""
    return _moments(check_latent(z), (2, 3))


def _moments(values: np.ndarray, axes: Sequence[int]) -> Moments:
    mean = values.mean(axis=axes, keepdims=True)
    squares = (values - mean) ** 2
    constant = values.max(axis=axes) == values.min(axis=axes)  # there rounding alone would give a std
    variance = np.where(constant, 0, squares.mean(axis=axes))
    kurtosis = np.full(variance.shape, np.nan)
    np.divide((squares**2).mean(axis=axes), variance**2, out=kurtosis, where=variance**2 > 0)
    return Moments(mean.squeeze(tuple(axes)), np.sqrt(variance), kurtosis - 3)


class PosteriorStatistics(NamedTuple):
    """What `posterior_statistics` returns: one number a channel, arrays (C,)."""

    std: np.ndarray
    """Mean posterior standard deviation over the cells: how far a sample is from the mode."""
    kl: np.ndarray
    """Kullback-Leibler divergence of the posterior from N(0, 1), in nats per element: mean over the cells."""
    mean_variance: np.ndarray
    """Variance of the posterior mean over the cells."""

    @property
    def active(self) -> np.ndarray:
        """(C,) bool: whether the posterior mean varies by more than 0.01 (Burda et al. 2016, arXiv:1509.00519).

        They take the covariance over the inputs; here it is over the cells of the clip that was given, so that a clip
        without content has no active channel.
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

    def table(self):
        """A pandas DataFrame, one row a channel: posterior_std, kl, mean_variance, active."""
        from pandas import DataFrame, RangeIndex

        columns = dict(posterior_std=self.std, kl=self.kl, mean_variance=self.mean_variance, active=self.active)
        return DataFrame(columns, RangeIndex(len(self.std), name="channel"))

    def plot(self):
        """A matplotlib Figure: KL and variance of the posterior mean of every channel."""
        from ..figures.latents import posterior_bars

        return posterior_bars(self.kl, self.mean_variance, ACTIVE_VARIANCE)


def posterior_statistics(posterior) -> PosteriorStatistics:
    """Of the posterior of one clip: anything with `.mean` and `.std` or `.logvar`, each (1, C, L, h, w).

    Such are vae_lab's DiagonalGaussian and diffusers' DiagonalGaussianDistribution (`vae.encode(x).latent_dist`).
    Raises ValueError where there is neither, where the shapes differ, and for a std of 0: its KL is infinite.
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
