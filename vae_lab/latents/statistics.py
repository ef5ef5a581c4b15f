"""Measure latents: moments, correlations, spectra, the posterior, and whether shift and scale fit.

Latents are (1, C, L, h, w) of one clip, tensor or array; no model is known here, and everything is computed in float64.
"""

from numbers import Integral
from typing import Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from ..figures import latents as pictures
from ..utils.checks import is_number
from ..utils.tables import DataFrame, Figure, table_of
from ..utils.text import count
from .arrays import LARGEST, check_latent, per_channel

ALL, CELLS = (1, 2, 3), (2, 3)  # axes of values: all that a channel has, and the cells of a latent frame


class Moments(NamedTuple):
    """Moments by channel, arrays (C,), from `channel_moments`; by latent frame, (C, L), from `frame_moments`."""

    mean: np.ndarray
    std: np.ndarray  # of the population (divided by the number of values); exactly 0 if all values are equal
    kurtosis: np.ndarray  # excess (Fisher's): fourth moment / variance**2 - 3; 0 for a Gaussian, NaN if std is 0


def channel_moments(z: Tensor | np.ndarray) -> Moments:
    """Measure each channel over all cells of all latent frames: arrays (C,)."""
    return _moments(check_latent(z), ALL)


def frame_moments(z: Tensor | np.ndarray) -> Moments:
    """Measure each channel in each latent frame, over its cells: arrays (C, L)."""
    return _moments(check_latent(z), CELLS)


def _moments(values: np.ndarray, axes: tuple[int, ...]) -> Moments:
    mean = values.mean(axis=axes, keepdims=True)
    squares = (values - mean) ** 2
    constant = values.max(axis=axes) == values.min(axis=axes)  # rounding alone would give them a std
    variance = np.where(constant, 0, squares.mean(axis=axes))
    kurtosis = np.full(variance.shape, np.nan)
    np.divide((squares**2).mean(axis=axes), variance**2, out=kurtosis, where=variance**2 > 0)
    return Moments(mean.squeeze(axes), np.sqrt(variance), kurtosis - 3)


def channel_correlation(z: Tensor | np.ndarray) -> np.ndarray:
    """Pearson's correlation of every two channels over all cells, (C, C), from -1 to 1.

    A constant channel has none: its row and its column are NaN.
    """
    values = check_latent(z)
    cells = values.reshape(len(values), -1)
    centred = cells - cells.mean(axis=1, keepdims=True)
    centred[cells.max(axis=1) == cells.min(axis=1)] = np.nan
    unit = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.clip(unit @ unit.T, -1, 1)


def time_correlation(z: Tensor | np.ndarray, max_lag: int | None = None) -> np.ndarray:
    """Correlation of every channel with itself 0, 1, ... max_lag latent frames later, (C, lags + 1), from -1 to 1.

    The channel's mean m over all cells and latent frames is removed, and at lag k

        r(k) = sum (z[t] - m) (z[t + k] - m) / sqrt(sum (z[t] - m)**2 * sum (z[t + k] - m)**2)

    over all cells and the L - k pairs of latent frames: a still clip has 1 at every lag, however few pairs are left.
    NaN if one of the two sums of squares is 0, apart from rounding.

    max_lag: 0 to L - 1, the default.
    """
    values = check_latent(z)
    last = values.shape[1] - 1
    if max_lag is not None and (not is_number(max_lag, Integral) or not 0 <= max_lag <= last):
        raise ValueError(f"max_lag must be an integer from 0 to L - 1 = {last}, got {max_lag!r}")
    lags = range((last if max_lag is None else max_lag) + 1)
    centred = values - values.mean(axis=ALL, keepdims=True)
    centred[values.max(axis=ALL) == values.min(axis=ALL)] = 0
    rounding = (4 * np.finfo(float).eps * np.abs(values).max(axis=ALL)) ** 2  # of a mean, squared
    correlation = np.full((len(values), len(lags)), np.nan)
    for lag in lags:
        before, after = centred[:, : last + 1 - lag], centred[:, lag:]
        sizes = [(each**2).sum(axis=ALL) for each in (before, after)]
        known = np.minimum(*sizes) > rounding * before[0].size
        size = np.sqrt(sizes[0] * sizes[1])
        np.divide((before * after).sum(axis=ALL), size, out=correlation[:, lag], where=known & (size > 0))
    return np.clip(correlation, -1, 1)


class Spectrum(NamedTuple):
    """The result of `spatial_spectrum` and `temporal_spectrum`. F is 0 for a single cell or latent frame."""

    frequency: np.ndarray  # (F,) in `unit`, above 0 up to 1/2
    power: np.ndarray  # (C, F): mean squared Fourier coefficient; white noise of variance v has v at every frequency
    weight: np.ndarray  # (F,): the number of Fourier coefficients at each frequency, as a share of all
    beyond: np.ndarray  # (C,): variance beyond the last ring, in the corners of a 2D spectrum; 0 in time
    unit: str  # "cycles per latent cell" or "cycles per latent frame"

    @property
    def variance(self) -> np.ndarray:
        """(C,): the channel's mean square without the removed mean (Parseval): sum of power * weight, plus `beyond`."""
        return (self.power * self.weight).sum(axis=1) + self.beyond

    def __repr__(self) -> str:
        channels, frequencies = self.power.shape
        shown = f"empty, there is one sample ({self.unit})"
        if frequencies:
            shown = f"{frequencies} frequencies, {self.frequency[0]:.3g} to {self.frequency[-1]:.3g} {self.unit}"
        return f"Spectrum of {count(channels, 'channel')}: {shown}"

    def table(self) -> DataFrame:
        """The power: one row a frequency, one column a channel."""
        return table_of({f"channel {c}": power for c, power in enumerate(self.power)}, self.unit, self.frequency)

    def plot(self) -> Figure:
        """Power over frequency, a line a channel, both axes logarithmic."""
        return cast(Figure, pictures.spectrum_curves(self.frequency, self.power, self.unit))


def spatial_spectrum(z: Tensor | np.ndarray) -> Spectrum:
    """Power of every channel over frequency in space, averaged over directions and latent frames.

    The mean of each latent frame is removed and nothing is windowed, so Parseval's equation is exact and white noise is
    flat. A picture does not repeat at its borders, and that leaks power: at high frequencies as f**-2 along the axes.
    Frequencies are gathered in rings of width 1 / max(h, w) around 1 / max(h, w), 2 / max(h, w), ... up to 1/2, none of
    them empty. A frequency on the border of two rings belongs to the inner one, so every axis up to 1/2 is in a ring.
    """
    values = check_latent(z)
    height, width = values.shape[2:]
    longest, cells = max(height, width), height * width
    values = values - values[:, :, :1, :1]  # only moves the mean, which is left out; a flat frame becomes exactly 0
    power = (np.abs(np.fft.fft2(values)) ** 2).mean(axis=1).reshape(len(values), -1) / cells
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]).ravel()
    ring = np.ceil(radius * longest - 0.5 - 1e-9).astype(int)
    num_rings = longest // 2
    ring[(radius > 0.5) | (ring > num_rings)] = num_rings + 1
    sizes = np.bincount(ring, minlength=num_rings + 2)
    sums = np.stack([np.bincount(ring, channel, num_rings + 2) for channel in power])
    frequency = np.arange(1, num_rings + 1) / longest
    power, weight, beyond = sums[:, 1:-1] / sizes[1:-1], sizes[1:-1] / cells, sums[:, -1] / cells
    return Spectrum(frequency, power, weight, beyond, "cycles per latent cell")


def temporal_spectrum(z: Tensor | np.ndarray) -> Spectrum:
    """Power of every channel over frequency in time, averaged over the cells.

    The mean over time of each cell is removed and nothing is windowed, as in `spatial_spectrum`. Frequencies are k / L;
    all but 1/2 stand for their negative too, which `weight` counts. A still clip has no power at all.
    """
    values = check_latent(z)
    num_frames = values.shape[1]
    values = values - values[:, :1]  # as in space
    power = (np.abs(np.fft.rfft(values, axis=1)) ** 2).mean(axis=CELLS)[:, 1:] / num_frames
    frequency = np.fft.rfftfreq(num_frames)[1:]
    weight = np.where(2 * np.arange(1, num_frames // 2 + 1) == num_frames, 1, 2) / num_frames
    return Spectrum(frequency, power, weight, np.zeros(len(values)), "cycles per latent frame")


MOST_LOGVAR = 174  # largest log variance: exp(174 / 2) is within float32
ACTIVE_VARIANCE = 0.01  # Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, section 5.2: active above this


class PosteriorStatistics(NamedTuple):
    """The result of `posterior_statistics`: one number a channel, arrays (C,)."""

    std: np.ndarray  # posterior standard deviation, mean over the cells: how far a sample is from the mode
    kl: np.ndarray  # Kullback-Leibler divergence from N(0, 1) in nats per element, mean over the cells
    mean_variance: np.ndarray  # variance of the posterior mean over the cells

    @property
    def active(self) -> np.ndarray:
        """(C,) bool: whether the variance of the posterior mean is above ACTIVE_VARIANCE.

        Burda et al. measure it over a data set, this over the cells of one clip: a uniform clip has no active channel.
        """
        return self.mean_variance > ACTIVE_VARIANCE

    @property
    def verdict(self) -> str:
        """How many channels are active, and which ones are dead, in words."""
        dead = ", ".join(map(str, np.flatnonzero(~self.active))) or "none"
        return f"{self.active.sum()} of {len(self.std)} channels active; dead: {dead}"

    def __repr__(self) -> str:
        lines = [f"PosteriorStatistics: {self.verdict}"]
        lines += [
            f"  channel {channel}: posterior std {std:.2g}, KL {kl:.2f} nats per element, variance of the mean {v:.2g}"
            for channel, (std, kl, v) in enumerate(zip(*self, strict=True))
        ]
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """One row a channel: posterior_std, kl, mean_variance, active."""
        columns = dict(posterior_std=self.std, kl=self.kl, mean_variance=self.mean_variance, active=self.active)
        return table_of(columns, "channel")

    def plot(self) -> Figure:
        """KL and variance of the posterior mean of every channel."""
        return pictures.posterior_bars(self.kl, self.mean_variance, ACTIVE_VARIANCE)


def posterior_statistics(posterior: Any) -> PosteriorStatistics:
    """Measure the posterior of one clip, such as `vae.encode(x).latent_dist` of vae_lab's or diffusers' models.

    posterior: anything with `.mean` and either `.std` or `.logvar`, each (1, C, L, h, w), which are checked. A std of 0
      is refused: the KL would be infinite.
    """
    if not hasattr(posterior, "mean") or not (hasattr(posterior, "std") or hasattr(posterior, "logvar")):
        raise ValueError(f"posterior must have .mean and .std or .logvar, got {type(posterior).__name__}")
    mean = check_latent(posterior.mean, "posterior.mean")
    if hasattr(posterior, "std"):
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
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std))
    return PosteriorStatistics(std.mean(ALL), kl.mean(ALL), mean.var(ALL))


HYPOTHESES = {
    "raw": "as the encoder gives them: (z - latents_mean) / latents_std is standard",
    "normalised": "normalised already: (raw - latents_mean) / latents_std",
    "normalised twice": "normalised twice: normalize was called instead of denormalize",
    "denormalised": "raw * latents_std + latents_mean: denormalize was called instead of normalize",
    "multiplied": "(raw - latents_mean) * latents_std: multiplied instead of divided",
}
MISTAKES = {
    "normalised": ("look normalised already", "give raw ones, latents * latents_std + latents_mean"),
    "normalised twice": ("look normalised twice", "to denormalise is latents * latents_std + latents_mean"),
    "denormalised": (
        "look multiplied by latents_std, the wrong way round",
        "to normalise is (raw - latents_mean) / latents_std, and diffusers' scaling_factor is 1 / latents_std",
    ),
}
MISTAKES["multiplied"] = MISTAKES["denormalised"]  # one clip hardly tells the two apart
# The rule of `decisive`, in nats. A clip's std is often smaller than the data's, by up to ten times, but hardly ever
# larger in all channels: so a hypothesis that explains wider latents needs less evidence. Chosen on 59 clips (17 frames
# of 22 photographs, synthetic clips, data/*.mp4), encoded by the lab's weights: none is warned of when used rightly
# with their shift and scale, Open-Sora's, or the scale of SD, SDXL, SD 3, FLUX, CogVideoX or HunyuanVideo. With
# Open-Sora's shift and scale 28 of the 59 normalised ones are noticed and 21 of the denormalised ones; with the lab's
# own scale, below 2, none and 7.
FITS = 0.35  # nats: largest divergence of a `decisive` hypothesis, mean over the channels
BETTER = 0.5  # nats by which a `decisive` hypothesis must beat "raw", mean over the channels
BETTER_EVERYWHERE = 0.1  # nats by which a `decisive` hypothesis must beat "raw" in each channel
BETTER_WIDER = 0.2  # nats, instead of BETTER, for a hypothesis with a larger std than "raw" in each channel


class ScaleCheck(NamedTuple):
    """The result of `scale_check`; all arrays are (C,).

    divergence: hypothesis (key of HYPOTHESES) -> KL divergence of each channel's Gaussian from the expected one, in
      nats; infinite for a constant channel. It equals that from N(0, 1) after undoing what the hypothesis says.
    """

    mean: np.ndarray  # measured
    std: np.ndarray
    latents_mean: np.ndarray  # assumed of raw latents
    latents_std: np.ndarray
    divergence: dict[str, np.ndarray]

    @property
    def total(self) -> dict[str, float]:
        """Hypothesis -> the divergence summed over the channels, in nats."""
        return {name: float(values.sum()) for name, values in self.divergence.items()}

    @property
    def best(self) -> str:
        """The hypothesis with the smallest total, the first one among equals: "raw" if nothing tells them apart."""
        return min(self.divergence, key=lambda name: self.divergence[name].sum())

    @property
    def decisive(self) -> bool:
        """Whether this one clip is enough to say that the latents are what `best` says, and not raw.

        A clip is no data set: a uniform one can have a tenth of the data's std. So the other hypothesis must fit well,
        and better than "raw" in every channel. With latents_std between about 0.5 and 2 most clips cannot tell.
        """
        best = self.divergence[self.best]
        if best.mean() > FITS:  # a constant channel too: its divergence is infinite
            return False
        _, expected_std = expectations(self.latents_mean, self.latents_std)[self.best]
        better = self.divergence["raw"] - best
        if (expected_std > self.latents_std).all():
            return bool(better.mean() >= BETTER_WIDER and better.min() > 0)
        return bool(better.mean() >= BETTER and better.min() >= BETTER_EVERYWHERE)

    @property
    def warning(self) -> str:
        """One sentence if `decisive` says that the latents are not raw, otherwise empty."""
        if not self.decisive:
            return ""
        number, (what, remedy) = len(self.mean), MISTAKES[self.best]
        return (
            f"These latents {what} ({self.total[self.best] / number:.2f} nats a channel from what that gives, "
            f"{self.total['raw'] / number:.2f} from raw latents of this latents_mean and latents_std): {remedy}."
        )

    @property
    def verdict(self) -> str:
        """What the latents look like, in words: the warning if there is one."""
        if self.best == "raw":
            return "consistent with raw latents"
        return self.warning or f"{self.best} fits best, but one clip cannot tell"

    def __repr__(self) -> str:
        lines = (f"\n  {name}: {nats:.2f} nats" for name, nats in self.total.items())
        return f"ScaleCheck: {self.verdict}" + "".join(lines)

    def table(self) -> DataFrame:
        """One row a hypothesis: total, one column a channel (nats), and its meaning."""
        columns = {"total": list(self.total.values())}
        columns |= {f"channel {c}": values for c, values in enumerate(np.stack(list(self.divergence.values())).T)}
        return table_of(columns | {"meaning": [HYPOTHESES[name] for name in self.total]}, "hypothesis", self.total)

    def plot(self) -> Figure:
        """Mean and std of every channel, and where each hypothesis expects them."""
        return pictures.scale_picture(self.mean, self.std, expectations(self.latents_mean, self.latents_std))


def expectations(latents_mean: np.ndarray, latents_std: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hypothesis -> (mean, std) of latents, each (C,), if raw ones are N(latents_mean, latents_std**2)."""
    m, s = latents_mean, latents_std
    return {
        "raw": (m, s),
        "normalised": (np.zeros_like(m), np.ones_like(s)),
        "normalised twice": (-m / s, 1 / s),
        "denormalised": (m * s + m, s * s),
        "multiplied": (np.zeros_like(m), s * s),
    }


def scale_check(z: Tensor | np.ndarray, latents_mean: Any, latents_std: Any) -> ScaleCheck:
    """Compare the channels of latents with what shift and scale assume of raw ones, and with four mistakes.

    latents_mean, latents_std: of raw latents: a number, C of them, or a tensor such as `vae.shift`, `vae.scale`. For
    diffusers' scaling_factor: 0 and 1 / scaling_factor.

    The KL divergence of N(mean, std**2) from the expected N(m, s**2) is (std**2 + (mean - m)**2) / (2 s**2) - 1/2 -
    log(std / s) nats. If latents_mean is 0, "denormalised" and "multiplied" are the same.
    """
    mean, std, _ = channel_moments(z)
    latents_mean = per_channel("latents_mean", latents_mean, len(mean))
    latents_std = per_channel("latents_std", latents_std, len(mean))
    if latents_std.min() <= 0:
        raise ValueError(f"latents_std must be above 0, got {latents_std.min()}")
    if np.abs(latents_mean).max() > LARGEST or latents_std.max() > LARGEST or latents_std.min() < 1 / LARGEST:
        raise ValueError(
            f"latents_mean and latents_std must be within float32, at most {LARGEST:.3g}, latents_std at least "
            f"{1 / LARGEST:.3g}, got {latents_mean} and {latents_std}"
        )
    with np.errstate(divide="ignore"):  # log(0) of a constant channel
        divergence = {
            name: (std**2 + (mean - m) ** 2) / (2 * s**2) - 0.5 + np.log(s) - np.log(std)
            for name, (m, s) in expectations(latents_mean, latents_std).items()
        }
    return ScaleCheck(mean, std, latents_mean, latents_std, divergence)


class LatentReport(NamedTuple):
    """The result of `latent_report`."""

    shape: tuple[int, int, int, int]  # (C, L, h, w)
    moments: Moments  # per channel: arrays (C,)
    frames: Moments  # per channel and latent frame: arrays (C, L)
    correlation: np.ndarray  # (C, C): `channel_correlation`
    time_correlation: np.ndarray  # (C, L): `time_correlation`
    spatial: Spectrum
    temporal: Spectrum
    posterior: PosteriorStatistics | None
    scale: ScaleCheck | None

    @property
    def warning(self) -> str:
        """The warning of the scale check, or an empty text."""
        return self.scale.warning if self.scale else ""

    def __repr__(self) -> str:
        num_channels, num_frames, height, width = self.shape
        channels = count(num_channels, "channel")
        lines = [f"LatentReport: {channels}, {count(num_frames, 'latent frame')} of {height}x{width} cells"]
        lines += [
            f"  channel {channel}: mean {mean:.2f}, std {std:.2f}, excess kurtosis {kurtosis:.2f}"
            for channel, (mean, std, kurtosis) in enumerate(zip(*self.moments, strict=True))
        ]
        if self.posterior:
            lines.append(f"  {self.posterior.active.sum()} of {channels} active")
        if self.scale:
            lines.append(f"  ScaleCheck: {self.scale.verdict}")
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """One row a channel: moments, what shift and scale assume, normalised moments, and the posterior's columns."""
        columns = self.moments._asdict()
        if self.scale:
            mean, std, shift, scale, _ = self.scale
            columns |= dict(latents_mean=shift, latents_std=scale)
            columns |= dict(normalised_mean=(mean - shift) / scale, normalised_std=std / scale)
        table = table_of(columns, "channel")
        return table.join(self.posterior.table()) if self.posterior else table

    def plot(self) -> Figure:
        """Moments over latent frames, correlations, spectra."""
        return pictures.report_picture(self)


def latent_report(
    z: Tensor | np.ndarray, posterior: Any = None, latents_mean: Any = None, latents_std: Any = None
) -> LatentReport:
    """Measure everything about the latents (1, C, L, h, w) of one clip.

    posterior: of the same shape, as `posterior_statistics` takes it. latents_mean, latents_std: both or neither, as
    `scale_check` takes them.
    """
    z = check_latent(z)[None]  # float64 on the CPU
    if (latents_mean is None) != (latents_std is None):
        given = "latents_std" if latents_mean is None else "latents_mean"
        raise ValueError(f"latents_mean and latents_std must be given together, got only {given}")
    statistics = None if posterior is None else posterior_statistics(posterior)
    if posterior is not None and tuple(posterior.mean.shape) != z.shape:
        raise ValueError(f"posterior must have the shape of z, {z.shape}, got {tuple(posterior.mean.shape)}")
    return LatentReport(
        z.shape[1:],
        channel_moments(z),
        frame_moments(z),
        channel_correlation(z),
        time_correlation(z),
        spatial_spectrum(z),
        temporal_spectrum(z),
        statistics,
        None if latents_mean is None else scale_check(z, latents_mean, latents_std),
    )
