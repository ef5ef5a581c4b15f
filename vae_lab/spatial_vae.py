"""The 2D half of the video VAE: diffusers' AutoencoderKL, applied to each frame alone."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from inspect import signature

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from .gaussian import DiagonalGaussian
from .shapes import latent_size
from .utils.autoencoder import Autoencoder, coding
from .utils.checks import check_above, check_video, positive_int
from .utils.upsampling import quicken_upsampling

MOST_BYTES = 12 * 2**20  # most bytes of a tensor on a CPU: larger ones take memory that the system clears each time
TILE = 512  # pixels: the frames that Stable Diffusion's VAE, whose architecture this is, was made for


class SpatialVAE(Autoencoder):
    """Apply diffusers' AutoencoderKL to every frame of a video, `micro_batch_size` frames at a time.

    The defaults are SDXL's architecture, which Open-Sora 1.2 uses: 83,653,863 parameters.

    Args:
        in_channels to use_post_quant_conv: arguments of diffusers' AutoencoderKL (`autoencoder`). Each entry of
          block_out_channels after the first halves height and width.
        scaling_factor: encode multiplies latents by it, decode divides. Open-Sora trained its temporal VAE on latents
          scaled by 0.18215, and the released weights need that number (Open-Sora issue 493). SDXL's own is 0.13025.
        micro_batch_size: most frames in one call of the 2D VAE (released: 4; None: all). It limits memory, and changes
          results only by rounding. On a CPU, fewer are taken if their widest tensor would reach MOST_BYTES.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        act_fn: str = "silu",
        mid_block_add_attention: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        scaling_factor: float = 0.18215,
        micro_batch_size: int | None = 4,
    ):
        super().__init__()
        if micro_batch_size is not None:
            positive_int("micro_batch_size", micro_batch_size)
        check_above("scaling_factor", scaling_factor, 0)
        if any(width % norm_num_groups for width in block_out_channels):
            raise ValueError(
                f"block_out_channels {tuple(block_out_channels)} must each be a multiple of "
                f"norm_num_groups ({norm_num_groups})"
            )
        levels = len(block_out_channels)
        blocks = dict(down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels)
        shared = signature(AutoencoderKL).parameters.keys() & signature(SpatialVAE).parameters.keys()  # by name
        self.autoencoder = AutoencoderKL(**blocks, **{name: self.config[name] for name in shared})
        quicken_upsampling(self.autoencoder)
        self.enable_tiling()
        self.use_tiling = False

    def with_scaling_factor(self, scaling_factor: float) -> "SpatialVAE":
        """Make a copy of this model, weights included, with another scaling_factor."""
        check_above("scaling_factor", scaling_factor, 0)
        other = deepcopy(self)
        other.register_to_config(scaling_factor=scaling_factor)
        return other

    def enable_tiling(self, tile_sample_min_size: int = TILE) -> None:
        """Compute frames of more pixels than this along an axis in tiles, to save memory.

        Tiles overlap by a quarter, where they fade into each other. Attention and norms see one tile instead of the
        frame, so results differ, the more so the smaller the tiles are.
        Raises ValueError unless the size is a multiple of 4 latent cells, of which one is the overlap.
        """
        cells, rest = divmod(positive_int("tile_sample_min_size", tile_sample_min_size), self.spatial_compression_ratio)
        if rest or cells % 4:
            raise ValueError(
                f"tile_sample_min_size ({tile_sample_min_size}) must be a multiple of "
                f"{4 * self.spatial_compression_ratio}, 4 latent cells"
            )
        self.autoencoder.tile_sample_min_size, self.autoencoder.tile_latent_min_size = tile_sample_min_size, cells
        self.use_tiling = True

    @property
    def use_tiling(self) -> bool:
        """Whether large frames are computed in tiles (`enable_tiling`)."""
        return self.autoencoder.use_tiling

    @use_tiling.setter
    def use_tiling(self, value: bool) -> None:
        self.autoencoder.use_tiling = value

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent cell along height and along width."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """(T, H, W) of a clip -> (T, h, w) of its latents."""
        return latent_size(size, temporal_ratio=1, spatial_ratio=self.spatial_compression_ratio, micro_frame_size=None)

    @coding
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode (B, 3, T, H, W) in [-1, 1] to `.latent_dist`, a posterior over *scaled* latents (B, C, T, h, w).

        Raises ValueError if H or W is not a multiple of `spatial_compression_ratio` (8).
        """
        check_video("x", x, self.config.in_channels)
        if any(size % self.spatial_compression_ratio for size in x.shape[3:]):
            self.latent_size(x.shape[2:])  # raises; only here, because its integers would fix the sizes of an export
        moments = self._frame_by_frame(lambda frames: self.autoencoder.encode(frames).latent_dist.parameters, x, 1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian(moments).scaled(self.config.scaling_factor))

    @coding
    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode scaled latents (B, C, T, h, w) to `.sample` (B, 3, T, H, W), roughly in [-1, 1] and not clamped.

        num_frames: optional, because every latent frame decodes to one frame; must be T if given.
        """
        check_video("z", z, self.config.latent_channels)
        if num_frames is not None and positive_int("num_frames", num_frames) != z.shape[2]:
            raise ValueError(f"num_frames ({num_frames}) must equal the {z.shape[2]} latent frames of a 2D VAE")
        z = z / self.config.scaling_factor
        cell = self.spatial_compression_ratio
        y = self._frame_by_frame(lambda frames: self.autoencoder.decode(frames).sample, z, cell)
        return DecoderOutput(sample=y)

    def frames_at_once(self, height: int, width: int, itemsize: int = 4) -> int | None:
        """Return how many frames of H x W pixels one call of the 2D VAE takes on a CPU; None: all.

        As many as `micro_batch_size` allows and as keep the decoder's widest tensor under MOST_BYTES, at least 1.
        itemsize: bytes of a number.
        """
        if self.config.micro_batch_size is None:
            return None
        if self.use_tiling:
            height, width = (min(side, self.autoencoder.tile_sample_min_size) for side in (height, width))
        first, *others = self.config.block_out_channels
        # each upsampler of the decoder makes pictures of a level's size with the channels of the level below it
        channels = max([first, *(width / 4**level for level, width in enumerate(others))])  # for each pixel
        fitting = (MOST_BYTES - 1) // (channels * height * width * itemsize)
        return max(1, min(self.config.micro_batch_size, int(fitting)))

    def _frame_by_frame(self, function: Callable[[Tensor], Tensor], x: Tensor, cell: int) -> Tensor:
        """Apply a function to the frames of x, whose pixels or cells are `cell` pixels high and wide."""
        frames = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        size = self.config.micro_batch_size
        if frames.device.type == "cpu" and not torch.compiler.is_compiling():  # it would fix the sizes of an export
            size = self.frames_at_once(cell * x.shape[3], cell * x.shape[4], x.element_size())
            if self.fast_mode is not None:  # in this order, convolutions are quicker, and sums round four times as much
                frames = frames.contiguous(memory_format=torch.channels_last)
        outputs = function(frames) if size is None else torch.cat([function(part) for part in frames.split(size)])
        return outputs.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
