"""The released model on a CUDA device, if there is one: float32, TF32, bfloat16, channels-last, compiled, CUDA graphs.

Milliseconds of encoding and decoding by the device's own clock: median (least to largest) of rounds in turn, and times
the speed of the straightforward way (`measuring.straightforward`) in float32. Errors are the largest difference from
float64 of what comes back, as a fraction of the largest value. Peaks are above what the device holds before, weights
included. The first call is in seconds, and compiles.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .models import clip, make, within

SIZES = {"temporal": (17, 32, 32), "spatial": (4, 256, 256), "stack": (17, 256, 256)}
HALF = torch.bfloat16


class Way(NamedTuple):
    """How a model runs."""

    dtype: torch.dtype = torch.float32
    within: str = "exact"  # a way of `models`
    tf32: bool = False  # whether convolutions round to 10 bits, torch's default
    channels_last: bool = False
    micro_batch_size: int | None = 4  # of the 2D half
    compiled: str | None = None  # torch.compile's mode


WAYS = {
    "straightforward, float32": Way(within="straightforward"),
    "float32": Way(),
    "TF32": Way(tf32=True),
    'fast("bf16")': Way(within="bf16", tf32=True),
    "bfloat16": Way(HALF),
    "bfloat16, all frames a call": Way(HALF, micro_batch_size=None),
    "bfloat16, channels-last": Way(HALF, channels_last=True),
    "bfloat16, compiled": Way(HALF, compiled="default"),
    "bfloat16, channels-last, compiled": Way(HALF, channels_last=True, compiled="default"),
    "bfloat16, CUDA graphs": Way(HALF, compiled="reduce-overhead"),
}


def round_trip(way: Way, vae: Any, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a function that encodes and decodes x, after vae has become what the way asks for."""
    vae, x = vae.to(x.device, way.dtype), x.to(way.dtype)
    if way.channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                two = isinstance(module, torch.nn.Conv2d)
                module.to(memory_format=torch.channels_last if two else torch.channels_last_3d)
    for module in vae.modules():
        if "micro_batch_size" in getattr(module, "config", ()):
            module.register_to_config(micro_batch_size=way.micro_batch_size)

    def run(x: torch.Tensor) -> torch.Tensor:
        z = vae.encode(x).latent_dist.mode()
        return vae.decode(z, num_frames=x.shape[2]).sample

    call, used = torch.compile(run, mode=way.compiled, dynamic=False) if way.compiled else run, within(vae, way.within)

    def call_so() -> torch.Tensor:
        torch.backends.cudnn.allow_tf32 = way.tf32
        with torch.no_grad(), used():
            return call(x)

    return call_so


def milliseconds(run: Callable[[], Any]) -> float:
    """By the device's own clock."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def peak(run: Callable[[], Any]) -> float:
    """MiB above what the device holds before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measured(part: str, ways: dict[str, Way], rounds: int) -> list[dict[str, Any]]:
    """A row for each way."""
    x = clip(part, SIZES[part], torch.float64).cuda()
    truth = round_trip(Way(torch.float64), make(part, "released", "cuda"), x)()
    runs, rows = {}, []
    for name, way in ways.items():
        runs[name] = run = round_trip(way, make(part, "released", "cuda"), x)
        begin = time.perf_counter()
        error = float((run().double() - truth).abs().max() / truth.abs().max())
        first = time.perf_counter() - begin
        run()  # CUDA graphs are recorded in the second call
        row = dict(
            part=part, size="x".join(map(str, SIZES[part])), way=name, error=error, first_s=first, peak=peak(run)
        )
        rows.append(row)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-1, rounds):
        for name, run in runs.items():
            took = milliseconds(run)
            if number >= 0:
                times[name].append(took)
    base = statistics.median(times[next(iter(ways))])
    for row in rows:
        ms = [statistics.median(times[row["way"]]), min(times[row["way"]]), max(times[row["way"]])]
        row.update(ms=ms, speed=base / ms[0])
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one part as text."""
    layout = "  {:<34}{:>26}{:>7}{:>10}{:>10}{:>9}"
    lines = [f"{rows[0]['part']}, released, {rows[0]['size']}"]
    lines.append(layout.format("", "ms", "speed", "error", "peak MiB", "first s"))
    for row in rows:
        ms = "{:.2f} ({:.2f} to {:.2f})".format(*row["ms"])
        cells = ms, f"{row['speed']:.2f}", f"{row['error']:.1e}", f"{row['peak']:.0f}", f"{row['first_s']:.1f}"
        lines.append(layout.format(row["way"], *cells))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--long", action="store_true", help="the halves compiled too, which takes minutes")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return {}
    device, rows = torch.cuda.get_device_name(), []
    print(f"  {device}, torch {torch.__version__}")
    for part in SIZES:
        compiled, frames_apart = args.long and part != "stack", part != "temporal"
        fitting = {
            name: way
            for name, way in WAYS.items()
            if (compiled or not way.compiled) and (frames_apart or way.micro_batch_size)
        }
        rows += (made := measured(part, fitting, args.rounds))
        print(table(made), flush=True)
    return dict(device=device, rows=rows)


if __name__ == "__main__":
    main()
