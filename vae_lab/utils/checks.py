"""What values and tensors must be; every message names the argument, its value and the rule."""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def positive_int(name: str, value: object) -> int:
    """Return `value` as an int where it is an integer of at least 1; otherwise raise a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, Integral):  # numpy's integers are Integral too
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


class NotFiniteError(ValueError):
    """A tensor with NaN or infinity in it."""


def check_video(name: str, x: "Tensor", channels: int | None = None) -> None:
    """Refuse what is not a finite floating-point tensor (B, C, T, H, W) with something in it.

    Of a meta tensor, which holds no values, only shape and type are checked.
    """
    import torch  # here: configs and command lines check numbers without it
    from torch import Tensor

    if not isinstance(x, Tensor) or x.ndim != 5:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of shape (B, C, T, H, W), got {got}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {x.shape[1]} (shape {tuple(x.shape)})")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype} (to_tensor turns uint8 frames into [-1, 1])")
    if not x.is_meta and not torch.isfinite(x).all():
        raise NotFiniteError(f"{name} must be finite, got NaN or infinity (shape {tuple(x.shape)})")


def check_known(kind: str, names: Iterable[str], known: Sequence[str], what: str = "field") -> None:
    """Refuse a name that is not known, and say which are close."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known)
            these = f"near it: {', '.join(near)}" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{kind} has no {what} {name!r}; {these}")


def check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_at_least(name: str, value: Any, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least {low}, got {value!r}")
