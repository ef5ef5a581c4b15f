"""One trial of an ablation: train a VAE, use it on clips it never saw, measure it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..checkpoints.loading import load
from ..families import decode, encode, maps_of
from ..latents.moments import ACTIVE_VARIANCE
from ..metrics import DATA_RANGE, psnr
from ..probes.dependency import future_leak
from ..training.config import TrainConfig
from ..training.loop import train
from ..training.losses import Objective, kl_per_element
from ..training.models import check_sizes, frozen_spatial, new_half, rescaled, stack
from ..utils.files import locked
from ..video.clips import HELD_OUT_PHOTOS, photo_clip, synthetic_clip
from ..video.frames import to_tensor
from ..video_vae import VideoVAE
from .config import TrialConfig
from .metrics import METRICS

THREADS = 1  # a trial computes with: so its bits do not depend on how many run beside it
_ALONE = Lock()  # in a process: what torch and diffusers do while a model is made is of all its threads
LEAK_FRAMES = 17  # of the noise that the causality probe is made with, for a model without chunks


@contextmanager
def _own_settings() -> Iterator[None]:
    """THREADS, and nothing of what else the caller has set in this process; it is as before afterwards."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with ExitStack() as settings:
        settings.enter_context(torch.random.fork_rng(devices=[]))
        settings.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            settings.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            settings.enter_context(torch.device("cpu"))
        try:
            torch.set_num_threads(THREADS)
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)


class Measured(NamedTuple):
    """What a trial gives."""

    metrics: dict[str, float]
    """METRICS."""
    frames: dict[str, dict[str, list[float]]]
    """Name of a measured clip -> name in METRICS_BY_FRAME -> a value for each of its frames."""


def run_trial(config: TrialConfig, folder: Path, cache: Path, data: str | None = None) -> Measured:
    """Train into `folder`, or find the model there, and measure it. Trials with one training may share its folder.

    cache: where the 2D latents of trainings are kept. data: as of `train`.
    """
    with _ALONE, _own_settings():
        AcceleratorState._reset_state(reset_partial_state=True)  # else it keeps the precision of a run before
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if (folder / "model").exists():
                vae = load(folder / "model")
            else:
                training = replace(config.training, workers=0)  # a worker of joblib cannot have workers of its own
                vae = train(training, folder, data, cache=cache, progress=False)
        torch.manual_seed(config.seed)  # for a decoder that adds noise
        return measure(as_used(vae, config), config)


def as_used(vae: nn.Module, config: TrialConfig) -> nn.Module:
    """The trained model with the chunks, and the factor on its 2D latents, that the trial uses it with."""
    if isinstance(vae, VideoVAE):
        vae = vae.with_micro_frame_size(config.micro_frame_size)
        if config.used_spatial_scaling_factor is not None:
            spatial = rescaled(vae.spatial, config.used_spatial_scaling_factor)
            vae = stack(spatial, vae.temporal).with_micro_frame_size(config.micro_frame_size)
    return vae.eval()


def measured_clips(config: TrialConfig) -> dict[str, Tensor]:
    """The clips that trials are measured on: the photographs no training sees, moving, and shapes with their own
    velocities. The same for every seed and variant. Name -> (1, 3, T, H, W) in [-1, 1].
    """
    size = (config.measured_size, config.measured_size)
    clips = {name: photo_clip(name, config.measured_frames, size, seed=1) for name in HELD_OUT_PHOTOS}
    clips["shapes"] = synthetic_clip("shapes", config.measured_frames, size)
    return {name: to_tensor(clip.frames) for name, clip in clips.items()}


@torch.no_grad()
def measure(vae: nn.Module, config: TrialConfig) -> Measured:
    """METRICS of a model, and METRICS_BY_FRAME of each frame."""
    clips = measured_clips(config)
    frames, images, kl, means = {}, [], [], []
    for name, x in clips.items():
        if isinstance(vae, VideoVAE):
            spatial_latent = vae.spatial.encode(x).latent_dist.mode()
            posterior = vae.encode_spatial_latent(spatial_latent).latent_dist
            decoded = vae.decode_spatial_latent(posterior.mode(), x.shape[2]).sample
            frames[name] = {"time_error": _time_error(decoded, spatial_latent).tolist()}
            y = vae.spatial.decode(decoded).sample
        else:
            posterior = vae.encode(x).latent_dist
            frames[name], y = {}, decode(vae, posterior.mode(), x.shape[2])
        z = posterior.mode()
        frames[name]["psnr"] = _psnr(x, y).tolist()
        kl.append(kl_per_element(posterior).item())
        means.append(z)
        images.append(_of_image(lambda image: _psnr(image, decode(vae, encode(vae, image), 1)).item(), x))
    z = torch.cat(means)  # of clips of one shape
    metrics = dict.fromkeys(METRICS, float("nan")) | {
        "psnr": float(np.mean([values["psnr"] for values in frames.values()])),
        "image_psnr": float(np.mean(images)),
        "kl": float(np.mean(kl)),
        "active_channels": float((z.transpose(0, 1).flatten(1).var(1) > ACTIVE_VARIANCE).sum()),
        "latent_std": z.std().item(),
        "compression": sum(x.numel() for x in clips.values()) / z.numel(),
        "leak": _leak(vae, config.micro_frame_size or LEAK_FRAMES),
        "parameters": float(sum(p.numel() for p in _trained(vae, config).parameters())),
        "training_gflop": training_gflop(config),
    }
    if isinstance(vae, VideoVAE):
        metrics["time_error"] = float(np.sqrt(np.mean(np.square([f["time_error"] for f in frames.values()]))))
        if vae.temporal.config.latent_channels == vae.temporal.config.in_channels:
            metrics["identity"] = float(np.mean([_of_image(partial(_identity, vae), x) for x in clips.values()]))
    return Measured(metrics, frames)


def _psnr(x: Tensor, y: Tensor) -> Tensor:
    return psnr(x, y.clamp(-1, 1), DATA_RANGE)[0]


def _time_error(decoded: Tensor, spatial_latent: Tensor) -> Tensor:
    """(T,)"""
    return (decoded - spatial_latent).square().mean((0, 1, 3, 4)).sqrt() / spatial_latent.std()


def _of_image(function: Callable[[Tensor], float], x: Tensor) -> float:
    """Of a clip's first frame alone; NaN where a model does not take a single frame."""
    try:
        return function(x[:, :, :1])
    except ValueError:
        return float("nan")


def _identity(vae: VideoVAE, image: Tensor) -> float:
    spatial_latent = vae.spatial.encode(image).latent_dist.mode()
    return (vae.encode_spatial_latent(spatial_latent).latent_dist.mode() - spatial_latent).square().mean().item()


def _leak(vae: nn.Module, num_frames: int) -> float:
    """NaN where the model's law of frames is not known."""
    try:
        maps = maps_of(vae, num_frames)
    except ValueError:
        return float("nan")
    return future_leak(maps.encode, maps.x, maps.encoder_last_seen).largest


def _trained(vae: nn.Module, config: TrialConfig) -> nn.Module:
    return vae.temporal if config.part == "temporal" else vae


def training_gflop(config: TrainConfig) -> float:
    """Floating point operations of a training, in 1e9, as torch counts them: of one clip of each stage's longest
    length, forward and backward, times steps and batch. Images, as many as image_fraction says, are counted as such.
    """
    half = new_half(config)
    spatial = frozen_spatial(config.spatial, config.spatial_scaling_factor) if config.part == "temporal" else None
    total = 0.0
    for stage in config.stages:
        shares = {1: 1.0} if config.part == "spatial" else {1: config.image_fraction}
        if config.part != "spatial":
            shares[stage.num_frames[1]] = shares.get(stage.num_frames[1], 0.0) + 1 - config.image_fraction
        for num_frames, share in shares.items():
            if share:
                total += share * stage.steps * stage.batch_size * _gflop(config, stage, half, spatial, num_frames)
    return total


def _gflop(config: TrainConfig, stage, half: nn.Module, spatial, num_frames: int) -> float:
    x = torch.zeros(1, 3, num_frames, config.size, config.size)
    latents = None
    if spatial is not None:
        side = config.size // spatial.spatial_compression_ratio
        latents = torch.zeros(1, spatial.config.latent_channels, num_frames, side, side)
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        Objective(config, half, spatial)(stage, x, latents, [0])["loss"].backward()
    return counter.get_total_flops() / 1e9


@_own_settings()
def model_config(config: TrialConfig) -> dict[str, Any]:
    """The whole config of the model that is trained. Refuses what cannot be made or measured, before any training."""
    half = new_half(config)
    spatial = frozen_spatial(config.spatial, config.spatial_scaling_factor) if config.part == "temporal" else None
    check_sizes(config, half, spatial)
    check_sizes(replace(config, size=config.measured_size), half, spatial, "measured_size")
    return {name: value for name, value in half.config.items() if not name.startswith("_")}
