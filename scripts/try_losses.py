"""Compare losses on 2D latents for 4 latent channels, small: `python scripts/try_losses.py` (ten minutes on one core).

A temporal half like `lab-frame-group`'s starts from `start_carrying_frames` and is trained with each loss and seed on
96 synthetic clips of 17 frames of 64x64. Printed for 32 held-out clips, and for the 16 of them that move most: the RMS
error of the 2D latents in their standard deviations, and PSNR in dB. The losses on the error e of 2D latents:

squared: the mean of e^2. roots: the mean over clips of the root of the mean of e^2.
channels: e' G e in each cell, where G is the mean over cells of J' J between channels; J is the 2D decoder's Jacobian.
numbers: the mean of w e^2, where w is the diagonal of J' J for each number of each clip, cut at its 99th percentile.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vae_lab import TemporalVAE, load, psnr, to_tensor
from vae_lab.metrics import linear_in_time
from vae_lab.training.initialization import start_carrying_frames
from vae_lab.training.synthetic import random_clip

FRAMES, SIZE = 17, 64
TRAINED, HELD_OUT = range(1000, 1096), range(5000, 5032)  # seeds of clips
LOSSES = ("squared", "roots", "channels", "numbers")


def clips(seeds: range) -> Tensor:
    return torch.cat([to_tensor(random_clip(np.random.default_rng(seed), FRAMES, SIZE)) for seed in seeds])


def pulled_back(spatial: torch.nn.Module, z: Tensor, seed: int) -> Iterator[Tensor]:
    """J' v for a random sign v of each pixel, clip by clip: the mean of its square is the diagonal of J' J."""
    generator = torch.Generator().manual_seed(seed)
    for part in z.split(1):
        part = part.clone().requires_grad_()
        y = spatial.decode(part).sample
        signs = torch.randint(0, 2, y.shape, generator=generator).float() * 2 - 1
        yield torch.autograd.grad((y * signs).sum(), part)[0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    args = parser.parse_args(argv)
    lab = load("lab-frame-group")
    spatial = lab.spatial.requires_grad_(False)
    config = {name: value for name, value in lab.temporal.config.items() if not name.startswith("_")}

    @torch.no_grad()
    def encode(x: Tensor) -> Tensor:
        return torch.cat([spatial.encode(part).latent_dist.mode() for part in x.split(8)])

    held_out = clips(HELD_OUT)
    trained, z = encode(clips(TRAINED)), encode(held_out)
    moving = (held_out[:, :, 1:] - held_out[:, :, :-1]).abs().mean((1, 2, 3, 4)).argsort()[len(held_out) // 2 :]
    weights = torch.cat(list(pulled_back(spatial, trained, 0))).square()
    weights = (weights / weights.mean()).clamp(max=float(np.quantile(weights / weights.mean(), 0.99)))
    flat = [pulled[0].flatten(1) for pulled in pulled_back(spatial, trained[::3], 1)]
    gram = sum(pulled @ pulled.T for pulled in flat)
    gram = gram / gram.diagonal().mean()
    losses = {
        "squared": lambda e, chosen: e.square().mean(),
        "roots": lambda e, chosen: (e.square().flatten(1).mean(1) + 1e-3).sqrt().mean(),
        "channels": lambda e, chosen: torch.einsum("bcthw,cd,bdthw->bthw", e, gram, e).mean() / len(gram),
        "numbers": lambda e, chosen: (weights[chosen] * e.square()).mean(),
    }

    @torch.no_grad()
    def report(name: str, back: Tensor) -> None:
        y = torch.cat([spatial.decode(part).sample for part in back.split(8)]).clamp(-1, 1)
        found = []
        for rows in (slice(None), moving):
            error = (back - z)[rows].square().mean((0, 2, 3, 4)).sqrt() / z.std((0, 2, 3, 4))
            found.append(f"{error.mean():.3f}, {psnr(held_out[rows], y[rows], 2.0).mean():.2f} dB")
        print(f"{name}: {found[0]}; clips that move: {found[1]}", flush=True)

    report("2D", z)
    report("line", linear_in_time(z))
    for seed in args.seeds:
        for name in args.losses:
            torch.manual_seed(seed)
            half = TemporalVAE(**config)
            start_carrying_frames(half)
            optimizer = torch.optim.AdamW(half.parameters(), 1e-3)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
            random = np.random.default_rng(seed)
            for _ in range(args.steps):
                chosen = torch.from_numpy(random.choice(len(trained), 4, replace=False))
                x = trained[chosen]
                error = half.decode(half.encode(x).latent_dist.mode(), FRAMES).sample - x
                optimizer.zero_grad()
                losses[name](error, chosen).backward()
                torch.nn.utils.clip_grad_norm_(half.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                report(f"{name}, seed {seed}", half.eval().decode(half.encode(z).latent_dist.mode(), FRAMES).sample)


if __name__ == "__main__":
    main()
