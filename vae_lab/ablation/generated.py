"""A trial that trains a generator: what is measured of its clips."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..generation.generator import Generator
from ..generation.judge import KINDS, score
from ..generation.prompts import SLOTS, WORDS, Prompt, all_prompts
from ..generation.rectified_flow import velocity_in
from ..generation.training import codec_for, fitting_transformer, new_transformer, run_folder, train_generator
from ..training.run_folder import read_log
from ..utils.wrapping import arguments_of
from .config import GenerationTrialConfig

NOISE_SEED = 1_000_000  # of the measured clips, the same for every trial


def train_and_measure(config: GenerationTrialConfig, folder: Path, cache: Path) -> dict[str, float]:
    """Train into `folder`, or load the generator there, and return GENERATION_METRICS."""
    generator = train_generator(config.training, folder, cache=cache, progress=False)
    metrics = measure_generator(generator, config)
    log = read_log(run_folder(folder).log)
    return metrics | {"held_out_loss": next(row["held_out_loss"] for row in reversed(log) if "held_out_loss" in row)}


def measured_prompts(config: GenerationTrialConfig) -> list[Prompt]:
    """Return the prompt of each measured clip: all prompts in turn."""
    prompts = all_prompts()
    return [prompts[i % len(prompts)] for i in range(config.measured_clips)]


def measure_generator(generator: Generator, config: GenerationTrialConfig) -> dict[str, float]:
    """Generate clips and let the judge read them: GENERATION_METRICS, but for the loss, which the training logs."""
    prompts = measured_prompts(config)
    scores = score(prompts, generator.generate(prompts, config.measured_steps, seed=NOISE_SEED))
    shares = {kind.replace(" ", "_"): scores.share(kind) for kind in KINDS}
    return {
        "score": float(np.mean(list(shares.values()))),
        **shares,
        "parameters": float(sum(p.numel() for p in generator.transformer.parameters())),
        "training_gflop": training_gflop(config, generator.latent_shape),
    }


def training_gflop(config: GenerationTrialConfig, shape: tuple[int, ...]) -> float:
    """Return the floating point operations of a training on latents (C, L, h, w), in 1e9, forward and backward.

    What the VAE computes is not counted. The meta device, since torch does not count the CPU's fused attention.
    """
    model = new_transformer(config, shape).to("meta")
    z, t, text = (torch.zeros(1, *size, device="meta") for size in (shape, (), (len(SLOTS), len(WORDS))))
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        output = model(z, t, text, fps=config.fps, height=config.size, width=config.size)
        velocity_in(output, len(z[0])).sum().backward()
    return config.steps * config.batch_size * counter.get_total_flops() / 1e9


def model_config(config: GenerationTrialConfig) -> dict[str, Any]:
    """Return the full config of a trial's transformer; refuse one that cannot be made, and clips that do not fit."""
    return arguments_of(fitting_transformer(config, codec_for(config)).config)
