"""Equivariance: whether the latents of a moved clip are the moved latents of the clip.

If they were, motion in pixels would be the same motion in latents, which a temporal half or a generator could learn
once for all places. The comparison is made in pixels, because distances between latents mean nothing by themselves.
"""

from collections.abc import Mapping
from math import cos, radians, sin
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import DATA_RANGE, psnr_of_rms, rms
from ..utils.checks import check_above, check_video, finite, positive_int
from ..utils.tables import DataFrame, table_of
from .maps import VideoMap, apply_map


class Movement(NamedTuple):
    """What is done to every frame: it is turned and scaled around its middle, then shifted."""

    down: float = 0.0
    """Latent cells."""
    right: float = 0.0
    """Latent cells."""
    scale: float = 1.0
    """Above 1: everything becomes larger."""
    turn: float = 0.0
    """Degrees, clockwise."""


MOVEMENTS: Mapping[str, Movement] = {
    "shift by a cell": Movement(right=1),
    "shift by half a cell": Movement(right=0.5),
    "scale by 1.25": Movement(scale=1.25),
    "turn by 90 degrees": Movement(turn=90),
}
"""What `latent_equivariance` tries unless it is told otherwise."""


class Moved(NamedTuple):
    """The two reconstructions of a moved clip: PSNR in dB against the moved clip, inside the frame."""

    through_pixels: float
    """The clip was moved, encoded and decoded."""
    through_latents: float
    """The clip was encoded, its latents were moved and decoded."""
    apart: float
    """PSNR of these two reconstructions against each other."""

    @property
    def loss(self) -> float:
        """dB that moving the latents costs; 0 for an equivariant map, which may be far from perfect itself."""
        same = self.through_pixels == self.through_latents  # both may be infinite
        return 0.0 if same else self.through_pixels - self.through_latents


class LatentEquivariance(NamedTuple):
    """The result of `latent_equivariance`."""

    movements: dict[str, Moved]

    def table(self) -> DataFrame:
        """Return one row for each movement."""
        moved = self.movements.values()
        columns = {name: [getattr(one, name) for one in moved] for name in (*Moved._fields, "loss")}
        return table_of(columns, "movement", self.movements)

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {moved.loss:+.1f} dB lost ({moved.through_latents:.1f} dB if the latents are moved, "
            f"{moved.through_pixels:.1f} dB if the clip is)"
            for name, moved in self.movements.items()
        ]
        return "\n".join(["LatentEquivariance", *lines])


def move(x: Tensor, movement: Movement, ratio: int = 1) -> Tensor:
    """Move every frame of (B, C, T, H, W), by bicubic interpolation; what comes from outside is mirrored.

    ratio: samples of x per latent cell, in which `movement` counts shifts: 1 for latents.
    """
    return _sample(x, movement, ratio, "bicubic", "reflection")


def latent_equivariance(
    encode: VideoMap,
    decode: VideoMap,
    x: Tensor,
    ratio: int,
    movements: Mapping[str, Movement] = MOVEMENTS,
    data_range: float = DATA_RANGE,
) -> LatentEquivariance:
    """Measure how far the latents of a moved clip are from the moved latents of the clip, in dB after decoding.

    Only pixels count that were inside the frame before, one cell away from its edges.

    Args:
        encode, decode: clip (B, C, T, H, W) -> latents (B, C', L, h, w), and back to the clip's shape.
        x: the clip. Its own interpolation costs a little too, so it should be smooth: not noise.
        ratio: pixels per latent cell along height and width.
        movements: name -> Movement.
        data_range: largest possible value of x minus the smallest: 2.0 for pixels in [-1, 1].

    Raises ValueError if shapes do not fit the ratio, or nothing of a moved frame was inside before.
    """
    check_video("x", x)
    check_above("data_range", data_range, 0)
    if not movements:
        raise ValueError("movements must name at least one Movement, got none")
    for name, movement in movements.items():
        _check(name, movement)
    with torch.no_grad():
        z = apply_map(encode, x)
        _check_cells(x, z, positive_int("ratio", ratio))
        results = {}
        for name, movement in movements.items():
            target, inside = move(x, movement, ratio), _inside(x, movement, ratio)
            if not inside.any():
                raise ValueError(f"movement {name!r} leaves nothing of the frame inside: {movement}")
            pixels = apply_map(decode, apply_map(encode, target))
            latents = apply_map(decode, move(z, movement))
            for what, y in (("decode(encode(x))", pixels), ("decode(z)", latents)):
                if y.shape != x.shape:
                    raise ValueError(f"{what} must have the shape of x, {tuple(x.shape)}, got {tuple(y.shape)}")
            pairs = ((pixels, target), (latents, target), (pixels, latents))
            results[name] = Moved(*(_psnr(a, b, inside, data_range) for a, b in pairs))
    return LatentEquivariance(results)


def _check(name: str, movement: Movement) -> None:
    for field, value in zip(Movement._fields, movement, strict=True):
        finite(f"{field} of movement {name!r}", value)
    check_above(f"scale of movement {name!r}", movement.scale, 0)


def _check_cells(x: Tensor, z: Tensor, ratio: int) -> None:
    expected = tuple(side / ratio for side in x.shape[3:])
    if tuple(z.shape[3:]) != expected:
        raise ValueError(
            f"ratio must be the pixels per latent cell: clips of {tuple(x.shape[3:])} have latents of "
            f"{tuple(z.shape[3:])}, got ratio {ratio}"
        )


def _sample(x: Tensor, movement: Movement, ratio: float, mode: str, padding: str) -> Tensor:
    height, width = x.shape[3:]
    angle = radians(movement.turn)
    c, s = cos(angle) / movement.scale, sin(angle) / movement.scale
    # from places in the moved frame to those in x, both from -1 to 1 along each side
    right, down = 2 * movement.right * ratio / width, 2 * movement.down * ratio / height
    rows = [[c, s * height / width], [-s * width / height, c]]
    theta = torch.tensor([[*row, -row[0] * right - row[1] * down] for row in rows], dtype=torch.float64)
    frames = x.transpose(1, 2).flatten(0, 1)
    frames = frames.to(torch.promote_types(x.dtype, torch.float32))
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False).to(frames)
    grid = grid.expand(len(frames), -1, -1, -1)
    moved = F.grid_sample(frames, grid, mode=mode, padding_mode=padding, align_corners=False)
    return moved.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2).to(x.dtype)


def _inside(x: Tensor, movement: Movement, ratio: int) -> Tensor:
    """Which pixels (H, W) of a moved frame lay inside before, a cell away from the edges, and do so now."""
    inner = torch.zeros(1, 1, 1, *x.shape[3:], dtype=torch.float32, device=x.device)
    inner[..., ratio:-ratio, ratio:-ratio] = 1
    return (_sample(inner, movement, ratio, "bilinear", "zeros") * inner)[0, 0, 0] > 0.99


def _psnr(x: Tensor, y: Tensor, inside: Tensor, data_range: float) -> float:
    return psnr_of_rms(rms((x.double() - y.double())[..., inside].cpu().numpy()), data_range)
