"""Train the lab's first weights on a CPU and write data/lab: `python data/train_lab.py`.

Two stages, each started from its own seed:
  spatial   a small AutoencoderKL on random 64 px crops of bundled photographs and synthetic frames (3,600 steps)
  temporal  a small TemporalVAE behind it, the 2D half frozen: first on its latents, then on pixels (3,200 + 600 steps)
The photographs in clips.HELD_OUT_PHOTOS are never read. Progress goes to stdout; each stage saves every 500 steps to
--work and goes on from there when started again.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from vae_lab import SpatialVAE, TemporalVAE, VideoVAE, photo_clip, synthetic_clip, to_tensor
from vae_lab.clips import HELD_OUT_PHOTOS, PHOTOS, photo
from vae_lab.temporal_vae import ResnetBlock

TRAIN_PHOTOS = [name for name in PHOTOS if name not in HELD_OUT_PHOTOS]
# Half of them are grey, and a VAE of four channels that sees them as often as the others never learns colour.
COLOUR_PHOTOS = [name for name in TRAIN_PHOTOS if (photo(name) != photo(name)[:, :, :1]).any()]
DRAWN_PHOTOS = TRAIN_PHOTOS + 2 * COLOUR_PHOTOS
SPATIAL_CONFIG = dict(
    block_out_channels=(16, 32, 64, 128), layers_per_block=1, norm_num_groups=4, mid_block_add_attention=False
)
TEMPORAL_CONFIG = dict(base_channels=32, channel_multipliers=(1, 1, 2, 2), num_res_blocks=1, norm_num_groups=8)
CROP = 64  # pixels
SPATIAL_STEPS, LATENT_STEPS, PIXEL_STEPS = 3600, 3200, 600
CACHED_CLIPS, MEASURED_CLIPS = 1200, 64
KL_WEIGHT = 1e-6  # per latent element: only keeps the latents from drifting
COARSE_WEIGHT = 2.0  # of the error of 8x8 px means: without it training stays at grey pictures for thousands of steps
FIRST_LOGVAR = -6.0  # of the posteriors before training, so that noise does not drown the latents


def random_colours(x: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Random flips, channel order, inversion and saturation, the same for a whole (3, T, H, W) clip in [-1, 1]."""
    if random.random() < 0.5:
        x = x[torch.from_numpy(random.permutation(3))]
    for axis in (2, 3):
        if random.random() < 0.5:
            x = x.flip(axis)
    if random.random() < 0.1:
        x = -x
    if random.random() < 0.3:
        grey = x.mean(0, keepdim=True)
        x = (grey + (x - grey) * random.uniform(0.5, 2)).clamp(-1, 1)
    return x


def random_crop(random: np.random.Generator) -> torch.Tensor:
    """A (3, 1, CROP, CROP) view of a photograph, 1 to 4 photo pixels a pixel; a fifth are synthetic frames."""
    if random.random() < 0.2:
        kind = random.choice(["shapes", "texture"])
        frames = synthetic_clip(str(kind), 1, (CROP, CROP), seed=int(random.integers(1 << 31))).frames
    else:
        image = Image.fromarray(photo(str(random.choice(DRAWN_PHOTOS))))
        side = CROP * np.exp(random.uniform(0, np.log(4)))
        side = min(side, image.width, image.height)
        left, top = random.uniform(0, 1, 2) * (image.width - side, image.height - side)
        crop = image.resize((CROP, CROP), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        frames = np.asarray(crop)[None]
    return random_colours(to_tensor(frames)[0], random)


def random_clip(random: np.random.Generator, num_frames: int) -> torch.Tensor:
    """A (3, num_frames, CROP, CROP) clip: a camera move over a photograph, or synthetic motion."""
    seed = int(random.integers(1 << 31))
    if random.random() < 0.25:
        kind = random.choice(["shapes", "texture", "cut"], p=[0.6, 0.3, 0.1])
        frames = synthetic_clip(str(kind), num_frames, (CROP, CROP), seed=seed).frames
    else:
        name = str(random.choice(DRAWN_PHOTOS))
        zoom = np.exp(random.uniform(0, np.log(min(photo(name).shape[:2]) / CROP)))
        start = np.array([*random.uniform(0, 1, 2), zoom])
        speed = random.choice([0.0, 0.3, 1.0, 3.0])  # pixels per frame, roughly, at this zoom
        move = random.normal(0, 1, 2) * speed * num_frames / CROP / zoom
        stop = np.array([*np.clip(start[:2] + move, 0, 1), max(1.0, zoom * np.exp(random.normal(0, 0.1)))])
        frames = photo_clip(name, num_frames, (CROP, CROP), start, stop).frames
    return random_colours(to_tensor(frames)[0], random)


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(y, x) + 0.05 * F.l1_loss(y, x)


@torch.no_grad()
def quiet(quant_conv: torch.nn.Module) -> None:
    quant_conv.bias[len(quant_conv.bias) // 2 :] = FIRST_LOGVAR


def run(name: str, model: torch.nn.Module, loss_at, steps: int, rate: float, seed: int, work: Path) -> None:
    """`steps` of AdamW on `loss_at(random, step)`, warmed up over 100 and decayed to 0; resumes from `work`."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.0)
    path, first = work / f"{name}.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    start, mean = time.perf_counter(), 0.0
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_at(np.random.default_rng([seed, step]), step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += (loss.item() - mean) * max(0.01, 1 / (step - first + 1))
        if (step + 1) % 100 == 0:
            print(f"{name} {step + 1}/{steps} loss {mean:.5f} {time.perf_counter() - start:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)


def train_spatial(work: Path) -> SpatialVAE:
    torch.manual_seed(0)
    vae = SpatialVAE(**SPATIAL_CONFIG, scaling_factor=1.0, micro_batch_size=16)
    vae.autoencoder.to(memory_format=torch.channels_last)
    quiet(vae.autoencoder.quant_conv)

    def loss_at(random, step):
        x = torch.stack([random_crop(random) for _ in range(16)])
        posterior = vae.encode(x).latent_dist
        noise = torch.Generator().manual_seed(step)
        y = vae.decode(posterior.sample(noise)).sample
        coarse = F.mse_loss(F.avg_pool2d(y[:, :, 0], 8), F.avg_pool2d(x[:, :, 0], 8))
        kl = posterior.kl().sum() / posterior.mean.numel()
        return reconstruction_loss(y, x) + COARSE_WEIGHT * coarse + KL_WEIGHT * kl

    run("spatial", vae, loss_at, SPATIAL_STEPS, 2e-3, seed=1, work=work)
    with torch.no_grad():
        random = np.random.default_rng(2)
        latents = vae.encode(torch.stack([random_crop(random) for _ in range(256)])).latent_dist.mode()
    trained = SpatialVAE(**SPATIAL_CONFIG, scaling_factor=round(1 / latents.std().item(), 5))
    trained.load_state_dict(vae.state_dict())
    return trained.requires_grad_(False)


def train_temporal(spatial: SpatialVAE, work: Path) -> TemporalVAE:
    torch.manual_seed(3)
    vae = TemporalVAE(in_channels=4, latent_channels=4, **TEMPORAL_CONFIG)
    vae.to(memory_format=torch.channels_last_3d)
    quiet(vae.quant_conv.conv)
    for resnet in (module for module in vae.modules() if isinstance(module, ResnetBlock)):
        torch.nn.init.zeros_(resnet.conv2.conv.weight)  # each block begins as the identity: learns several times faster
    cache = work / "latents.pt"
    if not cache.exists():
        with torch.no_grad():
            latents = [
                spatial.encode(random_clip(np.random.default_rng([4, i]), 17)[None]).latent_dist.mode()
                for i in range(CACHED_CLIPS)
            ]
        torch.save(torch.cat(latents), cache)
        print(f"cached the 2D latents of {len(latents)} clips", flush=True)
    latents = torch.load(cache, weights_only=True)

    def through(x, step):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample(torch.Generator().manual_seed(step)), x.shape[2]).sample
        return y, KL_WEIGHT * posterior.kl().sum() / posterior.mean.numel()

    def frames_of(random):  # a fifth are images, the rest clips up to the released chunk of 17 frames
        return 1 if random.random() < 0.2 else int(random.integers(5, 18))

    def latent_loss(random, step):
        x = latents[torch.from_numpy(random.integers(0, len(latents), 8))]
        first = random.integers(0, 17)
        x = x[:, :, first : first + 1] if random.random() < 0.2 else x[:, :, : frames_of(random)]
        y, kl = through(x, step)
        return reconstruction_loss(y, x) + kl

    def pixel_loss(random, step):
        num_frames = frames_of(random)
        x = torch.stack([random_clip(random, num_frames) for _ in range(2)])
        y, kl = through(spatial.encode(x).latent_dist.mode(), step)
        return reconstruction_loss(spatial.decode(y).sample, x) + kl

    run("temporal_latents", vae, latent_loss, LATENT_STEPS, 2e-3, seed=5, work=work)
    run("temporal_pixels", vae, pixel_loss, PIXEL_STEPS, 5e-4, seed=6, work=work)
    return vae.requires_grad_(False)


def measure_latents(spatial: SpatialVAE, temporal: TemporalVAE) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation of the stack's latents, for `normalize`."""
    with torch.no_grad():
        clips = torch.stack([random_clip(np.random.default_rng([7, i]), 17) for i in range(MEASURED_CLIPS)])
        z = temporal.encode(spatial.encode(clips).latent_dist.mode()).latent_dist.mode()
    mean, std = z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))
    return [round(v, 4) for v in mean.tolist()], [round(v, 4) for v in std.tolist()]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "lab", help="folder to write")
    parser.add_argument("--work", type=Path, default=Path("out/train_lab"), help="folder for checkpoints and caches")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    spatial = train_spatial(args.work)
    temporal = train_temporal(spatial, args.work)
    mean, std = measure_latents(spatial, temporal)
    vae = VideoVAE(
        dict(SPATIAL_CONFIG, scaling_factor=spatial.config.scaling_factor), TEMPORAL_CONFIG,
        latents_mean=mean, latents_std=std,
    )  # fmt: skip
    vae.spatial.load_state_dict(spatial.state_dict())
    vae.temporal.load_state_dict(temporal.state_dict())
    vae.save_pretrained(args.out)
    print(f"wrote {args.out}", flush=True)


if __name__ == "__main__":
    main()
