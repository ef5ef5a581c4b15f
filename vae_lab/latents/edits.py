"""Changes of latents (1, C, L, h, w): plain functions, which return new latents and leave what they are given.

Channels, latent frames, rows and columns are numbered from 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..utils.checks import finite, index_of, integer_within
from .arrays import cell_of, check_other, copy_of, per_channel


def zero_channel(z: Tensor, channel: int) -> Tensor:
    """z with a channel set to 0: the mean of the prior that the KL term pulls to, not the mean of the channel."""
    changed = copy_of(z)
    changed[:, index_of("channel", channel, z.shape[1])] = 0
    return changed


def amplify_channel(z: Tensor, channel: int, factor: float) -> Tensor:
    """z with a channel's differences from its mean over the clip multiplied: mean + factor * (z - mean).

    The mean stays, so the change is one of contrast: 0 leaves the mean alone, 1 changes nothing but rounding.
    """
    changed = copy_of(z)
    values = changed[:, index_of("channel", channel, z.shape[1])]
    if abs(finite("factor", factor)) > torch.finfo(z.dtype).max:  # torch would fail on it
        raise _beyond("factor", factor, z)
    wide = values.to(torch.promote_types(z.dtype, torch.float32))  # a mean in 16 bits would not stay where it is
    changed[:, channel] = torch.lerp(wide.mean(), wide, float(factor)).to(z.dtype)
    return _within("factor", factor, changed)


def shift_channel(z: Tensor, channel: int, latent_frames: int) -> Tensor:
    """z with a channel moved in time, later where latent_frames is above 0; at the border the edge frame is repeated.

    latent_frames: from -(L - 1) to L - 1.
    """
    changed = copy_of(z)
    channel, last = index_of("channel", channel, z.shape[1]), z.shape[2] - 1
    source = (torch.arange(last + 1, device=z.device) - check_shift(latent_frames, z)).clamp(0, last)
    changed[:, channel] = z[:, channel, source]
    return changed


def swap_channel(z: Tensor, other: Tensor, channel: int) -> Tensor:
    """z with a channel of `other`, latents of the same shape; the second half of a swap is the same of (other, z)."""
    changed = copy_of(z)
    check_other(z, other)
    channel = index_of("channel", channel, z.shape[1])
    changed[:, channel] = other[:, channel].detach().to(z)
    return _within("other", f"up to {other.abs().max():.3g}", changed)


def interpolate(z: Tensor, other: Tensor, weight: float) -> Tensor:
    """(1 - weight) * z + weight * other; weight from 0 to 1, exact at both ends."""
    changed = copy_of(z)
    check_other(z, other)
    if not 0 <= finite("weight", weight) <= 1:
        raise ValueError(f"weight must be from 0 to 1, got {weight}")
    return _within("other", f"up to {other.abs().max():.3g}", torch.lerp(changed, other.detach().to(z), float(weight)))


def change_cell(
    z: Tensor, cell: Sequence[int], amount: float | Sequence[float] | Tensor, channel: int | None = None
) -> Tensor:
    """z with `amount` added to one cell.

    Args:
        cell: (latent frame, row, column).
        amount: in the units of z: a number, or with channel None one a channel.
        channel: the only one that changes; None: all.
    """
    changed = copy_of(z)
    frame, row, column = cell_of(cell, z)
    if channel is None:
        added = torch.from_numpy(per_channel("amount", amount, z.shape[1])).to(z)
        changed[0, :, frame, row, column] += added
    else:
        changed[0, index_of("channel", channel, z.shape[1]), frame, row, column] += finite("amount", amount)
    return _within("amount", amount, changed)


def check_shift(latent_frames: int, z: Tensor) -> int:
    last = z.shape[2] - 1
    return integer_within("latent_frames", latent_frames, -last, last)


def _within(name: str, value, changed: Tensor) -> Tensor:
    """changed, where its type could hold it."""
    if not torch.isfinite(changed).all():
        raise _beyond(name, value, changed)
    return changed


def _beyond(name: str, value, z: Tensor) -> ValueError:
    return ValueError(f"{name} must keep z within {z.dtype}, at most {torch.finfo(z.dtype).max:.3g}, got {value}")
