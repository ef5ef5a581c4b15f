"""Which input frame a video map's output frames depend on, and whether one of them sees its future."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..utils.text import count
from .maps import VideoMap, apply_map, change_frames, largest_by_frame, repeatable_output, shown_indices

QUANTITIES = {"perturbation": "largest change", "gradient": "largest gradient"}
PROJECTIONS = 2  # random directions of each output frame: in one alone, gradients could cancel by chance


class FrameDependency(NamedTuple):
    """What `frame_dependency` returns."""

    matrix: np.ndarray
    """(input frames, output frames): how strongly the one moves the other; exactly 0 where not at all."""
    method: str

    @property
    def moved(self) -> np.ndarray:
        """bool (input frames, output frames): whether the output frame depends on the input frame at all."""
        return self.matrix > 0

    def seen(self, output: int) -> tuple[int, int] | None:
        """First and last input frame that an output frame depends on; None where it depends on none."""
        frames = np.flatnonzero(self.matrix[:, output])
        return (int(frames[0]), int(frames[-1])) if len(frames) else None

    def leak(self, last_seen: Sequence[int]) -> "FutureLeak":
        """What lies beyond `last_seen`, the last input frame that each output frame may see (-1: none at all)."""
        num_frames, num_outputs = self.matrix.shape
        last_seen = _check_last_seen(last_seen, num_frames, num_outputs)
        beyond = np.arange(num_frames)[:, None] > np.array(last_seen)[None]
        forbidden = np.where(beyond, self.matrix, 0)
        largest = float(forbidden.max())
        where = np.unravel_index(forbidden.argmax(), forbidden.shape) if largest else (None, None)
        return FutureLeak(
            leaks=largest > 0,
            largest=largest,
            frame=None if where[0] is None else int(where[0]),
            output=None if where[1] is None else int(where[1]),
            allowed=float(np.where(beyond, 0, self.matrix).max()),
            pairs=int((forbidden > 0).sum()),
            forbidden_pairs=int(beyond.sum()),
            last_seen=last_seen,
            dependency=self,
        )

    def __repr__(self) -> str:
        num_frames, num_outputs = self.matrix.shape
        lines = [f"FrameDependency by {self.method}: {_sizes(self)}"]
        for output in shown_indices(num_outputs):
            if output is None:
                lines.append("  ...")
                continue
            seen, column = self.seen(output), self.matrix[:, output]
            what = (
                f"sees frames {seen[0]} to {seen[1]}, {QUANTITIES[self.method]} {column.max():.1e} "
                f"from frame {column.argmax()}"
                if seen
                else "sees no frame"
            )
            lines.append(f"  output {output} {what}")
        return "\n".join(lines)

    def table(self):
        """A pandas DataFrame: one row an input frame, one column an output frame."""
        from pandas import DataFrame, RangeIndex

        num_frames, num_outputs = self.matrix.shape
        return DataFrame(
            self.matrix, RangeIndex(num_frames, name="input frame"), RangeIndex(num_outputs, name="output frame")
        )

    def plot(self, last_seen: Sequence[int] | None = None):
        """A matplotlib Figure: the matrix as a heat map, with the staircase of what may be seen where it is given."""
        from ..figures.probes import dependency_heatmap

        if last_seen is not None:
            last_seen = _check_last_seen(last_seen, *self.matrix.shape)
        return dependency_heatmap(self.matrix, last_seen, QUANTITIES[self.method], f"by {self.method}: {_sizes(self)}")


class FutureLeak(NamedTuple):
    """What `future_leak` returns."""

    leaks: bool
    largest: float
    """Largest effect of a frame on an output that may not see it; exactly 0 where nothing leaks."""
    frame: int | None
    """The input frame of that effect,"""
    output: int | None
    """and the output frame."""
    allowed: float
    """Largest effect that is allowed, for scale."""
    pairs: int
    """Pairs (input frame, output frame) that leak."""
    forbidden_pairs: int
    """Pairs that must not depend on each other."""
    last_seen: tuple[int, ...]
    dependency: FrameDependency

    def __repr__(self) -> str:
        name = QUANTITIES[self.dependency.method]
        how = f"{_sizes(self.dependency)}, by {self.dependency.method}"
        if not self.leaks:
            return (
                f"FutureLeak: none ({how})\n  {count(self.forbidden_pairs, 'forbidden pair')}, all exactly 0; "
                f"{name} allowed: {self.allowed:.1e}"
            )
        return (
            f"FutureLeak: yes ({how})\n  {self.pairs} of {count(self.forbidden_pairs, 'forbidden pair')} moved; "
            f"{name} {self.largest:.1e}, of input frame {self.frame} on output frame {self.output}\n"
            f"  {name} allowed: {self.allowed:.1e}"
        )

    def table(self):
        """A pandas DataFrame, one row an output frame: may_see, sees (last input frames), leak, from_frame."""
        from pandas import DataFrame, RangeIndex

        matrix, rows = self.dependency.matrix, []
        for output, last in enumerate(self.last_seen):
            seen, future = self.dependency.seen(output), matrix[last + 1 :, output]
            leaks = future.max(initial=0) > 0
            rows.append(
                (last, seen[1] if seen else -1, future.max(initial=0), last + 1 + future.argmax() if leaks else -1)
            )
        columns = ["may_see", "sees", "leak", "from_frame"]
        return DataFrame(rows, RangeIndex(len(rows), name="output frame"), columns)

    def plot(self):
        """A matplotlib Figure: the dependencies, the staircase of what may be seen, and in red what lies beyond it."""
        return self.dependency.plot(self.last_seen)


def frame_dependency(
    f: VideoMap, x: Tensor, method: str = "perturbation", seed: int = 0, size: float = 1.0
) -> FrameDependency:
    """Which input frame moves which output frame of f, and how strongly: a matrix (input frames, output frames).

    Args:
        f: (B, C, T, H, W) -> (B, C', L, h, w), the same for the same x.
        x: the point at which it is measured; noise will do.
        method: "perturbation": largest absolute change of an output frame when noise is added to that input frame
          alone, exactly 0 where the output is the same to the bit; T + 2 runs of f. "gradient": largest absolute
          derivative, by a value of the input frame, of the output frame's values summed with random normal weights
          (of two such sums); 3 runs of f, and 2 runs backwards for each output frame.
        seed: of the noise, or of the weights.
        size: standard deviation of the noise, in the units of x.

    Both have their zeros in the same places in float64. In float32 small effects can be lost in rounding, and with a
    ReLU a gradient can be 0 where a larger change would get through.
    """
    if method not in QUANTITIES:
        raise ValueError(f"method must be one of {tuple(QUANTITIES)}, got {method!r}")
    y = repeatable_output(f, x)
    rows = _gradients(f, x, seed) if method == "gradient" else _changes(f, x, y, seed, size)
    return FrameDependency(rows.double().cpu().numpy(), method)


def _changes(f: VideoMap, x: Tensor, y: Tensor, seed: int, size: float) -> Tensor:
    rows = []
    for t in range(x.shape[2]):
        with torch.no_grad():
            moved = apply_map(f, change_frames(x, slice(t, t + 1), size, seed))
        if moved.shape != y.shape:
            raise ValueError(
                f"f must give one shape for all x of one shape, got {tuple(moved.shape)} and {tuple(y.shape)}"
            )
        rows.append(largest_by_frame(moved - y))
    return torch.stack(rows)


@torch.enable_grad()
def _gradients(f: VideoMap, x: Tensor, seed: int) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = apply_map(f, x)
    if not y.requires_grad:
        raise ValueError('f must let gradients through for method "gradient": it must not use no_grad or detach')
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for output in range(y.shape[2]):
        values = y[:, :, output]
        weights = torch.randn((PROJECTIONS, *values.shape), generator=generator, dtype=torch.float64).to(y)
        gradients = [torch.autograd.grad(values, x, w, retain_graph=True, allow_unused=True)[0] for w in weights]
        columns.append(
            torch.stack([x.new_zeros(x.shape[2]) if g is None else largest_by_frame(g) for g in gradients]).amax(dim=0)
        )
    return torch.stack(columns, dim=1)


def future_leak(
    f: VideoMap, x: Tensor, last_seen: Sequence[int], method: str = "perturbation", seed: int = 0, size: float = 1.0
) -> FutureLeak:
    """Whether f's output frames depend on input frames that they may not see.

    Args:
        last_seen: for each output frame the last input frame it may see, -1 for none. A causal encoder's is
          `encoder_last_seen(frame_groups(T, ratio, chunk))`, a decoder's `decoder_last_seen(...)` of the same groups.
        f, x, method, seed, size: as in `frame_dependency`, whose `leak` this is.
    """
    return frame_dependency(f, x, method, seed, size).leak(last_seen)


def _check_last_seen(last_seen: Any, num_frames: int, num_outputs: int) -> tuple[int, ...]:
    values = tuple(last_seen)
    if len(values) != num_outputs:
        raise ValueError(f"last_seen must have one entry for each of {num_outputs} output frames, got {len(values)}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral) or not -1 <= value < num_frames:
            raise ValueError(f"last_seen must be input frames from 0 to {num_frames - 1}, or -1, got {value!r}")
    return tuple(int(value) for value in values)


def _sizes(dependency: FrameDependency) -> str:
    num_frames, num_outputs = dependency.matrix.shape
    return f"{count(num_frames, 'input frame')} -> {count(num_outputs, 'output frame')}"
