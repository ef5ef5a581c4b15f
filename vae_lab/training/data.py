"""What a run trains on: clips, synthetic or from a folder of videos, their 2D latents on disk, and batches of them.

A clip depends on its key (seed, stage, step, number in the batch) alone, never on the process or worker that draws it.
Runs are therefore repeatable, resumable, and the same on one process or on several.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..families.codec import codec_of
from ..spatial_vae import SpatialVAE
from ..utils.files import hash_weights, locked
from ..video.decoding import count_frames
from ..video.images import IMAGE_SUFFIXES, is_image
from ..video.reading import read_video, scan_video
from . import synthetic
from .config import Stage, TrainConfig

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"})
MANY_FILES = 200  # a folder of this many files or more shows a bar while they are opened
MOST_CROP = 4  # largest number of source pixels per side of an output pixel
MEASURED_CLIPS = 4  # in each measurement of PSNR
STATISTICS_CLIPS = 64  # for the scale of the finished model's latents
# Each kind of draw has a key beside the seed, so no measured clip is ever trained on.
CLIP_KEY, LENGTH_KEY, NOISE_KEY, CACHE_KEY, MEASURE_KEY = range(5)


class Clips(Protocol):
    """A source of clips."""

    def draw(self, key: Sequence[int], num_frames: int, size: int) -> np.ndarray:
        """Draw a clip, uint8 (num_frames, size, size, 3). Equal keys give equal clips."""

    def describe(self) -> dict:
        """Plain values that identify the source. Runs and cached latents belong to one description."""


class SyntheticClips:
    """Endless synthetic clips: `synthetic.random_clip` of the bundled photographs, drawn pictures and waves."""

    def draw(self, key: Sequence[int], num_frames: int, size: int) -> np.ndarray:
        return synthetic.random_clip(np.random.default_rng(list(key)), num_frames, size)

    def describe(self) -> dict:
        return {"clips": "made"}  # not to be renamed: runs and caches on disk are known by it


class VideoFolder:
    """Random windows of the videos and images in a folder and its subfolders, cropped, scaled and flipped.

    The constructor opens every file; `skipped` maps each unreadable one to the reason. The next file replaces one that
    turns out to be damaged later, with a warning, or that is too short for a clip.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder at {folder}")
        suffixes = VIDEO_SUFFIXES.union(IMAGE_SUFFIXES)
        files = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        self.skipped: dict[str, str] = {}
        self.files: list[Path] = []
        for path in tqdm(files, "videos", unit="file", disable=len(files) < MANY_FILES):
            try:
                read_video(path, num_frames=1)
            except (ValueError, OSError) as error:
                self.skipped[str(path)] = str(error)
            else:
                self.files.append(path)
        if not self.files:
            why = "; ".join(self.skipped.values()) or f"it holds no file ending in {', '.join(sorted(suffixes))}"
            raise ValueError(f"no video in {folder} can be read: {why}")
        self._lengths: dict[Path, int] = {}
        self._said: set[Path] = set()

    def describe(self) -> dict:
        return {"clips": [[str(path.relative_to(self.folder)), path.stat().st_size] for path in self.files]}

    def draw(self, key: Sequence[int], num_frames: int, size: int) -> np.ndarray:
        random = np.random.default_rng(list(key))
        first = int(random.integers(len(self.files)))
        place = random.uniform(0, 1)
        reasons, damaged = [], []
        for path in self.files[first:] + self.files[:first]:
            try:
                length = self._length(path)
                if length >= num_frames or length == 1:
                    return self._clip(path, length, place, num_frames, random, size)
                reasons.append(f"{path} has {length} frames")
            except (ValueError, OSError) as error:
                warnings.warn(f"{error}: another file takes its place", stacklevel=2)
                reasons.append(str(error))
                damaged.append(path)
        for path in damaged:  # their packets were counted, but some of them cannot be decoded
            with suppress(ValueError, OSError):
                if (length := scan_video(path).num_frames) >= num_frames:
                    return self._clip(path, length, place, num_frames, random, size)
        raise ValueError(f"no video in {self.folder} gives {num_frames} frames: {'; '.join(reasons[:3])}")

    def _clip(
        self, path: Path, length: int, place: float, num_frames: int, random: np.random.Generator, size: int
    ) -> np.ndarray:
        """Read a window at `place`, in [0, 1], and crop it. Warn once of what is unusual about the file."""
        start = int(place * max(0, length - num_frames + 1))
        clip = read_video(path, start, min(num_frames, length))
        if clip.notes and path not in self._said:
            self._said.add(path)
            warnings.warn(f"{path}: {'; '.join(clip.notes)}", stacklevel=3)
        repeats = num_frames if length == 1 else 1  # an image stands still
        return _crop(np.repeat(clip.frames, repeats, axis=0), random, size)

    def _length(self, path: Path) -> int:
        if path not in self._lengths:
            self._lengths[path] = scan_video(path).num_frames if is_image(path) else count_frames(path)
        return self._lengths[path]


def _crop(frames: np.ndarray, random: np.random.Generator, size: int) -> np.ndarray:
    """Cut a random square out of uint8 (T, H, W, 3), scale it to `size`, and flip it in half of the cases."""
    height, width = frames.shape[1:3]
    side = min(height, width, size * np.exp(random.uniform(0, np.log(MOST_CROP))))
    x, y = random.uniform(0, 1, 2) * (width - side, height - side)
    box = (x, y, x + side, y + side)
    images = (Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC, box=box) for frame in frames)
    clip = np.stack([np.asarray(image) for image in images])
    return np.ascontiguousarray(clip[:, :, ::-1] if random.random() < 0.5 else clip)


def batches(clips: Clips, size: int, items: Sequence[list[tuple]], workers: int) -> Iterator[Tensor]:
    """Draw one batch, uint8 (B, T, size, size, 3), for each list of (key, num_frames), in that order."""
    draw = partial(_batch, clips, size)
    return iter(DataLoader(cast(Dataset, items), batch_size=None, collate_fn=draw, num_workers=workers))


def _batch(clips: Clips, size: int, items: list[tuple]) -> Tensor:
    return torch.stack([torch.from_numpy(clips.draw(key, num_frames, size)) for key, num_frames in items])


def to_pixels(frames: Tensor) -> Tensor:
    """Convert uint8 (B, T, H, W, 3) to float32 (B, 3, T, H, W) in [-1, 1], as `video.to_tensor` does for one clip."""
    return frames.permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


class LatentCache(NamedTuple):
    """2D latents of N clips and their frames, both read from disk as they are needed."""

    latents: np.ndarray  # float32 (N, T, C, h, w)
    frames: np.ndarray | None  # uint8 (N, T, H, W, 3); None if no stage needs them

    def window(self, key: Sequence[int], num_frames: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw num_frames consecutive frames of one clip, reversed in half of the cases: (T, C, h, w), (T, H, W, 3)."""
        random = np.random.default_rng(list(key))
        clip = int(random.integers(len(self.latents)))
        first = int(random.integers(self.latents.shape[1] - num_frames + 1))
        step = 1 if random.random() < 0.5 else -1
        cut = (clip, slice(first, first + num_frames))
        return self.latents[cut][::step], None if self.frames is None else self.frames[cut][::step]


def fingerprint(clips: Clips, spatial: SpatialVAE | None, settings: Sequence = ()) -> str:
    """Hash the source of the clips, the frozen 2D half (its weights and scaling factor) and other settings."""
    digest = hashlib.sha256(json.dumps([clips.describe(), list(settings)]).encode())
    if spatial is not None:
        digest.update(repr(spatial.config.scaling_factor).encode())
        hash_weights(digest, spatial.state_dict())
    return digest.hexdigest()


@torch.no_grad()
def cache_latents(
    folder: Path, clips: Clips, spatial: SpatialVAE, *, count: int, num_frames: int, size: int, seed: int,
    with_frames: bool, workers: int = 0, progress: bool = True,
) -> LatentCache:  # fmt: skip
    """Open the cache of these clips behind this 2D half in `folder`; fill it first if it is missing or unfinished."""
    # the name is a hash of everything that decides the content
    place = folder / f"latents-{fingerprint(clips, spatial, [count, num_frames, size, seed])[:16]}"
    side = size // spatial.spatial_compression_ratio
    headers = {"latents": ("<f4", (count, num_frames, spatial.config.latent_channels, side, side))}
    if with_frames:
        headers["frames"] = ("|u1", (count, num_frames, size, size, 3))
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / ".lock"):  # another run that shares the folder waits, then finds it filled
        missing = [name for name in headers if not (place / f"{name}-finished").exists()]
        if missing:
            items = [[((seed, i), num_frames)] for i in range(count)]
            drawn = tqdm(batches(clips, size, items, workers), "2D latents", count, unit="clip", disable=not progress)
            _write_arrays(place, {name: headers[name] for name in missing}, spatial, drawn)
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in headers}
    return LatentCache(arrays["latents"], arrays.get("frames"))


def _write_arrays(place: Path, headers: dict[str, tuple], spatial: SpatialVAE, drawn: Iterable[Tensor]) -> None:
    """Write the arrays named in headers, which maps each name to its (dtype, shape)."""
    with ExitStack() as stack:  # plain writes: a full disk raises an error, not a signal as for memory maps
        files = {name: stack.enter_context((place / f"{name}.npy").open("wb")) for name in headers}
        for name, (descr, shape) in headers.items():
            write_array_header_1_0(files[name], dict(descr=descr, fortran_order=False, shape=shape))
        for batch in drawn:
            if "latents" in files:
                z = codec_of(spatial).encode(to_pixels(batch.to(spatial.device)))[0].transpose(0, 1)
                files["latents"].write(z.cpu().numpy().tobytes())
            if "frames" in files:
                files["frames"].write(batch[0].numpy().tobytes())
    for name in headers:
        (place / f"{name}-finished").touch()


class Batch(NamedTuple):
    """The inputs of one step in one process."""

    frames: Tensor | None  # (B, 3, T, H, W) in [-1, 1]; None if only latents are needed
    latents: Tensor | None  # (B, C, T, h, w), from the frozen 2D half; None if there is no such half
    seeds: list[int]  # one per clip, for its posterior sample and for layers that draw (`losses.layers_seeded`)


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
            random = np.random.default_rng([config.seed, LENGTH_KEY, number, step])
            image = self.only_images or random.random() < config.image_fraction
            num_frames = 1 if image else int(random.integers(stage.num_frames[0], stage.num_frames[1] + 1))
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
        items = [((self.config.seed, MEASURE_KEY, i), num_frames) for i in numbers]
        return to_pixels(_batch(self.clips, self.config.size, items))

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
