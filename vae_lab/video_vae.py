"""The video VAE: the 2D half, then the temporal half in chunks, then shift and scale.

Source: Open-Sora v1.2.0, `opensora/models/vae/vae.py`.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from .gaussian import DiagonalGaussian
from .shapes import MICRO_FRAME_SIZE, chunk_lengths, frame_range, latent_chunks, latent_size
from .spatial_vae import TILE, SpatialVAE
from .temporal_vae import TemporalVAE, check_num_frames
from .utils.autoencoder import Autoencoder, coding
from .utils.checks import check_above, check_video, finite, plain, positive_int, waiting_once
from .utils.wrapping import PreciseBuffers, arguments_of

# Mean and standard deviation of each channel of the released model's latents: shift and scale in its config.json
SHIFT = (-0.10, 0.34, 0.27, 0.98)
SCALE = (3.85, 2.32, 2.33, 3.06)


class Reconstruction(NamedTuple):
    """The result of VideoVAE.reconstruct."""

    sample: Tensor
    """(B, 3, T, H, W), encoded and decoded by both halves."""
    spatial_only: Tensor
    """(B, 3, T, H, W), encoded and decoded by the 2D half alone."""
    latent: Tensor
    """Raw latents (B, C, L, h, w)."""
    spatial_latent: Tensor
    """Scaled latents (B, C, T, h, w) of the 2D half."""


class VideoVAE(PreciseBuffers, Autoencoder):
    """Open-Sora 1.2's video VAE: pixels (B, 3, T, H, W) in [-1, 1] <-> latents (B, C, L, h, w).

    The defaults are the released architecture, 393,341,007 parameters, with random weights; `load` reads trained ones.

    Args:
        spatial_config, temporal_config: arguments of SpatialVAE and TemporalVAE that differ from the defaults.
        micro_frame_size: frames in each chunk, which the temporal half encodes alone (released: 17); None: no chunks.
        latents_mean, latents_std: one number for each latent channel, which `normalize` subtracts and divides by.
          Open-Sora calls them shift and scale, and so do the buffers here, of shape (1, C, 1, 1, 1). They stay float32
          in a model of half precision, also in its files; `normalize` and `denormalize` compute with them, then round
          to the dtype of z.
    """

    _keep_in_fp32_modules = ["shift", "scale"]  # read by diffusers' from_pretrained

    @register_to_config
    def __init__(
        self,
        spatial_config: Mapping[str, Any] | None = None,
        temporal_config: Mapping[str, Any] | None = None,
        micro_frame_size: int | None = MICRO_FRAME_SIZE,
        latents_mean: Sequence[float] = SHIFT,
        latents_std: Sequence[float] = SCALE,
    ):
        super().__init__()
        self.spatial = SpatialVAE(**(spatial_config or {}))
        self.temporal = TemporalVAE(**(temporal_config or {}))
        if micro_frame_size is not None:
            positive_int("micro_frame_size", micro_frame_size)
        channels = self.temporal.config.latent_channels
        if self.spatial.config.latent_channels != self.temporal.config.in_channels:
            raise ValueError(
                f"temporal in_channels ({self.temporal.config.in_channels}) must equal "
                f"spatial latent_channels ({self.spatial.config.latent_channels})"
            )
        self.register_buffer("shift", _per_channel("latents_mean", latents_mean, channels))
        self.register_buffer("scale", _per_channel("latents_std", latents_std, channels))
        self.register_to_config()

    @classmethod
    def of_halves(cls, spatial: SpatialVAE, temporal: TemporalVAE, **config: Any) -> "VideoVAE":
        """Make a VideoVAE of these modules themselves, not of copies.

        config: the other arguments. Defaults are Open-Sora's, latents_mean and latents_std included: pass those of
        your own latents.
        """
        with torch.device("meta"):  # no memory or time for weights that are replaced at once
            # by keyword: diffusers' from_config takes positional arguments for defaults, and drops them
            vae = cls(**_configs(spatial, temporal), **config)
        vae.spatial, vae.temporal = spatial, temporal
        return vae.with_statistics(vae.config.latents_mean, vae.config.latents_std)

    def with_micro_frame_size(self, micro_frame_size: int | None) -> "VideoVAE":
        """Make a VideoVAE of the same modules, not of copies, with another chunk length; None: no chunks."""
        if micro_frame_size is not None:
            micro_frame_size = positive_int("micro_frame_size", micro_frame_size)
        return with_config(self, micro_frame_size=micro_frame_size)

    def with_statistics(self, latents_mean: Sequence[float], latents_std: Sequence[float]) -> "VideoVAE":
        """Make a VideoVAE of the same modules, not of copies, that normalizes by other numbers.

        Its config names every argument of both halves, so that other defaults would not change what is saved.
        """
        channels, weight = self.temporal.config.latent_channels, next(self.temporal.parameters())
        halves = _configs(self.spatial, self.temporal)
        other = with_config(self, latents_mean=latents_mean, latents_std=latents_std, **halves)
        kind = dict(device=weight.device, dtype=torch.promote_types(weight.dtype, torch.float32))
        other.shift = _per_channel("latents_mean", latents_mean, channels).to(**kind)
        other.scale = _per_channel("latents_std", latents_std, channels).to(**kind)
        return other

    def register_to_config(self, **config: Any) -> None:
        """Change entries of the config. The other values that diffusers' pipelines read there are its attributes."""
        super().register_to_config(**config)
        if "temporal" not in self.__dict__.get("_modules", ()):  # at the start of __init__, which calls this again
            return
        for name, value in dict(
            block_out_channels=self.spatial.config.block_out_channels,
            scaling_factor=1.0,  # these latents have a mean and a std for each channel instead
            scale_factor_spatial=self.spatial_compression_ratio,
            scale_factor_temporal=self.temporal_compression_ratio,
            temporal_compression_ratio=self.temporal_compression_ratio,
            z_dim=self.temporal.config.latent_channels,
        ).items():
            setattr(self.config, name, value)  # no entries: these would be saved, and hashed with the weights

    def enable_tiling(self, tile_sample_min_size: int = TILE) -> None:
        """Compute large frames in the 2D half in tiles (`SpatialVAE.enable_tiling`)."""
        self.spatial.enable_tiling(tile_sample_min_size)

    @property
    def use_tiling(self) -> bool:
        """Whether the 2D half computes large frames in tiles (`enable_tiling`)."""
        return self.spatial.use_tiling

    @use_tiling.setter
    def use_tiling(self, value: bool) -> None:
        self.spatial.use_tiling = value

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames per latent frame."""
        return self.temporal.temporal_compression_ratio

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent cell along height and along width."""
        return self.spatial.spatial_compression_ratio

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """(T, H, W) of a clip -> (L, h, w) of its latents."""
        return latent_size(
            size, self.temporal_compression_ratio, self.spatial_compression_ratio, self.config.micro_frame_size
        )

    @coding
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode pixels (B, 3, T, H, W) in [-1, 1] to a posterior over raw latents (B, C, L, h, w).

        The temporal half encodes the mode of the 2D half, and the posteriors of its chunks are joined along time.
        `normalize` applies shift and scale. The reference draws a sample from the 2D half; this class takes the mode.

        Raises ValueError if H or W is not a multiple of `spatial_compression_ratio` (8).
        """
        return self.encode_spatial_latent(self.spatial.encode(x).latent_dist.mode())

    @waiting_once
    def encode_spatial_latent(self, spatial_latent: Tensor) -> AutoencoderKLOutput:
        """Run the temporal half of `encode`: scaled 2D latents (B, C, T, h, w) -> posterior over raw latents."""
        check_video("spatial_latent", spatial_latent, self.temporal.config.in_channels)
        chunks = spatial_latent.split(chunk_lengths(spatial_latent.shape[2], self.config.micro_frame_size), dim=2)
        posteriors = [self.temporal.encode(chunk).latent_dist for chunk in chunks]
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian.cat(posteriors))

    @coding
    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode raw latents (B, C, L, h, w) to `.sample` (B, 3, num_frames, H, W), roughly in [-1, 1] and not clamped.

        num_frames: length of the clip that was encoded; default: the shortest that has L latents.
        Raises ValueError if no clip of num_frames has L latents.
        """
        return self.spatial.decode(self.decode_spatial_latent(z, num_frames).sample)

    @waiting_once
    def decode_spatial_latent(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Run the temporal half of `decode`: raw latents -> `.sample`, scaled 2D latents (B, C, num_frames, h, w)."""
        check_video("z", z, self.temporal.config.latent_channels)
        ratio, micro_frame_size = self.temporal_compression_ratio, self.config.micro_frame_size
        allowed = frame_range(z.shape[2], ratio, micro_frame_size)
        num_frames = allowed.start if num_frames is None else num_frames
        check_num_frames(num_frames, z.shape[2], allowed)
        num_latents, num_chunk_frames = zip(*latent_chunks(num_frames, ratio, micro_frame_size), strict=True)
        chunks = [
            self.temporal.decode(chunk, frames).sample
            for chunk, frames in zip(z.split(num_latents, dim=2), num_chunk_frames, strict=True)
        ]
        return DecoderOutput(sample=torch.cat(chunks, dim=2))

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save as diffusers does, with the norm that the temporal half has now (`make_causal` exchanges it)."""
        temporal_config, norm = self.config.temporal_config or {}, self.temporal.config.norm
        if temporal_config.get("norm", "group") != norm:
            self.register_to_config(temporal_config={**temporal_config, "norm": norm})
        super().save_pretrained(*args, **kwargs)

    def normalize(self, z: Tensor) -> Tensor:
        """Turn raw latents into those for a diffusion model: (z - shift) / scale, for each channel."""
        check_video("z", z, self.temporal.config.latent_channels)
        return ((z - self.shift.to(z.device)) / self.scale.to(z.device)).to(z.dtype)

    def denormalize(self, z: Tensor) -> Tensor:
        """Invert `normalize`: z * scale + shift."""
        check_video("z", z, self.temporal.config.latent_channels)
        return (z * self.scale.to(z.device) + self.shift.to(z.device)).to(z.dtype)

    @torch.no_grad()
    @waiting_once
    def reconstruct(self, x: Tensor) -> Reconstruction:
        """Encode and decode (B, 3, T, H, W) in [-1, 1] by both halves and by the 2D half alone, without gradients."""
        spatial_latent = self.spatial.encode(x).latent_dist.mode()
        latent = self.encode_spatial_latent(spatial_latent).latent_dist.mode()
        return Reconstruction(
            sample=self.decode(latent, x.shape[2]).sample,
            spatial_only=self.spatial.decode(spatial_latent).sample,
            latent=latent,
            spatial_latent=spatial_latent,
        )


def with_config(vae: Any, **config: Any) -> Any:
    """Return a model of the same modules and weights, not of copies, with another config; `vae` itself stays as it is.

    Device, dtype and mode are the same too. The config must not change the architecture.
    """
    other = copy(vae)
    for name in ("_parameters", "_buffers", "_modules"):  # other dicts, so that neither sees what the other replaces
        other.__dict__[name] = dict(vae.__dict__[name])
    other.register_to_config(**config)
    return other


def _per_channel(name: str, values: Sequence[float], channels: int) -> Tensor:
    values = plain(values)
    if np.shape(values) != (channels,):
        raise ValueError(f"{name} must have one number for each of {channels} latent channels, got {values}")
    for value in values:
        finite(name, value) if name == "latents_mean" else check_above(name, value, 0)
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def _configs(spatial: SpatialVAE, temporal: TemporalVAE) -> dict[str, Any]:
    return dict(spatial_config=arguments_of(spatial.config), temporal_config=arguments_of(temporal.config))
