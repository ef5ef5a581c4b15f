"""Train one half of the VAE, or a whole one, in stages, through accelerate; interrupted runs resume to the bit.

The recipe is that of Open-Sora v1.2.0, `docs/report_03.md` and `configs/vae/train/stage{1,2,3}.py`.
"""

from collections.abc import Callable
from functools import partial
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
from ..families.codec import codec_of
from ..metrics import DATA_RANGE, psnr
from .config import Stage, TrainConfig
from .data import Batch, Clips, Inputs, SyntheticClips, VideoFolder, fingerprint
from .losses import Objective, layers_seeded
from .models import new_parts, perceptual_distance, stack
from .resumable_run import ResumableRun, accelerated, move_average
from .run_folder import RunFolder


class Progress(NamedTuple):
    """The argument of `watch`, after every row of the log."""

    log: list[dict[str, Any]]  # all rows so far; `run_folder.FIELDS` lists their keys
    steps: int  # of the whole run
    vae: nn.Module  # the moving average of the weights, which reconstructs pixels. Do not change or keep it


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

    The same call resumes an interrupted run from its last checkpoint, and ends with the same bits as an uninterrupted
    one (on the same device, with the same number of threads). A finished run is only loaded. Under `accelerate launch`,
    each process trains on a separate part of each batch.

    Args:
        data: a folder of videos and images; None: synthetic clips (`random_clip`).
        cache: a folder of cached 2D latents, which several runs may share (default: in `out`).
        watch: called after every row of the log, in the main process.
        progress: show a bar on stderr.

    Returns:
        The moving average of the weights, which `load(out / "model")` reads again, with the statistics of its latents:
        a SpatialVAE, a VideoVAE of the frozen 2D half and the trained one, or a model of the class that `config` names.

    Raises:
        ValueError: the config cannot be trained, a variable of the environment contradicts it, the data cannot be
          read, or the folder holds another run.
        TrainingError: the loss is no longer finite, or the disk is full. The last good checkpoint is intact.
    """
    folder = RunFolder(out, cache)
    with accelerated(config.mixed_precision, folder) as accelerator:
        main = accelerator.is_main_process
        clips = SyntheticClips() if data is None else VideoFolder(data)
        for path, reason in getattr(clips, "skipped", {}).items() if main else ():
            tqdm.write(f"skipped {path}: {reason}")
        return _Run(config, folder, clips, accelerator, watch, progress and main).train()


class _Run(ResumableRun):
    """One call of `train`, in one process."""

    config: TrainConfig

    def __init__(self, config: TrainConfig, folder: RunFolder, clips: Clips, accelerator: Accelerator, watch, progress):
        super().__init__(config, folder, accelerator, watch, progress)
        device = accelerator.device
        half, spatial = new_parts(config)
        self.trained, self.spatial = half.to(device), None if spatial is None else spatial.to(device)
        if config.part != "whole":
            self.trained.to(memory_format=torch.channels_last if config.part == "spatial" else torch.channels_last_3d)
        perceptual = None if config.perceptual is None else perceptual_distance(config.perceptual).to(device)
        self.objective = accelerator.prepare(Objective(config, self.trained, self.spatial, perceptual))
        self.average = AveragedModel(self.trained, multi_avg_fn=partial(move_average, config.ema_decay))
        averaged: ModelMixin = self.average.module
        self.reconstructing = averaged if self.spatial is None else stack(self.spatial, averaged)
        self.made_of = fingerprint(clips, self.spatial)
        self.inputs = Inputs(config, clips, self.spatial, device, accelerator.process_index)

    @torch.enable_grad()  # even if the caller has disabled gradients
    def train(self) -> nn.Module:
        config, accelerator = self.config, self.accelerator
        saved = self.folder.read(config, accelerator.num_processes, self.made_of)
        if saved is not None and saved["step"] == config.steps and self.folder.model.exists():
            return load(self.folder.model)
        self.resume(saved, half=self.trained, average=self.average)
        with accelerator.main_process_first(), self.folder.explained(f"fill {self.folder.cache}"):
            self.inputs.fill_cache(self.folder.cache, self.progress)  # the other processes find it filled
        self.measured = self.inputs.measured()
        first = 0
        with tqdm(total=config.steps, initial=self.step, unit="step", disable=not self.progress) as bar:
            for number, stage in enumerate(config.stages):
                if self.step < first + stage.steps:
                    self._train_stage(number, stage, first, saved, bar)
                first += stage.steps
        # in the order in which `load` reads weights, since results depend on it by rounding
        vae = self.reconstructing.cpu().to(memory_format=torch.contiguous_format).eval()
        with torch.no_grad():
            z = torch.cat([codec_of(self.average.module).encode(x) for x in self.inputs.for_statistics()])
        vae = codec_of(vae).calibrated(z)
        if accelerator.is_main_process:
            self.folder.write_model(vae)
        accelerator.wait_for_everyone()
        return vae.eval()

    def _train_stage(self, number: int, stage: Stage, first: int, saved: dict | None, bar: tqdm) -> None:
        config = self.config
        optimizer = torch.optim.AdamW(self.trained.parameters(), stage.learning_rate, weight_decay=config.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimizer, min(config.warmup_steps, stage.steps // 2), stage.steps)
        if saved is not None and self.step > first:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        optimizer = self.accelerator.prepare(optimizer)
        self.objective.train()
        self.start_clock()
        for batch in self.inputs.batches(number, self.step - first):
            last = self.step + 1 == first + stage.steps
            self.take_step(partial(self._losses, stage, batch), optimizer, schedule, last, bar, stage=stage.name)

    def _losses(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        with layers_seeded(batch.seeds, self.accelerator.device):
            return self.objective(stage, *batch)

    def state(self, optimizer, schedule) -> dict[str, Any]:
        return dict(half=self.trained, average=self.average, optimizer=optimizer, schedule=schedule)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        codec, clips = codec_of(self.reconstructing.eval()), self.measured.to(self.accelerator.device).split(1)
        values = [psnr(x, codec.reconstruct(x).sample.clamp(-1, 1), DATA_RANGE).mean().item() for x in clips]
        return {"psnr": float(np.mean(values))}

    def report(self) -> Progress:
        return Progress(self.log, self.config.steps, self.reconstructing)
