"""The 2D half: diffusers' AutoencoderKL applied frame by frame."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from .gaussian import DiagonalGaussian
from .shapes import latent_size
from .utils.checks import check_video, positive_int


class SpatialVAE(ModelMixin, ConfigMixin):
    """diffusers' AutoencoderKL over every frame of a video, `micro_batch_size` frames at a time.

    Without arguments: SDXL's architecture, 83,653,863 parameters, which Open-Sora 1.2 uses.

    Args:
        in_channels to use_post_quant_conv: passed on to diffusers' AutoencoderKL (`autoencoder`). Each entry of
          block_out_channels after the first halves height and width.
        scaling_factor: encode multiplies latents by it, decode divides. Open-Sora's temporal VAE was trained behind
          0.18215; SDXL's own factor is 0.13025. The released weights need the former (Open-Sora issue 493).
        micro_batch_size: frames in one call of the 2D VAE (released: 4; None: all). It bounds memory and changes
          results by rounding only.
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
        if not scaling_factor > 0:
            raise ValueError(f"scaling_factor must be above 0, got {scaling_factor}")
        for width in block_out_channels:
            if width % norm_num_groups:
                raise ValueError(
                    f"block_out_channels {tuple(block_out_channels)} must each be a multiple of "
                    f"norm_num_groups ({norm_num_groups})"
                )
        self.autoencoder = AutoencoderKL(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            act_fn=act_fn,
            mid_block_add_attention=mid_block_add_attention,
            use_quant_conv=use_quant_conv,
            use_post_quant_conv=use_post_quant_conv,
            scaling_factor=scaling_factor,
        )

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent cell along height and along width."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """(T, H, W) of a clip -> (T, h, w) of its latents."""
        return latent_size(size, temporal_ratio=1, spatial_ratio=self.spatial_compression_ratio, micro_frame_size=None)

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """(B, 3, T, H, W) in [-1, 1] -> posterior of *scaled* latents, `.latent_dist.mode()` of (B, C, T, h, w).

        H and W are multiples of `spatial_compression_ratio` (8). `.latent_dist.sample(generator)` draws instead.
        """
        check_video("x", x, self.config.in_channels)
        self.latent_size(x.shape[2:])
        moments = self._frame_by_frame(lambda frames: self.autoencoder.encode(frames).latent_dist.parameters, x)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian(moments).scaled(self.config.scaling_factor))

    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Scaled latents (B, C, T, h, w) -> `.sample` of (B, 3, T, H, W), about [-1, 1] and not clamped.

        num_frames: every latent frame is one frame here, so it may be left out; where given it must equal T.
        """
        check_video("z", z, self.config.latent_channels)
        if num_frames is not None and positive_int("num_frames", num_frames) != z.shape[2]:
            raise ValueError(f"num_frames ({num_frames}) must equal the {z.shape[2]} latent frames of a 2D VAE")
        z = z / self.config.scaling_factor
        return DecoderOutput(sample=self._frame_by_frame(lambda frames: self.autoencoder.decode(frames).sample, z))

    def forward(self, x: Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None):
        """Encode and decode; diffusers' signature."""
        posterior = self.encode(x).latent_dist
        return self.decode(posterior.sample(generator) if sample_posterior else posterior.mode())

    def _frame_by_frame(self, function, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        outputs = torch.cat([function(part) for part in frames.split(self.config.micro_batch_size or len(frames))])
        return outputs.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
