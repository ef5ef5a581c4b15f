"""Codecs of diffusers' classes that are called in another way than the others."""

import copy
from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kandinsky6_sr import SEGMENT_FRAMES
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution, IdentityDistribution
from torch import Tensor, nn

from ..gaussian import at_least_float32
from ..magvit_v2 import BinaryCode
from ..utils.checks import positive_int
from .codec import Codec, latent_shape, numbers
from .streams import Units


def as_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clips(frames: Tensor, batch: int) -> Tensor:
    """(B * T, C, H, W) -> (B, C, T, H, W)."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


class FrameCodec(Codec):
    """2D VAEs, which take pictures (B, C, H, W): frame by frame."""

    frame_by_frame = any_length = True

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution | IdentityDistribution:
        output = self.vae.encode(as_frames(x))
        if "latent_dist" in output:
            return DiagonalGaussianDistribution(as_clips(output.latent_dist.parameters, len(x)))
        (z,) = output.to_tuple()  # of VAEs that are not variational
        return IdentityDistribution(as_clips(z, len(x)))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return as_clips(self.vae.decode(as_frames(z)).sample, len(z))

    def units(self, num_frames: int) -> Units | None:
        each = [1] * num_frames
        return Units(each, each, lambda x, _: (self.posterior(x), None), lambda z, _: (self.decode(z, 1), None), False)


def _of_channels(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and std of each channel, (C,), from those of its equally large parts, (C, ...)."""
    mean, std = mean.flatten(1), std.flatten(1)
    over_all = mean.mean(1, keepdim=True)
    return over_all[:, 0], (std.square() + (mean - over_all).square()).mean(1).sqrt()


class Flux2Codec(FrameCodec):
    """Flux2: `bn` holds running statistics of patches of 2x2 latent cells, whose cells become channels.

    Source: pipelines/flux2/pipeline_flux2.py, _patchify_latents (line 457) and _encode_vae_image (line 607).
    """

    def _patch(self) -> tuple[Tensor, Tensor]:
        """Mean and std, each (C, 1, 2, 2)."""
        bn, size = self.vae.bn, self.config["patch_size"]
        (eps,) = numbers("batch_norm_eps", self.config["batch_norm_eps"])
        std = numbers("bn.running_var", bn.running_var.float() + eps).sqrt()
        return bn.running_mean.float().view(-1, 1, *size), std.view(-1, 1, *size)

    def statistics(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        shape, (high, wide) = latent_shape(shape), self.config["patch_size"]
        times = 1, 1, -(-shape[2] // high), -(-shape[3] // wide)
        mean, std = (values.repeat(times)[..., : shape[2], : shape[3]] for values in self._patch())
        if len(mean) != shape[0]:
            raise ValueError(f"shape must have the {len(mean)} channels of {self.name}'s latents, got {tuple(shape)}")
        return mean, std

    def mean_std(self, channels: int) -> tuple[Tensor, Tensor]:
        mean, std = _of_channels(*self._patch())
        if len(mean) != positive_int("channels", channels):
            raise ValueError(f"channels must be the {len(mean)} of {self.name}'s latents, got {channels}")
        return mean, std


class CosmosCodec(Codec):
    """Cosmos: statistics of each channel and latent frame.

    Source: pipelines/cosmos/pipeline_cosmos_video2world.py:410-424. It also multiplies by the scheduler's sigma_data.
    """

    def _frames(self, channels: int) -> tuple[Tensor, Tensor] | None:
        """Mean and std, each (C, 16, 1, 1)."""
        mean, std = (numbers(name, self.config.get(name) or ()) for name in ("latents_mean", "latents_std"))
        if not len(mean) or len(mean) != len(std) or len(mean) % positive_int("channels", channels):
            return None
        return mean.view(channels, -1, 1, 1), std.view(channels, -1, 1, 1)

    def statistics(self, shape: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        shape = latent_shape(shape)
        known = self._frames(shape[0])
        if known is None:
            return None
        most = known[0].shape[1]
        if shape[1] > most:
            raise ValueError(f"{self.name} has statistics for {most} latent frames, so not for {shape[1]}")
        return known[0][:, : shape[1]], known[1][:, : shape[1]]

    def mean_std(self, channels: int) -> tuple[Tensor, Tensor] | None:
        known = self._frames(channels)
        return known and _of_channels(*known)


class TemporalDecoderCodec(FrameCodec):
    """SVD: a 2D encoder, and a decoder that sees all frames."""

    frame_by_frame = False

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return as_clips(self.vae.decode(as_frames(z), num_frames=z.shape[2]).sample, len(z))

    def units(self, num_frames: int) -> None:
        return None


class PictureCodec(Codec):
    """Qwen-Image 2.1: one RGBA picture. The lab's pictures are opaque, and alpha is left out of what comes back."""

    in_channels = 3  # the fourth is opacity

    def posterior(self, x: Tensor) -> Any:
        if x.shape[2] != 1:  # the class reads nothing but the first of 2 to 4 frames, and fails on more
            raise ValueError(f"{self.name} takes pictures, clips of 1 frame; got {x.shape[2]} frames")
        return super().posterior(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return super().decode(z, num_frames)[:, : self.in_channels]


class PixelCodec(Codec):
    """A class whose pixels have another range than [-1, 1]. They are not clamped here."""

    def into(self, x: Tensor) -> Tensor:
        """Turn pixels in [-1, 1] into those that the class encodes."""
        raise NotImplementedError

    def back(self, y: Tensor) -> Tensor:
        """Invert `into`, for pixels that the class decoded."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> Any:
        return super().posterior(self.into(at_least_float32(x)).to(x.dtype))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        y = super().decode(z, num_frames)
        return self.back(at_least_float32(y)).to(y.dtype)


class MiniMaxCodec(PixelCodec):
    """MiniMax-H3: pixels in [0, 1], minus the mean of ImageNet's and divided by their std, each of a channel.

    Source: the class's docstring, diffusers' autoencoder_kl_minimax_h3.py:516-519. Its pipeline does the same:
    modular_pipelines/minimax_h3, modular_pipeline.py:271-276, encoders.py:132 and decoders.py:193.
    """

    pixel_mean, pixel_std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def into(self, x: Tensor) -> Tensor:
        mean, std = (x.new_tensor(values).view(-1, 1, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        return ((x + 1) / 2 - mean) / std

    def units(self, num_frames: int) -> Units | None:
        """Chunks of 17 frames. A window of the decoder has the 5 latents of a chunk and 2 of the next one.

        It decodes to 22 frames, and fades into the next one over the last 5 of them (`_blend` of the class).
        """
        vae, chunk = self.vae, self.config["clip_length"]
        number, fade = num_frames // chunk, vae.frame_overlap
        if not number:
            return None
        weight = torch.arange(fade, device=self.device).view(-1, 1, 1) / fade

        def encode(x: Tensor, memory: None) -> tuple[Any, None]:
            if x.shape[2] < chunk:  # the last frames of the clip
                return self.posterior(x), None
            longer = self.posterior(torch.cat([x, x[:, :, -1:]], dim=2))  # since latents of the last chunk are dropped
            return type(longer)(longer.parameters[:, :, : vae.tokens_chunk_size]), None

        def decode(z: Tensor, memory: tuple[int, Tensor, Tensor] | None) -> tuple[Tensor, tuple[int, Tensor, Tensor]]:
            window, before, tail = memory or (0, z[:, :, :0], None)
            y = vae.decode(torch.cat([before, z], dim=2)).sample
            if tail is not None:
                to = weight.to(y.dtype)
                y = torch.cat([tail * (1 - to) + y[:, :, :fade] * to, y[:, :, fade:]], dim=2)
            done = y if window + 1 == number else y[:, :, :chunk]
            memory = window + 1, z[:, :, -vae.token_overlap :].clone(), y[:, :, chunk:].clone()
            return self.back(at_least_float32(done)).to(y.dtype), memory

        latents = [vae.tokens_chunk_size] * number
        latents[0] += vae.token_overlap
        return Units([chunk] * number + [fade], latents, encode, decode)

    def back(self, y: Tensor) -> Tensor:
        mean, std = (y.new_tensor(values).view(-1, 1, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        return (y * std + mean) * 2 - 1


class Kandinsky6Codec(PixelCodec):
    """Kandinsky 6 SR: trained on pixels / 128 - 1, where [-1, 1] is pixels / 127.5 - 1.

    Source: its pipeline's encode_video and decode_latents, pipelines/kandinsky6/pipeline_kandinsky6_sr.py:218-226.
    """

    def into(self, x: Tensor) -> Tensor:
        return (x + 1) * (127.5 / 128) - 1

    def back(self, y: Tensor) -> Tensor:
        return (y + 1) * (128 / 127.5) - 1

    def units(self, num_frames: int) -> Units:
        """Segments of 17, then 16 frames, which leave a cache (the class's `encode` and `decode`)."""
        vae, ratio = self.vae, self.vae.temporal_compression_ratio

        def encode(x: Tensor, memory: Any) -> tuple[Any, Any]:
            cache = copy.deepcopy(memory) if memory else vae.encoder.make_cache()
            return DiagonalGaussianDistribution(vae.encoder(self.into(at_least_float32(x)).to(x.dtype), cache)), cache

        def decode(z: Tensor, memory: Any) -> tuple[Tensor, Any]:
            cache = copy.deepcopy(memory) if memory else vae.decoder.make_cache()
            y = vae.decoder(z, cache)
            return self.back(at_least_float32(y)).to(y.dtype), cache

        frames = _lengths(num_frames, SEGMENT_FRAMES)
        return Units(frames, _lengths((num_frames - 1) // ratio + 1, SEGMENT_FRAMES // ratio), encode, decode)


def _lengths(total: int, others: int) -> list[int]:
    """Return the lengths of segments: one more than `others` in the first, and what is left in the last."""
    if total <= others + 1:
        return [total]
    further, rest = divmod(total - 1 - others, others)
    return [others + 1] + [others] * further + [rest] * (rest > 0)


class CogVideoXCodec(Codec):
    """CogVideoX: `encode` and `decode` take 8 frames and 2 latent frames at a time; the first unit has what is over."""

    def units(self, num_frames: int) -> Units:
        vae = self.vae
        self.check_untiled()

        def encode(x: Tensor, memory: Any) -> tuple[Any, Any]:
            y, memory = vae.encoder(x, conv_cache=memory)
            return DiagonalGaussianDistribution(y if vae.quant_conv is None else vae.quant_conv(y)), memory

        def decode(z: Tensor, memory: Any) -> tuple[Tensor, Any]:
            return vae.decoder(z if vae.post_quant_conv is None else vae.post_quant_conv(z), conv_cache=memory)

        def lengths(total: int, most: int) -> list[int]:
            number = max(total // most, 1)
            return [total - most * (number - 1)] + [most] * (number - 1)

        latents = lengths(-(-num_frames // self.config["temporal_compression_ratio"]), vae.num_latent_frames_batch_size)
        return Units(lengths(num_frames, vae.num_sample_frames_batch_size), latents, encode, decode)


class FeatureCacheCodec(Codec):
    """Wan and Qwen-Image: one frame, then 4 at a time; each convolution leaves its last frames in a list."""

    @property
    def in_channels(self) -> int:
        patch = self.config.get("patch_size") or 1  # Wan 2.2's: squares of pixels that become channels
        return (self.config.get("input_channels") or self.config.get("in_channels") or 3) // patch**2

    def units(self, num_frames: int) -> Units | None:
        vae, patch = self.vae, self.config.get("patch_size")
        ratio = self.temporal_ratio
        if ratio not in (1, 2, 4):
            return None
        self.check_untiled()
        takes_first = "first_chunk" in signature(vae.decoder.forward).parameters

        def run(network: nn.Module, x: Tensor, memory: Any, **more: Any) -> tuple[Tensor, Any]:
            cache = list(memory) if memory else [None] * len(list(network.modules()))
            return network(x, feat_cache=cache, feat_idx=[0], **more), cache

        def encode(x: Tensor, memory: Any) -> tuple[Any, Any]:
            y, memory = run(vae.encoder, patchify(x, patch) if patch else x, memory)
            return DiagonalGaussianDistribution(vae.quant_conv(y)), memory

        def decode(z: Tensor, memory: Any) -> tuple[Tensor, Any]:
            more = {"first_chunk": memory is None} if takes_first else {}
            y, memory = run(vae.decoder, vae.post_quant_conv(z), memory, **more)
            return (unpatchify(y, patch) if patch else y).clamp(-1, 1), memory

        groups = (num_frames - 1) // 4  # the class takes 4 frames at a time, whatever its ratio is
        return Units([1] + [4] * groups, [1] * (1 + groups * 4 // ratio), encode, decode, exact=False)


class MagvitCodec(Codec):
    """MAGVIT-v2 of the lab: each convolution leaves the frames that its next windows see."""

    def units(self, num_frames: int) -> Units:
        vae, ratio = self.vae, self.vae.temporal_compression_ratio
        names = {module: name for name, module in vae.named_modules()}

        def run(network: nn.Module, x: Tensor, memory: Any, **more: Any) -> tuple[Tensor, Any]:
            past, later = memory or {}, {}

            def convolve(conv: Any, x: Tensor) -> Tensor:
                y, kept = conv.step(x, past.get(names[conv]))
                later[names[conv]] = kept.clone()
                return y

            return network(x, convolve, **more), later

        def encode(x: Tensor, memory: Any) -> tuple[Any, Any]:
            raw, memory = run(vae.encoder, x, memory)
            return BinaryCode(raw), memory

        def decode(z: Tensor, memory: Any) -> tuple[Tensor, Any]:
            return run(vae.decoder, z, memory, first=memory is None)

        groups = (num_frames - 1) // ratio
        return Units([1] + [ratio] * groups, [1] * (groups + 1), encode, decode, exact=False)


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


class OneClipCodec(Codec):
    """Classes that take one clip at a time: HunyuanVideo 1.5."""

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        of_one = super().posterior
        return DiagonalGaussianDistribution(torch.cat([of_one(clip).parameters for clip in x.split(1)]))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        of_one = super().decode
        return torch.cat([of_one(clip, num_frames) for clip in z.split(1)])


class AllegroCodec(OneClipCodec):
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
        return super().posterior(x)

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        self.vae.enable_tiling()
        return super().decode(z, num_frames).transpose(1, 2)
