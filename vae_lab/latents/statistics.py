"""Measure latents: moments, correlations, spectra, posterior, and whether shift and scale fit.

Latents are (1, C, L, h, w) of one clip, tensor or array; no model is known here. The functions that end in `_of` take
checked values, float64 (C, L, h, w), so that a report checks its latents once.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from ..figures import latents as pictures
from ..utils.checks import is_number
from ..utils.tables import table_of
from ..utils.text import count
from .arrays import check_latent
from .moments import Moments, PosteriorStatistics, moments_of, posterior_statistics
from .scale import ScaleCheck, scale_check_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def channel_correlation(z: Tensor | np.ndarray) -> np.ndarray:
    """Pearson's correlation of every two channels over all cells, (C, C), from -1 to 1.

    A constant channel has none: its row and its column are NaN.
    """
    return _channel_correlation_of(check_latent(z))


def _channel_correlation_of(values: np.ndarray) -> np.ndarray:
    cells = values.reshape(len(values), -1)
    centred = cells - cells.mean(axis=1, keepdims=True)
    centred[cells.max(axis=1) == cells.min(axis=1)] = np.nan
    unit = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.clip(unit @ unit.T, -1, 1)


def time_correlation(z: Tensor | np.ndarray, max_lag: int | None = None) -> np.ndarray:
    """Correlation of every channel with itself 0, 1, ... max_lag latent frames later, (C, lags + 1), from -1 to 1.

    The channel's mean m over all cells and latent frames is removed, and at lag k

        r(k) = sum (z[t] - m) (z[t + k] - m) / sqrt(sum (z[t] - m)**2 * sum (z[t + k] - m)**2)

    over all cells and the L - k pairs of latent frames. So a still clip has 1 at every lag, however few pairs are left.
    NaN if one of the two sums of squares is 0, apart from rounding.

    max_lag: 0 to L - 1, the default. The last lags rest on few pairs.
    """
    values = check_latent(z)
    last = values.shape[1] - 1
    max_lag = last if max_lag is None else max_lag
    if not is_number(max_lag, Integral) or not 0 <= max_lag <= last:
        raise ValueError(f"max_lag must be an integer from 0 to L - 1 = {last}, got {max_lag!r}")
    return _time_correlation_of(values, int(max_lag))


def _time_correlation_of(values: np.ndarray, max_lag: int) -> np.ndarray:
    num_frames, axes = values.shape[1], (1, 2, 3)
    centred = values - values.mean(axis=axes, keepdims=True)
    centred[values.max(axis=axes) == values.min(axis=axes)] = 0
    rounding = (4 * np.finfo(float).eps * np.abs(values).max(axis=axes)) ** 2  # of a mean, squared
    correlation = np.full((len(values), max_lag + 1), np.nan)
    for lag in range(max_lag + 1):
        before, after = centred[:, : num_frames - lag], centred[:, lag:]
        sizes = [(each**2).sum(axis=axes) for each in (before, after)]
        known = np.minimum(*sizes) > rounding * before[0].size
        size = np.sqrt(sizes[0] * sizes[1])
        np.divide((before * after).sum(axis=axes), size, out=correlation[:, lag], where=known & (size > 0))
    return np.clip(correlation, -1, 1)


class Spectrum(NamedTuple):
    """The result of `spatial_spectrum` and `temporal_spectrum`. F is 0 for a single cell or latent frame."""

    frequency: np.ndarray
    """(F,) in `unit`, above 0 up to 1/2."""
    power: np.ndarray
    """(C, F): mean squared Fourier coefficient, scaled so that white noise of variance v has v at every frequency."""
    weight: np.ndarray
    """(F,): the number of Fourier coefficients at each frequency, as a share of all."""
    beyond: np.ndarray
    """(C,): variance beyond the last ring, in the corners of a two-dimensional spectrum; 0 in time."""
    unit: str
    """"cycles per latent cell" or "cycles per latent frame"."""

    @property
    def variance(self) -> np.ndarray:
        """(C,): the channel's mean square without the removed mean (Parseval): sum of power * weight, plus `beyond`."""
        return (self.power * self.weight).sum(axis=1) + self.beyond

    def __repr__(self) -> str:
        channels, frequencies = self.power.shape
        if not frequencies:
            return f"Spectrum of {count(channels, 'channel')}: empty, there is one sample ({self.unit})"
        where = f"{self.frequency[0]:.3g} to {self.frequency[-1]:.3g} {self.unit}"
        return f"Spectrum of {count(channels, 'channel')}: {frequencies} frequencies, {where}"

    def table(self) -> "DataFrame":
        """The power: one row a frequency, one column a channel."""
        return table_of({f"channel {c}": power for c, power in enumerate(self.power)}, self.unit, self.frequency)

    def plot(self) -> "Figure":
        """Power over frequency, a line a channel, both axes logarithmic."""
        return cast("Figure", pictures.spectrum_curves(self.frequency, self.power, self.unit))


def spatial_spectrum(z: Tensor | np.ndarray) -> Spectrum:
    """Power of every channel over frequency in space, averaged over directions and latent frames.

    The mean of each latent frame is removed and nothing is windowed, so Parseval's equation is exact and white noise is
    flat. A picture does not repeat at its borders, and that leaks power: at high frequencies as f**-2 along the axes.
    Frequencies are gathered in rings of width 1 / max(h, w) around 1 / max(h, w), 2 / max(h, w), ... up to 1/2, none of
    them empty. A frequency on the border of two rings belongs to the inner one, so every axis up to 1/2 is in a ring.
    """
    return _spatial_spectrum_of(check_latent(z))


def _spatial_spectrum_of(values: np.ndarray) -> Spectrum:
    height, width = values.shape[2:]
    longest = max(height, width)
    values = values - values[:, :, :1, :1]  # only moves the mean, which is left out; a flat frame becomes exactly 0
    power = (np.abs(np.fft.fft2(values)) ** 2).mean(axis=1).reshape(len(values), -1) / (height * width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
    ring = np.ceil(radius * longest - 0.5 - 1e-9).astype(int)
    num_rings = longest // 2
    ring[(radius > 0.5) | (ring > num_rings)] = num_rings + 1
    sizes = np.bincount(ring, minlength=num_rings + 2)
    sums = np.stack([np.bincount(ring, channel, num_rings + 2) for channel in power])
    return Spectrum(
        np.arange(1, num_rings + 1) / longest,
        sums[:, 1:-1] / sizes[1:-1],
        sizes[1:-1] / (height * width),
        sums[:, -1] / (height * width),
        "cycles per latent cell",
    )


def temporal_spectrum(z: Tensor | np.ndarray) -> Spectrum:
    """Power of every channel over frequency in time, averaged over the cells.

    The mean over time of each cell is removed and nothing is windowed, as in `spatial_spectrum`. Frequencies are k / L;
    all but 1/2 stand for their negative too, which `weight` counts. A still clip has no power at all.
    """
    return _temporal_spectrum_of(check_latent(z))


def _temporal_spectrum_of(values: np.ndarray) -> Spectrum:
    num_frames = values.shape[1]
    values = values - values[:, :1]  # as in space
    power = (np.abs(np.fft.rfft(values, axis=1)) ** 2).mean(axis=(2, 3))[:, 1:] / num_frames
    frequency = np.fft.rfftfreq(num_frames)[1:]
    weight = np.where(2 * np.arange(1, num_frames // 2 + 1) == num_frames, 1, 2) / num_frames
    return Spectrum(frequency, power, weight, np.zeros(len(values)), "cycles per latent frame")


@dataclass(frozen=True, repr=False)
class LatentReport:
    """The result of `latent_report`."""

    shape: tuple[int, int, int, int]
    """(C, L, h, w)"""
    moments: Moments
    """Per channel: arrays (C,)."""
    frames: Moments
    """Per channel and latent frame: arrays (C, L)."""
    correlation: np.ndarray
    """(C, C): `channel_correlation`"""
    time_correlation: np.ndarray
    """(C, L): `time_correlation`"""
    spatial: Spectrum
    temporal: Spectrum
    posterior: PosteriorStatistics | None
    scale: ScaleCheck | None

    @property
    def warning(self) -> str:
        """The warning of the scale check, or an empty text."""
        return self.scale.warning if self.scale else ""

    def __repr__(self) -> str:
        channels, num_frames, height, width = self.shape
        size = f"{count(channels, 'channel')}, {count(num_frames, 'latent frame')} of {height}x{width} cells"
        lines = [f"LatentReport: {size}"]
        lines += [
            f"  channel {channel}: mean {mean:.2f}, std {std:.2f}, excess kurtosis {kurtosis:.2f}"
            for channel, (mean, std, kurtosis) in enumerate(zip(*self.moments, strict=True))
        ]
        if self.posterior:
            lines.append(f"  {self.posterior.active.sum()} of {count(channels, 'channel')} active")
        if self.scale:
            lines.append("  " + repr(self.scale).splitlines()[0])
        return "\n".join(lines)

    def table(self) -> "DataFrame":
        """One row a channel: mean, std, kurtosis; with shift and scale, what they assume and the normalised moments;
        with a posterior, its columns."""
        columns = self.moments._asdict()
        if self.scale:
            columns["latents_mean"], columns["latents_std"] = self.scale.latents_mean, self.scale.latents_std
            columns["normalised_mean"] = (self.moments.mean - self.scale.latents_mean) / self.scale.latents_std
            columns["normalised_std"] = self.moments.std / self.scale.latents_std
        table = table_of(columns, "channel")
        return table.join(self.posterior.table()) if self.posterior else table

    def plot(self) -> "Figure":
        """Moments over latent frames, correlations, spectra."""
        return pictures.report_picture(self)


def latent_report(
    z: Tensor | np.ndarray, posterior: Any = None, latents_mean: Any = None, latents_std: Any = None
) -> LatentReport:
    """Measure everything about the latents (1, C, L, h, w) of one clip.

    Args:
        posterior: as `posterior_statistics` takes it, of the same shape as z; adds its statistics.
        latents_mean, latents_std: both or neither, as `scale_check` takes them; adds the check of shift and scale.
    """
    return report_of(check_latent(z), posterior, latents_mean, latents_std)


def report_of(values: np.ndarray, posterior: Any, latents_mean: Any, latents_std: Any) -> LatentReport:
    """Measure checked values (C, L, h, w) as `latent_report` does."""
    if (latents_mean is None) != (latents_std is None):
        given = "latents_std" if latents_mean is None else "latents_mean"
        raise ValueError(f"latents_mean and latents_std must be given together, got only {given}")
    statistics = None if posterior is None else posterior_statistics(posterior)
    if posterior is not None and tuple(posterior.mean.shape) != (1, *values.shape):
        raise ValueError(f"posterior must have the shape of z, {(1, *values.shape)}, got {tuple(posterior.mean.shape)}")
    moments = moments_of(values, (1, 2, 3))
    return LatentReport(
        values.shape,
        moments,
        moments_of(values, (2, 3)),
        _channel_correlation_of(values),
        _time_correlation_of(values, values.shape[1] - 1),
        _spatial_spectrum_of(values),
        _temporal_spectrum_of(values),
        statistics,
        None if latents_mean is None else scale_check_of(moments, latents_mean, latents_std),
    )
