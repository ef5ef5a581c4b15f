"""A test of tiling code: whether it puts its tiles back where they came from.

The clip is a ramp along each axis, so every value tells where it belongs. The encoder is replaced by an exact mean over
boxes, and the decoder by the exact inverse of that on the ramps. Both give the same values for every tile, so a correct
tiler returns the ramp, whether it blends or not, and a wrong value tells how far it is from its place.
"""

from collections.abc import Callable, Sequence
from copy import copy
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..figures import probes as pictures
from ..utils.checks import check_multiples, check_one_of, positive_int
from ..utils.tables import DataFrame, Figure, table_of
from ..utils.text import first_line
from ..video.frames import check_size
from .maps import AXES

EXACT = 1e-3  # latent samples: more than the rounding of float32, less than a pixel
DIRECTIONS = ("encode", "decode")

Function = Callable[[Tensor], Tensor]
Tiled = Callable[[Function, Tensor], Tensor]


class StitchError(NamedTuple):
    """The result of `stitch_error`: how far each sample of the output is from its place.

    error: (3, T, H, W) misplacement of the output along time, height and width, in latent frames, rows and columns. A
    sample with a value above 0 belongs further on. An output of the wrong size is compared where the sizes overlap.
    """

    error: np.ndarray
    size: tuple[int, ...]  # (T, H, W) of the output
    expected_size: tuple[int, ...]  # (T, H, W) that the output should have
    tiles: int  # how often the tiler called the function
    direction: str  # "encode" or "decode"

    @property
    def largest(self) -> float:
        """The largest misplacement along any axis, in latent samples."""
        return float(np.abs(self.error).max())

    @property
    def axis(self) -> str | None:
        """The axis of the largest misplacement; None if nothing is misplaced."""
        return list(AXES)[self._place()[0]] if self.largest >= EXACT else None

    @property
    def at(self) -> tuple[int, ...] | None:
        """(frame, row, column) of the largest misplacement, the first of equals; None if nothing is misplaced."""
        return self._place()[1:] if self.largest >= EXACT else None

    @property
    def exact(self) -> bool:
        """Whether every sample is in its place (to a thousandth of a latent sample) and the size is right."""
        return self.largest < EXACT and self.size == self.expected_size

    def _place(self) -> tuple[int, ...]:
        distance = np.abs(self.error)
        first = np.argmax(distance > distance.max() - EXACT / 2)  # the first of equals, whatever their rounding
        return tuple(map(int, np.unravel_index(first, distance.shape)))

    def __repr__(self) -> str:
        where = "latent samples"
        if self.axis and self.at:
            where = "latent {}s, at frame {}, row {}, column {}".format(AXES[self.axis], *self.at)
        lines = [
            f"StitchError of {self.direction}, {self.tiles} tiles: {'exact' if self.exact else 'not exact'}",
            f"  largest misplacement  {self.largest:.3f} {where}",
        ]
        if self.size != self.expected_size:
            lines += [f"  size  {_times(self.size)}, should be {_times(self.expected_size)}"]
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """Return for each axis the largest misplacement, and the share of samples that are misplaced."""
        distance = np.abs(self.error).reshape(3, -1)
        columns = {"largest, in latent samples": distance.max(1), "share misplaced": (distance >= EXACT).mean(1)}
        return table_of(columns, "axis", AXES)

    def plot(self) -> Figure:
        """Draw maps of the misplacement along height and width, and a curve of that along time."""
        time, height, width = self.error
        over_time = None
        if len(time) > 1:  # of each frame the sample furthest from its place, with its sign
            flat = time.reshape(len(time), -1)
            over_time = np.take_along_axis(flat, np.abs(flat).argmax(axis=1)[:, None], axis=1)[:, 0]
        maps = {"height": np.abs(height).max(axis=0), "width": np.abs(width).max(axis=0)}
        return pictures.misplacement_maps(maps, "latent" if self.direction == "encode" else "pixel", over_time)


class _Ramps(NamedTuple):
    """Latents that are known at every place, and the ideal functions between them and their clip.

    Latent k of an axis is at place k. With ratio r, pixel i along height or width is at (i + 1/2) / r - 1/2. Time is
    grouped as in causal VAEs: latent frame 0 is frame 0, and latent k stands for frames r * k - r + 1 to r * k, whose
    mean place is k if frame i is at (i + (r - 1) / 2) / r. With L latents on the axis, place p has the value
    2 * (p + 1/2) / L - 1, so all values lie in [-1, 1] and pass decoders that clamp.
    """

    latents: tuple[int, int, int]
    ratios: tuple[int, int, int]

    def latent(self) -> Tensor:
        """(1, 3, L, h, w) in double precision."""
        ramps = [2 * (torch.arange(n, dtype=torch.double) + 0.5) / n - 1 for n in self.latents]
        return torch.stack(torch.meshgrid(*ramps, indexing="ij"))[None]

    def encode(self, x: Tensor) -> Tensor:
        """Mean over boxes. Like a strided convolution, it drops samples at the end that do not fill a box."""
        ratio = self.ratios[0]
        x = torch.cat([x[:, :, :1].expand(-1, -1, ratio - 1, -1, -1), x], dim=2)
        for dim, side in enumerate(self.ratios, start=2):
            boxes = x.shape[dim] // side
            x = x.narrow(dim, 0, boxes * side).unflatten(dim, (boxes, side)).mean(dim + 1)
        x[:, 0, 0] -= (ratio - 1) / ratio / self.latents[0]  # as if the ramp began before the tile
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Every latent becomes its box of the ramp; the first latent frame becomes one frame, the last of its group."""
        for axis, (size, side) in enumerate(zip(self.latents, self.ratios, strict=True)):
            z = z.repeat_interleave(side, dim=axis + 2)
            place = (torch.arange(z.shape[axis + 2], dtype=z.dtype, device=z.device) % side + 0.5) / side - 0.5
            z[:, axis].movedim(axis + 1, -1).add_(2 / size * place)
        return z[:, :, self.ratios[0] - 1 :]


def stitch_error(
    tiled: Tiled,
    size: Sequence[int],
    ratio: int = 8,
    direction: str = "encode",
    num_frames: int = 1,
    temporal_ratio: int = 1,
) -> StitchError:
    """Run tiling code on ramps, with an ideal encoder or decoder in place of the model's.

    Args:
        tiled: `tiled(function, x)` cuts x into tiles, calls function on each and joins the results. x is
          (1, 3, T, H, W) or latents (1, 3, L, h, w), in double precision and in [-1, 1]; its three channels are ramps
          along time, height and width.
        size: (H, W) in pixels, multiples of ratio. Choose a size that needs several tiles and cuts the last one short.
        ratio: pixels per latent row and column.
        direction: "encode" or "decode".
        num_frames, temporal_ratio: T, and frames per latent frame; T - 1 is a multiple of temporal_ratio. Function
          returns one latent frame for the first frame of a tile and one for every temporal_ratio frames after it, or
          the reverse.

    Raises ValueError if arguments are out of range, if the tiler used a single tile, which proves nothing, or if the
    output is not (1, 3, T, H, W), or not finite.
    """
    check_one_of("direction", direction, DIRECTIONS)
    check_multiples(check_size(size), positive_int("ratio", ratio), "ratio")
    if (positive_int("num_frames", num_frames) - 1) % positive_int("temporal_ratio", temporal_ratio):
        raise ValueError(f"num_frames - 1 ({num_frames - 1}) must be a multiple of temporal_ratio ({temporal_ratio})")
    latents = (num_frames - 1) // temporal_ratio + 1, size[0] // ratio, size[1] // ratio
    ramps = _Ramps(latents, (temporal_ratio, ratio, ratio))
    latent = ramps.latent()
    clip = ramps.decode(latent)
    x, expected, ideal = (clip, latent, ramps.encode) if direction == "encode" else (latent, clip, ramps.decode)
    tiles = 0

    def function(tile: Tensor) -> Tensor:
        nonlocal tiles
        tiles += 1
        return ideal(tile)

    with torch.no_grad():
        output = tiled(function, x.clone())
    if not isinstance(output, Tensor) or output.ndim != 5 or output.shape[:2] != (1, 3) or 0 in output.shape:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"tiled must return a tensor (1, 3, T, H, W), got {got}")
    if not output.isfinite().all():
        raise ValueError("tiled must return finite numbers, got NaN or infinity")
    if tiles < 2:
        raise ValueError(f"tiled must need several tiles, it called the function {tiles} times: size {_times(size)}")
    t, h, w = map(min, output.shape[2:], expected.shape[2:])
    difference = output.detach().cpu().double()[0, :, :t, :h, :w] - expected[0, :, :t, :h, :w]
    error = (difference * torch.tensor(latents).view(3, 1, 1, 1) / 2).numpy()
    return StitchError(error, tuple(output.shape[2:]), tuple(expected.shape[2:]), tiles, direction)


_METHODS = {"space": "tiled_{}", "time": "_temporal_tiled_{}"}
_TILE = {"space": ("tile_sample_min_height", "tile_sample_min_width"), "time": ("tile_sample_min_num_frames",)}
_PARTS = {"encode": ("encoder", "quant_conv"), "decode": ("decoder", "post_quant_conv")}


def diffusers_tiling(vae, direction: str = "encode", axis: str = "space") -> Tiled:
    """Return the tiling code of a diffusers video VAE, for `stitch_error`. The VAE's attributes hold the tile sizes.

    It calls `tiled_encode` or `tiled_decode` (axis "space"), `_temporal_tiled_encode` or `_temporal_tiled_decode`
    ("time"), with the function in place of encoder and quant_conv, or of post_quant_conv and decoder. It calls them on
    a shallow copy, so the VAE itself is never changed. Weights are not used.

    Raises ValueError if the VAE lacks these methods and parts, or unfolds channels into pixels after decoding, and if
    its tiling code fails.
    """
    check_one_of("direction", direction, DIRECTIONS)
    check_one_of("axis", axis, _METHODS)
    name, (part, conv) = _METHODS[axis].format(direction), _PARTS[direction]
    if hasattr(vae, f"_{name}"):  # which `encode` of AutoencoderKL calls; its tiled_encode is deprecated
        name = f"_{name}"
    _check_has(vae, name, part)
    if direction == "decode" and _folded(vae) > 1:
        square = f"{_folded(vae)}x{_folded(vae)} pixels"
        rule = 'only direction "encode" can be scored'
        raise ValueError(f"{type(vae).__name__} unfolds channels into {square} after its decoder; {rule}")
    is_2d = not any(isinstance(module, nn.Conv3d) for module in vae.modules())  # a 2D VAE takes (B, C, H, W)
    returns_cache = "conv_cache" in signature(getattr(vae, part).forward).parameters

    class Ideal(nn.Module):
        def __init__(self, function: Function):
            super().__init__()
            self.function = function

        def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor | tuple[Tensor, None]:  # no caches, no embeddings
            y = self.function(x.unsqueeze(2)).squeeze(2) if is_2d else self.function(x)
            return (y, None) if returns_cache else y

    def tiled(function: Function, x: Tensor) -> Tensor:
        stand = copy(vae)
        vars(stand)[part] = Ideal(function)  # an attribute of the copy alone, found before the module of that name
        if getattr(vae, conv, None) is not None:
            vars(stand)[conv] = nn.Identity()
        method, x = getattr(stand, name), x.squeeze(2) if is_2d else x
        try:
            output = method(x, temb=None) if "temb" in signature(method).parameters else method(x)
        except Exception as error:  # whatever code that is under test raises
            reason = first_line(error)
            raise ValueError(f"{type(vae).__name__}.{name} fails on {tuple(x.shape)}: {reason}") from error
        output = getattr(output, "sample", getattr(output, "latent", output))
        return output.unsqueeze(2) if is_2d else output

    return tiled


def diffusers_stitch_error(
    vae,
    direction: str = "encode",
    axis: str = "space",
    size: Sequence[int] | None = None,
    num_frames: int | None = None,
) -> StitchError:
    """Return the `stitch_error` of a diffusers video VAE, with its own ratios, on a clip that needs several tiles.

    size: (H, W) in pixels; default: two and a half tiles each way (a single latent cell for axis "time").
    num_frames: default: 1 for axis "space", two and a half tiles for "time".
    """
    tiled = diffusers_tiling(vae, direction, axis)
    square = axis == "space" and hasattr(vae, "tile_sample_min_size")  # 2D VAEs
    _check_has(vae, *["tile_sample_min_size"] if square else _TILE[axis])
    # CogVideoX does not tell its ratio: its first level keeps the size, and every other one halves it
    ratio, widths = (vae.config.get(name) for name in ("spatial_compression_ratio", "block_out_channels"))
    ratio = ratio or getattr(vae, "spatial_compression_ratio", None)
    if not isinstance(ratio, int) and not widths:
        raise ValueError(f"{type(vae).__name__} must tell its spatial_compression_ratio or block_out_channels")
    ratio = (ratio if isinstance(ratio, int) else 2 ** (len(widths) - 1)) // _folded(vae)
    if axis == "space":
        tile = [getattr(vae, "tile_sample_min_size" if square else side) for side in _TILE[axis]]
        size = size or [(5 * side // 2 // ratio + 1) * ratio for side in tile]
        return stitch_error(tiled, size, ratio, direction, num_frames or 1)
    temporal_ratio = vae.temporal_compression_ratio
    frames = num_frames or 5 * vae.tile_sample_min_num_frames // 2 // temporal_ratio * temporal_ratio + 1
    return stitch_error(tiled, size or (ratio, ratio), ratio, direction, frames, temporal_ratio)


def _check_has(vae, *names: str) -> None:
    missing = [name for name in names if not hasattr(vae, name)]
    if missing:
        raise ValueError(f"{type(vae).__name__} must have {' and '.join(names)}, it lacks {' and '.join(missing)}")


def _folded(vae) -> int:
    """Side of the squares of pixels that become channels outside encoder and decoder (Wan 2.2; LTX does it inside)."""
    side = vae.config.get("patch_size")  # Flux2's is a pair, of latents
    return 1 if hasattr(vae.encoder, "patch_size") or not isinstance(side, int) else side


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
