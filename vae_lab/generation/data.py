"""What a generator trains on: the latents of prompted clips, computed once and kept on disk."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..families.codec import Codec
from ..utils.files import locked, write_beside
from ..video.frames import to_tensor
from .config import GenerationConfig
from .prompted_clips import BACKGROUND, HALF_BAR, RADIUS, prompted_clip
from .prompts import SLOTS, Prompt, all_prompts

BATCH = 8  # clips that the VAE encodes at a time


class LatentClips(NamedTuple):
    """Raw latents of clips and their prompts; the held-out clips come last."""

    latents: Tensor  # float32 (N, C, L, h, w)
    prompts: list[Prompt]


def clip_prompts(config: GenerationConfig) -> list[Prompt]:
    """Return the prompt of each clip: all prompts in turn, the held-out clips as well."""
    prompts = all_prompts()
    numbers = [*range(config.clips), *range(config.held_out_clips)]
    return [prompts[i % len(prompts)] for i in numbers]


def fingerprint(config: GenerationConfig, codec: Codec) -> str:
    """Hash everything that decides the latents: the clips, and the VAE with its weights."""
    clips = [config.seed, config.clips, config.held_out_clips, config.num_frames, config.size]
    drawing = [BACKGROUND, RADIUS, HALF_BAR.tolist(), {slot: list(words) for slot, words in SLOTS.items()}]
    return hashlib.sha256(json.dumps([clips, drawing, codec.identity()]).encode()).hexdigest()


@torch.no_grad()
def latent_clips(config: GenerationConfig, codec: Codec, cache: Path, progress: bool = True) -> LatentClips:
    """Encode all clips, or read them from the folder `cache` if they have been encoded there."""
    prompts, path = clip_prompts(config), cache / f"generation-{fingerprint(config, codec)[:16]}.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):  # another run that shares the folder waits, then finds the file
        if not path.exists():
            batches, parts = torch.arange(len(prompts)).split(BATCH), []
            for numbers in tqdm(batches, "latents", unit="batch", disable=not progress):
                drawn = [
                    prompted_clip(np.random.default_rng([config.seed, i]), prompts[i], config.num_frames, config.size)
                    for i in numbers.tolist()
                ]
                x = torch.cat([to_tensor(frames) for frames in drawn]).to(codec.device, codec.dtype)
                parts.append(codec.encode(x).float().cpu())
            with write_beside(path, durable=True) as part:
                save_file({"latents": torch.cat(parts).contiguous()}, part)
    return LatentClips(load_file(path)["latents"], prompts)
