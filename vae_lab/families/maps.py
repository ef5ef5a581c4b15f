"""A video VAE as two functions of clips of one length, as the probes measure it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..shapes import Timeline, decoder_last_seen, encoder_last_seen
from ..utils.checks import positive_int, torch_seed
from .codec import codec_of


class Maps(NamedTuple):
    """The result of `maps_of`: a video VAE as two functions of clips of one length."""

    encode: Callable[[Tensor], Tensor]
    """(B, C, T, H, W), pixels in [-1, 1] or spatial latents -> the mode of the latents (B, C', L, h, w)."""
    decode: Callable[[Tensor], Tensor]
    """Latents -> (B, C, T, H, W)."""
    x: Tensor
    """Seeded noise for `encode`, (1, C, T, H, W): uniform in [-1, 1], or standard normal for spatial latents."""
    z: Tensor
    """encode(x)."""
    timeline: Timeline
    """Which frames each latent frame stands for."""

    @property
    def encoder_last_seen(self) -> list[int]:
        """For each latent frame, the last frame that it may see."""
        return encoder_last_seen(self.timeline.groups)

    @property
    def decoder_last_seen(self) -> list[int]:
        """For each frame, the last latent frame that it may see."""
        return decoder_last_seen(self.timeline.groups)


def maps_of(vae: Any, num_frames: int = 17, size: int = 16, seed: int = 0) -> Maps:
    """Return the encoder and decoder of a video VAE as functions of clips of num_frames frames.

    size: height and width of the noise `x`, in pixels or in cells of spatial latents.
    Raises ValueError if the model fails on such a clip, or if it is unknown which frames a latent may see.
    """
    codec = codec_of(vae)
    shape = (1, codec.in_channels, positive_int("num_frames", num_frames), *[positive_int("size", size)] * 2)
    generator = torch.Generator().manual_seed(torch_seed(seed))
    pixels = codec.takes == "pixels"
    x = torch.rand(shape, generator=generator) * 2 - 1 if pixels else torch.randn(shape, generator=generator)
    x = x.to(codec.device, codec.dtype)
    with torch.no_grad():
        z = codec.reconstruct(x).latent
    return Maps(codec.encode, lambda z: codec.decode(z, num_frames), x, z, codec.timeline(num_frames, z.shape[2]))
