"""Any video VAE as two plain functions, and what it tells of its latents: frame groups, scale, decoded size."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .shapes import decoder_last_seen, encoder_last_seen, frame_groups
from .spatial_vae import SpatialVAE
from .temporal_vae import TemporalVAE
from .utils.checks import positive_int
from .video_vae import VideoVAE

LAB_CLASSES = (VideoVAE, TemporalVAE, SpatialVAE)


class Maps(NamedTuple):
    """What `maps_of` returns: a video VAE for clips of one length."""

    encode: Callable[[Tensor], Tensor]
    """(B, C, T, H, W), pixels in [-1, 1] or a TemporalVAE's 2D latents -> the mode of the latents, (B, C', L, h, w)."""
    decode: Callable[[Tensor], Tensor]
    """Latents -> (B, C, T, H, W)."""
    x: Tensor
    """Noise that fits `encode`, seeded: float32 (1, C, T, H, W) in [-1, 1] (2D latents: standard normal)."""
    z: Tensor
    """encode(x)."""
    groups: list[range]
    """The frames of each latent frame (`shapes.frame_groups`)."""

    @property
    def encoder_last_seen(self) -> list[int]:
        """For each latent frame the last frame that it may see."""
        return encoder_last_seen(self.groups)

    @property
    def decoder_last_seen(self) -> list[int]:
        """For each frame the last latent frame that it may see."""
        return decoder_last_seen(self.groups)


def encode(vae, x: Tensor) -> Tensor:
    """The mode of the latents of any video VAE with diffusers' interface."""
    return vae.encode(x).latent_dist.mode()


def decode(vae, z: Tensor, num_frames: int) -> Tensor:
    """The frames of latents; only the lab's models have to be told how many."""
    return (vae.decode(z, num_frames) if isinstance(vae, LAB_CLASSES) else vae.decode(z)).sample


def maps_of(vae, num_frames: int = 17, size: int = 16, seed: int = 0) -> Maps:
    """The encoder and decoder of a video VAE as functions of clips of num_frames frames.

    Args:
        size: height and width of the noise `x`: pixels, a multiple of the model's ratio; a TemporalVAE's latent cells.

    Raises ValueError where the model fails on such a clip, or where its latents are not one for each group of frames:
    there it is not known which frames a latent may see.
    """
    positive_int("num_frames", num_frames)
    channels = vae.config.in_channels if isinstance(vae, TemporalVAE) else 3
    generator = torch.Generator().manual_seed(seed)
    shape = (1, channels, num_frames, positive_int("size", size), size)
    if isinstance(vae, TemporalVAE):
        x = torch.randn(shape, generator=generator)
    else:
        x = torch.rand(shape, generator=generator) * 2 - 1
    x = x.to(device=vae.device, dtype=vae.dtype)
    name = type(vae).__name__
    try:
        with torch.no_grad():
            z = encode(vae, x)
            y = decode(vae, z, num_frames)
    except Exception as error:  # other families fail in ways of their own on sizes they do not take
        raise ValueError(f"{name} failed on {num_frames} frames of {size}x{size}: {error}") from error
    if y.shape != x.shape:
        raise ValueError(f"{name} turned a clip of shape {tuple(x.shape)} into {tuple(y.shape)}: take another length")
    groups = groups_of(vae, num_frames, z.shape[2])
    return Maps(lambda x: encode(vae, x), lambda z: decode(vae, z, num_frames), x, z, groups)


def _temporal_ratio(vae) -> int | None:
    """Frames a latent frame, where the model tells: the lab's as a property, diffusers' classes in two ways."""
    if isinstance(vae, LAB_CLASSES):
        return getattr(vae, "temporal_compression_ratio", 1)  # a SpatialVAE has none
    names = ("temporal_compression_ratio", "scale_factor_temporal")
    return next((vae.config[name] for name in names if vae.config.get(name)), vars(vae).get(names[0]))


def micro_frame_size_of(vae) -> int | None:
    """Frames that the model takes at a time, each chunk alone; None where it takes all at once."""
    return vae.config.micro_frame_size if isinstance(vae, VideoVAE) else None


def groups_of(vae, num_frames: int, latent_frames: int) -> list[range]:
    """The frames that each latent frame of any video VAE stands for; nothing is computed by the model.

    Raises ValueError where clips of num_frames frames do not have so many latent frames, or it cannot be told.
    """
    ratio = _temporal_ratio(vae)
    ratios = range(1, num_frames + 1) if ratio is None else [ratio]
    found = [frame_groups(num_frames, ratio, micro_frame_size_of(vae)) for ratio in ratios]
    found = [groups for groups in found if len(groups) == latent_frames]
    if len(found) != 1:
        raise ValueError(
            f"{type(vae).__name__} made {latent_frames} latent frames of {num_frames} frames, which does not tell the "
            f"frames that each stands for (temporal ratio {ratio or 'not told'}); take another length"
        )
    return found[0]


def shift_and_scale(vae, channels: int) -> tuple[Tensor, Tensor] | None:
    """(mean, std), each (C,), that a model assumes its raw latents to have: normalised they are (z - mean) / std.

    The lab's VideoVAE calls them shift and scale; a SpatialVAE's latents are scaled already, so 0 and 1. diffusers'
    classes have latents_mean and latents_std, in the config or as buffers, and scaling_factor and shift_factor in the
    config, so that normalised is (z - mean) * scaling_factor / std, as in its pipelines. None where a model tells
    nothing, or not one number a channel.
    """
    if isinstance(vae, VideoVAE):
        return vae.shift.flatten(), vae.scale.flatten()
    if isinstance(vae, LAB_CLASSES):
        return (torch.zeros(channels), torch.ones(channels)) if isinstance(vae, SpatialVAE) else None
    told = {name: _told(vae, name) for name in ("latents_mean", "latents_std", "shift_factor", "scaling_factor")}
    if all(value is None for value in told.values()):
        return None
    mean = told["latents_mean"] if told["latents_mean"] is not None else told["shift_factor"]
    std = torch.ones(1) if told["latents_std"] is None else told["latents_std"]
    factor = torch.ones(1) if told["scaling_factor"] is None else told["scaling_factor"]
    mean = torch.zeros(1) if mean is None else mean
    if any(len(value) not in (1, channels) for value in (mean, std, factor)):
        return None
    return mean.expand(channels), (std / factor).expand(channels)


def _told(vae, name: str) -> Tensor | None:
    value = vae.config.get(name)
    if value is None:
        value = dict(vae.named_buffers()).get(name)
    return None if value is None else torch.as_tensor(value, dtype=torch.float32).flatten()


class _Decoder(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor, num_frames: int) -> Tensor:
        return decode(self.vae, z, num_frames)


def decoded_shape(vae, shape: Sequence[int], num_frames: int) -> tuple[int, ...] | None:
    """The shape of the frames that latents of a shape decode to; nothing is computed, the weights are left out (meta).

    None where it cannot be told: for what is no torch module, what needs more than latents, and what looks at values.
    Raises ValueError where the model does not take such latents.
    """
    if not isinstance(vae, nn.Module):
        return None
    decoder = _Decoder(vae)
    weights = {**dict(decoder.named_parameters()), **dict(decoder.named_buffers())}
    empty = {name: torch.empty_like(value, device="meta") for name, value in weights.items()}
    z = torch.empty(shape, device="meta", dtype=vae.dtype)
    try:
        with torch.no_grad():
            return tuple(torch.func.functional_call(decoder, empty, (z, num_frames)).shape)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return None
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"vae must decode latents of shape {tuple(shape)}, but {type(vae).__name__} fails on them: {reason}"
        ) from None
    except Exception:  # of what it lacks or does, its answers tell
        return None
