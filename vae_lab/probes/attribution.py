"""Find the first module that leaks the future."""

import hashlib
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..figures import probes as pictures
from ..utils.checks import check_video, positive_int
from ..utils.tables import DataFrame, Figure
from ..utils.text import count
from .maps import REPEATABLE, VideoMap, apply_map, change_frames, largest_by_frame

SHOWN = 5  # offenders in a repr


class Offender(NamedTuple):
    """A module whose past output moved although the past of its inputs did not."""

    path: str  # as in `model.named_modules()`; "" is the model itself
    kind: str  # the name of its class
    call: int  # number of the call of this module, from 0; models that work in chunks call a module several times
    moved: float  # largest change of an output frame that must not change, in the units of that output
    frames: tuple[int, int]  # (output frames that moved too much, output frames of the call)

    def __repr__(self) -> str:
        call = f" (call {self.call})" if self.call else ""
        return f"{self.path or 'the model'} {self.kind}{call}: past outputs moved by {self.moved:.1e}"


class LeakAttribution(NamedTuple):
    """The result of `attribute_leak`."""

    offenders: tuple[Offender, ...]  # in the order in which they ran
    frame: int  # the first input frame that was changed
    num_frames: int  # frames of the input
    compared: int  # module calls whose inputs and output have five axes, so that they could be compared
    moved: float  # largest change in the past of the output of f, by the same rule; exactly 0 if nothing leaked

    @property
    def first(self) -> Offender | None:
        """The module that first let the future in; None if none did."""
        return self.offenders[0] if self.offenders else None

    def __repr__(self) -> str:
        offenders = [f"  {offender!r}" for offender in self.offenders]
        lines, hidden = offenders[:SHOWN], len(offenders) - SHOWN
        if hidden > 0:
            lines.append(f"  and {hidden} more")
        if self.moved and not offenders:
            others = "code outside these modules, or modules without five axes, moved it"
            lines.append(f"  but the past of f's output moved by {self.moved:.1e}: {others}")
        changed = f"frames from {self.frame} on of {self.num_frames} changed"
        compared = f"{count(self.compared, 'module call')} compared"
        found = count(len(offenders), "offender") if offenders else "no offender"
        return "\n".join([f"LeakAttribution: {changed}, {compared}, {found}", *lines])

    def table(self) -> DataFrame:
        """Return one row for each offender: module, class, call, moved, frames_moved, frames."""
        from pandas import DataFrame

        columns = ["module", "class", "call", "moved", "frames_moved", "frames"]
        return DataFrame([(*offender[:4], *offender.frames) for offender in self.offenders], columns=columns)

    def plot(self) -> Figure:
        """Draw how far each offender moved its past, in the order in which they ran."""
        return pictures.module_changes({repr(offender).split(":")[0]: offender.moved for offender in self.offenders})


def attribute_leak(
    model: nn.Module, f: VideoMap, x: Tensor, frame: int | None = None, seed: int = 0, size: float = 1.0
) -> LeakAttribution:
    """Name the modules of `model` that move the past when x changes from `frame` on, in the order in which they ran.

    f is run twice, and twice more if something leaks. One rule holds for every module call whose inputs and output have
    five axes, (B, C, T, H, W). If the last `a` of an input's T_i frames changed, this many of the output's T_o frames
    may change, counted from the end:

        all                        a = T_i: nothing can be said about modules behind one that moved every frame
        a * ceil(T_o / T_i)        T_o >= T_i; a * (T_o - 1) / (T_i - 1) if that is whole (the first frame alone)
        ceil(a / stride)           a convolution, which may be padded outside of the module
        ceil(a / (T_i // T_o))     otherwise

    If a call has several inputs, the one that allows most counts. A module that contains an offender is not listed, nor
    is an offender inside a module that keeps the rule. If a module breaks the rule and its parts keep it, its own code
    is at fault, and the module is listed. Modules that take frames folded into the batch are skipped.

    Args:
        f: (B, C, T, H, W) -> (B, C', L, h, w), the same for the same x; it runs `model`.
        frame: the first frame to change. None: the last ceil(T / L) frames change, about the last group, since frames
          of one group may see each other.
        seed, size: of the Gaussian noise added to the changed frames; `size` is its standard deviation.

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
    calls, _, y = _watch(model, f, x)
    frame = max(1, num_frames - -(-num_frames // y.shape[2])) if frame is None else int(frame)
    changed = change_frames(x, slice(frame, None), size, seed)
    calls_changed, _, y_changed = _watch(model, f, changed)
    if [call.key for call in calls] != [call.key for call in calls_changed] or y.shape != y_changed.shape:
        raise ValueError("f must call the same modules and give the same shape for x and for x with its future changed")
    if not calls:
        raise ValueError("f called no module of model: pass the model that f runs")
    modules = dict(model.named_modules())
    verdicts = [_verdict(modules[a.key[0]], a, b) for a, b in zip(calls, calls_changed, strict=True)]
    guilty = _innermost(calls, verdicts)
    outputs, outputs_changed = _outputs(model, f, x, guilty, calls), _outputs(model, f, changed, guilty, calls_changed)
    offenders = []
    for (path, number), verdict in guilty.items():
        by_frame = largest_by_frame(outputs_changed[path, number] - outputs[path, number])
        moved, frames = by_frame[: verdict.still].max().item(), (verdict.excess, len(by_frame))
        offenders.append(Offender(path, type(modules[path]).__name__, number, moved, frames))
    allowed = _allowed(num_frames, num_frames - frame, y.shape[2])
    past = largest_by_frame(y_changed - y)[: y.shape[2] - allowed].tolist()
    compared = sum(verdict.measured for verdict in verdicts)
    return LeakAttribution(tuple(offenders), frame, num_frames, compared, max(past, default=0.0))


Key = tuple[str, int]  # path of a module, number of its call


class _Call(NamedTuple):
    """One call of a module. Of each tensor only a fingerprint of each frame is kept."""

    key: Key
    start: int  # calls begun so far, with this one; the calls of its parts are numbered from start + 1 to end
    end: int
    inputs: list[tuple[bytes, ...]]
    output: tuple[bytes, ...] | None

    def within(self, whole: "_Call") -> bool:
        """Whether this call was made during another one."""
        return whole.start < self.start <= whole.end


class _Verdict(NamedTuple):
    """What the rule says about one call."""

    measured: bool = False
    excess: int = 0  # output frames that moved and must not
    still: int = 0  # output frames, from the first, that must not move
    sound: bool = False  # there are frames that must not move, and they did not, by the strict reading of the rule


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


def _innermost(calls: list[_Call], verdicts: list[_Verdict]) -> dict[Key, _Verdict]:
    """Calls that break the rule, without those that contain one and without those inside a call that keeps it."""
    guilty = [call for call, verdict in zip(calls, verdicts, strict=True) if verdict.excess]
    sound = [call for call, verdict in zip(calls, verdicts, strict=True) if verdict.sound]
    return {
        call.key: verdict
        for call, verdict in zip(calls, verdicts, strict=True)
        if verdict.excess and not any(part.within(call) for part in guilty) and not any(map(call.within, sound))
    }


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


def _watch(
    model: nn.Module, f: VideoMap, x: Tensor, keep: Collection[Key] = ()
) -> tuple[list[_Call], dict[Key, Tensor], Tensor]:
    """The calls that f(x) makes, in the order in which they end, copies of the outputs of those in `keep`, and f(x)."""
    calls: list[_Call] = []
    copies: dict[Key, Tensor] = {}
    begun = Counter[str]()
    open_calls: list[tuple[Key, int, list]] = []

    def before(path, _, args, kwargs):
        inputs = [_fingerprints(value) for value in (*args, *kwargs.values()) if _is_video(value)]
        key, begun[path] = (path, begun[path]), begun[path] + 1
        open_calls.append((key, begun.total(), inputs))

    def after(_, args, output):
        key, start, inputs = open_calls.pop()
        result = _main_output(output)
        calls.append(_Call(key, start, begun.total(), inputs, None if result is None else _fingerprints(result)))
        if result is not None and key in keep:
            copies[key] = result.detach().clone()

    with ExitStack() as hooks, torch.no_grad():
        for path, module in model.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(partial(before, path), with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(after))
        return calls, copies, apply_map(f, x)


def _outputs(model: nn.Module, f: VideoMap, x: Tensor, keys: Collection[Key], calls: list[_Call]) -> dict[Key, Tensor]:
    """Copies of the outputs of some calls, from one more run; an f that does not repeat itself is refused."""
    if not keys:
        return {}
    again, copies, _ = _watch(model, f, x, keys)
    outputs = {call.key: call.output for call in again}
    if any(outputs.get(call.key) != call.output for call in calls if call.key in keys):
        raise ValueError(f"f must give the same output twice for the same x: {REPEATABLE}")
    return copies
