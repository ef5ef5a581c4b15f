"""What each step of a run trains on: clips, their number of frames, their 2D latents, and the seeds of its noise."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families import codec_of
from ..spatial_vae import SpatialVAE
from .config import Stage, TrainConfig
from .data import Clips, LatentCache, batches, cache_latents, to_pixels

MEASURED_CLIPS = 4  # in each measurement of PSNR
STATISTICS_CLIPS = 64  # for the scale of the finished model's latents
# Each kind of draw has a key beside the seed, so no measured clip is ever trained on.
CLIP_KEY, LENGTH_KEY, NOISE_KEY, CACHE_KEY, MEASURE_KEY = range(5)


class Batch(NamedTuple):
    """The inputs of one step in one process."""

    frames: Tensor | None
    """(B, 3, T, H, W) in [-1, 1]; None if only latents are needed."""
    latents: Tensor | None
    """(B, C, T, h, w), from the frozen 2D half; None if there is no such half."""
    seeds: list[int]
    """One seed per clip, for its posterior sample and for layers that draw (`losses.layers_seeded`)."""


class Inputs:
    """The batches of a run in one of its processes. Call `fill_cache` before the first batch of a temporal half.

    process: process p takes clips p * batch_size to (p + 1) * batch_size - 1 of each step.
    """

    def __init__(self, config: TrainConfig, clips: Clips, spatial: SpatialVAE | None, device, process: int):
        self.config, self.clips, self.spatial, self.device, self.process = config, clips, spatial, device, process
        self.cache: LatentCache | None = None
        self.only_images = config.part == "spatial"
        self.longest = 1 if self.only_images else max(stage.num_frames[1] for stage in config.stages)

    def fill_cache(self, folder: Path, progress: bool) -> None:
        """Compute the 2D latents that all stages draw from, or find them in `folder`."""
        config = self.config
        if self.spatial is None or not config.cached_clips:
            return
        self.cache = cache_latents(
            folder, self.clips, self.spatial, count=config.cached_clips, num_frames=self.longest, size=config.size,
            seed=config.seed * 8 + CACHE_KEY, with_frames=any(stage.target == "pixels" for stage in config.stages),
            workers=config.workers, progress=progress,
        )  # fmt: skip

    def batches(self, number: int, first: int) -> Iterator[Batch]:
        """Make the batches of stage `number` from its step `first` on."""
        config, stage = self.config, self.config.stages[number]
        here = range(self.process * stage.batch_size, (self.process + 1) * stage.batch_size)
        items = []  # of each step: (key, number of frames) of each clip
        for step in range(first, stage.steps):
            num_frames = self._num_frames(number, step)
            items.append([((config.seed, CLIP_KEY, number, step, i), num_frames) for i in here])
        drawn: Iterator[tuple[Tensor | None, Tensor | None]]
        if self.cache is None:
            drawn = map(self._encoded, batches(self.clips, config.size, items, config.workers))
        else:
            drawn = (self._cached(self.cache, stage, clips) for clips in items)
        for clips, (pixels, latents) in zip(items, drawn, strict=True):
            seeds = [int(np.random.default_rng([*key, NOISE_KEY]).integers(1 << 62)) for key, _ in clips]
            yield Batch(pixels, latents, seeds)

    def measured(self) -> Tensor:
        """Draw clips (MEASURED_CLIPS, 3, T, H, W) that no step uses."""
        return self._held_out(range(MEASURED_CLIPS), 1 if self.only_images else self.config.stages[-1].num_frames[1])

    def for_statistics(self) -> Iterator[Tensor]:
        """Make STATISTICS_CLIPS inputs of the trained part: pixels, or 2D latents (from the cache if there is one)."""
        if self.cache is not None:
            for clip in self.cache.latents[:STATISTICS_CLIPS]:
                yield torch.from_numpy(np.array(clip)[None]).transpose(1, 2)
            return
        for i in range(MEASURED_CLIPS, MEASURED_CLIPS + STATISTICS_CLIPS):
            x = self._held_out([i], self.longest)
            yield x if self.spatial is None else codec_of(self.spatial).encode(x)

    def _held_out(self, numbers: Sequence[int], num_frames: int) -> Tensor:
        size, seed = self.config.size, self.config.seed
        clips = [self.clips.draw((seed, MEASURE_KEY, i), num_frames, size) for i in numbers]
        return to_pixels(torch.from_numpy(np.stack(clips)))

    def _encoded(self, frames: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pixels = to_pixels(frames.to(self.device))
        with torch.no_grad():
            return pixels, None if self.spatial is None else codec_of(self.spatial).encode(pixels)

    def _cached(self, cache: LatentCache, stage: Stage, items: list[tuple]) -> tuple[Tensor | None, Tensor | None]:
        windows, frames = zip(*[cache.window(*item) for item in items], strict=True)
        latents = torch.from_numpy(np.stack(windows)).transpose(1, 2).to(self.device)
        if stage.target == "latents":
            return None, latents
        return to_pixels(torch.from_numpy(np.stack(frames)).to(self.device)), latents

    def _num_frames(self, number: int, step: int) -> int:
        random = np.random.default_rng([self.config.seed, LENGTH_KEY, number, step])
        if self.only_images or random.random() < self.config.image_fraction:
            return 1
        shortest, longest = self.config.stages[number].num_frames
        return int(random.integers(shortest, longest + 1))
