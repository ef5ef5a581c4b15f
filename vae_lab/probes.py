"""Measure any video map, whatever made it: what sees what, what leaks, what changes with the chunks.

The maps are plain functions (B, C, T, H, W) -> (B, C', L, h, w), `vae_lab.video_map` says which; no model is known
here. All probes can be imported from this module; those not defined in it live in modules of their own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .attribution import LeakAttribution, Offender, attribute_leak
from .checks import check_video
from .dependency import FrameDependency, FutureLeak, frame_dependency, future_leak
from .receptive_fields import AxisField, ReceptiveField, receptive_field
from .seams import SeamProfile, StaticVideo, seam_profile, static_video_test
from .shapes import count, positive_int
from .stitching import StitchError, diffusers_stitch_error, diffusers_tiling, stitch_error
from .video_map import apply_map, largest_by_frame, repeatable_output, shown_indices

__all__ = [
    "AxisField",
    "ChunkInvariance",
    "FrameDependency",
    "FutureLeak",
    "LeakAttribution",
    "Offender",
    "PlanResult",
    "ReceptiveField",
    "SeamProfile",
    "StaticVideo",
    "StitchError",
    "attribute_leak",
    "chunk_invariance",
    "diffusers_stitch_error",
    "diffusers_tiling",
    "frame_dependency",
    "future_leak",
    "receptive_field",
    "seam_profile",
    "static_video_test",
    "stitch_error",
]


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
        from .probe_figures import chunk_differences

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
