"""Training one half of the VAE: stages, accelerate, exact resumption.

Source of the recipe: Open-Sora v1.2.0, `docs/report_03.md` and `configs/vae/train/stage{1,2,3}.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from .checkpoints import load
from .checks import NotFiniteError
from .initialization import start_as_interpolation
from .losses import Objective
from .metrics import psnr
from .spatial_vae import SpatialVAE
from .temporal_vae import TemporalVAE
from .train_config import Stage, TrainConfig
from .train_data import Clips, LatentCache, MadeClips, VideoFolder, batches, cache_latents, to_pixels
from .train_files import RunFolder, TrainingError
from .video_vae import VideoVAE

MEASURED_CLIPS = 8  # of each measurement of PSNR, and for the statistics of the latents
STATISTICS_CLIPS = 64
# What keys are drawn from, beside the seed: so that no clip that is measured on is ever trained on.
CLIP_KEY, LENGTH_KEY, NOISE_KEY, CACHE_KEY, MEASURE_KEY = range(5)


class Progress(NamedTuple):
    """What `watch` is called with, after every row of the log."""

    log: list[dict[str, Any]]
    """All rows so far; see train_files.FIELDS."""
    steps: int
    """Of the whole run."""
    vae: SpatialVAE | VideoVAE
    """The moving average of the weights, as a model that reconstructs pixels. Not to be changed or kept."""


def train(
    config: TrainConfig,
    out: str | Path,
    data: str | Path | None = None,
    *,
    watch: Callable[[Progress], None] | None = None,
    progress: bool = True,
) -> SpatialVAE | VideoVAE:
    """Train, write checkpoints, log and model into the folder `out`, and return the model, in eval mode.

    A run that was stopped, by whatever, goes on from its last checkpoint when it is started again, and ends with the
    same bits as one that was not stopped (on the same device, with as many threads). A finished one is only loaded.
    Under `accelerate launch` every process trains on its own part of each batch.

    Args:
        data: a folder of videos and images, or None for `content.random_clip`.
        watch: called after every row of the log, in the main process.
        progress: show a bar on stderr.

    Returns:
        Of the half "spatial" a SpatialVAE, whose scaling_factor makes its latents' standard deviation 1; of "temporal"
        a VideoVAE of the frozen 2D half and the trained one, with the statistics of its latents. Both are the moving
        average of the weights, and `load(out / "model")` gives them again.

    Raises:
        ValueError: a config that cannot be trained, unreadable data, or a folder that holds another run.
        TrainingError: the loss is not finite any more, or the disk is full. The last good checkpoint is intact.
    """
    folder = RunFolder(out)
    accelerator = Accelerator(mixed_precision=_precision(config))
    clips = MadeClips() if data is None else VideoFolder(data)
    if accelerator.is_main_process:
        with folder.locked():
            for path, reason in getattr(clips, "skipped", {}).items():
                tqdm.write(f"skipped {path}: {reason}")
            return _Run(config, folder, clips, accelerator, watch, progress).train()
    return _Run(config, folder, clips, accelerator, None, False).train()


def _precision(config: TrainConfig) -> str:
    if config.mixed_precision != "auto":
        return config.mixed_precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def new_half(config: TrainConfig) -> SpatialVAE | TemporalVAE:
    """The half a run starts from, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        vae = (SpatialVAE if config.half == "spatial" else TemporalVAE)(**config.model)
    if config.start == "interpolation":
        start_as_interpolation(vae)
    return vae


def frozen_spatial(source: str) -> SpatialVAE:
    """The 2D half of anything `load` reads that has one."""
    vae = load(source)
    spatial = getattr(vae, "spatial", vae)
    if not isinstance(spatial, SpatialVAE):
        raise ValueError(f"spatial must be a checkpoint with a 2D half of the lab, {source} is {type(vae).__name__}")
    return spatial.requires_grad_(False)


@dataclass
class _State:
    """Where a run is: all of it goes into the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


class _Run:
    """One call of `train`, in one process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, clips: Clips, accelerator: Accelerator, watch, progress):
        self.config, self.folder, self.clips, self.accelerator = config, folder, clips, accelerator
        self.watch, self.progress, self.state = watch, progress, _State()
        device = accelerator.device
        self.half = new_half(config).to(device)
        self.spatial = None if config.half == "spatial" else frozen_spatial(config.spatial).to(device)
        self._check_sizes()
        layout = torch.channels_last if self.spatial is None else torch.channels_last_3d
        self.half.to(memory_format=layout)
        perceptual = None
        if config.perceptual is not None:
            perceptual = _perceptual(config.perceptual).to(device)
        self.objective = accelerator.prepare(Objective(config, self.half, self.spatial, perceptual))
        self.average = AveragedModel(self.half, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        half = self.average.module
        self.reconstructing = half if self.spatial is None else _compose(self.spatial, half)  # pixels to pixels
        self.cache: LatentCache | None = None

    def _check_sizes(self) -> None:
        if self.spatial is not None:
            given, taken = self.spatial.config.latent_channels, self.half.config.in_channels
            if given != taken:
                raise ValueError(f"model in_channels ({taken}) must equal the {given} latent channels of the 2D half")
        ratio = (self.spatial or self.half).spatial_compression_ratio
        if self.config.size % ratio:
            raise ValueError(f"size ({self.config.size}) must be a multiple of the 2D half's ratio ({ratio})")

    # ---- the loop ----------------------------------------------------------------------------------------------

    def train(self) -> SpatialVAE | VideoVAE:
        config, accelerator = self.config, self.accelerator
        saved = self.folder.read(config, accelerator.num_processes)
        if saved is not None:
            self.half.load_state_dict(saved["half"])
            self.average.load_state_dict(saved["average"])
            self.state = _State(saved["step"], saved["seconds"], saved["log"])
            if self.state.step == config.steps and self.folder.model.exists():
                return load(self.folder.model)
        if accelerator.is_main_process:
            self.folder.write_log(self.state.log)
        self._fill_cache()
        self._measured = self._held_out()
        first = 0
        with tqdm(total=config.steps, initial=self.state.step, unit="step", disable=not self.progress) as bar:
            for number, stage in enumerate(config.stages):
                if self.state.step < first + stage.steps:
                    self._train_stage(number, stage, first, saved, bar)
                first += stage.steps
        vae = self._finished()
        if accelerator.is_main_process:
            self.folder.write_model(vae)
        accelerator.wait_for_everyone()
        return vae.eval()

    def _train_stage(self, number: int, stage: Stage, first: int, saved: dict | None, bar: tqdm) -> None:
        config, accelerator, state = self.config, self.accelerator, self.state
        optimizer = torch.optim.AdamW(self.half.parameters(), stage.learning_rate, weight_decay=config.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimizer, min(config.warmup_steps, stage.steps // 2), stage.steps)
        if state.step > first:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        optimizer = accelerator.prepare(optimizer)
        self.objective.train()
        started = time.perf_counter() - state.seconds
        for keys, frames, latents in self._inputs(number, stage, first):
            try:
                with accelerator.autocast():
                    losses = self.objective(stage, frames, latents, [_noise_seed(key) for key in keys])
            except NotFiniteError as error:
                raise self._not_finite(str(error)) from error
            values = accelerator.reduce(torch.stack([value.detach().float() for value in losses.values()]), "mean")
            if not values.isfinite().all():
                raise self._not_finite(f"losses {values.tolist()}")
            optimizer.zero_grad()
            accelerator.backward(losses["loss"])
            norm = accelerator.clip_grad_norm_(self.half.parameters(), config.max_grad_norm)
            if not norm.isfinite():
                raise self._not_finite(f"gradient norm {norm.item()}")
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            self.average.update_parameters(self.half)
            state.step += 1
            state.seconds = time.perf_counter() - started
            bar.update()
            last = state.step in (first + stage.steps, config.steps)
            if last or state.step % config.log_every == 0 or state.step % config.measure_every == 0:
                row = {"step": state.step, "stage": stage.name} | dict(zip(losses, values.tolist(), strict=True))
                row |= {"learning_rate": rate, "grad_norm": norm.item(), "seconds": round(state.seconds, 2)}
                self._log(row, measure=last, bar=bar)
            if last or state.step % config.checkpoint_every == 0:
                self._save(optimizer, schedule)

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"training is not finite any more at step {self.state.step}: {what}; {self.folder.last_good()}"
        )

    def _inputs(self, number: int, stage: Stage, first: int):
        """For every step that is left: keys of this process's clips, pixels or None, 2D latents or None."""
        config, accelerator = self.config, self.accelerator
        here = range(accelerator.process_index * stage.batch_size, (accelerator.process_index + 1) * stage.batch_size)
        steps = range(self.state.step - first, stage.steps)
        keys = [[(config.seed, CLIP_KEY, number, step, i) for i in here] for step in steps]
        lengths = [self._num_frames(number, stage, step) for step in steps]
        if self.cache is None:
            items = [[(key, length) for key in step] for step, length in zip(keys, lengths, strict=True)]
            made = batches(self.clips, config.size, items, config.workers)
        for step_keys, length in zip(keys, lengths, strict=True):
            if self.cache is not None:
                yield step_keys, *self._cached(stage, step_keys, length)
                continue
            frames = to_pixels(next(made).to(accelerator.device))
            latents = None
            if self.spatial is not None:
                with torch.no_grad():
                    latents = self.spatial.encode(frames).latent_dist.mode()
            yield step_keys, frames, latents

    def _cached(self, stage: Stage, keys: list[tuple], length: int) -> tuple[Tensor | None, Tensor]:
        latents, frames = zip(*[self.cache.window(key, length) for key in keys], strict=True)
        latents = torch.from_numpy(np.stack(latents)).transpose(1, 2).to(self.accelerator.device)
        if stage.target == "latents":
            return None, latents
        return to_pixels(torch.from_numpy(np.stack(frames)).to(self.accelerator.device)), latents

    def _num_frames(self, number: int, stage: Stage, step: int) -> int:
        """Of the clips of a step: 1 (images) in `image_fraction` of the steps, else a length of the stage's range."""
        if self.config.half == "spatial":
            return 1
        random = np.random.default_rng([self.config.seed, LENGTH_KEY, number, step])
        if random.random() < self.config.image_fraction:
            return 1
        return int(random.integers(stage.num_frames[0], stage.num_frames[1] + 1))

    # ---- what is kept ------------------------------------------------------------------------------------------

    def _fill_cache(self) -> None:
        config = self.config
        if self.spatial is None or not config.cached_clips:
            return
        settings = dict(
            count=config.cached_clips, num_frames=max(stage.num_frames[1] for stage in config.stages), size=config.size,
            seed=config.seed * 8 + CACHE_KEY, with_frames=any(stage.target == "pixels" for stage in config.stages),
            workers=config.workers, progress=self.progress,
        )  # fmt: skip
        with self.accelerator.main_process_first():  # the others find it made
            self.cache = cache_latents(self.folder.cache, self.clips, self.spatial, **settings)

    def _held_out(self) -> Tensor:
        """Clips that PSNR is measured on while training: from keys that no step uses."""
        length = 1 if self.spatial is None else self.config.stages[-1].num_frames[1]
        clips = [
            self.clips.draw((self.config.seed, MEASURE_KEY, i), length, self.config.size) for i in range(MEASURED_CLIPS)
        ]
        return to_pixels(torch.from_numpy(np.stack(clips)))

    @torch.no_grad()
    def _psnr(self) -> float:
        vae, values = self.reconstructing.eval(), []
        for x in self._measured.split(1):
            x = x.to(self.accelerator.device)
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.mode(), x.shape[2]).sample
            values.append(psnr(x, y.clamp(-1, 1), data_range=2.0).mean().item())
        return float(np.mean(values))

    def _log(self, row: dict[str, Any], measure: bool, bar: tqdm) -> None:
        if not self.accelerator.is_main_process:
            return
        if measure or row["step"] % self.config.measure_every == 0:
            row["psnr"] = self._psnr()
        self.state.log.append(row)
        try:
            self.folder.append_log(row)
        except OSError as error:
            raise TrainingError(
                f"could not write {self.folder.log} ({error.strerror}); {self.folder.last_good()}"
            ) from error
        bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "psnr") if key in row})
        if self.watch is not None:
            self.watch(Progress(self.state.log, self.config.steps, self.reconstructing))

    def _save(self, optimizer, schedule) -> None:
        if self.accelerator.is_main_process:
            self.folder.write(
                self.config,
                {
                    "processes": self.accelerator.num_processes, "half": self.half.state_dict(),
                    "average": self.average.state_dict(), "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(), **vars(self.state),
                },
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _finished(self) -> SpatialVAE | VideoVAE:
        """The moving average with what is known of its latents: a 2D half's scale, a stack's mean and deviation."""
        config, half = self.config, self.average.module.cpu()
        spatial = None if self.spatial is None else self.spatial.cpu()
        vae = self.reconstructing.cpu()
        length = 1 if spatial is None else max(stage.num_frames[1] for stage in config.stages)
        z = []
        for i in range(STATISTICS_CLIPS):
            clip = self.clips.draw((config.seed, MEASURE_KEY, MEASURED_CLIPS + i), length, config.size)
            z.append(vae.encode(to_pixels(torch.from_numpy(clip)[None])).latent_dist.mode())
        z = torch.cat(z)
        if spatial is None:
            scaled = dict(config.model) | {"scaling_factor": half.config.scaling_factor / z.std().item()}
            finished = SpatialVAE(**scaled)
            finished.load_state_dict(half.state_dict())
            return finished
        return _compose(
            spatial, half, latents_mean=z.mean((0, 2, 3, 4)).tolist(), latents_std=z.std((0, 2, 3, 4)).tolist()
        )


def _noise_seed(key: Sequence[int]) -> int:
    """Of the posterior sample of a clip, from the clip's key."""
    return int(np.random.default_rng([*key, NOISE_KEY]).integers(1 << 62))


def _perceptual(name: str) -> torch.nn.Module:
    module, _, factory = name.partition(":")
    try:
        return getattr(import_module(module), factory)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'perceptual must be "module:name" of what can be had here, {name!r} gives: {error}'
        ) from error


def _compose(spatial: SpatialVAE, temporal: TemporalVAE, **statistics) -> VideoVAE:
    """A VideoVAE of these two very modules."""
    vae = VideoVAE(_arguments(spatial), _arguments(temporal), **statistics)
    vae.spatial, vae.temporal = spatial, temporal
    return vae


def _arguments(vae: SpatialVAE | TemporalVAE) -> dict[str, Any]:
    return {key: value for key, value in vae.config.items() if not key.startswith("_")}
