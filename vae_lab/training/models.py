"""The models of a training run: the one that it trains, the frozen 2D half behind it, and the finished one."""

from importlib import import_module
from inspect import signature
from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn

from ..checkpoints.loading import load
from ..families.codec import class_named, codec_of
from ..magvit_v2 import MagvitV2
from ..spatial_vae import SpatialVAE
from ..temporal_vae import TemporalVAE
from ..utils.checks import check_known
from ..video_vae import VideoVAE
from .config import STARTS, TrainConfig
from .initialization import start_as_interpolation, start_carrying_frames


def new_parts(config: TrainConfig) -> tuple[ModelMixin, SpatialVAE | None]:
    """Make the model that a run trains and, for part "temporal", load the frozen 2D half in front of it.

    Raises ValueError if they cannot be made, or do not fit each other or the size of the clips.
    """
    half, temporal = new_half(config), config.part == "temporal"
    spatial = frozen_spatial(config.spatial, config.spatial_scaling_factor) if temporal else None
    check_sizes(config, half, spatial)
    if config.part == "whole":
        check_lengths(config, half)
        check_trainable(config, half)
    return half, spatial


def new_half(config: TrainConfig) -> ModelMixin:
    """Make the half, or whole VAE, that a run trains: from `config.model` and the seed, or from a checkpoint.

    Raises ValueError if it cannot be built.
    """
    kind, arguments = _class_of(config)
    if config.start not in STARTS:
        whole = load(config.start)
        vae = getattr(whole, config.part, whole)
        if config.part != "whole" and not isinstance(vae, kind):
            wanted = f"start {config.start!r} must have a {config.part} half of the lab"
            raise ValueError(f"{wanted}, it is {type(vae).__name__}")
        return vae
    check_known(f"model ({kind.__name__})", arguments, list(signature(kind).parameters))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            vae = kind(**arguments)
        except (TypeError, IndexError, RuntimeError, ZeroDivisionError) as error:  # diffusers' classes check little
            raise ValueError(f"model ({kind.__name__}) cannot be built: {error}") from error
    if config.start == "interpolation":
        for half in (vae.spatial, vae.temporal) if kind is VideoVAE else (vae,):
            start_as_interpolation(half)
    if config.start == "frames":
        start_carrying_frames(vae)
    return vae


def _class_of(config: TrainConfig) -> tuple[type, dict[str, Any]]:
    arguments = dict(config.model)
    if config.part != "whole":
        return SpatialVAE if config.part == "spatial" else TemporalVAE, arguments
    name = arguments.pop("class_name", "VideoVAE")
    if name == "VideoVAE":
        for part, cls in (("spatial_config", SpatialVAE), ("temporal_config", TemporalVAE)):
            check_known(f"model {part}", arguments.get(part) or {}, list(signature(cls).parameters))
        return VideoVAE, arguments
    kind = class_named(name)
    if kind is None or not (name.startswith("AutoencoderKL") or kind is MagvitV2):
        allowed = '"VideoVAE", "MagvitV2" or an AutoencoderKL class of diffusers'
        raise ValueError(f"model class_name must be {allowed}, got {name!r}")
    if config.start == "interpolation":
        raise ValueError(f'start must be "random" or a checkpoint for {name}, got "interpolation"')
    return kind, arguments


def frozen_spatial(source: str, scaling_factor: float | None = None) -> SpatialVAE:
    """Load the 2D half of a checkpoint, without gradients; replace its scaling_factor if another one is given."""
    vae = load(source)
    spatial = getattr(vae, "spatial", vae)
    if not isinstance(spatial, SpatialVAE):
        raise ValueError(f"spatial must be a checkpoint with a 2D half of the lab, {source} is {type(vae).__name__}")
    if scaling_factor is not None:
        spatial = spatial.with_scaling_factor(scaling_factor)
    return spatial.requires_grad_(False)


def check_sizes(config: TrainConfig, half: ModelMixin, spatial: SpatialVAE | None, name: str = "size") -> None:
    """Refuse halves that do not fit each other, and clips that do not fit them. name: what messages call the size."""
    if spatial is not None:
        given, taken, channels = spatial.config.latent_channels, half.config.in_channels, half.config.latent_channels
        if given != taken:
            raise ValueError(f"model in_channels ({taken}) must equal the {given} latent channels of the 2D half")
        if channels != given and any(stage.identity_weight for stage in config.stages):
            compared = "identity_weight compares latents with 2D latents"
            raise ValueError(f"{compared}: model latent_channels ({channels}) must equal {given}")
    ratio = codec_of(spatial or half).spatial_ratio or 1
    if config.size % ratio:
        raise ValueError(f"{name} ({config.size}) must be a multiple of the spatial ratio ({ratio})")


def check_lengths(config: TrainConfig, vae: ModelMixin) -> None:
    """Refuse lengths of clips that the model is known not to keep: a step may draw each of them."""
    codec, images = codec_of(vae), [(f"image_fraction ({config.image_fraction})", 1, 1)]
    stages = [(f"num_frames {stage.num_frames} of stage {stage.name!r}", *stage.num_frames) for stage in config.stages]
    for name, shortest, longest in [*stages, *(images if config.image_fraction else [])]:
        for num_frames in range(shortest, longest + 1):
            try:
                codec.check_length(num_frames)
            except ValueError as error:
                raise ValueError(f"{name} must hold lengths that the model keeps: {error}") from None


def check_trainable(config: TrainConfig, vae: ModelMixin) -> None:
    """Refuse a model that fails on the stages' clips, changes their shape, or returns latents without mean and std.

    The shortest and longest clips are tried without weights or computation.
    """
    codec, images = codec_of(vae), [1] if config.image_fraction else []
    for num_frames in sorted({n for stage in config.stages for n in (*images, *stage.num_frames)}):
        shape = 1, codec.in_channels, num_frames, config.size, config.size
        posterior = codec.trial_posterior(shape)
        if posterior is None:  # it cannot be tried so
            continue
        missing = [name for name in ("mean", "std") if not hasattr(posterior, name)]
        if missing:
            lacks = f"{type(posterior).__name__} has no {' and no '.join(missing)}"
            raise ValueError(f"{codec.name} cannot be trained: its latents need a distribution, but {lacks}")
        back = codec.decoded_shape(posterior.mean.shape, num_frames)
        if back not in (None, shape):
            raise ValueError(f"{codec.name} cannot be trained on clips of shape {shape}: it returns {back}")


def stack(spatial: SpatialVAE, temporal: TemporalVAE) -> VideoVAE:
    """Join both halves into a VideoVAE whose `normalize` changes nothing yet: its latents have mean 0 and std 1."""
    channels = temporal.config.latent_channels
    return VideoVAE.of_halves(spatial, temporal, latents_mean=[0.0] * channels, latents_std=[1.0] * channels)


def perceptual_distance(name: str) -> nn.Module:
    """Make the module that `TrainConfig.perceptual` names as "module:name"."""
    module, _, factory = name.partition(":")
    try:
        return getattr(import_module(module), factory)()
    except (ImportError, AttributeError, ValueError) as error:
        what = f'perceptual must be "module:name" of an importable module, {name!r} raises: {error}'
        raise ValueError(what) from error
