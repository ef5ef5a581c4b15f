"""What is in latents, in numbers: moments, correlations, spectra, posterior, and whether shift and scale fit.

Latents are (1, C, L, h, w) of one clip, tensor or array; no model is known here. All statistics can be imported from
this module; moments and posterior are defined in `latent_moments`, the check of shift and scale in `latent_scale`.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..utils.text import count
from .arrays import check_latent
from .moments import Moments, PosteriorStatistics, channel_moments, frame_moments, posterior_statistics
from .scale import ScaleCheck, scale_check


def channel_correlation(z: Tensor | np.ndarray) -> np.ndarray:
    """(C, C): Pearson's correlation of every two channels over all cells, -1 to 1.

    NaN in the row and the column of a channel that is constant: it has none.
    """
    cells = check_latent(z).reshape(z.shape[1], -1)
    centred = cells - cells.mean(axis=1, keepdims=True)
    centred[cells.max(axis=1) == cells.min(axis=1)] = np.nan
    unit = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.clip(unit @ unit.T, -1, 1)


def time_correlation(z: Tensor | np.ndarray, max_lag: int | None = None) -> np.ndarray:
    """(C, lags + 1): correlation of every channel with itself 0, 1, ... max_lag latent frames later, -1 to 1.

    The channel's mean over all cells and latent frames m is removed, and at lag k

        r(k) = sum (z[t] - m) (z[t + k] - m) / sqrt(sum (z[t] - m)**2 * sum (z[t + k] - m)**2)

    over all cells and the L - k pairs of latent frames. So a clip that stands still has 1 at every lag, however few
    pairs are left. NaN where one of the two sums of squares is 0, but for rounding.

    max_lag: 0 to L - 1, the default. The last lags rest on few pairs.
    """
    values = check_latent(z)
    num_frames = values.shape[1]
    if max_lag is None:
        max_lag = num_frames - 1
    if isinstance(max_lag, bool) or not isinstance(max_lag, Integral) or not 0 <= max_lag < num_frames:
        raise ValueError(f"max_lag must be an integer from 0 to L - 1 = {num_frames - 1}, got {max_lag!r}")
    centred = values - values.mean(axis=(1, 2, 3), keepdims=True)
    centred[values.max(axis=(1, 2, 3)) == values.min(axis=(1, 2, 3))] = 0
    rounding = (4 * np.finfo(float).eps * np.abs(values).max(axis=(1, 2, 3))) ** 2  # of a mean, squared
    found = np.full((len(values), int(max_lag) + 1), np.nan)
    for lag in range(int(max_lag) + 1):
        before, after = centred[:, : num_frames - lag], centred[:, lag:]
        sizes = [(each**2).sum(axis=(1, 2, 3)) for each in (before, after)]
        known = np.minimum(*sizes) > rounding * before[0].size
        size = np.sqrt(sizes[0] * sizes[1])
        np.divide((before * after).sum(axis=(1, 2, 3)), size, out=found[:, lag], where=known & (size > 0))
    return np.clip(found, -1, 1)


class Spectrum(NamedTuple):
    """What `spatial_spectrum` and `temporal_spectrum` return; F is 0 where there is one cell or one latent frame."""

    frequency: np.ndarray
    """(F,) in `unit`, above 0 up to 1/2."""
    power: np.ndarray
    """(C, F): mean squared Fourier coefficient, so scaled that white noise of variance v has v at every frequency."""
    weight: np.ndarray
    """(F,): Fourier coefficients at each frequency, as a share of all."""
    beyond: np.ndarray
    """(C,): variance beyond the last ring, in the corners of a two-dimensional spectrum; in time 0."""
    unit: str
    """"cycles per latent cell" or "cycles per latent frame"."""

    @property
    def variance(self) -> np.ndarray:
        """(C,): mean square of the channel less what was removed (Parseval): sum of power * weight, plus `beyond`."""
        return (self.power * self.weight).sum(axis=1) + self.beyond

    def __repr__(self) -> str:
        channels, frequencies = self.power.shape
        if not frequencies:
            return f"Spectrum of {count(channels, 'channel')}: empty, there is one sample ({self.unit})"
        where = f"{self.frequency[0]:.3g} to {self.frequency[-1]:.3g} {self.unit}"
        return f"Spectrum of {count(channels, 'channel')}: {frequencies} frequencies, {where}"

    def table(self):
        """A pandas DataFrame of the power: one row a frequency, one column a channel."""
        from pandas import DataFrame, Index

        columns = [f"channel {channel}" for channel in range(len(self.power))]
        return DataFrame(self.power.T, Index(self.frequency, name=self.unit), columns)

    def plot(self):
        """A matplotlib Figure: power over frequency, a line a channel, both axes logarithmic."""
        from ..figures.latents import spectrum_curves

        return spectrum_curves(self.frequency, self.power, self.unit)


def spatial_spectrum(z: Tensor | np.ndarray) -> Spectrum:
    """Power of every channel over frequency in space, averaged over directions and latent frames.

    The mean of each latent frame is removed, and nothing is windowed, so that Parseval's equation is exact and white
    noise flat. A picture does not join at its borders: what does not repeat leaks, at high frequencies as f**-2 along
    the axes. Rings of width 1 / max(h, w) around 1 / max(h, w), 2 / max(h, w), ... up to 1/2: none is empty. What lies
    just between two rings belongs to the inner one, so all of an axis, up to 1/2, is in a ring.
    """
    values = check_latent(z)
    height, width = values.shape[2:]
    longest = max(height, width)
    values = values - values[:, :, :1, :1]  # moves the mean, which is left out, and makes what is flat exactly 0
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

    The mean over time of each cell is removed, and nothing is windowed: as `spatial_spectrum`. Frequencies k / L; all
    but 1/2 stand for their negative too, which `weight` counts. A clip that stands still has no power at all.
    """
    values = check_latent(z)
    num_frames = values.shape[1]
    values = values - values[:, :1]  # as in spatial_spectrum
    power = (np.abs(np.fft.rfft(values, axis=1)) ** 2).mean(axis=(2, 3))[:, 1:] / num_frames
    frequency = np.fft.rfftfreq(num_frames)[1:]
    weight = np.where(2 * np.arange(1, num_frames // 2 + 1) == num_frames, 1, 2) / num_frames
    return Spectrum(frequency, power, weight, np.zeros(len(values)), "cycles per latent frame")


@dataclass(frozen=True, repr=False)
class LatentReport:
    """What `latent_report` returns."""

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
        """The warning of the scale check; empty where there is none."""
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

    def table(self):
        """A pandas DataFrame, one row a channel: mean, std, kurtosis; then what shift and scale assume and give, then
        the posterior's columns, each where they were given."""
        from pandas import DataFrame, RangeIndex, concat

        columns = self.moments._asdict()
        if self.scale:
            columns["latents_mean"], columns["latents_std"] = self.scale.latents_mean, self.scale.latents_std
            columns["normalised_mean"] = (self.moments.mean - self.scale.latents_mean) / self.scale.latents_std
            columns["normalised_std"] = self.moments.std / self.scale.latents_std
        table = DataFrame(columns, RangeIndex(self.shape[0], name="channel"))
        return concat([table, self.posterior.table()], axis=1) if self.posterior else table

    def plot(self):
        """A matplotlib Figure: moments over latent frames, correlations, spectra."""
        from ..figures.latents import report_picture

        return report_picture(self)


def latent_report(z: Tensor | np.ndarray, posterior=None, latents_mean=None, latents_std=None) -> LatentReport:
    """All statistics of the latents (1, C, L, h, w) of one clip.

    Args:
        posterior: as `posterior_statistics` takes it, of the same shape as z; adds what the posterior knows.
        latents_mean, latents_std: both or neither; as `scale_check` takes them; adds the check of shift and scale.
    """
    values = check_latent(z)
    if (latents_mean is None) != (latents_std is None):
        given = "latents_std" if latents_mean is None else "latents_mean"
        raise ValueError(f"latents_mean and latents_std must be given together, got only {given}")
    if posterior is not None:
        statistics = posterior_statistics(posterior)
        if tuple(posterior.mean.shape) != tuple(z.shape):
            raise ValueError(f"posterior must have the shape of z, {tuple(z.shape)}, got {tuple(posterior.mean.shape)}")
    return LatentReport(
        values.shape,
        channel_moments(z),
        frame_moments(z),
        channel_correlation(z),
        time_correlation(z),
        spatial_spectrum(z),
        temporal_spectrum(z),
        statistics if posterior is not None else None,
        scale_check(z, latents_mean, latents_std) if latents_mean is not None else None,
    )
