"""Checks of raw latents (1, C, L, h, w), and of numbers for each of their channels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..utils.checks import NotFiniteError, plain

LARGEST = float(np.finfo(np.float32).max)  # largest value in a latent: its fourth power (kurtosis) is finite in float64


def check_latent(z: Tensor | np.ndarray, name: str = "z") -> np.ndarray:
    """Check the latents (1, C, L, h, w) of one clip and return them as float64 (C, L, h, w).

    Raises ValueError for another rank or type, several clips, an empty axis and values beyond float32, and
    NotFiniteError (a ValueError) with the number of values that are NaN or infinite and the place of the first one.
    """
    if not isinstance(z, Tensor | np.ndarray) or isinstance(z, np.ma.MaskedArray):
        raise ValueError(f"{name} must be a tensor or array (1, C, L, h, w), got {type(z).__name__}")
    if isinstance(z, Tensor) and (z.is_meta or z.layout != torch.strided):
        kind = "a meta tensor" if z.is_meta else z.layout
        raise ValueError(f"{name} must be a dense tensor with values, got {kind}")
    if z.ndim != 5 or len(z) != 1:
        raise ValueError(f"{name} must be (1, C, L, h, w), the latents of one clip, got shape {tuple(z.shape)}")
    if 0 in z.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(z.shape)}")
    if not (z.is_floating_point() if isinstance(z, Tensor) else np.issubdtype(z.dtype, np.floating)):
        raise ValueError(f"{name} must be floating point, got {z.dtype}")
    if z.dtype.itemsize > 8:
        raise ValueError(f"{name} must be of at most 64 bits, got {z.dtype}")
    values = z.detach().double().cpu().numpy()[0] if isinstance(z, Tensor) else z[0].astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        channel, frame, row, column = np.argwhere(~finite)[0].tolist()
        raise NotFiniteError(
            f"{name} must be finite, got {(~finite).sum()} of {finite.size} values NaN or infinite, the first in "
            f"channel {channel}, latent frame {frame}, row {row}, column {column}"
        )
    if (largest := np.abs(values).max()) > LARGEST:
        raise ValueError(f"{name} must be within float32, at most {LARGEST:.3g}, got {largest:.3g}")
    return values


def check_tensor(z: Tensor, name: str = "z") -> None:
    """Refuse anything but a tensor of one clip's latents."""
    if not isinstance(z, Tensor):
        raise ValueError(f"{name} must be a tensor (1, C, L, h, w), got {type(z).__name__}")
    check_latent(z, name)


def check_editable(z: Tensor, **others: Tensor) -> None:
    """Refuse latents of a type that torch cannot compute with; `others`, by their names, must have their shape."""
    check_tensor(z)
    if z.dtype.itemsize < 2:
        raise ValueError(f"z must be of at least 16 bits, which torch computes with, got {z.dtype}")
    for name, other in others.items():
        check_tensor(other, name)
        check_shape_of(z, other, name)


def check_shape_of(z: Tensor, other: Tensor, name: str = "other") -> None:
    """Refuse latents whose shape is not that of z."""
    if other.shape != z.shape:
        raise ValueError(f"{name} must have the shape of z, {tuple(z.shape)}, got {tuple(other.shape)}")


def per_channel(name: str, values: float | Sequence[float] | Tensor | np.ndarray, channels: int) -> np.ndarray:
    """Return one finite number for each channel, float64 (C,), from one number or from C of them in any shape."""
    try:
        numbers = np.asarray(plain(values))
        if numbers.dtype.kind not in "iuf":  # text, a bool, an integer too large for any type
            raise TypeError
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or {channels} of them, got {values!r}") from None
    numbers = np.full(channels, numbers) if numbers.ndim == 0 else numbers.reshape(-1)
    if len(numbers) != channels or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be a finite number, or one for each of {channels} channels, got {values!r}")
    return numbers
