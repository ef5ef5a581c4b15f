"""Decode edited latents, and measure what the edit does to the frames. Takes functions and knows no model.

Latents are (1, C, L, h, w), of one clip. `decode` is any function of latents to frames (1, 3, T, H, W) in about
[-1, 1], such as `lambda z: codec_of(vae).decode(z, num_frames)`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..figures import latents as pictures
from ..metrics import psnr_of_rms, rms
from ..utils.checks import check_video, finite, index_of, positive_int
from ..utils.tables import DataFrame, Figure, table_of
from ..utils.text import count
from .arrays import check_editable
from .edits import EDITS, Edit, LatentFrames, change_cell, change_cell_by_std

Decode = Callable[[Tensor], Tensor]


def decoded_by(decode: Decode, z: Tensor, channels: int | None = 3) -> Tensor:
    """Decode z to one clip with `channels` channels (None: any), float32 on the CPU, and check it."""
    if not callable(decode):
        raise ValueError(f"decode must be a function of latents to frames, got {type(decode).__name__}")
    with torch.no_grad():
        y = decode(z.clone())
    check_video("decode(z)", y, channels)
    if len(y) != 1:
        raise ValueError(f"decode(z) must be one clip (1, C, T, H, W), got shape {tuple(y.shape)}")
    return y.float().cpu()


class Effect(NamedTuple):
    """The result of `effect`. Frames are clamped to [-1, 1], as they are shown, so the largest RMS is 2."""

    original: Tensor  # (1, 3, T, H, W), float32
    changed: Tensor  # (1, 3, T, H, W), float32
    rms: np.ndarray  # (T,): root mean square difference of each frame

    @property
    def total(self) -> float:
        """Root mean square difference over all frames."""
        return float(rms(self.rms))

    @property
    def psnr(self) -> float:
        """PSNR between the two in dB, over all frames, for a data range of 2; infinite if they are equal."""
        return float(psnr_of_rms(self.total))

    def __repr__(self) -> str:
        worst = int(self.rms.argmax())
        return (
            f"Effect on {count(len(self.rms), 'frame')}: RMS {self.total:.3g}, PSNR {self.psnr:.2f} dB; "
            f"most in frame {worst}, RMS {self.rms[worst]:.3g}"
        )

    def table(self) -> DataFrame:
        """One row a frame: rms, psnr."""
        return table_of(dict(rms=self.rms, psnr=psnr_of_rms(self.rms)), "frame")

    def plot(self) -> Figure:
        """Both clips, their difference, and the RMS of every frame."""
        return pictures.effect_picture(self.original.numpy(), self.changed.numpy(), self.rms)


def effect(decode: Decode, z: Tensor, changed: Tensor) -> Effect:
    """Decode latents and changed ones of the same shape, and compare the frames as they are shown."""
    check_editable(z, changed=changed)
    return effect_of(decoded_by(decode, z), decoded_by(decode, changed))


def effect_of(original: Tensor, changed: Tensor) -> Effect:
    """Compare two decoded clips (1, 3, T, H, W) as they are shown."""
    _check_one_shape(original, changed)
    original, changed = original.clamp(-1, 1), changed.clamp(-1, 1)
    return Effect(original, changed, rms(changed - original, (0, 1, 3, 4)))


def _check_one_shape(original: Tensor, changed: Tensor) -> None:
    if changed.shape != original.shape:
        raise ValueError(f"decode must give frames of one shape, got {tuple(original.shape)}, {tuple(changed.shape)}")


class ChannelEffects(NamedTuple):
    """The result of `channel_effects`."""

    names: tuple[str, ...]  # of the K edits, such as "zero" and "amplify 2"
    rms: np.ndarray  # (C, K): root mean square difference over all frames, of pixels in [-1, 1]

    @property
    def psnr(self) -> np.ndarray:
        """(C, K) in dB for a data range of 2; infinite if nothing changed."""
        return psnr_of_rms(self.rms)

    def __repr__(self) -> str:
        lines = [f"ChannelEffects: RMS of pixels in [-1, 1] by {', '.join(self.names)}"]
        lines += [f"  channel {c}: " + ", ".join(f"{rms:.3g}" for rms in row) for c, row in enumerate(self.rms)]
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """The RMS: one row a channel, one column an edit."""
        return table_of(dict(zip(self.names, self.rms.T, strict=True)), "channel")

    def plot(self) -> Figure:
        """The RMS as bars, grouped by channel."""
        return pictures.channel_effect_bars(self.names, self.rms)


def channel_effects(
    decode: Decode, z: Tensor, other: Tensor | None = None, factor: float = 2.0, latent_frames: int = 1
) -> ChannelEffects:
    """Measure what each channel alone does to the frames when it is zeroed, amplified, shifted in time or swapped.

    other: latents of a second clip, of the same shape; without it nothing is swapped. latent_frames: of the shift; a
    single latent frame is not shifted.
    """
    check_editable(z, **({} if other is None else {"other": other}))
    edits: dict[str, tuple[Edit, dict[str, Any]]] = {"zero": (EDITS["zero"], {})}
    edits[f"amplify {finite('factor', factor):g}"] = EDITS["amplify"], {"factor": factor}
    if z.shape[2] > 1:
        shift = LatentFrames().check(latent_frames, z)
        edits[f"shift {shift:+d}"] = EDITS["shift"], {"latent_frames": shift}
    if other is not None:
        edits["swap"] = EDITS["swap"], {}
    original = decoded_by(decode, z)

    def rms_of(channel: int, edit: Edit, values: dict[str, Any]) -> float:
        changed = edit.apply(z, {"channel": channel} | values, other)
        return effect_of(original, decoded_by(decode, changed)).total

    rms = [[rms_of(channel, *each) for each in edits.values()] for channel in range(z.shape[1])]
    return ChannelEffects(tuple(edits), np.array(rms))


class Interpolation(NamedTuple):
    """The result of `interpolation`."""

    weights: np.ndarray  # (steps,): 0 is z, 1 is other
    frames: Tensor  # (steps, 3, T, H, W), clamped to [-1, 1] as they are shown
    crossfade: np.ndarray  # (steps,): RMS distance from the cross-fade of the two ends' pixels; 0 at both ends

    def __repr__(self) -> str:
        most = int(self.crossfade.argmax())
        return (
            f"Interpolation in {count(len(self.weights), 'step')} of {count(self.frames.shape[2], 'frame')}: at most "
            f"RMS {self.crossfade[most]:.3g} from a cross-fade of pixels, at weight {self.weights[most]:.2f}"
        )

    def table(self) -> DataFrame:
        """One row a step: crossfade."""
        return table_of(dict(crossfade=self.crossfade), "weight", self.weights)

    def plot(self, frame: int = 0) -> Figure:
        """One frame at every step, over the cross-fade of the same frame."""
        index = index_of("frame", frame, self.frames.shape[2])
        return pictures.interpolation_picture(self.weights, self.frames.numpy(), index)


def interpolation(decode: Decode, z: Tensor, other: Tensor, steps: int = 5) -> Interpolation:
    """Decode at least 2 evenly spaced points of the straight line from z to other, both ends included."""
    if positive_int("steps", steps) < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
    check_editable(z, other=other)
    weights = np.linspace(0, 1, steps)
    points = [EDITS["interpolate"].apply(z, {"weight": float(weight)}, other) for weight in weights]
    frames = torch.cat([decoded_by(decode, point) for point in points]).clamp(-1, 1)
    fade = torch.lerp(frames[:1], frames[-1:], torch.from_numpy(weights).float().view(-1, 1, 1, 1, 1))
    return Interpolation(weights, frames, rms(frames - fade, (1, 2, 3, 4)))


class Extent(NamedTuple):
    """A box of pixels: the first and the last on each axis, both inside."""

    frames: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    def __str__(self) -> str:
        return ", ".join(f"{name} {first} to {last}" for name, (first, last) in self._asdict().items())


class CellFootprint(NamedTuple):
    """The result of `cell_footprint`."""

    cell: tuple[int, int, int]  # (latent frame, row, column) of the changed cell
    difference: np.ndarray  # (T, H, W): largest absolute change over the channels of what decode returned, not clamped
    share: float  # the share of the largest change from which on a pixel belongs to `main`

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
        """The smallest box around every pixel that differs by at least one bit; None if nothing changed."""
        return _extent(self.difference > 0)

    @property
    def main(self) -> Extent | None:
        """The smallest box around every pixel that changed by at least `share` of the largest change."""
        return _extent(self._mainly)

    @property
    def _mainly(self) -> np.ndarray:
        return (self.difference > 0) & (self.difference >= self.share * self.largest)

    def __repr__(self) -> str:
        frame, row, column = self.cell
        where = f"CellFootprint of latent frame {frame}, row {row}, column {column}"
        if self.touched is None:
            return f"{where}: nothing changed"
        num_frames, height, width = self.difference.shape
        return (
            f"{where}, on {count(num_frames, 'frame')} of {height}x{width} pixels: largest change {self.largest:.3g}\n"
            f"  changed at all: {self.touched}\n  by at least {self.share:.0%} of the largest: {self.main}"
        )

    def table(self) -> DataFrame:
        """One row a frame: the largest change, and how many pixels changed at all and mainly."""
        changed, mainly = (mask.sum(axis=(1, 2)) for mask in (self.difference > 0, self._mainly))
        return table_of(dict(largest=self.by_frame, changed=changed, main=mainly), "frame")

    def plot(self) -> Figure:
        """The largest change of every pixel, and of every frame."""
        return pictures.paint_picture(self.difference, self.main, f"latent frame, row, column {self.cell}")


def _extent(mask: np.ndarray) -> Extent | None:
    places = np.argwhere(mask)
    if not len(places):
        return None
    return Extent(*zip(places.min(axis=0).tolist(), places.max(axis=0).tolist(), strict=True))


def cell_footprint(
    decode: Decode,
    z: Tensor,
    cell: Sequence[int],
    amount: float | Sequence[float] | None = None,
    channel: int | None = None,
    share: float = 0.1,
) -> CellFootprint:
    """Measure which pixels of which frames change when `amount` is added to one cell and nothing else changes.

    Args:
        decode: here any function (1, C, L, h, w) -> (1, C', T, H, W), so half a decoder too.
        cell, amount, channel: as `change_cell` takes them; amount None: the channel's standard deviation over the clip.
        share: from 0 to 1; a pixel that changes by at least this share of the largest change is in `main`.

    `touched` counts every pixel that differs by one bit, so it is the decoder's receptive field around this cell, as
    far as this z can show it. A norm that pools over the picture reaches everywhere, however weakly.
    """
    if not 0 <= finite("share", share) <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    changed = change_cell_by_std(z, cell, 1, channel) if amount is None else change_cell(z, cell, amount, channel)
    return footprint_of(decoded_by(decode, z, None), decoded_by(decode, changed, None), cell, share)


def footprint_of(before: Tensor, after: Tensor, cell: Sequence[int], share: float = 0.1) -> CellFootprint:
    """Compare two decoded clips (1, C', T, H, W), of latents that differ in one cell."""
    _check_one_shape(before, after)
    difference = (after - before).abs().amax(dim=1)[0].numpy()
    latent_frame, row, column = map(int, cell)
    return CellFootprint((latent_frame, row, column), difference, float(share))


Paint = CellFootprint  # former name of `CellFootprint`
paint = cell_footprint  # former name of `cell_footprint`
