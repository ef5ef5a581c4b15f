"""What a tensor must be before a model takes it; every message names the argument, its value and the rule."""

import torch
from torch import Tensor


class NotFiniteError(ValueError):
    """A tensor with NaN or infinity in it."""


def check_video(name: str, x: Tensor, channels: int | None = None) -> None:
    """Refuse what is not a finite floating-point tensor (B, C, T, H, W) with something in it.

    A meta tensor holds no values, so only its shape and type are looked at.
    """
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
