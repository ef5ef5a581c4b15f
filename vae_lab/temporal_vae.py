"""The temporal half of the video VAE: causal 3D convolutions over the latents of the 2D half.

Source: Open-Sora v1.2.0, `opensora/models/vae/vae_temporal.py` (VAE_Temporal), which follows MAGVIT-v2 without the
codebook. Names are diffusers'; `checkpoints.open_sora` maps Open-Sora's keys to them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

from .causal_conv import CausalConv3d
from .gaussian import DiagonalGaussian
from .shapes import frame_range, front_padding, latent_size
from .utils.autoencoder import Autoencoder, coding
from .utils.checks import check_flag, check_one_of, check_video, is_number, positive_int
from .utils.text import span

NORMS = ("group", "frame_group")
ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU}
NORM_EPS = 1e-5  # torch's GroupNorm default, which the reference uses

Convolve = Callable[[CausalConv3d, Tensor], Tensor]
"""How a block calls its convolutions, the only layers that see other frames. `at_once` runs them on a whole clip;
`streaming` runs them on the next frames of a stream and keeps the frames that each has to remember."""


def at_once(conv: CausalConv3d, x: Tensor) -> Tensor:
    """Run a convolution on a whole clip."""
    return conv(x)


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm with separate statistics for each frame, so that no frame sees another. (B, C, T, H, W) -> same."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)  # (B, T, C, H, W)
        return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)


class Layers:
    """Makes the layers of one TemporalVAE, so that every block follows the same config.

    Args:
        norm: "group" is torch's GroupNorm on the 5-D tensor: its statistics run over all frames, as in the released
          model. "frame_group" has separate statistics for each frame, which makes the model truly causal.
        padding: arguments of every CausalConv3d.
    """

    def __init__(
        self,
        norm: str,
        norm_num_groups: int,
        act_fn: str,
        num_res_blocks: int,
        norm_eps: float = NORM_EPS,
        **padding: Any,
    ):
        check_one_of("norm", norm, NORMS)
        check_one_of("act_fn", act_fn, ACTIVATIONS)
        self._norm = nn.GroupNorm if norm == "group" else FrameGroupNorm
        self._num_groups = positive_int("norm_num_groups", norm_num_groups)
        self._norm_eps, self._padding = norm_eps, padding
        self.num_res_blocks = num_res_blocks
        self.act = ACTIVATIONS[act_fn]

    def norm(self, channels: int, affine: bool = True) -> nn.GroupNorm:
        """Make a norm."""
        if channels % self._num_groups:
            raise ValueError(
                f"base_channels times each channel multiplier must be a multiple of norm_num_groups "
                f"({self._num_groups}), got {channels} channels"
            )
        return self._norm(self._num_groups, channels, eps=self._norm_eps, affine=affine)

    def conv(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, time_stride: int = 1, bias: bool = True
    ) -> CausalConv3d:
        """Make a convolution."""
        return CausalConv3d(in_channels, out_channels, kernel_size, (time_stride, 1, 1), bias=bias, **self._padding)


class ResnetBlock(nn.Module):
    """Norm, act, conv, norm, act, conv, plus the input: (B, in_channels, T, H, W) -> (B, out_channels, T, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers):
        super().__init__()
        self.norm1 = layers.norm(in_channels)
        self.conv1 = layers.conv(in_channels, out_channels, bias=False)
        self.norm2 = layers.norm(out_channels)
        self.conv2 = layers.conv(out_channels, out_channels, bias=False)
        self.act = layers.act()
        same = in_channels == out_channels
        self.conv_shortcut = None if same else layers.conv(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        residual = x if self.conv_shortcut is None else convolve(self.conv_shortcut, x)
        x = convolve(self.conv1, self.act(self.norm1(x)))
        return convolve(self.conv2, self.act(self.norm2(x))) + residual


class MidBlock(nn.Module):
    """`num_res_blocks` residual blocks; the first changes `in_channels` to `out_channels`."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers):
        super().__init__()
        widths = [in_channels] + [out_channels] * layers.num_res_blocks
        self.resnets = nn.ModuleList(ResnetBlock(*pair, layers) for pair in pairwise(widths))

    def forward(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, convolve)
        return x


class DownBlock(MidBlock):
    """Residual blocks, then, if `downsample` is set, a convolution of stride 2 in time: T -> T // 2."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, downsample: bool):
        super().__init__(in_channels, out_channels, layers)
        self.downsampler = layers.conv(out_channels, out_channels, time_stride=2) if downsample else None

    def forward(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        x = super().forward(x, convolve)
        return x if self.downsampler is None else convolve(self.downsampler, x)


class UpBlock(MidBlock):
    """Residual blocks, then, if `upsample` is set, a convolution to twice the channels, moved into time: T -> 2 * T."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, upsample: bool):
        super().__init__(in_channels, out_channels, layers)
        self.upsampler = layers.conv(out_channels, 2 * out_channels) if upsample else None

    def forward(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        x = super().forward(x, convolve)
        return x if self.upsampler is None else depth_to_time(convolve(self.upsampler, x))


def depth_to_time(x: Tensor, factor: int = 2) -> Tensor:
    """Move channels to time: (B, C * factor, T, H, W) -> (B, C, T * factor, H, W). `factor` varies fastest in both."""
    x = x.unflatten(1, (-1, factor))  # (B, C, factor, T, H, W)
    return x.transpose(2, 3).flatten(2, 3)


class Checkpointed(nn.Module):
    """A network whose blocks are computed again in the backward pass, if `enable_gradient_checkpointing` says so."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable  # both are set by diffusers

    def run(self, block: nn.Module, x: Tensor, convolve: Convolve) -> Tensor:
        """Call a block."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, x, convolve)
        return block(x, convolve)


class Encoder(Checkpointed):
    """(B, in_channels, T, H, W) -> (B, 2 * latent_channels, T // temporal_ratio, H, W)."""

    def __init__(self, in_channels: int, latent_channels: int, widths: list[int], halve: list[bool], layers: Layers):
        super().__init__()
        self.conv_in = layers.conv(in_channels, widths[0], bias=False)
        levels = zip([widths[0], *widths[:-1]], widths, [*halve, False], strict=True)
        self.down_blocks = nn.ModuleList(DownBlock(before, width, layers, flag) for before, width, flag in levels)
        self.mid_block = MidBlock(widths[-1], widths[-1], layers)
        self.norm_out = layers.norm(widths[-1])
        self.act = layers.act()
        self.conv_out = layers.conv(widths[-1], 2 * latent_channels, kernel_size=1)

    def forward(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        x = convolve(self.conv_in, x)
        for block in (*self.down_blocks, self.mid_block):
            x = self.run(block, x, convolve)
        return convolve(self.conv_out, self.act(self.norm_out(x)))


class Decoder(Checkpointed):
    """(B, latent_channels, L, H, W) -> (B, out_channels, L * temporal_ratio, H, W). The last level comes first."""

    def __init__(self, latent_channels: int, out_channels: int, widths: list[int], double: list[bool], layers: Layers):
        super().__init__()
        self.conv_in = layers.conv(latent_channels, widths[-1])
        self.mid_block = MidBlock(widths[-1], widths[-1], layers)
        levels = reversed(list(zip([*widths[1:], widths[-1]], widths, [False, *double], strict=True)))
        self.up_blocks = nn.ModuleList(UpBlock(before, width, layers, flag) for before, width, flag in levels)
        self.norm_out = layers.norm(widths[0])
        self.act = layers.act()
        self.conv_out = layers.conv(widths[0], out_channels)

    def forward(self, z: Tensor, convolve: Convolve = at_once) -> Tensor:
        z = convolve(self.conv_in, z)
        for block in (self.mid_block, *self.up_blocks):
            z = self.run(block, z, convolve)
        return convolve(self.conv_out, self.act(self.norm_out(z)))


class TemporalVAE(Autoencoder):
    """Compress 2D latents in time, a whole clip at once: T frames -> ceil(T / temporal_compression_ratio) latents.

    The defaults are the released architecture (Open-Sora's VAE_Temporal_SD): 309,687,144 parameters.

    Args:
        in_channels, latent_channels: channels of the 2D latents that go in, and of the latents that come out.
        base_channels: width of level 0; level i has base_channels * channel_multipliers[i].
        num_res_blocks: residual blocks in each level and in each mid block.
        temporal_downsample: for each level except the last, whether time is halved after it.
        norm: "group" (released: statistics over all frames) or "frame_group" (separate for each frame: truly causal).
        pad_mode: of every CausalConv3d: "constant" (zeros, released), "replicate" or "reflect".
        act_fn: "silu" (released) or "relu".
        time_pad_mode, is_causal: of every CausalConv3d, for comparisons: the pad mode of time alone, and False for
          convolutions that see as far ahead as back.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        latent_channels: int = 4,
        base_channels: int = 128,
        num_res_blocks: int = 4,
        channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        temporal_downsample: Sequence[bool] = (False, True, True),
        norm: str = "group",
        norm_num_groups: int = 32,
        pad_mode: str = "constant",
        act_fn: str = "silu",
        time_pad_mode: str | None = None,
        is_causal: bool = True,
    ):
        super().__init__()
        sizes = ("in_channels", "latent_channels", "base_channels", "num_res_blocks")
        in_channels, latent_channels, base_channels, num_res_blocks = (positive_int(n, self.config[n]) for n in sizes)
        check_flag("is_causal", is_causal)
        widths = level_widths(base_channels, channel_multipliers, temporal_downsample)
        padding: dict[str, Any] = dict(pad_mode=pad_mode, time_pad_mode=time_pad_mode, is_causal=is_causal)
        layers = Layers(norm, norm_num_groups, act_fn, num_res_blocks, **padding)
        self.encoder = Encoder(in_channels, latent_channels, widths, list(temporal_downsample), layers)
        self.quant_conv = layers.conv(2 * latent_channels, 2 * latent_channels, kernel_size=1)
        self.post_quant_conv = layers.conv(latent_channels, latent_channels, kernel_size=1)
        self.decoder = Decoder(latent_channels, in_channels, widths, list(temporal_downsample), layers)

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames per latent frame: 2 for every flag set in temporal_downsample."""
        return 2 ** sum(self.config.temporal_downsample)

    spatial_compression_ratio = 1
    """Pixels of the 2D latents per cell: the 2D half compresses space."""

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """(T, h, w) of 2D latents -> (L, h, w) of latents."""
        return latent_size(size, self.temporal_compression_ratio, spatial_ratio=1, micro_frame_size=None)

    @coding
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode 2D latents (B, in_channels, T, h, w), scaled as SpatialVAE returns them, for any T >= 1.

        `front_padding(T)` zero frames go in front. `.latent_dist.mode()` has shape (B, latent_channels, L, h, w).
        """
        check_video("x", x, self.config.in_channels)
        x = F.pad(x, (0, 0, 0, 0, front_padding(x.shape[2], self.temporal_compression_ratio), 0))
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian(self.moments(x)))

    @coding
    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode latents (B, latent_channels, L, h, w) to `.sample` (B, in_channels, num_frames, h, w).

        num_frames: length of the clip that was encoded, because several lengths have L latents (17 to 20 frames have 5
        at ratio 4). Default: the shortest. The frames that front_padding added are removed.

        Raises ValueError if no clip of num_frames has L latents.
        """
        check_video("z", z, self.config.latent_channels)
        ratio = self.temporal_compression_ratio
        allowed = frame_range(z.shape[2], ratio, None)
        num_frames = allowed.start if num_frames is None else num_frames
        check_num_frames(num_frames, z.shape[2], allowed)
        return DecoderOutput(sample=self.frames(z)[:, :, front_padding(num_frames, ratio) :])

    def moments(self, x: Tensor, convolve: Convolve = at_once) -> Tensor:
        """Run the network of `encode` on whole groups of frames, padding included -> mean and log variance: 2 * C."""
        return convolve(self.quant_conv, self.encoder(x, convolve))

    def frames(self, z: Tensor, convolve: Convolve = at_once) -> Tensor:
        """Run the network of `decode`: each latent -> `temporal_compression_ratio` frames, padding included."""
        return self.decoder(convolve(self.post_quant_conv, z), convolve)


def level_widths(
    base_channels: int, channel_multipliers: Sequence[int], temporal_downsample: Sequence[bool]
) -> list[int]:
    """Return the channels of each level. Raises ValueError if there is not one flag for each level except the last."""
    if len(temporal_downsample) != len(channel_multipliers) - 1:
        raise ValueError(
            f"temporal_downsample must have one flag for each channel multiplier except the last "
            f"({len(channel_multipliers) - 1}), got {tuple(temporal_downsample)}"
        )
    for flag in temporal_downsample:
        check_flag("temporal_downsample", flag)
    return [base_channels * positive_int("channel_multipliers", m) for m in channel_multipliers]


def check_num_frames(num_frames: int, num_latent_frames: int, allowed: range) -> None:
    """Refuse a `num_frames` that is not among the `allowed` ones: `shapes.frame_range` of `num_latent_frames`."""
    # Not `in`, which torch cannot compile
    if not is_number(num_frames, Integral) or not allowed.start <= num_frames < allowed.stop:
        raise ValueError(
            f"num_frames ({num_frames}) does not fit a latent of {num_latent_frames} frames, which decodes to "
            f"{span(allowed, ' to ')}"
        )
