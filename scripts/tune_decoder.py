"""Train the 2D decoder further on a CPU: `python scripts/tune_decoder.py START OUT --steps N`.

START is a checkpoint that `load` reads. Its 2D encoder stays as it is, so the latents do, and temporal halves behind it
stay right. The pictures are those of `synthetic.random_clip`, and more of its waves, which were few when the 2D half
of `lab-8` was trained. OUT/model gets a mean of the weights before and after, which keeps most of what both do well.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_lab import SpatialVAE, load, photo_clip, psnr, synthetic_clip, to_tensor
from vae_lab.training import synthetic
from vae_lab.video.clips import HELD_OUT_PHOTOS

SIZE = 96
WAVES = 0.3  # share of pictures that are waves, besides those of random_clip
EMA_DECAY = 0.99


def picture(seed: int, step: int, number: int) -> Tensor:
    """Draw one picture (1, 3, 1, SIZE, SIZE)."""
    random = np.random.default_rng([seed, step, number])
    if random.random() < WAVES:
        clip = synthetic._change_colours(random, synthetic._waves_layer(random, 1, SIZE))
        return to_tensor(np.rint(np.clip(clip, 0, 1) * 255).astype(np.uint8))
    return to_tensor(synthetic.random_clip(random, 1, SIZE))


@torch.no_grad()
def measured(spatial: SpatialVAE) -> str:
    """PSNR of pictures that are not trained on."""
    kinds = {
        "photographs": [photo_clip(name, 3, (128, 128), seed=2000).frames for name in HELD_OUT_PHOTOS],
        "texture": [synthetic_clip("texture", 2, (128, 128), seed=seed).frames for seed in range(2000, 2004)],
        "shapes": [synthetic_clip("shapes", 2, (128, 128), seed=seed).frames for seed in range(2000, 2004)],
        "made": [synthetic.random_clip(np.random.default_rng([2000, i]), 1, 128) for i in range(24)],
    }
    texts = []
    for kind, clips in kinds.items():
        values = []
        for clip in map(to_tensor, clips):
            y = spatial.decode(spatial.encode(clip).latent_dist.mode()).sample.clamp(-1, 1)
            values.append(psnr(clip, y, data_range=2.0).mean().item())
        texts.append(f"{kind} {np.mean(values):.2f}")
    return ", ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start")
    parser.add_argument("out", type=Path)
    for name, value in dict(steps=500, batch=8, seed=7, show=100).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--share", type=float, default=0.5, help="of the weights after, in the mean (default: 0.5)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    vae = load(args.start).requires_grad_(False)
    spatial, coder = vae.spatial, vae.spatial.autoencoder
    trained = [*coder.decoder.parameters(), *coder.post_quant_conv.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    before = [p.detach().clone() for p in trained]
    average, begin = [p.clone() for p in before], time.time()

    def exchange() -> None:
        """Exchange the weights for their moving average, or back."""
        for p, other in zip(trained, average, strict=True):
            p.data, other.data = other.data, p.data

    log = (args.out / "log.txt").open("a")
    for step in range(args.steps + 1):
        if step % args.show == 0:
            exchange()
            line = f"{time.time() - begin:7.0f} s, step {step}: {measured(spatial)}"
            exchange()
            print(line, flush=True)
            print(line, file=log, flush=True)
        if step == args.steps:
            break
        torch.manual_seed(args.seed * 1_000_000 + step)
        x = torch.cat([picture(args.seed, step, number) for number in range(args.batch)])[:, :, 0]
        with torch.no_grad():
            z = coder.encode(x).latent_dist.sample()
        error = (coder.decode(z).sample - x).flatten(1)
        loss = (error.square().mean(1) + 1e-4).sqrt().mean() + 0.1 * error.abs().mean()
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)
    for p, first, last in zip(trained, before, average, strict=True):
        p.data = torch.lerp(first, last, args.share)
    vae.save_pretrained(args.out / "model")


if __name__ == "__main__":
    main()
