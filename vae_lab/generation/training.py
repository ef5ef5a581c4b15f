"""Train a generator by rectified flow on cached latents; interrupted runs resume to the bit."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from math import cos, pi
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..checkpoints.loading import load
from ..families.codec import Codec, codec_of
from ..training.resumable_run import ResumableRun, accelerated, move_average
from ..training.run_folder import RunFolder
from ..utils.checks import check_known
from .config import GenerationConfig
from .data import LatentClips, fingerprint, latent_clips
from .diffusers_transformers import DiffusersTransformer
from .generator import Generator, GeneratorSettings, latent_shape, load_generator
from .prompted_clips import prompted_clip
from .prompts import SLOTS, WORDS, all_prompts, embed
from .rectified_flow import add_noise, draw_timesteps, flow_loss, velocity_in
from .stdit import STDiT3

FIELDS = ("step", "loss", "held_out_loss", "learning_rate", "grad_norm", "seconds")
STEP_KEY, MEASURE_KEY, DROPOUT_KEY = range(3)  # each kind of draw has a key beside the seed
GIVEN = ("in_channels", "caption_channels", "model_max_length")  # of STDiT3, by the VAE and the prompts
Transformer = STDiT3 | DiffusersTransformer


class Progress(NamedTuple):
    """The argument of `watch`, after every row of the log."""

    log: list[dict[str, Any]]  # all rows so far; FIELDS lists their keys
    steps: int  # of the whole run
    transformer: Transformer  # the moving average of the weights. Do not change or keep it


def run_folder(out: str | Path, cache: str | Path | None = None) -> RunFolder:
    """Return the folder of a training: checkpoint.pt, log.csv (FIELDS), config.json and, at the end, model/."""
    return RunFolder(out, cache, fields=FIELDS, frozen="VAE")


def train_generator(
    config: GenerationConfig,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    watch: Callable[[Progress], None] | None = None,
    progress: bool = True,
) -> Generator:
    """Train, write checkpoints, a log and the model into the folder `out`, and return the generator.

    The same call resumes an interrupted run from its last checkpoint, and ends with the same bits as an uninterrupted
    one (on the same device, with the same number of threads). A finished run is only loaded. Under `accelerate launch`,
    each process trains on a separate part of each batch.

    Args:
        cache: a folder of cached latents, which several runs may share (default: in `out`).
        watch: called after every row of the log, in the main process.
        progress: show bars on stderr.

    Raises:
        ValueError: the config cannot be trained, a variable of the environment contradicts it, or the folder holds
          another run.
        TrainingError: the loss is no longer finite, or the disk is full. The last good checkpoint is intact.
    """
    folder = run_folder(out, cache)
    with accelerated(config.mixed_precision, folder) as accelerator:
        return _Run(config, folder, accelerator, watch, progress and accelerator.is_main_process).train()


def codec_for(config: GenerationConfig) -> Codec:
    """Load the VAE that a config names. Raises ValueError for one that cannot encode clips."""
    codec = codec_of(load(config.vae))
    if codec.takes != "pixels":
        raise ValueError(f"vae must encode pixels, {config.vae} ({codec.name}) encodes {codec.takes}")
    return codec


def new_transformer(config: GenerationConfig, latent_shape: Sequence[int]) -> Transformer:
    """Make the transformer that a config describes, for latents (C, L, h, w). Equal seeds give equal weights.

    The last layer has zeros, so that training begins with velocity 0. Unlike Open-Sora's, an STDiT3 has no second half
    of channels, and positions of scale 1 at the clips' size.
    """
    channels, *size = map(int, latent_shape)
    given: dict[str, Any] = dict(in_channels=channels, caption_channels=len(WORDS), model_max_length=len(SLOTS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.transformer != STDiT3.__name__:
            other = DiffusersTransformer(config.transformer, latent_size=size, arguments=dict(config.model), **given)
            for parameter in other.transformer.proj_out.parameters():
                torch.nn.init.zeros_(parameter)
            return other
        check_known("model (STDiT3)", config.model, [n for n in signature(STDiT3).parameters if n not in GIVEN])
        usual = dict(pred_sigma=False, input_sq_size=config.size)
        model = STDiT3(**given | usual | dict(config.model))
    torch.nn.init.zeros_(model.final_layer.linear.weight)
    return model


def fitting_transformer(config: GenerationConfig, codec: Codec) -> Transformer:
    """Make the transformer for a config's clips. Raises ValueError if it, or one of the clips, cannot be made."""
    for prompt in all_prompts():
        prompted_clip(np.random.default_rng(0), prompt, config.num_frames, config.size)
    shape = latent_shape(codec, config.num_frames, config.size)
    if config.keep_first and config.transformer != STDiT3.__name__:
        raise ValueError(
            f"keep_first ({config.keep_first}) must be 0 for a {config.transformer}, which keeps no frames"
        )
    if config.keep_first and shape[1] < 2:
        raise ValueError(f"keep_first ({config.keep_first}) must be 0 for clips of one latent frame")
    return new_transformer(config, shape)


class Together:
    """Several optimizers, or several schedules, as one."""

    def __init__(self, parts: Sequence[Any]):
        self.parts = list(parts)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def get_last_lr(self) -> list[float]:
        """Return the learning rates of the first part."""
        return self.parts[0].get_last_lr()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def new_optimizers(config: GenerationConfig, transformer: Transformer) -> list[torch.optim.Optimizer]:
    """Make AdamW for all weights; with `muon_learning_rate`, Muon for the matrices of the blocks and AdamW for others.

    Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. All singular values of its steps are equal.
    """
    weights, rate, decay = dict(transformer.named_parameters()), config.muon_learning_rate, config.weight_decay
    muon: list[torch.optim.Optimizer] = []
    if rate is not None:
        # sorted, as the states of the weights are in checkpoints
        of_blocks = sorted(name for name, p in weights.items() if p.ndim == 2 and "blocks." in name)
        matrices = [weights.pop(name) for name in of_blocks if not name.endswith("scale_shift_table")]
        muon = [torch.optim.Muon(matrices, rate, weight_decay=decay)] if matrices else []
    return [torch.optim.AdamW(weights.values(), config.learning_rate, weight_decay=decay), *muon]


class _Run(ResumableRun):
    """One call of `train_generator`, in one process."""

    config: GenerationConfig

    def __init__(self, config: GenerationConfig, folder: RunFolder, accelerator: Accelerator, watch, progress: bool):
        super().__init__(config, folder, accelerator, watch, progress)
        self.codec = codec_for(config)
        self.made_of = fingerprint(config, self.codec)

    @torch.enable_grad()  # even if the caller has disabled gradients
    def train(self) -> Generator:
        config, accelerator = self.config, self.accelerator
        saved = self.folder.read(config, accelerator.num_processes, self.made_of)
        if saved is not None and saved["step"] == config.steps and self.folder.model.exists():
            return load_generator(self.folder.model, self.codec.vae)
        transformer = fitting_transformer(config, self.codec).to(accelerator.device)
        with accelerator.main_process_first(), self.folder.explained(f"fill {self.folder.cache}"):
            clips = latent_clips(config, self.codec, self.folder.cache, self.progress)
        settings, latents = self._settings(clips)
        self.average = AveragedModel(transformer, multi_avg_fn=partial(move_average, config.ema_decay))
        optimizers = new_optimizers(config, transformer)
        optimizer = Together(optimizers)
        factor = partial(learning_rate_factor, config)
        schedule = Together([torch.optim.lr_scheduler.LambdaLR(part, factor) for part in optimizers])
        self.trained = transformer
        self.resume(saved, **self.state(optimizer, schedule))
        self.latents, self.texts = latents.to(accelerator.device), embed(clips.prompts).to(accelerator.device)
        model, *parts = accelerator.prepare(transformer, *optimizers)
        self._train(model.train(), Together(parts), schedule)
        generator = Generator(self._averaged.cpu(), self.codec.vae, settings)
        if accelerator.is_main_process:
            self.folder.write_model(generator)
        accelerator.wait_for_everyone()
        return generator

    @property
    def _averaged(self) -> Transformer:
        return cast(Transformer, self.average.module)

    def _settings(self, clips: LatentClips) -> tuple[GeneratorSettings, Tensor]:
        """Return what the finished generator must know, and the latents that it learns."""
        config, z = self.config, clips.latents
        training = z[: config.clips].double()
        mean, std = training.mean((0, 2, 3, 4)), training.std((0, 2, 3, 4))
        if not config.normalise:
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        mean, std = mean.float(), std.float()
        settings = GeneratorSettings(
            vae=config.vae, vae_identity=self.codec.identity(), num_frames=config.num_frames, size=config.size,
            fps=float(config.fps), shift=float(config.shift), latents_mean=mean.tolist(), latents_std=std.tolist(),
            keep_first=float(config.keep_first), caption_dropout=float(config.caption_dropout),
        )  # fmt: skip
        return settings, (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)

    def _train(self, model, optimizer, schedule) -> None:
        self.start_clock()
        with tqdm(total=self.config.steps, initial=self.step, unit="step", disable=not self.progress) as bar:
            while self.step < self.config.steps:
                last = self.step + 1 == self.config.steps
                self.take_step(partial(self._loss, model), optimizer, schedule, last, bar)

    def _loss(self, model) -> dict[str, Tensor]:
        """The loss of this step's batch: all processes draw the same whole batch, and each takes its part."""
        config, accelerator = self.config, self.accelerator
        draw = self._random(STEP_KEY, self.step)
        total = config.batch_size * accelerator.num_processes
        here = slice(accelerator.process_index * config.batch_size, (accelerator.process_index + 1) * config.batch_size)
        numbers = torch.randint(config.clips, (total,), generator=draw)[here]
        timestep = draw_timesteps(total, config.sampling, shift=config.shift, generator=draw)[here]
        noise = torch.randn(total, *self.latents.shape[1:], generator=draw)[here]
        dropped = (torch.rand(total, generator=draw) < config.caption_dropout)[here]
        kept = (torch.rand(total, generator=draw) < config.keep_first)[here]
        device = accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self._seed(DROPOUT_KEY, self.step, accelerator.process_index))
            return {"loss": self._losses(model, numbers, timestep, noise, dropped, kept).mean()}

    def _losses(self, model, numbers: Tensor, timestep: Tensor, noise: Tensor, dropped: Tensor, kept: Tensor) -> Tensor:
        """The loss of clips with these numbers, (B,). dropped: without the text; kept: with a first frame to keep."""
        device, config = self.latents.device, self.config
        numbers, timestep, noise = numbers.to(device), timestep.to(device), noise.to(device)
        x0, texts = self.latents[numbers], self.texts[numbers]
        texts = torch.where(dropped.to(device)[:, None, None], self.trained.null_caption(len(texts)), texts)
        mask = None
        if config.keep_first:
            mask = torch.ones(len(x0), x0.shape[2], dtype=torch.bool, device=device)
            mask[:, 0] = ~kept.to(device)
        z = add_noise(x0, noise, timestep, mask)
        size = dict(fps=config.fps, height=config.size, width=config.size)
        output = model(z, timestep, texts, x_mask=mask, **size)
        return flow_loss(velocity_in(output, z.shape[1]), x0, noise, mask)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The loss of the averaged model on clips that no step uses, at evenly spaced timesteps."""
        config, count = self.config, self.config.held_out_clips
        numbers = torch.arange(config.clips, config.clips + count)
        timestep = (torch.arange(count) + 0.5) / count * 1000
        timestep = timestep[torch.randperm(count, generator=self._random(MEASURE_KEY, 0))]
        noise = torch.randn(count, *self.latents.shape[1:], generator=self._random(MEASURE_KEY, 1))
        no = torch.zeros(count, dtype=torch.bool)
        return {"held_out_loss": self._losses(self._averaged.eval(), numbers, timestep, noise, no, no).mean().item()}

    def _seed(self, *key: int) -> int:
        return int(np.random.default_rng([self.config.seed, *key]).integers(1 << 62))

    def _random(self, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(*key))

    def state(self, optimizer, schedule) -> dict[str, Any]:
        return dict(transformer=self.trained, average=self.average, optimizer=optimizer, schedule=schedule)

    def report(self) -> Progress:
        return Progress(self.log, self.config.steps, self._averaged)


def learning_rate_factor(config: GenerationConfig, step: int) -> float:
    """Return the factor on the learning rate at a step: it rises from 0, stays at 1, then falls to 0 by a cosine."""
    decay = config.decay_fraction * config.steps
    left = (config.steps - step) / decay if decay else 1.0
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * 0.5 * (1 - cos(pi * min(1.0, left)))
