"""Translate Open-Sora 1.2's checkpoint layout to the lab's names: one table for the keys, one for the config.

Source: the Hugging Face repository `hpcai-tech/OpenSora-VAE-v1.2` and Open-Sora v1.2.0, `opensora/models/vae/`.
"""

import re
from collections.abc import Mapping
from inspect import signature
from typing import Any

from ..spatial_vae import SpatialVAE
from ..video_vae import SCALE, SHIFT, VideoVAE

MODEL_TYPE = "VideoAutoencoderPipeline"
RELEASED_CONFIG = {"model_type": MODEL_TYPE, "micro_frame_size": 17, "vae_2d": {"micro_batch_size": 4}}

# The first pattern that matches a whole key of ours gives Open-Sora's key. {up} and {sampler}: Open-Sora numbers the
# decoder's levels by width, the lab by order of use, so block k of n is their level n - 1 - k and sampler n - 2 - k.
_KEYS = [
    (r"(shift|scale)", r"{1}"),
    (r"spatial\.autoencoder\.(.+)", r"spatial_vae.module.{1}"),
    (r"temporal\.((?:post_)?quant_conv\.conv\.\w+)", r"temporal_vae.{1}"),
    (r"temporal\.encoder\.(conv_in\.conv\.\w+)", r"temporal_vae.encoder.{1}"),
    (r"temporal\.encoder\.down_blocks\.(\d+)\.resnets\.(.+)", r"temporal_vae.encoder.block_res_blocks.{1}.{2}"),
    (r"temporal\.encoder\.down_blocks\.(\d+)\.downsampler\.(.+)", r"temporal_vae.encoder.conv_blocks.{1}.{2}"),
    (r"temporal\.encoder\.conv_out\.(.+)", r"temporal_vae.encoder.conv2.{1}"),
    (r"temporal\.decoder\.conv_in\.(.+)", r"temporal_vae.decoder.conv1.{1}"),
    (r"temporal\.decoder\.up_blocks\.(\d+)\.resnets\.(.+)", r"temporal_vae.decoder.block_res_blocks.{up}.{2}"),
    (r"temporal\.decoder\.up_blocks\.(\d+)\.upsampler\.(.+)", r"temporal_vae.decoder.conv_blocks.{sampler}.{2}"),
    (r"temporal\.decoder\.(conv_out\..+)", r"temporal_vae.decoder.{1}"),
    (r"temporal\.(encoder|decoder)\.mid_block\.resnets\.(\d+)\.(.+)", r"temporal_vae.{1}.res_blocks.{2}.{3}"),
    (r"temporal\.(encoder|decoder)\.norm_out\.(.+)", r"temporal_vae.{1}.norm1.{2}"),
]

_TEMPORAL_ARGUMENTS = {
    "in_out_channels": "in_channels",
    "latent_embed_dim": "latent_channels",
    "embed_dim": "latent_channels",
    "filters": "base_channels",
    "num_res_blocks": "num_res_blocks",
    "channel_multipliers": "channel_multipliers",
    "temporal_downsample": "temporal_downsample",
    "num_groups": "norm_num_groups",
    "activation_fn": "act_fn",
}
_TEMPORAL_DOWNSAMPLE = {"VAE_Temporal_SD": (False, True, True), "VAE_Temporal": (True, True, False)}  # by `type`
_NOT_ARCHITECTURE = {"type", "from_pretrained"}  # the latter names other weights; a checkpoint has them in its file


def to_open_sora_key(key: str, num_levels: int) -> str:
    """Translate a key of VideoVAE's state dict to the key of the same tensor in Open-Sora's file.

    num_levels: the number of channel multipliers, needed to reverse the order of the decoder's levels.

    >>> to_open_sora_key("temporal.decoder.up_blocks.0.upsampler.conv.bias", num_levels=4)
    'temporal_vae.decoder.conv_blocks.2.conv.bias'
    """
    for pattern, theirs in _KEYS:
        if match := re.fullmatch(pattern, key):
            level = int(match[1]) if match[1].isdigit() else 0
            levels = dict(up=num_levels - 1 - level, sampler=num_levels - 2 - level)
            translated = theirs.format(key, *match.groups(), **levels)
            is_temporal = translated.startswith("temporal_vae.")
            return translated.replace("conv_shortcut.", "conv3.") if is_temporal else translated
    raise KeyError(f"Open-Sora's layout has no key for {key!r}")


def to_config(config: Mapping[str, Any], spatial_config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Translate Open-Sora's config.json to the arguments of VideoVAE.

    spatial_config: config of diffusers' AutoencoderKL, needed if the 2D VAE is not SDXL's, because Open-Sora's config
      only names where to download one. Only its architecture is used: the factor between the halves stays 0.18215, a
      constant in the reference's code.

    Raises ValueError if an argument is not known or contradicts another.
    """
    temporal = _temporal_config(config.get("vae_temporal") or {})
    channels = temporal.get("latent_channels", 4)
    micro_batch_size = (config.get("vae_2d") or {}).get("micro_batch_size")
    return {
        "spatial_config": spatial_arguments(spatial_config or {}) | {"micro_batch_size": micro_batch_size},
        "temporal_config": temporal,
        "micro_frame_size": config.get("micro_frame_size"),
        "latents_mean": _per_channel(config.get("shift", SHIFT), channels),
        "latents_std": _per_channel(config.get("scale", SCALE), channels),
    }


def spatial_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of SpatialVAE in a config of diffusers' AutoencoderKL. Refuses other blocks than its own."""
    for name, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if set(config.get(name) or [block]) != {block}:
            raise ValueError(f"spatial_config: {name} must be {block} throughout, got {config[name]}")
    names = signature(SpatialVAE).parameters.keys() - {"scaling_factor", "micro_batch_size"}
    return {name: config[name] for name in names if name in config}


def _temporal_config(config: Mapping[str, Any]) -> dict[str, Any]:
    kind = config.get("type", "VAE_Temporal_SD")
    if kind not in _TEMPORAL_DOWNSAMPLE:
        raise ValueError(f"vae_temporal type must be one of {', '.join(_TEMPORAL_DOWNSAMPLE)}, got {kind!r}")
    if unknown := sorted(set(config) - set(_TEMPORAL_ARGUMENTS) - _NOT_ARCHITECTURE):
        raise ValueError(f"vae_temporal has arguments the lab does not know: {', '.join(unknown)}")
    width, latent_width = config.get("embed_dim", 4), config.get("latent_embed_dim", 4)
    if width != latent_width:
        raise ValueError(f"vae_temporal embed_dim ({width}) must equal latent_embed_dim ({latent_width})")
    arguments: dict[str, Any] = {"temporal_downsample": _TEMPORAL_DOWNSAMPLE[kind]}
    arguments |= {ours: config[theirs] for theirs, ours in _TEMPORAL_ARGUMENTS.items() if theirs in config}
    if arguments.get("act_fn") == "swish":  # another name for it
        arguments["act_fn"] = "silu"
    return arguments


def _per_channel(value: float | list[float], channels: int) -> list[float]:
    """Expand one number for all channels, which the reference also allows."""
    return [value] * channels if isinstance(value, int | float) else list(value)


def expected_shapes(vae: VideoVAE) -> dict[str, tuple[int, ...]]:
    """Return Open-Sora's keys and shapes for a VideoVAE, on any device including meta."""
    levels = len(vae.temporal.config.channel_multipliers)
    return {to_open_sora_key(key, levels): tuple(value.shape) for key, value in vae.state_dict().items()}
