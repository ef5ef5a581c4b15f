"""What raw latents (1, C, L, h, w) and the indices into them must be."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..utils.checks import NotFiniteError, index_of

LARGEST = float(np.finfo(np.float32).max)  # of a latent: its fourth power, for the kurtosis, is finite in float64


def check_latent(z: Tensor | np.ndarray, name: str = "z") -> np.ndarray:
    """The latents (1, C, L, h, w) of one clip as float64 (C, L, h, w).

    Raises ValueError for another rank or type, more than one clip or nothing in it, values beyond float32, and
    NotFiniteError (a ValueError) that tells how many values are NaN or infinite, and where the first one is.
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


def per_channel(name: str, values: float | Sequence[float] | Tensor | np.ndarray, channels: int) -> np.ndarray:
    """One finite number for each channel as float64 (C,), from one number or from C in any shape."""
    if isinstance(values, Tensor):
        values = (values.detach().double() if values.is_floating_point() else values).cpu().numpy()
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf":  # a text, a truth, a whole number too large for any type
            raise TypeError
        found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or {channels} of them, got {values!r}") from None
    found = np.full(channels, found) if found.ndim == 0 else found.reshape(-1)
    if len(found) != channels or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a finite number, or one for each of {channels} channels, got {values!r}")
    return found


def copy_of(z: Tensor) -> Tensor:
    if not isinstance(z, Tensor):
        raise ValueError(f"z must be a tensor (1, C, L, h, w), got {type(z).__name__}")
    check_latent(z)
    if z.dtype.itemsize < 2:
        raise ValueError(f"z must be of at least 16 bits, which torch computes with, got {z.dtype}")
    return z.detach().clone()


def check_other(z: Tensor, other: Tensor, name: str = "other") -> None:
    if not isinstance(other, Tensor):
        raise ValueError(f"{name} must be a tensor (1, C, L, h, w), got {type(other).__name__}")
    check_latent(other, name)
    if other.shape != z.shape:
        raise ValueError(f"{name} must have the shape of z, {tuple(z.shape)}, got {tuple(other.shape)}")


def cell_of(cell: Sequence[int], z: Tensor) -> tuple[int, int, int]:
    if not isinstance(cell, Sequence) or len(cell) != 3:
        raise ValueError(f"cell must be (latent frame, row, column), got {cell!r}")
    names = ("latent frame of cell", "row of cell", "column of cell")
    return tuple(map(index_of, names, cell, z.shape[2:]))
