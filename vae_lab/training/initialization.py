"""First weights for training: a VAE whose first reconstruction is plain interpolation, instead of grey.

Random weights of these architectures reconstruct grey, and stay near it for hundreds of steps. Here the trunk, which is
every convolution outside the residual branches, interpolates the first latent channels. In space it averages areas on
the way down and interpolates bilinearly on the way up. In time it keeps the last frame of every group and draws
straight lines between these. Every residual branch starts as zero (Zhang et al. 2019, "Fixup initialization").

Two kinds of layers are not linear. GroupNorm divides by the standard deviation of a group of channels: two channels of
every group hold a constant and its negative, next to which the picture is small, so that it divides by nearly the same
number everywhere. For SiLU, silu(x) - silu(-x) = x: every carried channel x has a twin -x, and the last convolution
takes their difference.
"""

from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..spatial_vae import SpatialVAE
from ..temporal_vae import DownBlock, ResnetBlock, TemporalVAE, UpBlock

PIXEL_CONSTANT = 3.0  # pixels lie in [-1, 1]
LATENT_CONSTANT = 10.0  # scaled latents lie within a few units; 3 and 100 are 0.8 and 1.9 dB worse after 600 steps
FIRST_LOGVAR = -6.0  # of the posterior: its noise has standard deviation 0.05, much less than the latents
SPARE = 0.3  # factor on the random weights of channels that carry nothing yet
Conv = nn.Conv2d | nn.Conv3d


@singledispatch
def start_as_interpolation(vae: SpatialVAE | TemporalVAE) -> None:
    """Overwrite the weights of a new SpatialVAE or TemporalVAE so that it interpolates, for training to start there.

    Raises ValueError for fewer than 4 channels in a norm group or 2 * in_channels carried ones, or for another class.
    """
    raise ValueError(f"vae must be a SpatialVAE or a TemporalVAE to start as interpolation, got {type(vae).__name__}")


class _Trunk:
    """Sets the convolutions of a trunk that carries `channels`; each of its norms' `groups` groups holds `constant`.

    widths: the numbers of channels of its levels.
    """

    def __init__(
        self,
        groups: int,
        constant: float,
        channels: int,
        widths: Iterable[int] = (),
        start: str = "start_as_interpolation",
    ):
        self.groups, self.constant, self.channels = groups, constant, channels
        for width in widths:
            if width // groups < 4 or len(self.carriers(width)) < 2 * channels:
                raise ValueError(
                    f"{start} needs norm groups of at least 4 channels, and {2 * channels} channels "
                    f"beside two constants a group, got {width} channels in {groups} groups"
                )

    def constants(self, width: int) -> Tensor:
        """Return the two channels of each norm group that hold the constant and its negative: the last, (groups, 2)."""
        return torch.arange(width).view(self.groups, -1)[:, -2:]

    def carriers(self, width: int) -> Tensor:
        """Return the other channels, which carry the picture."""
        return torch.arange(width).view(self.groups, -1)[:, :-2].flatten()

    def pairs(self, width: int) -> tuple[Tensor, Tensor]:
        """Pair the carriers. If the groups' size is even, twins share a group, so its mean stays 0."""
        carriers = self.carriers(width)
        return carriers[: len(carriers) // 2 * 2 : 2], carriers[1::2]

    def set_path(self, convs: Sequence[Conv], first: Tensor, between: Sequence[Tensor], last: Tensor) -> None:
        """Set the trunk of an encoder or decoder: its first convolution, those that change the size, and its last."""
        self.enter(convs[0], first)
        for conv in convs[1:-1]:
            self.carry(conv, *between)
        self.leave(convs[-1], last)

    def set_constants(self, conv: Conv, copies: int = 1) -> None:
        """Set the constant channels of a convolution's output: by its bias or, without one, from those of its input."""
        weight, held = conv.weight.unflatten(0, (-1, copies)), self.constants(conv.out_channels // copies)
        weight[held] = 0
        if conv.bias is None:
            weight[held, :, self.constants(conv.in_channels)] = 1
        else:
            conv.bias.zero_()
            conv.bias.unflatten(0, (-1, copies))[held] = torch.tensor([[self.constant], [-self.constant]])

    def carry(self, conv: Conv, *kernels: Tensor) -> None:
        """Make a convolution apply each kernel to every carried channel alone: one output channel per kernel."""
        copies = len(kernels)
        conv.weight.zero_()
        sources, targets = self.carriers(conv.in_channels), self.carriers(conv.out_channels // copies)
        shared = min(len(sources), len(targets))
        conv.weight.unflatten(0, (-1, copies))[targets[:shared], :, sources[:shared]] = torch.stack(kernels)
        self.set_constants(conv, copies)

    def move(self, conv: Conv, paths: Sequence, slots_in: int, slots_out: int, copies: int = 1) -> None:
        """Make a convolution move slots of `channels` channels along paths (source, target, copy, kernel in time).

        Channels that belong to no slot stay what they are.
        """
        conv.weight.zero_()
        if conv.bias is not None:
            conv.bias.zero_()
        weight, inputs = conv.weight.unflatten(0, (-1, copies)), torch.arange(self.channels)
        for sources, targets in zip(self.pairs(conv.in_channels), self.pairs(conv.out_channels // copies), strict=True):
            for source, target, copy, kernel in paths:
                rows, columns = targets[target * self.channels + inputs], sources[source * self.channels + inputs]
                weight[rows, copy, columns, :, 1, 1] += kernel
            spare_in, spare_out = sources[slots_in * self.channels :], targets[slots_out * self.channels :]
            shared = min(len(spare_in), len(spare_out))
            weight[spare_out[:shared], :, spare_in[:shared], :, 1, 1] = paths[0][3]
        self.set_constants(conv, copies)

    def enter(self, conv: Conv, kernel: Tensor) -> None:
        """Make a convolution put input channel k on the first channel of pair k, and its negative on the second."""
        inputs, (ones, twins) = torch.arange(self.channels), self.pairs(conv.out_channels)
        conv.weight *= SPARE
        conv.weight[ones[inputs]] = 0
        conv.weight[ones[inputs], inputs] = kernel
        conv.weight[twins] = -conv.weight[ones]
        if conv.bias is not None:
            self.set_constants(conv)

    def leave(self, conv: Conv, kernel: Tensor) -> None:
        """Make a convolution undo `enter` after GroupNorm and SiLU: output k is input channel k at its old scale."""
        outputs, (ones, twins) = torch.arange(self.channels), self.pairs(conv.in_channels)
        gain = self.constant / (conv.in_channels / self.groups / 2) ** 0.5  # the norm's standard deviation
        assert conv.bias is not None
        conv.weight *= SPARE
        conv.bias.zero_()
        conv.weight[outputs] = 0
        conv.weight[outputs, ones[outputs]] = gain * kernel
        conv.weight[outputs, twins[outputs]] = -gain * kernel


def _start_posterior(quant_conv: Conv, post_quant_conv: Conv, latent_channels: int) -> None:
    assert quant_conv.bias is not None and post_quant_conv.bias is not None
    nn.init.dirac_(quant_conv.weight[:latent_channels])
    quant_conv.weight[latent_channels:] *= 0.1
    nn.init.dirac_(post_quant_conv.weight)
    quant_conv.bias[:latent_channels] = 0
    quant_conv.bias[latent_channels:] = FIRST_LOGVAR
    post_quant_conv.bias.zero_()


@start_as_interpolation.register
@torch.no_grad()
def _start_spatial(vae: SpatialVAE) -> None:
    encoder, decoder, channels = vae.autoencoder.encoder, vae.autoencoder.decoder, vae.config.in_channels
    trunk = _Trunk(vae.config.norm_num_groups, PIXEL_CONSTANT, channels, vae.config.block_out_channels)
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
            trunk.carry(resnet.conv_shortcut, torch.ones(1, 1))
    downs = [downsampler.conv for block in encoder.down_blocks for downsampler in block.downsamplers or ()]
    trunk.set_path([encoder.conv_in, *downs, encoder.conv_out], centre, [area], centre)
    if vae.config.use_quant_conv and vae.config.use_post_quant_conv:
        _start_posterior(vae.autoencoder.quant_conv, vae.autoencoder.post_quant_conv, vae.config.latent_channels)
    ups = [upsampler.conv for block in decoder.up_blocks for upsampler in block.upsamplers or ()]
    trunk.set_path([decoder.conv_in, *ups, decoder.conv_out], centre, [tent], centre)


@start_as_interpolation.register
@torch.no_grad()
def _start_temporal(vae: TemporalVAE) -> None:
    encoder, decoder, channels = vae.encoder, vae.decoder, vae.config.in_channels
    widths = [vae.config.base_channels * multiplier for multiplier in vae.config.channel_multipliers]
    trunk = _Trunk(vae.config.norm_num_groups, LATENT_CONSTANT, channels, widths)
    if vae.config.latent_channels < channels:
        raise ValueError(
            f"start_as_interpolation needs at least in_channels ({channels}) latent channels, "
            f"got {vae.config.latent_channels}"
        )
    last = torch.zeros(3, 3, 3)  # a causal kernel ends with the output's frame, or the last frame of its group
    last[2, 1, 1] = 1
    own = last.roll(0 if vae.config.is_causal else -1, 0)  # the middle frame if it is not causal
    between = (own + own.roll(-1, 0)) / 2  # the first of two new frames lies halfway from the one before
    point = torch.ones(1, 1, 1)
    _silence_branches(vae, trunk)
    downs = [block.downsampler.conv for block in cast(list[DownBlock], encoder.down_blocks) if block.downsampler]
    trunk.set_path([encoder.conv_in.conv, *downs, encoder.conv_out.conv], own, [last], point)
    _start_posterior(vae.quant_conv.conv, vae.post_quant_conv.conv, vae.config.latent_channels)
    ups = [block.upsampler.conv for block in cast(list[UpBlock], decoder.up_blocks) if block.upsampler]
    trunk.set_path([decoder.conv_in.conv, *ups, decoder.conv_out.conv], own, [between, own], own)


def _silence_branches(vae: TemporalVAE, trunk: _Trunk) -> None:
    """Start every residual branch as zero and every shortcut as the identity."""
    for resnet in (module for module in vae.modules() if isinstance(module, ResnetBlock)):
        resnet.conv2.conv.weight.zero_()
        held = trunk.constants(resnet.conv1.conv.in_channels)
        resnet.conv1.conv.weight[:, held] = 0  # next to the constants, the picture is small
        if resnet.conv_shortcut is not None:
            trunk.carry(resnet.conv_shortcut.conv, torch.ones(1, 1, 1))


@torch.no_grad()
def start_carrying_frames(vae: TemporalVAE) -> None:
    """Overwrite the weights of a new TemporalVAE so that it carries whole frames as far as its latent channels reach.

    The trunk takes every frame of a group of r = `temporal_compression_ratio` to the compressed level, in channels of
    its own. The latents keep n = latent_channels // in_channels of them, at most r: the last, then the one in the
    middle, then those halfway between (for r = 4: frames 4, 2, 3 and 1 of a group). The decoder gives these back and
    interpolates linearly between them. It does so by lifting (Sweldens 1996, "The lifting scheme"): every upsampling
    layer puts a frame halfway between two others and adds a correction, which training can use in any case: it is the
    frame minus the interpolation for a frame that the latents keep, and starts as 0 for the others. With n = 1 the
    first reconstruction is that of `start_as_interpolation`, and with n = r it is the input.

    The weights are not exactly linear: with latents of standard deviation 1 the error has one of about 0.04.

    Raises ValueError for fewer latent channels than in_channels, for no downsampling layer, or for levels that are too
    narrow: a level needs 2 * in_channels * 2**k channels beside two constants in every norm group, where k counts the
    downsampling layers before it and its own.
    """
    if not isinstance(vae, TemporalVAE):
        raise ValueError(f"vae must be a TemporalVAE to start by carrying frames, got {type(vae).__name__}")
    # Slot s of a level's channels holds the frame s before a group's last. Pair s * in_channels + k of its carriers
    # holds channel k of slot s. A downsampling layer joins two groups of `slots` frames into one: the slots of the
    # later group stay, those of the earlier one become slots + s.
    encoder, decoder, channels = vae.encoder, vae.decoder, vae.config.in_channels
    latent_channels, ratio = vae.config.latent_channels, vae.temporal_compression_ratio
    if latent_channels < channels:
        raise ValueError(
            f"start_carrying_frames needs at least in_channels ({channels}) latent channels, got {latent_channels}"
        )
    if ratio == 1:
        raise ValueError(
            "start_carrying_frames needs a flag set in temporal_downsample: without one nothing is carried"
        )
    trunk = _Trunk(vae.config.norm_num_groups, LATENT_CONSTANT, channels)
    slots = 1
    for multiplier, halved in zip(
        vae.config.channel_multipliers, [*vae.config.temporal_downsample, False], strict=True
    ):
        slots *= 2 if halved else 1
        width = vae.config.base_channels * multiplier
        _Trunk(trunk.groups, trunk.constant, channels * slots, [width], "start_carrying_frames")
    own = torch.zeros(3)  # kernels in time alone, at the middle of height and width
    own[2 if vae.config.is_causal else 1] = 1
    before = own.roll(-1)
    later, earlier = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])  # of the two frames that one output replaces
    _silence_branches(vae, trunk)

    in_space = torch.zeros(3, 3, 3)
    in_space[:, 1, 1] = own
    trunk.enter(encoder.conv_in.conv, in_space)
    slots = 1
    downs = [block.downsampler.conv for block in cast(list[DownBlock], encoder.down_blocks) if block.downsampler]
    for down in downs:
        paths = [(s, s, 0, later) for s in range(slots)] + [(s, slots + s, 0, earlier) for s in range(slots)]
        trunk.move(down, paths, slots, 2 * slots)
        slots *= 2
    kept = _frames_by_importance(ratio)[: latent_channels // channels]
    trunk.leave(encoder.conv_out.conv, torch.ones(1, 1, 1))
    ones, twins = trunk.pairs(encoder.conv_out.conv.in_channels)
    first, rest = ones[:channels], twins[:channels]
    weight = encoder.conv_out.conv.weight
    gain = weight[:channels].clone()
    for number, slot in enumerate(kept):
        rows = slice(number * channels, (number + 1) * channels)
        places = torch.arange(channels) + slot * channels
        weight[rows] = 0
        weight[rows, ones[places]] = gain[:, first]
        weight[rows, twins[places]] = gain[:, rest]
    _start_posterior(vae.quant_conv.conv, vae.post_quant_conv.conv, latent_channels)

    conv = decoder.conv_in.conv
    assert conv.bias is not None
    conv.weight *= SPARE
    conv.bias.zero_()
    trunk.set_constants(conv)
    ones, twins = trunk.pairs(conv.out_channels)
    for slot, (now, last) in enumerate(_corrections(ratio, kept)):
        for k in range(channels):
            row = conv.weight[ones[slot * channels + k]]
            row.zero_()
            for number in range(len(kept)):
                row[number * channels + k, :, 1, 1] = now[number] * own + last[number] * before
            conv.weight[twins[slot * channels + k]] = -row
    ups = [block.upsampler.conv for block in cast(list[UpBlock], decoder.up_blocks) if block.upsampler]
    for up in ups:
        slots //= 2
        paths = [(s, s, 1, own) for s in range(slots)] + [(slots + s, s, 0, own) for s in range(slots)]
        trunk.move(up, [*paths, (0, 0, 0, (own + before) / 2)], 2 * slots, slots, copies=2)
    trunk.leave(decoder.conv_out.conv, in_space)


def _frames_by_importance(ratio: int) -> list[int]:
    """Order a group's frames, as distances from its last: the last, the middle one, those between, later ones first."""
    order, step = [0], ratio
    while step > 1:
        order += range(step // 2, ratio, step)
        step //= 2
    return order


def _corrections(ratio: int, kept: Sequence[int]) -> list[tuple[list[float], list[float]]]:
    """Return for each slot what its correction takes from the kept frames of this group and of the one before."""
    width = 2 * len(kept)
    unit = {slot: [float(number == k) for k in range(width)] for number, slot in enumerate(kept)}
    frames = {0: unit[0], ratio: [0.0] * len(kept) + unit[0][: len(kept)]}  # the last of this group, of the one before
    corrections = {0: unit[0]}
    for slot in _frames_by_importance(ratio)[1:]:
        step = slot & -slot  # the frames that it lies halfway between are already known
        middle = [(a + b) / 2 for a, b in zip(frames[slot - step], frames[slot + step], strict=True)]
        frames[slot] = unit.get(slot, middle)
        corrections[slot] = [a - b for a, b in zip(frames[slot], middle, strict=True)]
    return [(corrections[slot][: len(kept)], corrections[slot][len(kept) :]) for slot in range(ratio)]
