"""The released halves on a CUDA device, if there is one: float32, bfloat16, channels-last, compiled, as CUDA graphs.

Milliseconds of encoding and decoding together, median of the rounds, and times the speed of float32.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch

from .models import clip, make

SIZES = {"temporal": (17, 32, 32), "spatial": (4, 256, 256)}


def ways(part: str, model: str, size: tuple[int, int, int], device: str) -> dict[str, Callable[[], Any]]:
    """Name -> a function that encodes and decodes on the device."""
    three = torch.channels_last_3d if part == "temporal" else torch.channels_last

    def way(dtype: torch.dtype, last: bool = False, mode: str | None = None) -> Callable[[], Any]:
        vae, x = make(part, model).to(device, dtype), clip(part, size).to(device, dtype)
        if last:
            vae = vae.to(memory_format=three)
            x = x.to(memory_format=torch.channels_last_3d)

        def run(x: torch.Tensor) -> torch.Tensor:
            z = vae.encode(x).latent_dist.mode()
            return vae.decode(z).sample

        compiled = torch.compile(run, mode=mode) if mode else run
        return lambda: compiled(x)

    half = torch.bfloat16
    return {
        "float32": way(torch.float32),
        "bfloat16": way(half),
        "bfloat16, channels-last": way(half, True),
        "bfloat16, compiled": way(half, mode="default"),
        "bfloat16, CUDA graphs": way(half, mode="reduce-overhead"),
    }


@torch.no_grad()
def milliseconds(run: Callable[[], Any]) -> float:
    """By the device's own clock."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return {}
    found: dict[str, dict[str, float]] = {}
    for part, size in SIZES.items():
        runs = ways(part, "released", size, "cuda")
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(-3, args.rounds):
            for name, run in runs.items():
                took = milliseconds(run)
                if number >= 0:  # the first rounds compile and warm up
                    times[name].append(took)
        found[part] = {name: statistics.median(values) for name, values in times.items()}
        for name, value in found[part].items():
            speed = found[part]["float32"] / value
            print(f"  {part} {'x'.join(map(str, size))}, {name:<24}{value:9.2f} ms, {speed:.2f} times the speed")
    return found


if __name__ == "__main__":
    main()
