"""Mean, standard deviation and kurtosis of latents, and what their posterior knows. Arrays in, arrays out: no model.

Latents are (1, C, L, h, w), as `vae.encode(x).latent_dist` gives them for one clip: channels, latent frames, rows and
columns of cells. All is computed in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import NotFiniteError

LARGEST = float(np.finfo(np.float32).max)  # of a latent: its fourth power, for the kurtosis, is finite in float64
MOST_LOGVAR = 174  # exp(174 / 2) is within float32
ACTIVE_VARIANCE = 0.01  # Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, section 5.2: active above this


def check_latent(z: Tensor | np.ndarray, name: str = "z") -> np.ndarray:
    """The latents (1, C, L, h, w) of one clip as float64 (C, L, h, w).

    Raises ValueError for another rank or type, more than one clip or nothing in it, values beyond float32, and
    NotFiniteError (a ValueError) that tells how many values are NaN or infinite, and where the first one is.
    """
    if not isinstance(z, Tensor | np.ndarray) or isinstance(z, np.ma.MaskedArray):
        raise ValueError(f"{name} must be a tensor or array (1, C, L, h, w), got {type(z).__name__}")
    if isinstance(z, Tensor) and (z.is_meta or z.layout != torch.strided):
        kind = "a meta tensor" if z.is_meta else z.layout
        raise ValueError(f"{name} must be a dense tensor with values, got {kind}")
    if z.ndim != 5 or len(z) != 1:
        raise ValueError(f"{name} must be (1, C, L, h, w), the latents of one clip, got shape {tuple(z.shape)}")
    if 0 in z.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(z.shape)}")
    if not (z.is_floating_point() if isinstance(z, Tensor) else np.issubdtype(z.dtype, np.floating)):
        raise ValueError(f"{name} must be floating point, got {z.dtype}")
    if z.dtype.itemsize > 8:
        raise ValueError(f"{name} must be of at most 64 bits, got {z.dtype}")
    values = z.detach().double().cpu().numpy()[0] if isinstance(z, Tensor) else z[0].astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        channel, frame, row, column = np.argwhere(~finite)[0].tolist()
        raise NotFiniteError(
            f"{name} must be finite, got {(~finite).sum()} of {finite.size} values NaN or infinite, the first in "
            f"channel {channel}, latent frame {frame}, row {row}, column {column}"
        )
    if (largest := np.abs(values).max()) > LARGEST:
        raise ValueError(f"{name} must be within float32, at most {LARGEST:.3g}, got {largest:.3g}")
    return values


def per_channel(name: str, values: float | Sequence[float] | Tensor | np.ndarray, channels: int) -> np.ndarray:
    """One finite number for each channel as float64 (C,), from one number or from C in any shape."""
    if isinstance(values, Tensor):
        values = (values.detach().double() if values.is_floating_point() else values).cpu().numpy()
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf":  # a text, a truth, a whole number too large for any type
            raise TypeError
        found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or {channels} of them, got {values!r}") from None
    found = np.full(channels, found) if found.ndim == 0 else found.reshape(-1)
    if len(found) != channels or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a finite number, or one for each of {channels} channels, got {values!r}")
    return found


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
        from .latent_figures import posterior_bars

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
