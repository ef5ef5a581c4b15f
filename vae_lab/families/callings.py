"""Codecs of diffusers' classes that are called in another way than the others."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution, IdentityDistribution
from torch import Tensor

from .codec import Codec


def as_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clips(frames: Tensor, batch: int) -> Tensor:
    """(B * T, C, H, W) -> (B, C, T, H, W)."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


class FrameCodec(Codec):
    """2D VAEs, which take pictures (B, C, H, W): frame by frame."""

    frame_by_frame = any_length = True

    @property
    def in_channels(self) -> int:
        return self.config.get("in_channels", 3)

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution | IdentityDistribution:
        output = self.vae.encode(as_frames(x))
        if "latent_dist" in output:
            return DiagonalGaussianDistribution(as_clips(output.latent_dist.parameters, len(x)))
        (z,) = output.to_tuple()  # of VAEs that are not variational
        return IdentityDistribution(as_clips(z, len(x)))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return as_clips(self.vae.decode(as_frames(z)).sample, len(z))


class TemporalDecoderCodec(FrameCodec):
    """SVD: a 2D encoder, and a decoder that sees all frames."""

    frame_by_frame = False

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return as_clips(self.vae.decode(as_frames(z), num_frames=z.shape[2]).sample, len(z))


class PictureCodec(Codec):
    """Qwen-Image 2.1: one RGBA picture. The lab's pictures are opaque, and alpha is left out of what comes back."""

    def posterior(self, x: Tensor) -> Any:
        if x.shape[2] != 1:  # the class reads nothing but the first of 2 to 4 frames, and fails on more
            raise ValueError(f"{self.name} takes pictures, clips of 1 frame; got {x.shape[2]} frames")
        return super().posterior(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return super().decode(z, num_frames)[:, : self.in_channels]


class TimestepCodec(Codec):
    """LTX: since 0.9.1, decoders are told how noisy the latents are. 0.0, the pipelines' default, is "not at all".

    The decoder of 0.9.1 also adds noise (`decoder_inject_noise`). It is the same in every call, so that equal latents
    give equal frames; in training it is torch's.
    """

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        noisy = not self.vae.training and any(self.config.get("decoder_inject_noise") or ())
        with torch.random.fork_rng([z.device] if z.is_cuda else [], enabled=noisy):
            if noisy:
                torch.manual_seed(0)
            if not self.config.get("timestep_conditioning"):
                return super().decode(z, num_frames)
            return self.vae.decode(z, temb=torch.zeros(len(z), device=z.device, dtype=z.dtype)).sample


class VidTokCodec(Codec):
    """VidTok: its `forward` repeats the first frame before a causal encoder, and `decode` returns a tensor."""

    def posterior(self, x: Tensor) -> Any:
        if self.config["is_causal"]:
            x = F.pad(x, (0, 0, 0, 0, self.vae.temporal_compression_ratio - 1, 0), mode="replicate")
        output = self.vae.encode(x)
        return IdentityDistribution(output[0]) if isinstance(output, tuple) else output.latent_dist

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return self.vae.decode(z)


class AllegroCodec(Codec):
    """Allegro: one clip at a time, in tiles only, and back as (B, T, C, H, W)."""

    @property
    def spatial_ratio(self) -> int:
        return 2 ** (len(self.config["block_out_channels"]) - 1)

    @property
    def smallest_side(self) -> int:
        return max(self.vae.kernel[1:])

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        _, high, wide = self.vae.kernel
        _, down, along = self.vae.stride
        height, width = x.shape[3:]
        if height < high or width < wide or (height - high) % down or (width - wide) % along:
            raise ValueError(
                f"height must be {high} plus a multiple of {down}, and width {wide} plus a multiple of {along}: "
                f"nothing is encoded beyond the last whole tile; got {height}x{width}"
            )
        self.vae.enable_tiling()
        parameters = [self.vae.encode(clip).latent_dist.parameters for clip in x.split(1)]
        return DiagonalGaussianDistribution(torch.cat(parameters))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        self.vae.enable_tiling()
        return torch.cat([self.vae.decode(clip).sample for clip in z.split(1)]).transpose(1, 2)


class ImageNetCodec(Codec):
    """MiniMax-H3: its pixels are ImageNet's, (x - mean) / std with x in [0, 1].

    Source: diffusers 0.42.1, `autoencoder_kl_minimax_h3.py:516`.
    """

    MEAN = 0.485, 0.456, 0.406
    STD = 0.229, 0.224, 0.225

    def posterior(self, x: Tensor) -> Any:
        mean, std = self._mean_std(x)
        return super().posterior(((x + 1) / 2 - mean) / std)

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        mean, std = self._mean_std(z)
        return 2 * (super().decode(z, num_frames) * std + mean) - 1

    def _mean_std(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (like.new_tensor(values).view(1, 3, 1, 1, 1) for values in (self.MEAN, self.STD))
        return mean, std
