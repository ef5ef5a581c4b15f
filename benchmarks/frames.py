"""The lab's 2D half by the number of frames in a call, and whole or in tiles: CPU time, error, quality."""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch

from vae_lab import SpatialVAE, load, photo_clip, psnr, to_tensor

from .measuring import in_turn, ratio

# size -> frames in a call
BATCHES = {(16, 128, 128): (16, 8, 4, 2, 1), (4, 192, 192): (4, 2, 1), (4, 320, 320): (4, 2, 1)}
TILES = 128, 96, 64  # pixels of a side


@torch.no_grad()
def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    vae: SpatialVAE = load("lab").spatial
    rows = []
    for size, batches in BATCHES.items():
        x = to_tensor(photo_clip("coffee", size[0], size[1:]).frames)

        def once(batch: int, x: torch.Tensor = x) -> Callable[[], Any]:
            return lambda: torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(batch, dim=2)], dim=2)

        vae.register_to_config(micro_batch_size=None)  # what is given is one call
        times = in_turn({str(batch): once(batch) for batch in batches}, args.rounds)
        for batch in batches:
            of_first = ratio(times[str(batch)], times[str(batches[0])])
            cpu = 1e3 * statistics.median(times[str(batch)].cpu) / size[0]
            rows.append(dict(size=size, batch=batch, cpu_ms=cpu, ratio=of_first))
            spread = "{:.2f} ({:.2f} to {:.2f})".format(*of_first)
            print(f"  encode {size}, {batch:>2} frames a call: {cpu:.1f} ms of CPU a frame, {spread} of {batches[0]}")
    vae.register_to_config(micro_batch_size=4)
    x = to_tensor(photo_clip("astronaut", 4, (192, 192)).frames)
    whole = None
    for tile in (None, *TILES):
        vae.use_tiling = False
        if tile:
            vae.enable_tiling(tile)
        y = vae(x).sample
        whole = y if whole is None else whole
        quality = float(psnr(x, y.clamp(-1, 1), 2.0).mean())
        cpu = 1e3 * statistics.median(in_turn({"": lambda: vae(x)}, args.rounds)[""].cpu) / 4
        error = float((y - whole).abs().max())
        rows.append(dict(tile=tile, cpu_ms=cpu, largest_difference=error, psnr=quality))
        name = f"tiles of {tile}x{tile}" if tile else "whole frames"
        text = f"{cpu:.0f} ms of CPU a frame, PSNR {quality:.2f} dB, at most {error:.2f} from whole"
        print(f"  4 frames of 192x192, {name}: {text}")
    return rows


if __name__ == "__main__":
    main()
