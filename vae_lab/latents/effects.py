"""Change latents on purpose, decode, and measure what the change does to the frames. Takes functions, knows no model.

Latents are (1, C, L, h, w), of one clip. `decode` is any function of latents to frames (1, 3, T, H, W) in about
[-1, 1], such as `lambda z: adapters.decode(vae, z, num_frames)`. The changes themselves are defined in
`latent_changes` and can be imported from here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..metrics import psnr_of_rms, rms
from ..utils.checks import check_video, finite, index_of, positive_int
from ..utils.text import count
from .arrays import cell_of, check_other, copy_of
from .edits import amplify_channel, change_cell, check_shift, interpolate, shift_channel, swap_channel, zero_channel
from .moments import channel_moments

Decode = Callable[[Tensor], Tensor]


def _decoded(decode: Decode, z: Tensor, channels: int | None = 3) -> Tensor:
    """decode(z), float32 on the CPU, after it has been looked at: one clip of so many channels (None: any)."""
    if not callable(decode):
        raise ValueError(f"decode must be a function of latents to frames, got {type(decode).__name__}")
    with torch.no_grad():
        y = decode(z.clone())
    check_video("decode(z)", y, channels)
    if len(y) != 1:
        raise ValueError(f"decode(z) must be one clip (1, C, T, H, W), got shape {tuple(y.shape)}")
    return y.float().cpu()


class Effect(NamedTuple):
    """What `effect` returns: frames as they are shown, so clamped to [-1, 1]."""

    original: Tensor
    """(1, 3, T, H, W), float32"""
    changed: Tensor
    """(1, 3, T, H, W)"""
    rms: np.ndarray
    """(T,): root mean square difference of each frame; pixels are in [-1, 1], so 2 is the largest possible."""

    @property
    def total(self) -> float:
        """Root mean square difference over all frames."""
        return float(np.sqrt((self.rms**2).mean()))

    @property
    def psnr(self) -> float:
        """PSNR between the two in dB, over all frames, for a data range of 2; infinite where they are equal."""
        return float(psnr_of_rms(self.total))

    def __repr__(self) -> str:
        worst = int(self.rms.argmax())
        return (
            f"Effect on {count(len(self.rms), 'frame')}: RMS {self.total:.3g}, PSNR {self.psnr:.2f} dB; "
            f"most in frame {worst}, RMS {self.rms[worst]:.3g}"
        )

    def table(self):
        """A pandas DataFrame, one row a frame: rms, psnr."""
        from pandas import DataFrame, RangeIndex

        rows = dict(rms=self.rms, psnr=psnr_of_rms(self.rms))
        return DataFrame(rows, RangeIndex(len(self.rms), name="frame"))

    def plot(self):
        """A matplotlib Figure: both, their difference, and the RMS of every frame."""
        from ..figures.latents import effect_picture

        return effect_picture(self.original, self.changed, self.rms)


def effect(decode: Decode, z: Tensor, changed: Tensor) -> Effect:
    """Decode latents and changed ones (of the same shape), and compare the frames as they are shown."""
    copy_of(z)
    check_other(z, changed, "changed")
    return _compare(_decoded(decode, z), _decoded(decode, changed))


def _compare(original: Tensor, changed: Tensor) -> Effect:
    if changed.shape != original.shape:
        raise ValueError(f"decode must give frames of one shape, got {tuple(original.shape)}, {tuple(changed.shape)}")
    original, changed = original.clamp(-1, 1), changed.clamp(-1, 1)
    return Effect(original, changed, rms(changed - original, (0, 1, 3, 4)))


class ChannelEffects(NamedTuple):
    """What `channel_effects` returns."""

    names: tuple[str, ...]
    """Of the K changes, such as "zero" and "amplify 2"."""
    rms: np.ndarray
    """(C, K): root mean square difference over all frames, of pixels in [-1, 1]."""

    @property
    def psnr(self) -> np.ndarray:
        """(C, K) in dB for a data range of 2; infinite where nothing changed."""
        return psnr_of_rms(self.rms)

    def __repr__(self) -> str:
        lines = [f"ChannelEffects: RMS of pixels in [-1, 1] by {', '.join(self.names)}"]
        lines += [
            f"  channel {channel}: " + ", ".join(f"{rms:.3g}" for rms in row) for channel, row in enumerate(self.rms)
        ]
        return "\n".join(lines)

    def table(self):
        """A pandas DataFrame of the RMS: one row a channel, one column a change."""
        from pandas import DataFrame, RangeIndex

        return DataFrame(self.rms, RangeIndex(len(self.rms), name="channel"), list(self.names))

    def plot(self):
        """A matplotlib Figure: the RMS as bars, grouped by channel."""
        from ..figures.latents import channel_effect_bars

        return channel_effect_bars(self.names, self.rms)


def channel_effects(
    decode: Decode, z: Tensor, other: Tensor | None = None, factor: float = 2.0, latent_frames: int = 1
) -> ChannelEffects:
    """What each channel alone does to the frames when it is zeroed, amplified, shifted in time or swapped.

    Args:
        other: latents of a second clip, of the same shape; without it nothing is swapped.
        latent_frames: of the shift; nothing is shifted where there is one latent frame.
    """
    copy_of(z)
    finite("factor", factor)
    if other is not None:
        check_other(z, other)
    changes: dict[str, Callable[[int], Tensor]] = {
        "zero": lambda channel: zero_channel(z, channel),
        f"amplify {factor:g}": lambda channel: amplify_channel(z, channel, factor),
    }
    if z.shape[2] > 1:
        changes[f"shift {check_shift(latent_frames, z):+d}"] = lambda channel: shift_channel(z, channel, latent_frames)
    if other is not None:
        changes["swap"] = lambda channel: swap_channel(z, other, channel)
    original = _decoded(decode, z)
    rms = [
        [_compare(original, _decoded(decode, change(channel))).total for change in changes.values()]
        for channel in range(z.shape[1])
    ]
    return ChannelEffects(tuple(changes), np.array(rms))


class Interpolation(NamedTuple):
    """What `interpolation` returns."""

    weights: np.ndarray
    """(steps,): 0 is z, 1 is other."""
    frames: Tensor
    """(steps, 3, T, H, W), clamped to [-1, 1] as they are shown."""
    crossfade: np.ndarray
    """(steps,): root mean square distance from the cross-fade of the two ends, pixel by pixel; 0 at both ends."""

    def __repr__(self) -> str:
        most = int(self.crossfade.argmax())
        return (
            f"Interpolation in {count(len(self.weights), 'step')} of {count(self.frames.shape[2], 'frame')}: at most "
            f"RMS {self.crossfade[most]:.3g} from a cross-fade of pixels, at weight {self.weights[most]:.2f}"
        )

    def table(self):
        """A pandas DataFrame, one row a step: crossfade."""
        from pandas import DataFrame, Index

        return DataFrame(dict(crossfade=self.crossfade), Index(self.weights, name="weight"))

    def plot(self, frame: int = 0):
        """A matplotlib Figure: one frame at every step, over the cross-fade of the same frame."""
        from ..figures.latents import interpolation_picture

        return interpolation_picture(self.weights, self.frames, index_of("frame", frame, self.frames.shape[2]))


def interpolation(decode: Decode, z: Tensor, other: Tensor, steps: int = 5) -> Interpolation:
    """Decode latents on the straight line from z to other, evenly spaced, both ends among them; at least 2 steps."""
    if positive_int("steps", steps) < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
    weights = np.linspace(0, 1, steps)
    frames = torch.cat([_decoded(decode, interpolate(z, other, weight)) for weight in weights]).clamp(-1, 1)
    fade = torch.lerp(frames[:1], frames[-1:], torch.from_numpy(weights).float().view(-1, 1, 1, 1, 1))
    return Interpolation(weights, frames, rms(frames - fade, (1, 2, 3, 4)))


class Extent(NamedTuple):
    """A box of pixels: first and last of each axis, both inside."""

    frames: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    def __str__(self) -> str:
        names = ("frames", "rows", "columns")
        return ", ".join(f"{name} {first} to {last}" for name, (first, last) in zip(names, self, strict=True))


class Paint(NamedTuple):
    """What `paint` returns."""

    cell: tuple[int, int, int]
    """(latent frame, row, column) of the cell that was changed."""
    difference: np.ndarray
    """(T, H, W): largest absolute change over the colours (or channels) of what decode gave: nothing is clamped."""
    share: float
    """Of the largest change, from which on a pixel belongs to `main`."""

    @property
    def largest(self) -> float:
        return float(self.difference.max())

    @property
    def by_frame(self) -> np.ndarray:
        """(T,): largest change in each frame."""
        return self.difference.max(axis=(1, 2))

    @property
    def picture(self) -> np.ndarray:
        """(H, W): largest change of each pixel over the frames."""
        return self.difference.max(axis=0)

    @property
    def touched(self) -> Extent | None:
        """The smallest box around every pixel that is not the same to the bit; None where nothing changed."""
        return _extent(self.difference > 0)

    @property
    def main(self) -> Extent | None:
        """The smallest box around every pixel that changed by at least `share` of the largest change."""
        return _extent((self.difference > 0) & (self.difference >= self.share * self.largest))

    def __repr__(self) -> str:
        frame, row, column = self.cell
        where = f"Paint of latent frame {frame}, row {row}, column {column}"
        if self.touched is None:
            return f"{where}: nothing changed"
        num_frames, height, width = self.difference.shape
        return (
            f"{where}, on {count(num_frames, 'frame')} of {height}x{width} pixels: largest change {self.largest:.3g}\n"
            f"  changed at all: {self.touched}\n  by at least {self.share:.0%} of the largest: {self.main}"
        )

    def table(self):
        """A pandas DataFrame, one row a frame: largest change, and how many pixels changed at all and mainly."""
        from pandas import DataFrame, RangeIndex

        changed, main = self.difference > 0, self.difference >= self.share * self.largest
        rows = dict(largest=self.by_frame, changed=changed.sum((1, 2)), main=(changed & main).sum((1, 2)))
        return DataFrame(rows, RangeIndex(len(changed), name="frame"))

    def plot(self):
        """A matplotlib Figure: the largest change of every pixel, and of every frame."""
        from ..figures.latents import paint_picture

        return paint_picture(self.difference, self.main, f"latent frame, row, column {self.cell}")


def _extent(mask: np.ndarray) -> Extent | None:
    places = np.argwhere(mask)
    if not len(places):
        return None
    return Extent(*zip(places.min(axis=0).tolist(), places.max(axis=0).tolist(), strict=True))


def paint(
    decode: Decode,
    z: Tensor,
    cell: Sequence[int],
    amount: float | Sequence[float] | None = None,
    channel: int | None = None,
    share: float = 0.1,
) -> Paint:
    """Which pixels of which frames change when `amount` is added to one cell, and nothing else is changed.

    Args:
        decode: here any map (1, C, L, h, w) -> (1, C', T, H, W), so half a decoder too.
        cell: (latent frame, row, column).
        amount, channel: as `change_cell` takes them; None: the standard deviation of each channel over the clip.
        share: from 0 to 1, the part of the largest change from which on a pixel counts to `Paint.main`.

    `Paint.touched` counts what differs by one bit, so it is the decoder's receptive field around this cell, as far as
    this z can show it. A norm that pools over the picture reaches everywhere, however weakly.
    """
    copy_of(z)
    if not 0 <= finite("share", share) <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    if amount is None:
        stds = channel_moments(z).std
        amount = stds if channel is None else float(stds[index_of("channel", channel, z.shape[1])])
    changed = change_cell(z, cell, amount, channel)
    before, after = _decoded(decode, z, None), _decoded(decode, changed, None)
    if before.shape != after.shape:
        raise ValueError(f"decode must give frames of one shape, got {tuple(before.shape)} and {tuple(after.shape)}")
    difference = (after - before).abs().amax(dim=1)[0].numpy()
    return Paint(cell_of(cell, z), difference, float(share))
