"""What it will cost to encode and decode a clip on this machine, from a short trial of the model's parts."""

import time
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from statistics import median
from timeit import repeat, timeit
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..shapes import latent_chunks
from ..utils.checks import positive_int
from ..video_vae import VideoVAE

TRIED_PIXELS = 256 * 256  # of a frame: a larger one is tried as small as this, and counted in proportion
TRIED_FRAMES = 17  # of a model without chunks
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


class Cost(NamedTuple):
    """What `clip_cost` expects of one `encode` and one `decode`."""

    encode: float
    """Seconds."""
    decode: float
    before: int | None
    """Bytes that the process has in use, the model included; None where the system does not tell."""
    peak: int | None
    """Bytes that it will have in use at most, the clip included."""
    trial: float
    """Seconds that the trial took."""


class _Part(NamedTuple):
    seconds: float
    memory: int  # bytes above what was in use before the trial


@torch.no_grad()
def clip_cost(vae: VideoVAE, size: Sequence[int]) -> Cost:
    """Try one micro batch of the 2D half and one chunk of the temporal half, and count them up for a clip (T, H, W).

    Raises ValueError for a model that is not a VideoVAE, and for a size that it does not take.
    """
    if not isinstance(vae, VideoVAE):
        raise ValueError(f"vae must be a VideoVAE for a plan, got a {type(vae).__name__}")
    num_frames, height, width = (positive_int("size", side) for side in size)
    vae.latent_size((num_frames, height, width))  # refuses
    begin = time.perf_counter()
    spatial, temporal, cell = vae.spatial, vae.temporal, vae.spatial_compression_ratio
    shrink = max(1, sqrt(height * width / TRIED_PIXELS))
    h, w = (max(1, round(side / shrink / cell)) for side in (height, width))  # cells of the frames that are tried
    area = height * width / (h * w * cell**2)

    def noise(channels: int, *shape: int) -> Tensor:
        return torch.randn(1, channels, *shape, dtype=vae.dtype, generator=torch.Generator().manual_seed(0))

    vae.decode(vae.encode(noise(spatial.config.in_channels, 1, cell, cell)).latent_dist.mode())  # what any clip needs
    before = _in_use("VmRSS")
    batch = min(num_frames, spatial.frames_at_once(height, width, vae.dtype.itemsize) or num_frames)
    tried = min(batch, TRIED_FRAMES)
    x, z = noise(spatial.config.in_channels, tried, h * cell, w * cell), noise(temporal.config.in_channels, tried, h, w)
    of_frames = _tried(lambda: spatial.encode(x), before), _tried(lambda: spatial.decode(z), before)

    ratio, chunk = vae.temporal_compression_ratio, vae.config.micro_frame_size
    latents = [number for number, _ in latent_chunks(num_frames, ratio, chunk)]
    length = min(num_frames, chunk or TRIED_FRAMES)
    ((number, _),) = latent_chunks(length, ratio, None)
    z, latent = noise(z.shape[1], length, h, w), noise(temporal.config.latent_channels, number, h, w)
    of_chunk = _tried(lambda: temporal.encode(z), before), _tried(lambda: temporal.decode(latent, length), before)

    encode, decode = (
        area * (frames.seconds * num_frames / tried + chunks.seconds * sum(latents) / number)
        for frames, chunks in zip(of_frames, of_chunk, strict=True)
    )
    peak = None
    if before is not None:
        clip = spatial.config.in_channels * num_frames * height * width * vae.dtype.itemsize
        in_batch = area * batch / tried * max(part.memory for part in of_frames)
        in_chunk = area * max(latents) / number * max(part.memory for part in of_chunk)
        # beside the clip: its copy in the 2D half's order, or the frames that are decoded so far, and a micro batch; at
        # the end all decoded frames twice, while they are joined
        peak = before + round(clip + max(clip + in_batch, 2 * clip, in_chunk))
    return Cost(encode, decode, before, peak, time.perf_counter() - begin)


def _tried(call: Callable[[], Any], before: int | None) -> _Part:
    """Call more than once: the first call needs the memory, the others tell the time."""
    if before is not None:
        PEAK_RESET.write_text("5")
    calls = max(1, min(7, int(0.5 / timeit(call, number=1))))  # half a second of short calls
    return _Part(median(repeat(call, repeat=calls, number=1)), max(0, (_in_use("VmHWM") or 0) - (before or 0)))


def _in_use(name: str) -> int | None:
    """Bytes of memory of this process: VmRSS now, VmHWM at most since PEAK_RESET was written to."""
    if not PEAK_RESET.exists():
        return None
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name))
