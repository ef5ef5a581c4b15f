"""What `vae-lab sizes --plan` expects of a clip, against what then happens: seconds, expected / found."""

import argparse
import time

import torch

from vae_lab import load
from vae_lab.reconstruct.cost import clip_cost

SIZES = ((34, 128, 128), (51, 64, 64), (9, 256, 256))


@torch.no_grad()
def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab")
    args = parser.parse_args(argv)
    vae, found = load(args.model), {}
    for size in SIZES:
        cost, x = clip_cost(vae, size), torch.rand(1, 3, *size) * 2 - 1
        begin = time.perf_counter()
        z = vae.encode(x).latent_dist.mode()
        middle = time.perf_counter()
        vae.decode(z, size[0])
        ratios = dict(encode=cost.encode / (middle - begin), decode=cost.decode / (time.perf_counter() - middle))
        found["x".join(map(str, size))] = ratios
        print(f"  {size}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return found


if __name__ == "__main__":
    main()
