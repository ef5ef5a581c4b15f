"""Which input frames each output frame of a video map depends on, and whether an output frame sees its future."""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..figures import probes as pictures
from ..utils.checks import check_one_of, is_number, torch_seed
from ..utils.tables import DataFrame, Figure, table_of
from ..utils.text import count
from .maps import VideoMap, apply_map, change_frames, elided, largest_by_frame, repeatable_output

QUANTITIES = {"perturbation": "largest change", "gradient": "largest gradient"}
PROJECTIONS = 2  # random directions for each output frame: in a single one, gradients could cancel by chance


class FrameDependency(NamedTuple):
    """The result of `frame_dependency`."""

    matrix: np.ndarray  # (input frames, output frames): how strongly one moves the other; exactly 0 if not at all
    method: str  # "perturbation" or "gradient"

    @property
    def moved(self) -> np.ndarray:
        """Whether the output frame depends on the input frame at all, bool (input frames, output frames)."""
        return self.matrix > 0

    def seen(self, output: int) -> tuple[int, int] | None:
        """Return the first and the last input frame that an output frame depends on; None if it depends on none."""
        frames = np.flatnonzero(self.matrix[:, output])
        return (int(frames[0]), int(frames[-1])) if len(frames) else None

    def leak(self, last_seen: Sequence[int]) -> "FutureLeak":
        """Return the effects beyond `last_seen`, the last input frame that each output frame may see (-1: none)."""
        num_frames, num_outputs = self.matrix.shape
        last_seen = _check_last_seen(last_seen, num_frames, num_outputs)
        beyond = np.arange(num_frames)[:, None] > np.array(last_seen)[None]
        forbidden = np.where(beyond, self.matrix, 0)
        largest = float(forbidden.max())
        frame, output = divmod(int(forbidden.argmax()), num_outputs) if largest else (None, None)
        allowed = float(np.where(beyond, 0, self.matrix).max())
        pairs, forbidden_pairs = int((forbidden > 0).sum()), int(beyond.sum())
        return FutureLeak(largest > 0, largest, frame, output, allowed, pairs, forbidden_pairs, last_seen, self)

    def __repr__(self) -> str:
        lines = []
        for output, column in enumerate(self.matrix.T):
            seen = "no frame"
            if frames := self.seen(output):
                strongest = f"{QUANTITIES[self.method]} {column.max():.1e} from frame {column.argmax()}"
                seen = f"frames {frames[0]} to {frames[1]}, {strongest}"
            lines.append(f"  output {output} sees {seen}")
        return "\n".join([f"FrameDependency by {self.method}: {_sizes(self)}", *elided(lines)])

    def table(self) -> DataFrame:
        """Return the matrix with a row for each input frame and a column for each output frame."""
        return table_of(dict(enumerate(self.matrix.T)), "input frame").rename_axis(columns="output frame")

    def plot(self, last_seen: Sequence[int] | None = None) -> Figure:
        """Draw the matrix as a heat map; last_seen: the last input frame each output frame may see, as a staircase."""
        if last_seen is not None:
            last_seen = _check_last_seen(last_seen, *self.matrix.shape)
        title = f"by {self.method}: {_sizes(self)}"
        return pictures.dependency_heatmap(self.matrix, last_seen, QUANTITIES[self.method], title)


class FutureLeak(NamedTuple):
    """The result of `future_leak`."""

    leaks: bool
    largest: float  # the largest effect of an input frame on an output frame that must not see it; exactly 0: no leak
    frame: int | None  # the input frame of that effect; None if nothing leaks
    output: int | None  # the output frame of that effect; None if nothing leaks
    largest_allowed: float  # largest effect of an input frame on an output frame that may see it, for scale
    pairs: int  # pairs (input frame, output frame) that leak
    forbidden_pairs: int  # pairs that must not depend on each other
    last_seen: tuple[int, ...]  # for each output frame, the last input frame that it may see
    dependency: FrameDependency  # all effects that were measured

    def __repr__(self) -> str:
        name, pairs = QUANTITIES[self.dependency.method], count(self.forbidden_pairs, "forbidden pair")
        how = f"{_sizes(self.dependency)}, by {self.dependency.method}"
        allowed = f"{name} allowed: {self.largest_allowed:.1e}"
        if not self.leaks:
            return f"FutureLeak: none ({how})\n  {pairs}, all exactly 0; {allowed}"
        largest = f"{self.largest:.1e}, of input frame {self.frame} on output frame {self.output}"
        return f"FutureLeak: yes ({how})\n  {self.pairs} of {pairs} moved; {name} {largest}\n  {allowed}"

    def table(self) -> DataFrame:
        """Return one row for each output frame: may_see and sees (last input frames), leak, from_frame (-1: none)."""
        matrix, frames = self.dependency.matrix, np.arange(len(self.dependency.matrix))[:, None]
        future = np.where(frames > np.array(self.last_seen), matrix, 0)
        leak, sees = future.max(axis=0), np.where(matrix > 0, frames, -1).max(axis=0)
        from_frame = np.where(leak > 0, future.argmax(axis=0), -1)
        return table_of(dict(may_see=self.last_seen, sees=sees, leak=leak, from_frame=from_frame), "output frame")

    def plot(self) -> Figure:
        """Draw the dependencies and a staircase up to which they are allowed; beyond it they are red."""
        return self.dependency.plot(self.last_seen)


def frame_dependency(
    f: VideoMap, x: Tensor, method: str = "perturbation", seed: int = 0, size: float = 1.0
) -> FrameDependency:
    """Measure which input frame moves which output frame of f, and how strongly.

    Args:
        f: (B, C, T, H, W) -> (B, C', L, h, w), the same for the same x.
        x: the point at which f is measured; noise will do.
        method: "perturbation": the largest absolute change of an output frame if noise is added to one input frame;
          exactly 0 if the output is the same to the bit. T + 2 runs of f. "gradient": the largest absolute derivative
          by a value of the input frame, of the output frame's values summed with random normal weights (of two such
          sums). 3 runs of f, and 2 backward runs for each output frame.
        seed, size: of the noise, or of the weights; `size` is the noise's standard deviation, in the units of x.

    In float64 both methods have their zeros in the same places. In float32 rounding can hide small effects, and with a
    ReLU a gradient can be 0 although a larger change would get through.
    """
    check_one_of("method", method, QUANTITIES)
    y = repeatable_output(f, x)
    rows = _gradients(f, x, seed) if method == "gradient" else _changes(f, x, y, seed, size)
    return FrameDependency(rows.double().cpu().numpy(), method)


def _changes(f: VideoMap, x: Tensor, y: Tensor, seed: int, size: float) -> Tensor:
    rows = []
    for t in range(x.shape[2]):
        with torch.no_grad():
            moved = apply_map(f, change_frames(x, slice(t, t + 1), size, seed))
        if moved.shape != y.shape:
            shapes = f"{tuple(moved.shape)} and {tuple(y.shape)}"
            raise ValueError(f"f must give one shape for all x of one shape, got {shapes}")
        rows.append(largest_by_frame(moved - y))
    return torch.stack(rows)


@torch.enable_grad()
def _gradients(f: VideoMap, x: Tensor, seed: int) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = apply_map(f, x)
    if not y.requires_grad:
        raise ValueError('f must let gradients through for method "gradient": it must not use no_grad or detach')
    generator = torch.Generator().manual_seed(torch_seed(seed))
    rows = []
    for values in y.unbind(2):
        weights = torch.randn((PROJECTIONS, *values.shape), generator=generator, dtype=torch.float64).to(y)
        gradients = [torch.autograd.grad(values, x, w, retain_graph=True, materialize_grads=True)[0] for w in weights]
        rows.append(torch.stack([largest_by_frame(gradient) for gradient in gradients]).amax(dim=0))
    return torch.stack(rows, dim=1)


def future_leak(
    f: VideoMap, x: Tensor, last_seen: Sequence[int], method: str = "perturbation", seed: int = 0, size: float = 1.0
) -> "FutureLeak":
    """Measure whether output frames of f depend on input frames that they must not see.

    Args:
        last_seen: for each output frame the last input frame it may see, -1 for none. A causal encoder's is
          `encoder_last_seen(frame_groups(T, ratio, chunk))`, a decoder's `decoder_last_seen(...)` of the same groups.
        f, x, method, seed, size: as in `frame_dependency`, whose `leak` this is.
    """
    return frame_dependency(f, x, method, seed, size).leak(last_seen)


def _check_last_seen(last_seen: Sequence[int], num_frames: int, num_outputs: int) -> tuple[int, ...]:
    if len(last_seen) != num_outputs:
        raise ValueError(f"last_seen must have one entry for each of {num_outputs} output frames, got {len(last_seen)}")
    for value in last_seen:
        if not is_number(value, Integral) or not -1 <= value < num_frames:
            raise ValueError(f"last_seen must be input frames from 0 to {num_frames - 1}, or -1, got {value!r}")
    return tuple(map(int, last_seen))


def _sizes(dependency: FrameDependency) -> str:
    num_frames, num_outputs = dependency.matrix.shape
    return f"{count(num_frames, 'input frame')} -> {count(num_outputs, 'output frame')}"
