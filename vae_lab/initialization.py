"""Where training starts: a VAE whose first reconstruction is plain interpolation, instead of grey.

Random weights of these architectures reconstruct grey, and stay near it for hundreds of steps. Here the trunk of the
network, which is every convolution outside the residual branches, begins as interpolation of the first latent channels:
in space area down and bilinear up; in time the last frame of every group, and straight lines between these. Every
residual branch begins as zero (as in Zhang et al. 2019, "Fixup initialization"). Two things stand between that trunk
and linear interpolation:

GroupNorm divides by the standard deviation of a group of channels. Two channels of every group hold the constants
CONSTANT and -CONSTANT, next to which the picture is small: the norm divides by nearly the same number everywhere.
SiLU is not linear, but silu(x) - silu(-x) = x: every carried channel x has a twin -x, and the last convolution takes
their difference.
"""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from .spatial_vae import SpatialVAE
from .temporal_vae import ResnetBlock, TemporalVAE

CONSTANT = 3.0  # pixels lie in [-1, 1], scaled latents within a few units
FIRST_LOGVAR = -6.0  # of the posterior: noise of standard deviation 0.05, which does not drown the latents
SPARE = 0.3  # factor on the random weights of channels that carry nothing yet


@torch.no_grad()
def start_as_interpolation(vae: SpatialVAE | TemporalVAE) -> None:
    """Overwrite the weights of a new 2D or temporal VAE so that it interpolates. Training goes on from there.

    Needs norm groups of at least 4 channels, and 2 * in_channels carried channels at every level.
    """
    if isinstance(vae, SpatialVAE):
        _start_spatial(vae)
    else:
        _start_temporal(vae)


def _constants(width: int, groups: int) -> list[tuple[int, int]]:
    """The channels of each norm group that hold CONSTANT and -CONSTANT: its last two."""
    size = width // groups
    return [(first + size - 2, first + size - 1) for first in range(0, width, size)]


def _carriers(width: int, groups: int) -> list[int]:
    """The other channels."""
    held = {channel for pair in _constants(width, groups) for channel in pair}
    return [channel for channel in range(width) if channel not in held]


def _check_room(widths, groups: int, in_channels: int) -> None:
    for width in widths:
        if width // groups < 4 or len(_carriers(width, groups)) < 2 * in_channels:
            raise ValueError(
                f"start_as_interpolation needs norm groups of at least 4 channels, and {2 * in_channels} channels "
                f"beside two constants a group, got {width} channels in {groups} groups"
            )


def _set_constants(conv: nn.Module, groups: int, copies: int = 1) -> None:
    """Make the constant channels of a convolution's output constant: by its bias or, without one, from its input's."""
    inputs = _constants(conv.in_channels, groups) if conv.bias is None else None
    for number, pair in enumerate(_constants(conv.out_channels // copies, groups)):
        for side, channel in enumerate(pair):
            rows = slice(copies * channel, copies * (channel + 1))
            conv.weight[rows] = 0
            if conv.bias is None:
                conv.weight[rows, inputs[number][side]] = 1
            else:
                conv.bias[rows] = (CONSTANT, -CONSTANT)[side]


def _carry(conv: nn.Module, groups: int, *kernels: Tensor) -> None:
    """Let a convolution apply each kernel to every carried channel alone: one after another on its output channels."""
    copies = len(kernels)
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()
    for source, target in zip(_carriers(conv.in_channels, groups), _carriers(conv.out_channels // copies, groups),
                              strict=False):  # fmt: skip
        conv.weight[copies * target : copies * (target + 1), source] = torch.stack(kernels)
    _set_constants(conv, groups, copies)


def _enter(conv: nn.Module, kernel: Tensor, groups: int, channels: int) -> None:
    """Put input channel k on carried channel k, and its negative on carried channel `channels` + k."""
    conv.weight *= SPARE
    carriers = _carriers(conv.out_channels, groups)
    for k in range(channels):
        for target, sign in ((carriers[k], 1), (carriers[channels + k], -1)):
            conv.weight[target] = 0
            conv.weight[target, k] = sign * kernel
    if conv.bias is not None:
        conv.bias.zero_()
        _set_constants(conv, groups)


def _leave(conv: nn.Module, kernel: Tensor, groups: int, channels: int) -> None:
    """Undo `_enter` behind GroupNorm and SiLU: output k is carried channel k less its negative, at its old scale."""
    size = conv.in_channels // groups
    gain = CONSTANT / (size / 2) ** 0.5  # the norm's standard deviation, 2 of `size` channels being the constants
    carriers = _carriers(conv.in_channels, groups)
    conv.weight *= SPARE
    conv.bias.zero_()
    for k in range(channels):
        conv.weight[k] = 0
        conv.weight[k, carriers[k]] = gain * kernel
        conv.weight[k, carriers[channels + k]] = -gain * kernel


def _start_posterior(quant_conv: nn.Module, post_quant_conv: nn.Module, latent_channels: int) -> None:
    quant_conv.weight[:latent_channels] = 0
    quant_conv.weight[latent_channels:] *= 0.1
    post_quant_conv.weight.zero_()
    for k in range(latent_channels):
        quant_conv.weight[k, k] = 1
        post_quant_conv.weight[k, k] = 1
    quant_conv.bias[:latent_channels] = 0
    quant_conv.bias[latent_channels:] = FIRST_LOGVAR
    post_quant_conv.bias.zero_()


def _start_spatial(vae: SpatialVAE) -> None:
    encoder, decoder, groups = vae.autoencoder.encoder, vae.autoencoder.decoder, vae.config.norm_num_groups
    channels = vae.config.in_channels
    _check_room(vae.config.block_out_channels, groups, channels)
    if vae.config.latent_channels < channels or vae.config.out_channels != channels:
        raise ValueError(
            f"start_as_interpolation needs out_channels equal to in_channels ({channels}) and at least as many latent "
            f"channels, got {vae.config.out_channels} and {vae.config.latent_channels}"
        )
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    area = torch.zeros(3, 3)  # diffusers' downsampling pads right and below: its window begins at its own two pixels
    area[:2, :2] = 1 / 4
    row = torch.tensor([1, 2, 1]) / 4  # behind nearest-neighbour enlargement this is bilinear interpolation
    tent = torch.outer(row, row)
    for resnet in (module for module in vae.modules() if isinstance(module, ResnetBlock2D)):
        resnet.conv2.weight.zero_()
        resnet.conv2.bias.zero_()
        if resnet.conv_shortcut is not None:
            _carry(resnet.conv_shortcut, groups, torch.ones(1, 1))
    _enter(encoder.conv_in, centre, groups, channels)
    for block in encoder.down_blocks:
        for downsampler in block.downsamplers or ():
            _carry(downsampler.conv, groups, area)
    _leave(encoder.conv_out, centre, groups, channels)
    if vae.config.use_quant_conv and vae.config.use_post_quant_conv:
        _start_posterior(vae.autoencoder.quant_conv, vae.autoencoder.post_quant_conv, vae.config.latent_channels)
    _enter(decoder.conv_in, centre, groups, channels)
    for block in decoder.up_blocks:
        for upsampler in block.upsamplers or ():
            _carry(upsampler.conv, groups, tent)
    _leave(decoder.conv_out, centre, groups, channels)


def _start_temporal(vae: TemporalVAE) -> None:
    encoder, decoder, groups = vae.encoder, vae.decoder, vae.config.norm_num_groups
    channels = vae.config.in_channels
    widths = [vae.config.base_channels * multiplier for multiplier in vae.config.channel_multipliers]
    _check_room(widths, groups, channels)
    if vae.config.latent_channels < channels:
        raise ValueError(
            f"start_as_interpolation needs at least in_channels ({channels}) latent channels, "
            f"got {vae.config.latent_channels}"
        )
    own = torch.zeros(3, 3, 3)  # a causal kernel ends with the output's own frame, or the last frame of its group
    own[2, 1, 1] = 1
    between = torch.zeros(3, 3, 3)  # of two frames that one becomes, the first lies halfway from the one before
    between[1:, 1, 1] = 1 / 2
    point = torch.ones(1, 1, 1)
    for resnet in (module for module in vae.modules() if isinstance(module, ResnetBlock)):
        resnet.conv2.conv.weight.zero_()
        if resnet.conv_shortcut is not None:
            _carry(resnet.conv_shortcut.conv, groups, point)
    _enter(encoder.conv_in.conv, own, groups, channels)
    for block in encoder.down_blocks:
        if block.downsampler is not None:
            _carry(block.downsampler.conv, groups, own)
    _leave(encoder.conv_out.conv, point, groups, channels)
    _start_posterior(vae.quant_conv.conv, vae.post_quant_conv.conv, vae.config.latent_channels)
    _enter(decoder.conv_in.conv, own, groups, channels)
    for block in decoder.up_blocks:
        if block.upsampler is not None:
            _carry(block.upsampler.conv, groups, between, own)
    _leave(decoder.conv_out.conv, own, groups, channels)
