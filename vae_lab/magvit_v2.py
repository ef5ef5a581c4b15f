"""MAGVIT-v2: a causal 3D CNN that turns pixels into bits, and bits into pixels.

Open-Sora's temporal half follows this network, without the quantizer and behind a 2D VAE. Three rules differ. MAGVIT-v2
repeats the first frame in front, and the outermost pixels at the borders; Open-Sora pads with zeros. MAGVIT-v2
normalizes each frame alone; Open-Sora's norms take their statistics over all frames. MAGVIT-v2 gives the first frame a
latent frame of its own; Open-Sora pads any clip in front to whole groups of frames.

Sources: the paper (Yu et al. 2024, "Language Model Beats Diffusion", arXiv 2310.05737), and its authors' layers in
google/praxis, `praxis/layers/video/`: `vqvae.py` and `enc_dec_3dcnn.py` (commit 3375a8c), `quantizer.py` (572b571).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

from . import temporal_vae
from .gaussian import at_least_float32
from .temporal_vae import Layers, level_widths
from .utils.autoencoder import Autoencoder, coding
from .utils.checks import check_above, check_one_of, check_video, integer_within, positive_int

MOST_BITS = 24  # largest number of bits: the entropy loss has one probability for each of the 2**bits codes
COMMITMENT_WEIGHT, ENTROPY_WEIGHT, TEMPERATURE = 0.25, 0.1, 0.01  # of LookupFreeQuantizer in quantizer.py
LOG_EPS = 1e-5  # added to the mean probability before its logarithm, as in quantizer.py


class Downsampler(nn.Module):
    """A causal convolution of stride 2 in space, and 1 or 2 in time. The first frame has an output of its own.

        kernel 4, stride 2:  1 1 1 | 1 2 3 4 5   windows 1111 1123 2345

    (B, C, T, H, W) -> (B, C, (T - 1) // time_stride + 1, ceil(H / 2), ceil(W / 2))

    CausalConv3d moves each window to the end of its group of frames, and has odd kernels in space. Here neither holds.
    Source: `enc_dec_3dcnn.py`, class CausalConv.
    """

    def __init__(self, channels: int, time_stride: int, kernel_size: int, pad_mode: str):
        super().__init__()
        self.pad_mode = pad_mode
        self.padding = ((kernel_size - 1) // 2, kernel_size // 2) * 2 + (kernel_size - 1, 0)
        self.conv = nn.Conv3d(channels, channels, kernel_size, (time_stride, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding, mode=self.pad_mode))

    def step(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve the next frames of a stream, whole groups, as `CausalConv3d.step` does: (x, past) -> (y, past)."""
        *space, front, _ = self.padding
        x = F.pad(x, (*space, front if past is None else 0, 0), mode=self.pad_mode)
        x = x if past is None else torch.cat([past, x], dim=2)
        y = self.conv(x)
        return y, x[:, :, y.shape[2] * self.conv.stride[0] :]


class Upsampler(nn.Module):
    """A convolution to more channels, which move into time and space. Of the first group, only the last frame stays.

    (B, C, T, H, W) -> (B, C, time_stride * (T - 1) + 1, 2 * H, 2 * W), or time_stride * T frames if `first` is False,
    because a stream has had the first group.

    Source: `enc_dec_3dcnn.py`, depth_to_space: the channels are (time, height, width, C), C varying fastest.
    """

    def __init__(self, channels: int, time_stride: int, layers: Layers):
        super().__init__()
        self.time_stride = time_stride
        self.conv = layers.conv(channels, 4 * time_stride * channels)

    def forward(self, x: Tensor, convolve: temporal_vae.Convolve = temporal_vae.at_once, first: bool = True) -> Tensor:
        x = convolve(self.conv, x).unflatten(1, (self.time_stride, 2, 2, -1))
        x = x.permute(0, 4, 5, 1, 6, 2, 7, 3)  # (B, C, T, time_stride, H, 2, W, 2)
        x = x.flatten(6).flatten(4, 5).flatten(2, 3)
        return x[:, :, self.time_stride - 1 :] if first else x


class CodeNorm(nn.Module):
    """A norm whose scale and shift at each place depend linearly on the code there (CondNormLayer in the source)."""

    def __init__(self, latent_channels: int, channels: int, layers: Layers):
        super().__init__()
        self.norm = layers.norm(channels, affine=False)
        self.gamma = nn.Conv3d(latent_channels, channels, 1)
        self.beta = nn.Conv3d(latent_channels, channels, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.gamma(code)) + self.beta(code)


class Encoder(temporal_vae.Encoder):
    """(B, in_channels, T, H, W) -> one number for each bit, (B, latent_channels, L, h, w). Its sign is the bit."""

    def __init__(
        self, in_channels: int, latent_channels: int, widths: list[int], strides: list[int], layers: Layers, **down: Any
    ):
        super().__init__(in_channels, latent_channels, widths, [False] * len(strides), layers)
        for block, width, stride in zip(self.down_blocks, widths, strides, strict=False):  # not after the last level
            block.downsampler = Downsampler(width, stride, **down)
        self.conv_out = layers.conv(widths[-1], latent_channels, kernel_size=1)


class Decoder(temporal_vae.Decoder):
    """Codes (B, latent_channels, L, h, w) -> (B, out_channels, T, H, W). The last level comes first."""

    def __init__(self, latent_channels: int, out_channels: int, widths: list[int], strides: list[int], layers: Layers):
        super().__init__(latent_channels, out_channels, widths, [False] * len(strides), layers)
        before = [*widths[1:], widths[-1]][::-1]
        self.norms = nn.ModuleList(CodeNorm(latent_channels, width, layers) for width in before)
        upsamplers = [Upsampler(width, stride, layers) for width, stride in zip(widths[1:], strides, strict=True)]
        self.upsamplers = nn.ModuleList(upsamplers[::-1])
        self.strides = strides[::-1]

    def forward(
        self, code: Tensor, convolve: temporal_vae.Convolve = temporal_vae.at_once, first: bool = True
    ) -> Tensor:
        x = self.run(self.mid_block, convolve(self.conv_in, code), convolve)
        for level, (norm, block) in enumerate(zip(self.norms, self.up_blocks, strict=True)):
            x = self.run(block, norm(x, code), convolve)
            if level < len(self.strides):
                x, stride = self.upsamplers[level](x, convolve, first), self.strides[level]
                code = F.interpolate(code, scale_factor=(stride, 2, 2), mode="nearest")
                code = code[:, :, stride - 1 :] if first else code
        return convolve(self.conv_out, self.act(self.norm_out(x)))


class BinaryCode:
    """The code of a clip, with the names of a posterior. It is certain: `sample` and `mode` return the same.

    Args:
        raw: what the encoder returned, (B, K, L, h, w). Its signs are the K bits of each cell.
    """

    def __init__(self, raw: Tensor):
        self.raw = raw

    @property
    def mean(self) -> Tensor:
        """The code, -1 and 1. Gradients pass through to `raw` as if nothing was quantized ("straight through")."""
        return quantize(self.raw) + (self.raw - self.raw.detach())

    @property
    def parameters(self) -> Tensor:
        """`raw`, under the name of diffusers' posteriors: BinaryCode(code.parameters) is an equal one."""
        return self.raw

    @property
    def std(self) -> Tensor:
        """Standard deviation: 0 everywhere."""
        return torch.zeros_like(self.raw)

    def mode(self) -> Tensor:
        """Return the code, (B, K, L, h, w)."""
        return self.mean

    def sample(self, generator: Any = None) -> Tensor:
        """Return the code, (B, K, L, h, w)."""
        return self.mean

    @classmethod
    def cat(cls, parts: Sequence["BinaryCode"], dim: int = 2) -> "BinaryCode":
        """Join codes along an axis."""
        return cls(torch.cat([part.raw for part in parts], dim))

    def loss(self) -> Tensor:
        """Return the quantizer's loss: 0.25 * commitment + 0.1 * (entropy of each cell - entropy over all cells).

        It is least if every number is -1 or 1 and all 2**K codes are equally frequent. Commitment is the mean squared
        distance of `raw` from its code. Entropies are in nats.
        """
        commitment = (at_least_float32(self.raw) - quantize(self.raw)).square().mean()
        each, over_all = code_entropies(self.raw)
        return COMMITMENT_WEIGHT * commitment + ENTROPY_WEIGHT * (each - over_all)


def quantize(raw: Tensor) -> Tensor:
    """Return the nearest of the 2**K codes: 1 where a number is at least 0, else -1. Same shape, no gradient."""
    return torch.where(raw >= 0, 1.0, -1.0).to(raw.dtype)


def code_entropies(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of the code at each cell, and the entropy of the mean over all cells, both in nats.

    raw: (B, K, L, h, w). The probability of a code c at a cell is softmax(2 * raw . c / 0.01) over all 2**K codes. It
    is the product of the probabilities of two halves of the bits, so only these are computed for each cell.
    """
    with torch.autocast(raw.device.type, enabled=False):
        cells = at_least_float32(raw).movedim(1, -1).flatten(0, -2)  # (N, K)
        halves = []
        for bits in cells.tensor_split(2, dim=1):
            corners = codes_of(torch.arange(2 ** bits.shape[1], device=raw.device), bits.shape[1]).to(bits.dtype)
            halves.append((2 / TEMPERATURE * bits @ corners.T).log_softmax(dim=1))
        low, high = halves
        each = -((low.exp() * low).sum(1) + (high.exp() * high).sum(1)).mean()
        mean = low.exp().T @ high.exp() / len(cells)
        return each, -(mean * (mean + LOG_EPS).log()).sum()


def codes_of(index: Tensor, num_bits: int) -> Tensor:
    """Turn integers (...) from 0 to 2**num_bits - 1 into codes (..., num_bits) of -1 and 1. Bit k counts 2**k."""
    bits = index.unsqueeze(-1) >> torch.arange(num_bits, device=index.device) & 1
    return 2.0 * bits - 1.0


class MagvitV2(Autoencoder):
    """MAGVIT-v2's tokenizer: pixels (B, 3, T, H, W) in [-1, 1] <-> codes (B, K, L, h, w) of -1 and 1.

    The first frame has a latent frame of its own, and then every `temporal_compression_ratio` frames share one. The
    defaults are the published architecture, with 18 bits a cell as in the paper.

    Args:
        in_channels: channels of the clips.
        latent_channels: K, the bits of each latent cell: there are 2**K codes.
        base_channels: width of level 0; level i has base_channels * channel_multipliers[i].
        num_res_blocks: residual blocks in each level and in each mid block.
        temporal_downsample: for each level except the last, whether time is halved after it. Space always is.
        pad_mode: of every convolution: "replicate" (published: JAX's "edge") or "constant" (zeros).
        down_kernel_size: of the convolutions that halve space (published: 4).
        norm_eps: of every norm, which normalizes each frame alone (published: 1e-6).

    The PyTorch copy cofe-ai/O2-MAGVIT2 has pad_mode "constant", down_kernel_size 3, norm_eps 1e-5, and a bias in the
    encoder's first convolution.
    """

    fast_modes = ()  # more rounding would flip bits

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 18,
        base_channels: int = 128,
        num_res_blocks: int = 4,
        channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        temporal_downsample: Sequence[bool] = (False, True, True),
        norm_num_groups: int = 32,
        pad_mode: str = "replicate",
        down_kernel_size: int = 4,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        for name in ("in_channels", "base_channels", "num_res_blocks", "down_kernel_size"):
            positive_int(name, self.config[name])
        integer_within("latent_channels", latent_channels, 1, MOST_BITS)
        check_one_of("pad_mode", pad_mode, ("replicate", "constant"))
        widths = level_widths(base_channels, channel_multipliers, temporal_downsample)
        strides = [1 + halve for halve in temporal_downsample]
        check_above("norm_eps", norm_eps, 0)
        layers = Layers("frame_group", norm_num_groups, "silu", num_res_blocks, norm_eps, pad_mode=pad_mode)
        down = dict(kernel_size=down_kernel_size, pad_mode=pad_mode)
        self.encoder = Encoder(in_channels, latent_channels, widths, strides, layers, **down)
        self.decoder = Decoder(latent_channels, in_channels, widths, strides, layers)

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames per latent frame, after the first: 2 for every flag set in temporal_downsample."""
        return 2 ** sum(self.config.temporal_downsample)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent cell along height and along width."""
        return 2 ** len(self.config.temporal_downsample)

    @property
    def bits_per_pixel(self) -> float:
        """Bits for each pixel of a long clip: 18 / (4 * 8 * 8) = 0.07 for the published architecture."""
        return self.config.latent_channels / (self.temporal_compression_ratio * self.spatial_compression_ratio**2)

    @coding
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode pixels (B, 3, T, H, W) in [-1, 1]. `.latent_dist` is a BinaryCode; its mode is (B, K, L, h, w).

        Raises ValueError unless T is 1 plus a multiple of `temporal_compression_ratio` (4), and H and W are multiples
        of `spatial_compression_ratio` (8). Source: Encoder._check_input in `vqvae.py`.
        """
        check_video("x", x, self.config.in_channels)
        (num_frames, *size), ratio, cell = x.shape[2:], self.temporal_compression_ratio, self.spatial_compression_ratio
        if rest := (num_frames - 1) % ratio:
            below = num_frames - rest
            raise ValueError(
                f"x must have 1 + k * {ratio} frames, got {num_frames}; nearest lengths: {below} and {below + ratio}"
            )
        if any(pixels % cell for pixels in size):
            raise ValueError(f"height and width of x must be multiples of {cell}, got {size[0]}x{size[1]}")
        return AutoencoderKLOutput(latent_dist=BinaryCode(self.encoder(x)))

    @coding
    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode (B, K, L, h, w) to `.sample` (B, 3, 1 + ratio * (L - 1), H, W), roughly in [-1, 1] and not clamped.

        z is not quantized here, so that the space between codes can be explored; `quantize` does it.
        num_frames: optional, because L decides it; must be the length of the result if given.
        """
        check_video("z", z, self.config.latent_channels)
        length = 1 + self.temporal_compression_ratio * (z.shape[2] - 1)
        if num_frames is not None and positive_int("num_frames", num_frames) != length:
            raise ValueError(f"num_frames ({num_frames}) must be {length}, to which {z.shape[2]} latent frames decode")
        return DecoderOutput(sample=self.decoder(z))

    def quantize(self, z: Tensor) -> Tensor:
        """Return the nearest code of each cell: (B, K, L, h, w) -> same shape, of -1 and 1."""
        check_video("z", z, self.config.latent_channels)
        return quantize(z)

    def indices_of(self, z: Tensor) -> Tensor:
        """Return the number of each cell's code, from 0 to 2**K - 1: (B, K, L, h, w) -> int64 (B, L, h, w)."""
        check_video("z", z, self.config.latent_channels)
        return ((z >= 0).movedim(1, -1) << torch.arange(z.shape[1], device=z.device)).sum(-1)

    def codes_of(self, index: Tensor) -> Tensor:
        """Return the codes with these numbers: int64 (B, L, h, w) -> (B, K, L, h, w). It inverts `indices_of`.

        Raises ValueError if a number is not from 0 to 2**K - 1.
        """
        num_bits = self.config.latent_channels
        is_index = isinstance(index, Tensor) and index.dtype != torch.bool and not index.is_floating_point()
        numbers = index.long() if is_index else torch.empty(0)  # small integer types wrap in comparisons
        if numbers.ndim != 4 or not numbers.numel() or not ((numbers >= 0) & (numbers < 2**num_bits)).all():
            got = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            raise ValueError(f"index must be integers (B, L, h, w) from 0 to {2**num_bits - 1}, got {got}")
        return codes_of(numbers, num_bits).movedim(-1, 1).to(self.dtype)
