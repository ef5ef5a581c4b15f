"""The temporal half with oneDNN's convolution for small clips, against torch's own choice: CPU seconds of both.

Both run in turn in one process, 17 frames of 2D latents a call.
"""

import argparse
import statistics
import time
from unittest import mock

import torch

from vae_lab import load
from vae_lab.utils import convolutions


@torch.no_grad()
def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 24, 32], help="latent cells of a side")
    args = parser.parse_args(argv)
    vae = load(args.model).temporal
    ratio = 0.0
    for size in args.sizes:
        x = torch.randn(1, vae.config.in_channels, 17, size, size, generator=torch.Generator().manual_seed(0))
        z = vae.encode(x).latent_dist.mode()
        for name, run in {"encode": lambda x=x: vae.encode(x), "decode": lambda z=z: vae.decode(z, 17)}.items():
            rounds = []
            for number in range(-1, args.rounds):
                begin = time.process_time()
                run()
                middle = time.process_time()
                with mock.patch.object(convolutions, "onednn_takes", return_value=False):
                    run()
                if number >= 0:  # the first round only warms up
                    rounds.append((middle - begin) / (time.process_time() - middle))
            ratio = statistics.median(rounds)
            spread = f"{min(rounds):.2f} to {max(rounds):.2f}"
            print(f"{name} 17x{size}x{size}: {ratio:.2f} of the time with torch's own choice ({spread})")
    return ratio


if __name__ == "__main__":
    main()
