"""Chunks along time: whether a result depends on them, and how much of a curve repeats with them."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..figures import probes as pictures
from ..utils.checks import check_at_least, check_video, positive_int
from ..utils.tables import DataFrame, Figure
from ..utils.text import count
from .maps import VideoMap, apply_map, elided, largest_by_frame, repeatable_output

Run = Callable[[Tensor, tuple[int, ...]], Tensor]
FLAT = 1e-6  # of the size of values: a smaller variation is the rounding of float32


class Periodogram(NamedTuple):
    """Power of a curve over frequency, taken over a whole number of chunks.

    `share` is the share of the variance that the place in the chunk explains (eta squared of an analysis of variance):
    1.0 if all chunks have the same curve, 0.0 if every place has the same mean. Patterns inside a chunk count too, such
    as groups of frames that share a latent: a large share says that chunks resemble each other, not that borders are
    bad.
    """

    frequencies: np.ndarray  # (F,) in cycles per sample, above 0 up to 1/2
    power: np.ndarray  # (F,) mean square of the curve's component at each frequency; the sum is the curve's variance
    period: int  # samples in a chunk
    num_periods: int  # whole chunks that the curve was cut to, from its first sample
    share: float  # of all power, at the frequency 1 / period and its multiples, 0 to 1; 0.0 for a flat curve

    @property
    def chance(self) -> float:
        """The share expected of noise that does not depend on chunks: harmonics among all frequencies."""
        return (self.period - 1) / (self.period * self.num_periods - 1)

    @property
    def harmonics(self) -> np.ndarray:
        """(F,) bool: which frequencies are multiples of 1 / period."""
        return np.arange(1, len(self.power) + 1) % self.num_periods == 0


def periodogram(curve: ArrayLike, period: int, flat: float | None = None) -> Periodogram | None:
    """Return the periodogram of the whole periods of a curve; None if it has fewer than two.

    The mean, at frequency 0, is left out. With whole periods, each multiple of 1 / period is one of the frequencies, so
    no power leaks between it and others. Noise has the share `chance`, about 1 / num_periods, and a linear trend about
    1 / num_periods**2.

    flat: a standard deviation up to this counts as rounding, with a share of 0.0; default: a millionth of the mean.
    """
    from scipy import signal

    values, period = np.asarray(curve, np.float64), positive_int("period", period)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"curve must be one row of finite numbers, got shape {values.shape}")
    if period < 2:
        raise ValueError(f"period must be at least 2, got {period}: every frequency is a multiple of 1")
    num_periods = len(values) // period
    if num_periods < 2:
        return None
    values = values[: num_periods * period]
    frequencies, power = (column[1:] for column in signal.periodogram(values, scaling="spectrum"))
    result = Periodogram(frequencies, power, period, num_periods, 0.0)
    if values.std() <= (FLAT * np.abs(values).mean() if flat is None else flat):
        return result
    return result._replace(share=float(power[result.harmonics].sum() / power.sum()))


class PlanResult(NamedTuple):
    """One plan of chunks in a ChunkInvariance, compared with the first."""

    lengths: tuple[int, ...]  # frames in each chunk
    shape: tuple[int, ...]  # of the output
    difference: np.ndarray | None  # (output frames,) largest difference in each; None if the shape differs
    relative: float  # largest difference, by the first plan's largest absolute value; infinite if the shape differs
    first_frame: int | None  # first that differs by more than the tolerance; None: none does, or the shape differs

    @property
    def largest(self) -> float:
        """Largest difference in the units of the output; infinite if the shape differs."""
        return float("inf") if self.difference is None else float(self.difference.max())

    @property
    def name(self) -> str:
        """The lengths, such as "17+17+1", or "17 (4 times)+1" for more than three equal ones in a row."""
        runs = [(length, len(list(run))) for length, run in groupby(self.lengths)]
        return "+".join(f"{n} ({times} times)" if times > 3 else "+".join([str(n)] * times) for n, times in runs)

    def _compared_with(self, first: "PlanResult") -> str:
        if self.difference is None:
            return f"another shape, {self.shape} for {first.shape}"
        if not self.largest:
            return "the same to the bit"
        where = "" if self.first_frame is None else f", from output frame {self.first_frame} on"
        return f"largest difference {self.largest:.1e} ({self.relative:.1e} of the largest value){where}"


class ChunkInvariance(NamedTuple):
    """The result of `chunk_invariance`."""

    plans: tuple[PlanResult, ...]  # the others are compared with the first one
    tolerance: float  # as a share of the first plan's largest absolute value

    @property
    def invariant(self) -> bool:
        """Whether every plan gave the shape of the first one, and its values within the tolerance."""
        return all(plan.relative <= self.tolerance for plan in self.plans)

    def __repr__(self) -> str:
        first, *others = self.plans
        within = f" within {self.tolerance:.1e} of the largest value" if self.tolerance else " to the bit"
        lines = [
            f"ChunkInvariance: {'the plans agree' if self.invariant else 'the plans do not agree'}{within}",
            f"  chunks of {first.name}: {count(first.shape[2], 'output frame')}, compared with",
        ]
        return "\n".join(lines + elided([f"  {plan.name}: {plan._compared_with(first)}" for plan in others]))

    def table(self) -> DataFrame:
        """Return one row for each plan: plan, output_frames, same_shape, largest, relative, first_frame (-1: none)."""
        from pandas import DataFrame

        rows = []
        for plan in self.plans:
            first_frame = -1 if plan.first_frame is None else plan.first_frame
            same_shape = plan.difference is not None
            rows.append((plan.name, plan.shape[2], same_shape, plan.largest, plan.relative, first_frame))
        return DataFrame(rows, columns=["plan", "output_frames", "same_shape", "largest", "relative", "first_frame"])

    def plot(self) -> Figure:
        """Draw the difference of each plan of the same shape over the output frames."""
        first, *others = self.plans
        shown = {plan.name: plan.difference for plan in others if plan.difference is not None}
        return pictures.chunk_differences(shown, first.name)


def chunk_invariance(run: Run, x: Tensor, plans: Sequence[Sequence[int]], tolerance: float = 0.0) -> ChunkInvariance:
    """Measure whether x gives the same result however it is cut into chunks along time.

    Args:
        run: run(x, lengths) processes x (B, C, T, H, W) in chunks of that many frames and returns (B, C', L, h, w).
        plans: the lengths of the chunks of each plan, which add up to T. The first plan is the reference; a plan whose
          output has another shape does not agree with it.
        tolerance: the largest difference that still counts as agreement, relative to the first plan's largest absolute
          value; 0 means the same to the bit.
    """
    if not callable(run):
        raise ValueError(f"run must be a function of x and the lengths of its chunks, got {type(run).__name__}")
    check_video("x", x)
    check_at_least("tolerance", tolerance, 0)
    cuts = [tuple(positive_int("lengths in plans", length) for length in plan) for plan in plans]
    if len(cuts) < 2:
        raise ValueError(f"plans must be at least 2, one to compare with and another, got {len(cuts)}")
    for plan in cuts:
        if sum(plan) != x.shape[2]:
            raise ValueError(f"each of plans must add up to the {x.shape[2]} frames of x, got {plan}: {sum(plan)}")

    def in_chunks(plan: tuple[int, ...]) -> VideoMap:
        return lambda x: run(x, plan)

    reference = repeatable_output(in_chunks(cuts[0]), x)
    scale = reference.abs().max().item()
    results: list[PlanResult] = []
    for plan in cuts:
        with torch.no_grad():
            y = apply_map(in_chunks(plan), x) if results else reference
        if y.shape != reference.shape:
            results.append(PlanResult(plan, tuple(y.shape), None, float("inf"), None))
            continue
        difference = largest_by_frame(y - reference).double().cpu().numpy()
        differing = np.flatnonzero(difference > tolerance * scale)
        relative = difference.max() / scale if scale else (float("inf") if len(differing) else 0.0)
        first = int(differing[0]) if len(differing) else None
        results.append(PlanResult(plan, tuple(y.shape), difference, float(relative), first))
    return ChunkInvariance(tuple(results), tolerance)
