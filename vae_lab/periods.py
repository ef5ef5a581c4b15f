"""Chunks along an axis, even or uneven: where they begin, their borders, and what repeats from one to the next.

A chunk begins at each of `starts`, the first at 0; a *border* lies between the sample before a later start and the one
at it. Samples are numbered from 0.
"""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import numpy as np

from .shapes import chunk_lengths, count, positive_int

FLAT = 1e-6  # what varies by less than this share of its size does so by the rounding of float32


class Periodogram(NamedTuple):
    """Power of a curve over frequency, taken over a whole number of chunks."""

    frequencies: np.ndarray
    """(F,) in cycles per sample, above 0 up to 1/2."""
    power: np.ndarray
    """(F,) mean square of the part of the curve at each frequency; the sum is the variance of the curve."""
    period: int
    """Samples in a chunk."""
    num_periods: int
    """Whole chunks that were looked at, from the first sample on."""
    share: float
    """Power at the frequency 1 / period and its multiples, of all power: 0 to 1; 0.0 where the curve is flat.

    Over whole chunks that is the share of the variance that the place in the chunk explains (eta squared of an analysis
    of variance by place): 1.0 where all chunks have the same curve, and 0.0 where every place has the same mean. What
    repeats inside of a chunk counts too, such as the groups of frames that share a latent: a large share says that the
    chunks resemble each other, not that their borders are bad.
    """

    @property
    def chance(self) -> float:
        """The share expected of noise that knows nothing of chunks: harmonics among all frequencies."""
        return (self.period - 1) / (self.period * self.num_periods - 1)

    @property
    def harmonics(self) -> np.ndarray:
        """(F,) bool: which frequencies are multiples of 1 / period."""
        return np.arange(1, len(self.power) + 1) % self.num_periods == 0


def periodogram(curve: Sequence[float], period: int, flat: float | None = None) -> Periodogram | None:
    """The periodogram of as many whole periods as the curve has; None with fewer than two: then all is one period.

    The mean, at frequency 0, is left out. Whole periods put the multiples of 1 / period on frequencies of their own, so
    nothing leaks into them or out of them. Noise gives the share `chance`, about 1 / num_periods, and a linear trend
    about 1 / num_periods**2.

    flat: a standard deviation up to this is rounding, and the share then 0.0; default: a millionth of the mean.
    """
    curve, period = np.asarray(curve, np.float64), positive_int("period", period)
    if curve.ndim != 1 or not np.isfinite(curve).all():
        raise ValueError(f"curve must be one row of finite numbers, got shape {curve.shape}")
    if period < 2:
        raise ValueError(f"period must be at least 2, got {period}: below, no frequency is free of it")
    num_periods = len(curve) // period
    if num_periods < 2:
        return None
    curve = curve[: num_periods * period]
    amplitude = np.abs(np.fft.rfft(curve) / len(curve))[1:]
    twice = np.full(len(amplitude), 2.0)  # each stands for its negative frequency too,
    if len(curve) % 2 == 0:
        twice[-1] = 1  # but the last, which is its own
    power = twice * amplitude**2
    found = Periodogram(np.fft.rfftfreq(len(curve))[1:], power, period, num_periods, 0.0)
    if curve.std() <= (FLAT * np.abs(curve).mean() if flat is None else flat):
        return found
    return found._replace(share=float(power[found.harmonics].sum() / power.sum()))


def chunk_starts(period: int | None, starts: Sequence[int] | None, size: int, noun: str) -> tuple[int, ...]:
    """Where chunks begin, from exactly one of period and starts; at least two, the first at 0. noun: of a sample.

    >>> chunk_starts(17, None, 35, "frame")
    (0, 17, 34)
    """
    if period is not None and starts is not None:
        raise ValueError(f"only one of period and starts may be given, got period {period} and starts {starts}")
    if period is not None:
        if positive_int("period", period) >= size:
            raise ValueError(
                f"period ({period}) must be smaller than the clip's {count(size, noun)}: there is no border"
            )
        return (0, *np.cumsum(chunk_lengths(size, period))[:-1].tolist())
    found = tuple(starts)
    if not all(isinstance(s, Integral) and not isinstance(s, bool) for s in found):
        raise ValueError(f"starts must be integers, got {starts}")
    if not found or found[0] != 0 or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"starts must begin with 0 and rise, got {listed(found)}")
    if found[-1] >= size or len(found) < 2:
        raise ValueError(f"starts must have a second one, and all below {size}, got {listed(found)}")
    return tuple(map(int, found))


def border_samples(starts: Sequence[int]) -> tuple[int, ...]:
    """The last sample before every border and the first after it.

    >>> border_samples((0, 17, 34))
    (16, 17, 33, 34)
    """
    return tuple(sorted({sample for start in starts[1:] for sample in (start - 1, start)}))


def inside_samples(starts: Sequence[int], size: int) -> tuple[int, ...]:
    """Samples away from the borders and from both ends, which are no borders.

    >>> inside_samples((0, 4), 9)
    (1, 2, 5, 6, 7)
    """
    return tuple(sorted(set(range(1, size - 1)) - set(border_samples(starts))))


def crossings(starts: Sequence[int]) -> list[int]:
    """Places, in a list of changes from sample i to i + 1, of those across a border."""
    return [start - 1 for start in starts[1:]]


def listed(numbers: Sequence[int], most: int = 8) -> str:
    """Numbers for a message, the first ones where they are many.

    >>> listed((0, 17)), listed(range(10), most=3)
    ('0, 17', '0, 1, 2, …')
    """
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
