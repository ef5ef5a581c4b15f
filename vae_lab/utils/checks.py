"""Checks of arguments; each error names the argument, its value and the rule."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def plain(value: Any) -> Any:
    """Turn numbers and arrays of numpy and torch into Python's, also inside lists, tuples and mappings.

    Other real numbers, such as fractions, become floats, which JSON can hold.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    if type(value).__name__ == "SymInt":  # a size while torch exports: it becomes a constant of the exported model
        return int(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return float(value) if isinstance(value, Real) and not isinstance(value, int | float) else value


def is_number(value: object, kind: type = Real) -> bool:
    """Return whether a value is one number of a kind from `numbers`, of numpy or torch too; True and False are none."""
    number = value if isinstance(value, kind) else plain(value)
    return isinstance(number, kind) and not isinstance(number, bool)


def positive_int(name: str, value: Any) -> int:
    """Return an integer of at least 1 as int; other values raise ValueError."""
    if not is_number(value, Integral):
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def integer_within(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an integer from `low` to `high` (None: no limit), both included, as int; other values raise ValueError."""
    number = plain(value)  # torch compares small integer types with wrapped numbers
    if not is_number(number, Integral) or number < low or (high is not None and number > high):
        rule = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {rule}, got {value!r}")
    return int(number)


def index_of(name: str, value: Any, size: int) -> int:
    """Return an index into `size` values, counted from 0, as int; other values raise ValueError."""
    return integer_within(name, value, 0, size - 1)


def torch_seed(value: Any) -> int:
    """Return a seed of torch's generators as int; other values raise ValueError."""
    return integer_within("seed", value, -(1 << 63), (1 << 64) - 1)


def finite(name: str, value: Any) -> float:
    """Return a finite number as float; other values raise ValueError."""
    try:
        number = float(value) if is_number(value) else math.nan
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def repeated_number(name: str, value: Any) -> float:
    """Return a number above 0, or the one that a tensor or list repeats; other values raise ValueError."""
    value = plain(value)
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(is_number(n) and 0 < n < math.inf for n in numbers) or len(set(numbers)) > 1:
        raise ValueError(f"{name} must be one number above 0, or the same one for each clip, got {value!r}")
    return int(numbers[0]) if float(numbers[0]).is_integer() else numbers[0]


def check_at_least(name: str, value: Any, low: float) -> None:
    """Refuse anything but a finite number of at least `low`."""
    if not is_number(value) or not low <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least {low}, got {value!r}")


def check_above(name: str, value: Any, low: float) -> None:
    """Refuse anything but a finite number above `low`."""
    if not is_number(value) or not low < value < float("inf"):
        raise ValueError(f"{name} must be above {low} and finite, got {value}")


def check_text(name: str, value: Any) -> None:
    """Refuse anything but a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a non-empty string, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_multiples(size: Iterable[int], divisor: int, what: str = "") -> None:
    """Refuse a size (height, width) unless both are multiples of a number, which the error calls `what`."""
    for name, side in zip(("height", "width"), size, strict=True):
        if side % divisor:
            raise ValueError(f"{name} ({side}) must be a multiple of {f'{what} ({divisor})' if what else divisor}")


def check_one_of(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Refuse a value that is not among the allowed ones."""
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_known(kind: str, names: Iterable[str], known: Sequence[str], what: str = "field") -> None:
    """Refuse names that `known` does not hold; the error suggests close matches."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known)
            advice = f"close matches: {', '.join(near)}" if near else f"choose from {', '.join(known)}"
            raise ValueError(f"{kind} has no {what} {name!r}; {advice}")


class NotFiniteError(ValueError):
    """A tensor that holds NaN or infinity."""


def check_video(name: str, x: "Tensor", channels: int | None = None) -> None:
    """Refuse anything but a finite floating-point tensor (B, C, T, H, W), not empty, with `channels` if they are given.

    Only shape and type are checked of a meta tensor, which holds no values, and while torch compiles or exports. Within
    `waiting_once` the values are checked at its end.
    """
    import torch  # here: configs and command lines check numbers without it

    if not isinstance(x, torch.Tensor) or x.ndim != 5:
        got = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of shape (B, C, T, H, W), got {got}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {x.shape[1]} (shape {tuple(x.shape)})")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype} (to_tensor turns uint8 frames into [-1, 1])")
    if x.is_meta or torch.compiler.is_compiling():
        return
    check = name, tuple(x.shape), torch.isfinite(x).all()
    if (pending := _pending.get()) is not None:
        pending.append(check)
    else:
        _refuse_infinite([check])


def check_dtype(name: str, x: "Tensor", dtype: Any) -> None:
    """Refuse a tensor of another dtype than the model's, unless autocast converts it."""
    import torch

    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"{name} must have the model's dtype, {dtype}, got {x.dtype}")


_pending: ContextVar[list | None] = ContextVar("pending", default=None)


def waiting_once(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that all its calls of `check_video` together wait once for the device, at its end."""

    @wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        import torch

        if torch.compiler.is_compiling() or _pending.get() is not None:
            return function(*args, **kwargs)
        pending: list = []
        token = _pending.set(pending)
        try:
            result = function(*args, **kwargs)
        finally:
            _pending.reset(token)
        _refuse_infinite(pending)
        return result

    return checked


def _refuse_infinite(checks: Sequence[tuple[str, tuple[int, ...], "Tensor"]]) -> None:
    import torch

    if checks and not torch.stack([passed.to(checks[0][2].device) for _, _, passed in checks]).all():
        name, shape = next((name, shape) for name, shape, passed in checks if not passed)
        raise NotFiniteError(f"{name} must be finite, got NaN or infinity (shape {shape})")
