"""Chunks along time: whether a result depends on them, where their borders lie, and what repeats with them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..shapes import chunk_lengths
from ..utils.checks import check_video, positive_int
from ..utils.text import count, listed
from .maps import apply_map, largest_by_frame, repeatable_output, shown_indices

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


class PlanResult(NamedTuple):
    """One plan of chunks in a ChunkInvariance, compared with the first."""

    lengths: tuple[int, ...]
    """Frames of each chunk."""
    shape: tuple[int, ...]
    """Of the output."""
    difference: np.ndarray | None
    """(output frames,): largest difference in each; None where the shape is another one."""
    relative: float
    """Largest difference, divided by the first plan's largest absolute value; infinite where the shape differs."""
    first_frame: int | None
    """First output frame that differs by more than the tolerance; None where none does or the shapes differ."""

    @property
    def largest(self) -> float:
        """Largest difference in the units of the output; infinite where the shape is another one."""
        return float("inf") if self.difference is None else float(self.difference.max())

    @property
    def name(self) -> str:
        """Such as "17+17+1", and with many chunks "17 (3 times)+1"."""
        parts, start = [], 0
        for stop in range(1, len(self.lengths) + 1):
            if stop == len(self.lengths) or self.lengths[stop] != self.lengths[start]:
                times = stop - start
                parts.append(
                    f"{self.lengths[start]} ({times} times)"
                    if times > 3
                    else "+".join([str(self.lengths[start])] * times)
                )
                start = stop
        return "+".join(parts)


class ChunkInvariance(NamedTuple):
    """What `chunk_invariance` returns."""

    plans: tuple[PlanResult, ...]
    """The first one is what the others are compared with."""
    tolerance: float

    @property
    def invariant(self) -> bool:
        """Whether every plan gave the first one's shape and its values, within the tolerance."""
        return all(plan.relative <= self.tolerance for plan in self.plans)

    def __repr__(self) -> str:
        first, *others = self.plans
        within = f" within {self.tolerance:.1e} of the largest value" if self.tolerance else " to the bit"
        lines = [
            f"ChunkInvariance: {'the plans agree' if self.invariant else 'the plans do not agree'}{within}",
            f"  chunks of {first.name}: {count(first.shape[2], 'output frame')}, compared with",
        ]
        for index in shown_indices(len(others)):
            if index is None:
                lines.append("  ...")
                continue
            plan = others[index]
            what = "the same to the bit"
            if plan.difference is None:
                what = f"another shape, {plan.shape} for {first.shape}"
            elif plan.largest:
                where = "" if plan.first_frame is None else f", from output frame {plan.first_frame} on"
                what = f"largest difference {plan.largest:.1e} ({plan.relative:.1e} of the largest value){where}"
            lines.append(f"  {plan.name}: {what}")
        return "\n".join(lines)

    def table(self):
        """A pandas DataFrame, one row a plan: plan, output_frames, same_shape, largest, relative, first_frame."""
        from pandas import DataFrame

        rows = [
            (plan.name, plan.shape[2], plan.difference is not None, plan.largest, plan.relative,
             -1 if plan.first_frame is None else plan.first_frame)
            for plan in self.plans
        ]  # fmt: skip
        return DataFrame(rows, columns=["plan", "output_frames", "same_shape", "largest", "relative", "first_frame"])

    def plot(self):
        """A matplotlib Figure: the difference of each plan of the same shape, over the output frames."""
        from ..figures.probes import chunk_differences

        first, *others = self.plans
        shown = {plan.name: plan.difference for plan in others if plan.difference is not None}
        return chunk_differences(shown, first.name)


def chunk_invariance(
    run: Callable[[Tensor, tuple[int, ...]], Tensor], x: Tensor, plans: Sequence[Sequence[int]], tolerance: float = 0.0
) -> ChunkInvariance:
    """Whether x gives the same result however it is cut into chunks along time.

    Args:
        run: run(x, lengths) processes x (B, C, T, H, W) in chunks of these lengths and returns (B, C', L, h, w). The
          lengths count whatever run cuts: frames of x.
        plans: lengths of the chunks of each plan, which add up to T; the others are compared with the first. A plan
          with another shape of output is reported as one that does not agree.
        tolerance: largest difference that still counts as agreement, relative to the first plan's largest absolute
          value; 0 means the same to the bit.
    """
    if not callable(run):
        raise ValueError(f"run must be a function of x and the lengths of its chunks, got {type(run).__name__}")
    check_video("x", x)
    if not (isinstance(tolerance, float | int) and 0 <= tolerance < float("inf")):
        raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}")
    plans = [tuple(positive_int("lengths in plans", length) for length in plan) for plan in plans]
    if len(plans) < 2:
        raise ValueError(f"plans must be at least 2, one to compare with and another, got {len(plans)}")
    for plan in plans:
        if sum(plan) != x.shape[2]:
            raise ValueError(f"each of plans must add up to the {x.shape[2]} frames of x, got {plan}: {sum(plan)}")
    reference = repeatable_output(lambda x: run(x, plans[0]), x)
    scale = reference.abs().max().item()
    results = []
    for index, plan in enumerate(plans):
        with torch.no_grad():
            y = apply_map(lambda x, plan=plan: run(x, plan), x) if index else reference
        if y.shape != reference.shape:
            results.append(PlanResult(plan, tuple(y.shape), None, float("inf"), None))
            continue
        difference = largest_by_frame(y - reference).double().cpu().numpy()
        differing = np.flatnonzero(difference > tolerance * scale)
        relative = difference.max() / scale if scale else (float("inf") if len(differing) else 0.0)
        first = int(differing[0]) if len(differing) else None
        results.append(PlanResult(plan, tuple(y.shape), difference, float(relative), first))
    return ChunkInvariance(tuple(results), tolerance)
