"""How far one output of a video map sees: by its operations, by its gradient, and by 99 % of the gradient."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import cache, partial
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..figures import probes as pictures
from ..shapes import kernel_reach
from ..utils.checks import check_one_of, torch_seed
from ..utils.tables import DataFrame, Figure, table_of
from .maps import AXES, VideoMap, apply_map, repeatable_output

SPREAD = 16  # outputs measured besides the latest ones, evenly over the axis: chunks treat outputs differently
LONG_ENOUGH = 5  # samples; if so many become twice as many between two operations, that is not padding by torch.cat

# Operations that mix samples along axes in ways that are not followed here, by the last part of their names.
NOT_FOLLOWED = {
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool3d", "conv1d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "matmul", "__matmul__", "bmm", "baddbmm", "einsum", "roll", "flip",
    "cumsum", "cumprod", "sort", "fold", "unfold", "grid_sample", "instance_norm", "as_strided", "fft_fft", "fft_rfft",
    "fft_fftn", "fft_rfftn", "multi_head_attention_forward", "_native_multi_head_attention", "tensordot",
}  # fmt: skip
REDUCTIONS = {"mean", "sum", "std", "var", "amax", "amin", "softmax"}  # followed only over the channels


class AxisField(NamedTuple):
    """The receptive field along one axis, in input samples."""

    graph: float | None  # by the operations that ran; infinite: one pools over the axis; None: not followed
    reason: str  # why `graph` is None; otherwise empty
    gradient: int  # from the first to the last sample whose gradient is not 0
    cut: bool  # whether the gradient reaches a border of the input, so that the field may be larger than `gradient`
    output: int  # the output sample that was measured: the one that sees most
    first: int  # first input sample with a gradient; the last one is first + gradient - 1
    window: tuple[int, int]  # first and last sample of the shortest range that holds `share` of the gradient
    mass: np.ndarray  # (input samples,) share of the gradient's absolute sum; all 0 without a gradient

    @property
    def effective(self) -> int:
        """Samples in `window`."""
        return self.window[1] - self.window[0] + 1

    def __repr__(self) -> str:
        graph = "not followed" if self.graph is None else "unbounded" if self.graph == inf else f"{self.graph:.0f}"
        least = "at least " if self.cut else ""
        return f"by operations {graph}, by gradient {least}{self.gradient}, bulk of it in {self.effective}"


class ReceptiveField(NamedTuple):
    """The result of `receptive_field`."""

    time: AxisField
    height: AxisField
    width: AxisField
    share: float  # share of the gradient that the `window` of each axis holds

    def __repr__(self) -> str:
        lines = [f"ReceptiveField of one output sample, in input samples (bulk: {self.share:.0%} of the gradient)"]
        for axis, field in zip(AXES, self[:3], strict=True):
            lines.append(f"  {axis}: {field!r}" + (f"\n    {field.reason}" if field.reason else ""))
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """Return one row for each axis: graph, gradient, cut, effective, window_first, window_last, output."""
        rows = [(f.graph, f.gradient, f.cut, f.effective, *f.window, f.output) for f in self[:3]]
        columns = ["graph", "gradient", "cut", "effective", "window_first", "window_last", "output"]
        return table_of(dict(zip(columns, zip(*rows, strict=True), strict=True)), "axis", AXES)

    def plot(self, axis: str = "time", chunk: int | None = None) -> Figure:
        """Draw the gradient along an axis, with the window that holds its bulk and, if given, a chunk's length."""
        check_one_of("axis", axis, AXES)
        field, noun = getattr(self, axis), AXES[axis]
        reached = field.first, field.first + field.gradient - 1
        title = f"what output {noun} {field.output} sees"
        unit = f"input {noun}"
        return pictures.receptive_field_mass(field.mass, field.window, reached, unit, self.share, chunk, title)


@torch.enable_grad()
def receptive_field(f: VideoMap, x: Tensor, share: float = 0.99, seed: int = 0) -> ReceptiveField:
    """Measure how far one output sample of f sees, along time, height and width, in three ways.

    By operations: the torch functions of one run of f are recorded, and the field is followed backwards through them. A
    convolution turns n samples into (n - 1) * stride + dilation * (kernel_size - 1) + 1 (`shapes.stacked_reach`).
    Nearest upsampling by r (and channels that become frames, seen by the sizes) turns them into (n - 2 + r) // r + 1,
    the most over all phases. A group norm or an attention over an axis makes the field infinite. This is the longest
    path of networks whose shortcuts have kernel 1; parallel branches with larger kernels would be added up. Padding
    counts as samples. If an operation cannot be followed, or the gradient reaches further, the field is None.

    By gradient: of one output, at the middle of the other two axes, its channels summed with random weights. Candidates
    are the latest outputs that do not see the input's end, in all phases, and others spread over the axis; the output
    that sees most is taken. `cut` says that its gradient reaches a border of the input, so a larger x is needed.

    Effective: the shortest range of the axis that holds `share` (between 0 and 1) of that gradient's absolute sum.

    Args:
        f: (B, C, T, H, W) -> (B, C', L, h, w), the same for the same x; gradients must get through.
        x: the point at which gradients are taken. float64 keeps small ones from becoming 0.
        seed: of the weights of the channels.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    repeatable_output(f, x)
    x = x.detach().clone().requires_grad_()
    with _Trace() as trace:
        y = apply_map(f, x)
    if not y.requires_grad:
        raise ValueError("f must let gradients through: it must not use no_grad or detach")
    generator = torch.Generator().manual_seed(torch_seed(seed))
    weights = torch.randn(y.shape[:2], generator=generator, dtype=torch.float64).to(y)
    middle = [size // 2 for size in y.shape[2:]]

    @cache
    def profile(t: int, h: int, w: int) -> list[np.ndarray]:
        """For each axis, the sums of the gradient's absolute values, for the output at this place."""
        (gradient,) = torch.autograd.grad(y[..., t, h, w], x, weights, retain_graph=True, materialize_grads=True)
        absolute = gradient.abs().double()
        return [absolute.sum([d for d in range(5) if d != 2 + k]).cpu().numpy() for k in range(3)]

    def along(k: int, j: int) -> np.ndarray:
        """The gradient of output j of axis k over the input samples of this axis."""
        return profile(*middle[:k], j, *middle[k + 1 :])[k]

    time, height, width = (
        _axis_field(partial(along, k), trace.field(k, inputs, outputs), inputs, outputs, share)
        for k, (inputs, outputs) in enumerate(zip(x.shape[2:], y.shape[2:], strict=True))
    )
    return ReceptiveField(time, height, width, share)


def _axis_field(
    along: Callable[[int], np.ndarray], by_graph: tuple[float | None, str], inputs: int, outputs: int, share: float
) -> AxisField:
    ends = bisect_left(range(outputs), True, key=lambda j: along(j)[-1] > 0)  # the first that sees the input's end
    phases = -(-outputs // inputs)
    spread = np.linspace(0, outputs - 1, SPREAD).round().astype(int).tolist()
    candidates = []
    for j in {*range(max(0, ends - phases), ends), *spread, outputs // 2}:
        seen = np.flatnonzero(along(j))
        size = int(np.ptp(seen)) + 1 if len(seen) else 0
        whole = not size or (seen[0] > 0 and seen[-1] < inputs - 1)
        candidates.append((size, whole, -abs(j - outputs // 2), j))
    size, whole, _, output = max(candidates)  # of equals the one nearest to the middle
    graph, reason = by_graph
    if graph is not None and graph < size:
        graph, reason = None, f"the operations that were followed give {graph:.0f}, but the gradient reaches {size}"
    mass = along(output)
    if not size:
        return AxisField(graph, reason, 0, False, output, 0, (0, -1), mass)
    mass = mass / mass.sum()
    return AxisField(graph, reason, size, not whole, output, int(np.flatnonzero(mass)[0]), _window(mass, share), mass)


def _window(mass: np.ndarray, share: float) -> tuple[int, int]:
    """First and last index of the shortest range whose sum is at least `share` of all; the earliest of equals."""
    total = np.concatenate([[0.0], np.cumsum(mass)])
    stops = np.searchsorted(total, total[:-1] + share * total[-1])  # for each start the first with enough before it
    lengths = np.where(stops < len(total), stops - np.arange(len(mass)), len(mass))
    start = int(lengths.argmin())
    return start, start + int(lengths[start]) - 1


class _Step(NamedTuple):
    """An operation along one axis: n outputs need `(n - 1) * stride + reach` inputs, or upsampling by `factor`."""

    name: str
    inputs: int
    outputs: int
    reach: int = 1
    stride: int = 1
    factor: int = 1


class _Trace(TorchFunctionMode):
    """Records what torch functions do to the three axes while it is active."""

    def __init__(self):
        super().__init__()
        self.steps: list[list[_Step]] = [[], [], []]
        self.unbounded = [False] * 3
        self.lost = [""] * 3  # the first reason why an axis cannot be followed
        self.weights: set[tuple[int, int]] = set()  # (data pointer, axis) of kernels that reach along the axis
        self.shape: torch.Size | None = None  # of the last tensor whose axes are known
        self.uncut: torch.Tensor | None = None  # what the last mkldnn_convolution made

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        first = args[0] if args else kwargs.get("input")
        if name in ("conv2d", "conv3d"):
            self._convolution(name, result, *args, **kwargs)
        elif name == "mkldnn_convolution":  # of our CausalConv3d
            x, weight, bias, padding, stride, dilation, groups = args
            self._convolution("conv3d", result, x, weight, bias, stride, padding, dilation, groups)
            self.uncut = result
        elif name == "__getitem__" and first is self.uncut:  # it pads both ends, and cuts the frames behind off
            self.steps[0][-1] = self.steps[0][-1]._replace(outputs=result.shape[2])
        elif name == "group_norm":  # over all axes but the first two: with four axes, within a frame
            self.shape = first.shape if first.ndim > 3 else self.shape
            self._tokens(name, first.shape[0], first.shape[2:].numel())
        elif name == "batch_norm" and (kwargs.get("training") or (len(args) > 5 and args[5])):
            self._lose(range(3), "batch_norm in training mode")
        elif name == "pad" and first.ndim in (4, 5):
            for k in range(5 - first.ndim, 3):
                self.steps[k].append(_Step(name, first.shape[k - 3], result.shape[k - 3]))
        elif name == "interpolate":
            self._upsampling(result, *args, **kwargs)
        elif name == "scaled_dot_product_attention":
            key = args[1] if len(args) > 1 else kwargs["key"]
            self._tokens("attention", key.shape[0], key.shape[-2])
        elif name in REDUCTIONS:
            if kwargs.get("dim", args[1] if len(args) > 1 else None) not in (1, (1,), [1]):
                self._lose(range(3), name)
        elif name in NOT_FOLLOWED:
            self._lose(range(3), name)
        return result

    def field(self, k: int, inputs: int, outputs: int) -> tuple[float | None, str]:
        """The field of one output along axis k, or None and the reason why it is not known."""
        if self.lost[k]:
            return None, self.lost[k]
        if self.unbounded[k]:
            return inf, ""
        size, strided = 1, False
        steps = [_Step("the input", inputs, inputs), *self.steps[k], _Step("the output", outputs, outputs)]
        for before, step in zip(steps[-2::-1], steps[:0:-1], strict=True):  # from the output to the input
            factor = round(step.inputs / before.outputs)
            unknown = factor < 1 or abs(step.inputs - factor * before.outputs) > before.outputs / 4
            if unknown or (factor > 1 and before.outputs < LONG_ENOUGH):
                how = "something that is not followed" if unknown else "upsampling or by padding: give a larger x"
                sizes = f"{before.outputs} {list(AXES.values())[k]}s become {step.inputs}"
                return None, f"{sizes} between {before.name} and {step.name}, by {how}"
            size = (size - 1) * step.stride + step.reach
            if strided and step.factor * factor > 1:
                return None, f"{step.name} follows an upsampling with a stride, whose phases are not followed"
            strided = strided or step.stride > 1
            for up in (step.factor, factor):  # the most over all phases; padding and crops only shift them
                size = (size - 2 + up) // up + 1
        return size, ""

    def _lose(self, axes: Iterable[int], reason: str) -> None:
        for k in axes:
            self.lost[k] = self.lost[k] or f"{reason} is not followed"

    def _convolution(self, name, result, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> None:
        dims = 3 if name == "conv3d" else 2
        strides, dilations = (np.broadcast_to(value, dims).tolist() for value in (stride, dilation))
        for k in range(3 - dims, 3):
            reach = kernel_reach(weight.shape[k - 3], dilations[k - 3])
            if reach > 1 or strides[k - 3] > 1:
                if (weight.data_ptr(), k) in self.weights:
                    self._lose([k], "a convolution that runs several times (in chunks, say)")
                self.weights.add((weight.data_ptr(), k))
            label, sizes = f"{name} {len(self.steps[k])}", (input.shape[k - 3], result.shape[k - 3])
            self.steps[k].append(_Step(label, *sizes, reach, strides[k - 3]))
        self.shape = result.shape

    def _upsampling(self, result, input, size=None, scale_factor=None, mode="nearest", *_, **__) -> None:
        if mode not in ("nearest", "nearest-exact") or input.ndim not in (4, 5):
            self._lose(range(3), f"interpolate with mode {mode!r} of {input.ndim} axes")
            return
        for k in range(5 - input.ndim, 3):
            before, after = input.shape[k - 3], result.shape[k - 3]
            if after % before:
                self._lose([k], f"interpolate from {before} to {after}")
            self.steps[k].append(_Step("interpolate", before, after, factor=after // before))
        self.shape = result.shape

    def _tokens(self, name: str, batch: int, tokens: int) -> None:
        """An operation that mixes all cells of a frame, or of a clip, sees all of it; others are not understood."""
        shape = self.shape
        if shape is None or len(shape) not in (4, 5) or (batch, tokens) != (shape[0], shape[2:].numel()):
            self._lose(range(3), f"{name} over {tokens} tokens")
            return
        for k in range(5 - len(shape), 3):
            self.unbounded[k] = True
