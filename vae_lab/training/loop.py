"""Train one half of the VAE, or a whole one, in stages, through accelerate; interrupted runs resume to the bit.

The recipe is that of Open-Sora v1.2.0, `docs/report_03.md` and `configs/vae/train/stage{1,2,3}.py`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..checkpoints.loading import load
from ..families import codec_of, encode
from ..metrics import DATA_RANGE, psnr
from ..utils.checks import NotFiniteError
from .batches import Inputs
from .config import Stage, TrainConfig
from .data import Clips, SyntheticClips, VideoFolder, fingerprint
from .losses import Objective, layers_seeded
from .models import finished, new_parts, perceptual_distance, stack
from .run_folder import RunFolder, TrainingError


class Progress(NamedTuple):
    """The argument of `watch`, after every row of the log."""

    log: list[dict[str, Any]]
    """All rows so far; `run_folder.FIELDS` lists their keys."""
    steps: int
    """Steps of the whole run."""
    vae: nn.Module
    """The moving average of the weights, as a model that reconstructs pixels. Do not change or keep it."""


def train(
    config: TrainConfig,
    out: str | Path,
    data: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train, write checkpoints, a log and the model into the folder `out`, and return the model in eval mode.

    If a run was interrupted, the same call resumes it from its last checkpoint and ends with the same bits as an
    uninterrupted run (on the same device, with the same number of threads). A finished run is only loaded. Under
    `accelerate launch` every process trains on its own part of each batch.

    Args:
        data: a folder of videos and images; None: synthetic clips (`random_clip`).
        cache: a folder of cached 2D latents, which several runs may share (default: in `out`).
        watch: called after every row of the log, in the main process.
        progress: show a bar on stderr.

    Returns:
        The moving average of the weights, which `load(out / "model")` reads again. Part "spatial": a SpatialVAE whose
        scaling_factor gives its latents standard deviation 1. Part "temporal": a VideoVAE of the frozen 2D half and the
        trained half, with the mean and std of its latents. Part "whole": a model of the class that `config` names.

    Raises:
        ValueError: the config cannot be trained, the data cannot be read, or the folder holds another run.
        TrainingError: the loss is no longer finite, or the disk is full. The last good checkpoint is intact.
    """
    folder = RunFolder(out, cache)
    accelerator = Accelerator(mixed_precision=_precision(config))
    clips = SyntheticClips() if data is None else VideoFolder(data)
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


@dataclass
class _State:
    """The progress of a run, which goes into the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


class _Run:
    """One call of `train`, in one process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, clips: Clips, accelerator: Accelerator, watch, progress):
        self.config, self.folder, self.clips, self.accelerator = config, folder, clips, accelerator
        self.watch, self.progress, self.state = watch, progress, _State()
        device = accelerator.device
        half, spatial = new_parts(config)
        self.half, self.spatial = half.to(device), None if spatial is None else spatial.to(device)
        if config.part != "whole":
            layout = torch.channels_last if config.part == "spatial" else torch.channels_last_3d
            self.half.to(memory_format=layout)
        perceptual = None if config.perceptual is None else perceptual_distance(config.perceptual).to(device)
        self.objective = accelerator.prepare(Objective(config, self.half, self.spatial, perceptual))
        self.average = AveragedModel(self.half, multi_avg_fn=_moving_average(config.ema_decay))
        averaged: ModelMixin = self.average.module
        self.reconstructing = averaged if self.spatial is None else stack(self.spatial, averaged)
        self.made_of = fingerprint(clips, self.spatial)
        self.inputs = Inputs(config, clips, self.spatial, device, accelerator.process_index)

    # ---- the loop ----------------------------------------------------------------------------------------------

    @torch.enable_grad()  # even if the caller has disabled gradients
    def train(self) -> nn.Module:
        config, accelerator = self.config, self.accelerator
        saved = self.folder.read(config, accelerator.num_processes, self.made_of)
        if saved is not None:
            self.half.load_state_dict(saved["half"])
            self.average.load_state_dict(saved["average"])
            self.state = _State(saved["step"], saved["seconds"], saved["log"])
            if self.state.step == config.steps and self.folder.model.exists():
                return load(self.folder.model)
        if accelerator.is_main_process:
            self.folder.write_log(self.state.log)
        with accelerator.main_process_first(), self.folder.explained(f"fill {self.folder.cache}"):
            self.inputs.fill_cache(self.folder.cache, self.progress)  # the other processes find it filled
        self.measured = self.inputs.measured()
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
        if saved is not None and state.step > first:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        optimizer = accelerator.prepare(optimizer)
        self.objective.train()
        started = time.perf_counter() - state.seconds
        for batch in self.inputs.batches(number, state.step - first):
            try:
                with accelerator.autocast(), layers_seeded(batch.seeds, accelerator.device):
                    losses = self.objective(stage, *batch)
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
            f"training is no longer finite at step {self.state.step}: {what}; {self.folder.last_good()}"
        )

    # ---- the log, checkpoints and the model --------------------------------------------------------------------

    @torch.no_grad()
    def _psnr(self) -> float:
        codec, values = codec_of(self.reconstructing.eval()), []
        for x in self.measured.to(self.accelerator.device).split(1):
            y = codec.reconstruct(x).sample.clamp(-1, 1)
            values.append(psnr(x, y, DATA_RANGE).mean().item())
        return float(np.mean(values))

    def _log(self, row: dict[str, Any], measure: bool, bar: tqdm) -> None:
        if not self.accelerator.is_main_process:
            return
        if measure or row["step"] % self.config.measure_every == 0:
            row["psnr"] = self._psnr()
        self.state.log.append(row)
        with self.folder.explained(f"write {self.folder.log}"):
            self.folder.append_log(row)
        bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "psnr") if key in row})
        if self.watch is not None:
            self.watch(Progress(self.state.log, self.config.steps, self.reconstructing))

    def _save(self, optimizer, schedule) -> None:
        if self.accelerator.is_main_process:
            self.folder.write(
                self.config,
                {
                    "processes": self.accelerator.num_processes, "made_of": self.made_of,
                    "half": self.half.state_dict(), "average": self.average.state_dict(),
                    "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), **vars(self.state),
                },
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _finished(self) -> nn.Module:
        """The finished model, with the statistics of its latents."""
        half = self.average.module.cpu().eval()
        spatial = None if self.spatial is None else self.spatial.cpu()
        return finished(half, spatial, torch.cat([encode(half, x) for x in self.inputs.for_statistics()]))


def _moving_average(decay: float) -> Callable:
    """An exponential moving average whose decay begins small, so that it soon forgets the weights before training."""

    def update(averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))  # as TensorFlow's ExponentialMovingAverage does
        torch._foreach_lerp_(averages, currents, 1 - now)

    return update
