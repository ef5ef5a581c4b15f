"""What benchmarks share: things measured in turn, peaks of memory, and what the machine does at best."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers.models import upsampling

from vae_lab import CausalConv3d, SpatialVAE
from vae_lab.utils.upsampling import Upsample2D

MICRO_BATCH_SIZE = 4  # of the 2D half: Open-Sora v1.2.0, configs/vae/train/stage1.py


class Seconds(NamedTuple):
    """How long calls took, one number each."""

    cpu: list[float]  # of all threads of the process
    wall: list[float]


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
    """Call all ways one after another, `rounds` times and once before to warm up."""
    times = {name: Seconds([], []) for name in ways}
    for number in range(-1, rounds):
        for name, run in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if number >= 0:
                times[name].cpu.append(time.process_time() - cpu)
                times[name].wall.append(time.perf_counter() - wall)
    return times


def ratio(times: Seconds, base: Seconds) -> list[float]:
    """Ratios of CPU seconds, round by round: [median, least, largest]."""
    ratios = [one / other for one, other in zip(times.cpu, base.cpu, strict=True)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


@contextmanager
def straightforward() -> Iterator[None]:
    """Compute what is called within as Open-Sora's code does; models must pad with zeros.

    Convolutions are torch's, of padded copies. The 2D half takes MICRO_BATCH_SIZE frames, in torch's usual order.
    """

    def padded(self: CausalConv3d, x: torch.Tensor) -> torch.Tensor:
        height, width = 2 * [self.height_padding], 2 * [self.width_padding]
        x = F.pad(x, [*width, *height, self.time_padding, 0])
        return F.conv3d(x, self.conv.weight, self.conv.bias, self.conv.stride, 0, self.conv.dilation)

    def as_they_come(self: SpatialVAE, function: Callable, x: torch.Tensor, cell: int) -> torch.Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        outputs = torch.cat([function(part) for part in frames.split(MICRO_BATCH_SIZE)])
        return outputs.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    with (
        mock.patch.object(CausalConv3d, "forward", padded),
        mock.patch.object(SpatialVAE, "_frame_by_frame", as_they_come),
        mock.patch.object(Upsample2D, "forward", upsampling.Upsample2D.forward),
    ):
        yield


class Once(NamedTuple):
    """A call in a process of its own."""

    cpu: float  # seconds
    wall: float
    peak: float  # MB above what was in use before the call


def once(prepare: Callable[[], Callable[[], Any]]) -> Once | None:
    """Call what `prepare` returns, in a forked process; None where the system does not tell a process's memory.

    OpenMP's threads do not survive a fork: call this before anything is computed in this process.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_once, args=(prepare, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _send_once(prepare: Callable[[], Callable[[], Any]], sender: Any) -> None:
    run = prepare()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, cpu, wall = kilobytes("VmRSS"), time.process_time(), time.perf_counter()
    run()
    used = time.process_time() - cpu, time.perf_counter() - wall
    sender.send(Once(*used, (kilobytes("VmHWM") - before) / 1024))


def kilobytes(name: str) -> int:
    """Memory of this process as Linux tells it: VmRSS now, VmHWM at most. (`ru_maxrss` may be that of a parent.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@torch.no_grad()
def limit() -> float:
    """GFLOP in a CPU second of a convolution that suits oneDNN: 256 channels, 3x3, 64x64; the median of eight calls."""
    x, weight = torch.rand(4, 256, 64, 64), torch.rand(256, 256, 3, 3)
    seconds = in_turn({"": lambda: F.conv2d(x, weight, padding=1)}, 8)[""].cpu
    return 2 * x.numel() * weight[0].numel() / statistics.median(seconds) / 1e9
