"""Which module lets the future in: the past of its inputs did not change, and the past of its output did."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ..utils.checks import check_video, positive_int
from ..utils.text import count
from .maps import VideoMap, apply_map, change_frames, largest_by_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SHOWN = 5  # offenders in a repr


class Offender(NamedTuple):
    """A module whose past output moved although the past of its inputs did not."""

    path: str
    """As in `model.named_modules()`; "" is the model itself."""
    kind: str
    """Name of its class."""
    call: int
    """Number of the call of this module, from 0; models that work in chunks call a module several times."""
    moved: float
    """Largest change of an output frame that must not change, in the units of that output."""
    frames: tuple[int, int]
    """(Output frames that moved too much, output frames of the call)."""

    def __repr__(self) -> str:
        call = f" (call {self.call})" if self.call else ""
        return f"{self.path or 'the model'} {self.kind}{call}: past outputs moved by {self.moved:.1e}"


class LeakAttribution(NamedTuple):
    """What `attribute_leak` returns."""

    offenders: tuple[Offender, ...]
    """In the order in which they ran."""
    frame: int
    """The first input frame that was changed."""
    num_frames: int
    """Frames of the input."""
    compared: int
    """Module calls whose inputs and output have five axes, so that they could be compared."""
    moved: float
    """Largest change in the past of the output of f, by the same rule; exactly 0 if nothing leaked."""

    @property
    def first(self) -> Offender | None:
        """The module that first let the future in; None if none did."""
        return self.offenders[0] if self.offenders else None

    def __repr__(self) -> str:
        head = (
            f"LeakAttribution: frames from {self.frame} on of {self.num_frames} changed, "
            f"{count(self.compared, 'module call')} compared, "
        )
        if self.offenders:
            lines = [f"  {offender!r}" for offender in self.offenders[:SHOWN]]
            more = [f"  and {len(self.offenders) - SHOWN} more"] if len(self.offenders) > SHOWN else []
            return "\n".join([head + count(len(self.offenders), "offender"), *lines, *more])
        if not self.moved:
            return head + "no offender"
        others = "code outside these modules, or modules without five axes, moved it"
        return f"{head}no offender\n  but the past of f's output moved by {self.moved:.1e}: {others}"

    def table(self) -> DataFrame:
        """Return one row for each offender: module, class, call, moved, frames_moved, frames."""
        from pandas import DataFrame

        columns = ["module", "class", "call", "moved", "frames_moved", "frames"]
        return DataFrame([(*offender[:4], *offender.frames) for offender in self.offenders], columns=columns)

    def plot(self) -> Figure:
        """Draw how far each offender moved its past, in the order in which they ran."""
        from ..figures.probes import module_changes

        return module_changes({repr(offender).split(":")[0]: offender.moved for offender in self.offenders})


def attribute_leak(
    model: nn.Module, f: VideoMap, x: Tensor, frame: int | None = None, seed: int = 0, size: float = 1.0
) -> LeakAttribution:
    """Name the modules of `model` that move the past when x changes from `frame` on, in the order in which they ran.

    One rule holds for every module call whose inputs and output have five axes, (B, C, T, H, W). If the last `a` of an
    input's T_i frames changed, this many of the output's T_o frames may change, counted from the end:

        all                        a = T_i: nothing can be said about modules behind one that moved every frame
        a * ceil(T_o / T_i)        T_o >= T_i; a * (T_o - 1) / (T_i - 1) if that is whole (the first frame alone)
        ceil(a / stride)           a convolution, which may be padded outside of the module
        ceil(a / (T_i // T_o))     otherwise

    If a call has several inputs, the one that allows most counts. A module that contains an offender is not listed, nor
    is an offender inside a module that keeps the rule. If a module breaks the rule and its parts keep it, its own code
    is at fault, and the module is listed. Modules that take frames folded into the batch are skipped.

    Args:
        model: the model that f runs.
        f: (B, C, T, H, W) -> (B, C', L, h, w), the same for the same x.
        frame: the first frame to change. None: the last ceil(T / L) frames change, about the last group, since frames
          of one group may see each other.
        seed, size: of the Gaussian noise added to the changed frames; `size` is its standard deviation.

    f runs twice, and twice more if something leaks. Only one fingerprint per frame is kept of each tensor. Hooks are
    always removed.

    Raises ValueError if f does not run `model`, calls different modules for the changed x, or does not repeat itself.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    check_video("x", x)
    num_frames = x.shape[2]
    if num_frames < 2:
        raise ValueError("x must have at least 2 frames, a past and a future, got 1")
    if frame is not None and positive_int("frame", frame) >= num_frames:
        raise ValueError(f"frame must be from 1 to {num_frames - 1}, the last frame of x, got {frame}")
    calls, y = _watch(model, f, x)
    frame = max(1, num_frames - -(-num_frames // y.shape[2])) if frame is None else int(frame)
    changed = change_frames(x, slice(frame, None), size, seed)
    calls_changed, y_changed = _watch(model, f, changed)
    if [call.key for call in calls] != [call.key for call in calls_changed] or y.shape != y_changed.shape:
        raise ValueError("f must call the same modules and give the same shape for x and for x with its future changed")
    if not calls:
        raise ValueError("f called no module of model: pass the model that f runs")
    modules = dict(model.named_modules())
    verdicts = [_verdict(modules[a.path], a, b) for a, b in zip(calls, calls_changed, strict=True)]
    guilty = _innermost(calls, verdicts)
    outputs = _outputs(model, f, x, guilty, calls)
    outputs_changed = _outputs(model, f, changed, guilty, calls_changed)
    offenders = []
    for index in guilty:
        call, verdict = calls[index], verdicts[index]
        by_frame = largest_by_frame(outputs_changed[call.key] - outputs[call.key])
        moved, frames = by_frame[: verdict.still].max().item(), (verdict.excess, len(by_frame))
        offenders.append(Offender(call.path, type(modules[call.path]).__name__, call.number, moved, frames))
    allowed = _allowed(num_frames, num_frames - frame, y.shape[2])
    past = largest_by_frame(y_changed - y)[: y.shape[2] - allowed].tolist()
    compared = sum(verdict.measured for verdict in verdicts)
    return LeakAttribution(tuple(offenders), frame, num_frames, compared, max(past, default=0.0))


class _Call(NamedTuple):
    """One call of a module, with a fingerprint of each frame of its inputs and of its output."""

    path: str
    number: int
    start: int
    """Calls begun so far, with this one; the calls of its parts are numbered from start + 1 to end."""
    end: int
    inputs: list[tuple[bytes, ...]]
    output: tuple[bytes, ...] | None

    @property
    def key(self) -> tuple[str, int]:
        return self.path, self.number


class _Verdict(NamedTuple):
    """What the rule says about one call."""

    measured: bool = False
    excess: int = 0
    """Output frames that moved and must not."""
    still: int = 0
    """Output frames, from the first, that must not move."""
    sound: bool = False
    """Whether there are frames that must not move, and they did not, by the strict reading of the rule."""


def _allowed(inputs: int, changed: int, outputs: int, stride: int | None = None, strict: bool = False) -> int:
    """Output frames, counted from the end, that may change if the last `changed` of `inputs` frames change.

    If 3 frames become 9, each may have become 3, or the first 1 and each other 4. `strict` allows only the former.
    """
    if changed in (0, inputs):
        return outputs if changed else 0
    if outputs >= inputs:
        factor, rest = divmod(outputs - 1, inputs - 1)
        allowed = changed * (-(-outputs // inputs) if rest or strict else factor)
    else:
        allowed = -(-changed // (stride or inputs // outputs))
    return min(outputs, allowed)


def _changed(before: tuple[bytes, ...], after: tuple[bytes, ...]) -> int:
    """Number of frames from the first different one to the end."""
    return next((len(before) - t for t, (a, b) in enumerate(zip(before, after, strict=True)) if a != b), 0)


def _verdict(module: nn.Module, before: _Call, after: _Call) -> _Verdict:
    if before.output is None or after.output is None or not before.inputs:
        return _Verdict()
    outputs = len(before.output)
    # a convolution that is padded outside of the module has fewer outputs than inputs, although its stride may be 1
    stride = module.stride[0] if isinstance(module, nn.Conv3d) else None
    inputs = [(len(a), _changed(a, b)) for a, b in zip(before.inputs, after.inputs, strict=True)]
    allowed, strictly = (max(_allowed(*sizes, outputs, stride, strict) for sizes in inputs) for strict in (False, True))
    changed = _changed(before.output, after.output)
    return _Verdict(True, max(0, changed - allowed), outputs - allowed, changed <= strictly < outputs)


def _innermost(calls: list[_Call], verdicts: list[_Verdict]) -> list[int]:
    """Calls that break the rule, without those that contain one and without those inside a call that keeps it."""
    guilty = [i for i, verdict in enumerate(verdicts) if verdict.excess]

    def inside(part: int, whole: int) -> bool:
        return calls[whole].start < calls[part].start <= calls[whole].end

    return [
        i
        for i in guilty
        if not any(inside(other, i) for other in guilty)
        and not any(inside(i, j) and verdict.sound for j, verdict in enumerate(verdicts))
    ]


def _fingerprints(x: Tensor) -> tuple[bytes, ...]:
    """A digest of each frame of a (B, C, T, H, W) tensor; equal exactly if the frames are."""
    frames = (x.detach() + 0.0).movedim(2, 0).contiguous().cpu()  # + 0.0: a zero has one sign
    return tuple(hashlib.blake2b(f.view(torch.uint8).numpy(), digest_size=16).digest() for f in frames.flatten(1))


def _is_video(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 5 and value.is_floating_point() and value.numel() > 0


def _main_output(output: Any) -> Tensor | None:
    """The output if it is a tensor, or the first tensor in it (others are caches for the next chunk)."""
    values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else (output,)
    first = next((value for value in values if isinstance(value, Tensor)), None)
    return first if _is_video(first) else None


@contextmanager
def _hooks(model: nn.Module, before: Callable, after: Callable) -> Iterator[None]:
    """Run before(path, module, args, kwargs) and after(path, module, args, output) around each call in the block."""
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(partial(before, path), with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(partial(after, path)))
        yield


def _watch(model: nn.Module, f: VideoMap, x: Tensor) -> tuple[list[_Call], Tensor]:
    """The calls that f(x) makes, in the order in which they end, and f(x)."""
    calls: list[_Call] = []
    begun = Counter[str]()
    open_calls: list[tuple] = []

    def before(path, _, args, kwargs):
        begun[path] += 1
        inputs = [_fingerprints(value) for value in (*args, *kwargs.values()) if _is_video(value)]
        open_calls.append((path, begun[path] - 1, begun.total(), inputs))

    def after(path, _, args, output):
        path, number, start, inputs = open_calls.pop()
        result = _main_output(output)
        prints = None if result is None else _fingerprints(result)
        calls.append(_Call(path, number, start, begun.total(), inputs, prints))

    with _hooks(model, before, after), torch.no_grad():
        y = apply_map(f, x)
    return calls, y


def _outputs(
    model: nn.Module, f: VideoMap, x: Tensor, chosen: list[int], calls: list[_Call]
) -> dict[tuple[str, int], Tensor]:
    """Copies of the outputs of the chosen calls, from one more run; an f that does not repeat itself is refused."""
    if not chosen:
        return {}
    prints = {calls[index].key: calls[index].output for index in chosen}
    kept: dict[tuple[str, int], Tensor] = {}
    numbers = Counter[str]()

    def after(path, _, args, output):
        if (path, numbers[path]) in prints and (video := _main_output(output)) is not None:
            kept[path, numbers[path]] = video.detach().clone()
        numbers[path] += 1

    with _hooks(model, lambda *_: None, after), torch.no_grad():
        apply_map(f, x)
    if any(key not in kept or _fingerprints(kept[key]) != prints[key] for key in prints):
        raise ValueError(
            "f must give the same output twice for the same x: use the posterior's mode or a seeded generator, and "
            "eval() for dropout"
        )
    return kept
