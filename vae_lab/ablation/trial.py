"""Run one trial of an ablation: train a VAE, then measure it on clips it was not trained on; or a generator."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..checkpoints.loading import load
from ..families.codec import Codec, codec_of
from ..families.maps import maps_of
from ..latents.statistics import ACTIVE_VARIANCE
from ..metrics import DATA_RANGE, psnr, rms
from ..probes.dependency import future_leak
from ..spatial_vae import SpatialVAE
from ..temporal_vae import TemporalVAE
from ..training.config import TrainConfig
from ..training.loop import train
from ..training.losses import Objective, kl_per_element
from ..training.models import check_sizes, new_parts, stack
from ..utils.files import locked
from ..utils.wrapping import arguments_of
from ..video.clips import HELD_OUT_PHOTOS, photo_clip, synthetic_clip
from ..video.frames import to_tensor
from . import generated
from .config import AnyTrialConfig, GenerationTrialConfig, TrialConfig
from .metrics import METRICS

THREADS = 1  # a trial uses one, so that its bits do not depend on how many trials run beside it
_ALONE = Lock()  # one trial at a time in a process: torch and diffusers change global settings while they make a model
LEAK_FRAMES = 17  # length of the causality probe's noise for a model without chunks


@contextmanager
def _own_settings() -> Iterator[None]:
    """Run with THREADS threads and torch's defaults; restore the caller's settings afterwards."""
    with ExitStack() as settings:
        settings.callback(torch.set_num_threads, torch.get_num_threads())
        settings.callback(torch.set_default_dtype, torch.get_default_dtype())
        settings.enter_context(torch.random.fork_rng(devices=[]))
        settings.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            settings.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            settings.enter_context(torch.device("cpu"))
        torch.set_num_threads(THREADS)
        torch.set_default_dtype(torch.float32)
        yield


class Measured(NamedTuple):
    """The measurements of a trial."""

    metrics: dict[str, float]  # name in METRICS or GENERATION_METRICS -> value; NaN if it does not apply to the model
    frames: dict[str, dict[str, list[float]]]  # name of a clip -> name in METRICS_BY_FRAME -> a value for each frame


def run_trial(config: AnyTrialConfig, folder: Path, cache: Path, data: str | Path | None = None) -> Measured:
    """Train into `folder`, or load the model there, and measure it. Trials with the same training may share its folder.

    cache: the folder of the trainings' latents. data: see `train`.
    """
    with _ALONE, _own_settings():
        AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision of an earlier run
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if isinstance(config, GenerationTrialConfig):
                return Measured(generated.train_and_measure(config, folder, cache), {})
            if (folder / "model").exists():
                vae = load(folder / "model")
            else:
                training = replace(config.training, workers=0)  # a joblib worker cannot start workers
                vae = train(training, folder, data, cache=cache, progress=False)
        torch.manual_seed(config.seed)  # for a decoder that adds noise
        return measure(as_used(vae, config), config)


def as_used(vae: nn.Module, config: TrialConfig) -> nn.Module:
    """Return the trained model with the chunk length and the factor on 2D latents that the trial uses it with."""
    halves, factor = codec_of(vae).halves, config.used_spatial_scaling_factor
    if halves is not None:
        if factor is not None:
            spatial, temporal = cast(SpatialVAE, halves.spatial), cast(TemporalVAE, halves.temporal)
            vae = stack(spatial.with_scaling_factor(factor), temporal)
        vae = codec_of(vae).with_chunk(config.micro_frame_size)
    return vae.eval()


def measured_clips(config: TrialConfig) -> dict[str, Tensor]:
    """Make the clips that trials are measured on, the same for every seed and variant: name -> (1, 3, T, H, W) in
    [-1, 1]. They are camera moves over photographs held out from training, and moving shapes.
    """
    size = (config.measured_size, config.measured_size)
    clips = {name: photo_clip(name, config.measured_frames, size, seed=1) for name in HELD_OUT_PHOTOS}
    clips["shapes"] = synthetic_clip("shapes", config.measured_frames, size)
    return {name: to_tensor(clip.frames) for name, clip in clips.items()}


@torch.no_grad()
def measure(vae: nn.Module, config: TrialConfig) -> Measured:
    """Compute METRICS of a model, and METRICS_BY_FRAME of each frame."""
    codec, clips = codec_of(vae), measured_clips(config)
    halves = codec.halves
    frames: dict[str, dict[str, list[float]]] = {}
    rows, means = [], []
    for name, x in clips.items():
        num_frames, frames[name] = x.shape[2], {}
        if halves is None:
            posterior = codec.posterior(x)
            y = codec.decode(posterior.mode(), num_frames)
        else:
            spatial_latent = codec_of(halves.spatial).encode(x)
            posterior = halves.posterior(spatial_latent)
            decoded = halves.decode(posterior.mode(), num_frames)
            error = (decoded - spatial_latent).square().mean((0, 1, 3, 4)).sqrt() / spatial_latent.std()
            frames[name]["time_error"] = error.tolist()
            y = codec_of(halves.spatial).decode(decoded, num_frames)
        frames[name]["psnr"] = psnr(x, y.clamp(-1, 1), DATA_RANGE)[0].tolist()
        still = _still_drift(codec, x[:, :, :1], config.micro_frame_size or LEAK_FRAMES)
        rows.append((kl_per_element(posterior).item(), *_of_image(codec, x[:, :, :1]), still))
        means.append(posterior.mode())
    z = torch.cat(means)  # all clips have one shape
    kl, image_psnr, identity, still_drift = np.mean(rows, axis=0).tolist()
    trained = halves.temporal if halves is not None and config.part == "temporal" else vae
    metrics = dict.fromkeys(METRICS, float("nan")) | {
        "psnr": float(np.mean([values["psnr"] for values in frames.values()])),
        "image_psnr": image_psnr,
        "identity": identity,
        "kl": kl,
        "active_channels": float((z.transpose(0, 1).flatten(1).var(1) > ACTIVE_VARIANCE).sum()),
        "latent_std": z.std().item(),
        "compression": sum(x.numel() for x in clips.values()) / z.numel(),
        "leak": _leak(vae, config.micro_frame_size or LEAK_FRAMES),
        "still_drift": still_drift,
        "parameters": float(sum(p.numel() for p in trained.parameters())),
        "training_gflop": training_gflop(config),
    }
    if halves is not None:
        metrics["time_error"] = float(rms([values["time_error"] for values in frames.values()]))
    return Measured(metrics, frames)


def _of_image(codec: Codec, image: Tensor) -> tuple[float, float]:
    """Return image_psnr and identity of an image (1, 3, 1, H, W); NaN if the model takes none or has no 2D latents."""
    quality = identity = float("nan")
    with suppress(ValueError):
        z = codec.encode(image)
        if codec.halves is not None:
            spatial_latent = codec_of(codec.halves.spatial).encode(image)
            if z.shape == spatial_latent.shape:
                identity = (z - spatial_latent).square().mean().item()
        quality = psnr(image, codec.decode(z, 1).clamp(-1, 1), DATA_RANGE).item()
    return quality, identity


def _still_drift(codec: Codec, image: Tensor, num_frames: int) -> float:
    """Return still_drift of an image (1, 3, 1, H, W) that is repeated; NaN if the model does not take the length."""
    with suppress(ValueError):
        z = codec.encode(image.expand(-1, -1, num_frames, -1, -1))
        return ((z - z[:, :, -1:]).abs().max() / z.std()).item()
    return float("nan")


def _leak(vae: nn.Module, num_frames: int) -> float:
    """Return the largest forbidden effect over the largest permitted one; NaN if it is unknown what is permitted."""
    try:
        maps = maps_of(vae, num_frames)
    except ValueError:
        return float("nan")
    found = future_leak(maps.encode, maps.x, maps.encoder_last_seen)
    return found.largest / found.largest_allowed if found.leaks else 0.0


def training_gflop(config: TrainConfig) -> float:
    """Return the floating point operations of a training, in 1e9, as torch counts them, forward and backward.

    One clip of each stage's longest length is counted, and one image; image_fraction of the steps are on images.
    """
    half, spatial = new_parts(config)
    objective = Objective(config, half, spatial)
    total, images = 0.0, 1.0 if config.part == "spatial" else config.image_fraction
    for stage in config.stages:
        for num_frames, share in ((1, images), (stage.num_frames[1], 1 - images)):
            if not share:  # a model of images or of videos need not take the other
                continue
            x, latents = torch.zeros(1, 3, num_frames, config.size, config.size), None
            if spatial is not None:
                side = config.size // spatial.spatial_compression_ratio
                latents = torch.zeros(1, spatial.config.latent_channels, num_frames, side, side)
            with torch.enable_grad(), FlopCounterMode(display=False) as counter:
                objective(stage, x, latents, [0])["loss"].backward()
            total += share * stage.steps * stage.batch_size * counter.get_total_flops() / 1e9
    return total


@_own_settings()
def model_config(config: AnyTrialConfig) -> dict[str, Any]:
    """Return the full config of the model that a trial trains; refuse one that cannot be made, trained or measured."""
    if isinstance(config, GenerationTrialConfig):
        return generated.model_config(config)
    half, spatial = new_parts(config)
    check_sizes(replace(config, size=config.measured_size), half, spatial, "measured_size")
    return arguments_of(half.config)
