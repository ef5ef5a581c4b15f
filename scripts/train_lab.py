"""Train the bundled weights by the wall clock: `python scripts/train_lab.py --photos DIR --cutouts DIR --out DIR`.

First the 2D half, on pictures; then all temporal halves side by side behind it, on the same clips, each with its own
optimizer. The clips are made on the device (`lab_content.py`), a share of them by worker processes (`random_clip`). The
learning rate follows the time that has passed: a warm-up, then a cosine to 0. A GPU needs ten minutes, and several
processes, one for each half, use it better than one (`--spatial`); the same command runs on a CPU, for hours.

Losses are taken per picture: the root of the mean squared error, so that an easy picture counts as much as a difficult
one, as it does in a mean of PSNRs. The temporal halves are trained on a few frames of every clip, decoded by the frozen
2D half, and on all 2D latents with a weight that falls.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from lab_content import Atlas, ClipMaker, pictures
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vae_lab import SpatialVAE, TemporalVAE, load, synthetic_clip, to_tensor
from vae_lab.gaussian import DiagonalGaussian
from vae_lab.metrics import bicubic_round_trip, linear_in_time, psnr
from vae_lab.training.initialization import start_as_interpolation, start_carrying_frames
from vae_lab.training.synthetic import random_clip

SPATIAL = dict(
    block_out_channels=(16, 32, 96, 160), layers_per_block=1, norm_num_groups=2, mid_block_add_attention=False,
    scaling_factor=1.0, micro_batch_size=None,
)  # fmt: skip
TEMPORAL = dict(base_channels=24, temporal_downsample=(True, True), norm_num_groups=2)
SMALL, LARGE = (
    dict(TEMPORAL, channel_multipliers=multipliers, num_res_blocks=blocks)
    for multipliers, blocks in (((1, 2, 2), 1), ((1, 2, 3), 2))
)
HALVES = {
    "lab": dict(SMALL, norm="group", latent_channels=4),
    "lab-frame-group": dict(SMALL, norm="frame_group", latent_channels=4),
    "lab-8": dict(LARGE, norm="frame_group", latent_channels=8),
}
NUM_FRAMES = 17
LENGTHS = {17: 0.62, 14: 0.1, 12: 0.08, 7: 0.08, 5: 0.05, 1: 0.07}  # frames of a clip: how often
KL_WEIGHT, L1_WEIGHT = 1e-6, 0.1
EMA_DECAY = 0.998
VALIDATION_SEEDS = range(2000, 2008)


class Averaged:
    """A module, its optimizer and the moving average of its weights; the learning rate follows the time passed."""

    def __init__(self, module: nn.Module, rate: float, warm_up: float):
        self.module, self.rate, self.warm_up, self.steps = module, rate, warm_up, 0
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        fused = self.parameters[0].is_cuda
        self.optimizer = torch.optim.AdamW(self.parameters, rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=fused)
        self.average = [p.detach().clone() for p in self.parameters]

    def step(self, loss: Tensor, passed: float) -> None:
        """Take one step; passed: share of the stage's time, 0 to 1."""
        rate = (
            self.rate
            * min(1.0, (passed + 1e-3) / self.warm_up, (self.steps + 1) / 100)
            * 0.5
            * (1 + math.cos(math.pi * min(passed, 1.0)))
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.steps += 1
        decay = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    def averaged_state(self) -> dict[str, Tensor]:
        """Return the averaged weights under their names."""
        named = [name for name, p in self.module.named_parameters() if p.requires_grad]
        return dict(zip(named, self.average, strict=True))


def per_picture(error: Tensor) -> Tensor:
    """Mean over pictures of the root of the mean squared error, plus a little L1. error: (N, ...)."""
    error = error.float().flatten(1)
    return (error.square().mean(1) + 1e-4).sqrt().mean() + L1_WEIGHT * error.abs().mean()


def kl_per_element(posterior: DiagonalGaussian) -> Tensor:
    """Return the mean divergence from N(0, 1) per latent element."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def sampled(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from the posterior of these moments: (sample, KL per element)."""
    posterior = DiagonalGaussian(moments.float())
    return posterior.mean + posterior.std * torch.randn_like(posterior.mean), kl_per_element(posterior)


class Bank:
    """A ring of the newest clips as uint8, from which batches are drawn: each is used several times."""

    def __init__(self, size: int, make, fresh: int):
        self.make, self.fresh, self.size, self.next, self.filled = make, fresh, size, 0, 0
        self.tensors: list[Tensor] | None = None

    def refill(self, count: int | None = None) -> None:
        new = self.make(count or self.fresh)
        if self.tensors is None:
            self.tensors = [
                torch.empty(self.size, *part.shape[1:], dtype=part.dtype, device=part.device) for part in new
            ]
        rows = (torch.arange(len(new[0]), device=new[0].device) + self.next) % self.size
        for tensor, part in zip(self.tensors, new, strict=True):
            tensor[rows] = part
        self.next = (self.next + len(new[0])) % self.size
        self.filled = min(self.filled + len(new[0]), self.size)

    def draw(self, count: int) -> list[Tensor]:
        assert self.tensors is not None
        rows = torch.randint(self.filled, (count,), device=self.tensors[0].device)
        return [tensor[rows] for tensor in self.tensors]


def to_bytes(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round().to(torch.uint8)


def from_bytes(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1


class RandomClips(IterableDataset):
    """Endless clips of `random_clip`, uint8 (3, T, S, S), other ones in each worker."""

    def __init__(self, num_frames: int, size: int, seed: int):
        self.num_frames, self.size, self.seed = num_frames, size, seed

    def __iter__(self):
        torch.set_num_threads(1)
        worker = get_worker_info()
        random = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield torch.from_numpy(random_clip(random, self.num_frames, self.size)).permute(3, 0, 1, 2)


class MixedMaker:
    """A ClipMaker of whose clips a share are those of `random_clip`, drawn by worker processes, as bytes."""

    def __init__(self, run: "Run", maker: ClipMaker, num_frames: int, size: int):
        self.maker, self.num_frames, self.size, self.device = maker, num_frames, size, run.device
        self.share, self.workers, self.clips = run.args.random_share, run.args.workers, RandomClips(num_frames, size, 7)
        self.batches: dict[int, Iterator] = {}

    def __call__(self, count: int) -> Tensor:
        others = round(count * self.share)
        parts = [to_bytes(self.maker(count - others, self.num_frames, self.size))]
        if others:
            if others not in self.batches:
                loader = DataLoader(self.clips, others, num_workers=self.workers, prefetch_factor=8)
                self.batches[others] = iter(loader)
            parts.append(next(self.batches[others]).to(self.device))
        return torch.cat(parts)


class Run:
    """The settings of a run, its device and its log."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.device, self.start = args, torch.device(args.device), time.time()
        self.out = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = (self.out / "log.txt").open("a")
        self.saved = time.time()

    def log(self, *parts: object) -> None:
        line = f"{time.time() - self.start:7.1f} " + " ".join(str(part) for part in parts)
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16)

    def memory(self) -> str:
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if self.device.type == "cuda" else ""


def train_spatial(run: Run, maker: ClipMaker, seconds: float, checks: "Checks") -> SpatialVAE:
    args = run.args
    torch.manual_seed(1)
    spatial = SpatialVAE(**SPATIAL)
    if args.spatial_start:
        spatial.load_state_dict(load(args.spatial_start).spatial.state_dict())
    else:
        start_as_interpolation(spatial)
    spatial.to(run.device)
    size = 2 * args.size
    mixed = MixedMaker(run, maker, 1, size)
    bank = Bank(args.pictures, lambda n: [mixed(n)[:, :, 0]], args.batch // 2)
    while bank.filled < args.pictures // 16:
        bank.refill()
    run.log("pictures ready", bank.filled, run.memory())
    trained = Averaged(spatial, args.spatial_rate, warm_up=0.05)

    def losses(x: Tensor) -> Tensor:
        with run.autocast():
            z, kl = sampled(spatial.autoencoder.encode(x).latent_dist.parameters)
            y = spatial.autoencoder.decode(z).sample
        return per_picture(y - x) + KL_WEIGHT * kl

    begin, shown, first = time.time(), time.time(), True
    random = np.random.default_rng(3)
    while (passed := (time.time() - begin) / seconds) < 1 and (not args.steps or trained.steps < args.steps):
        if trained.steps % 4 == 0:
            bank.refill()
        if random.random() < 0.85:
            left, top = random.integers(0, args.size + 1, 2)
            x = bank.draw(args.batch)[0][:, :, top : top + args.size, left : left + args.size]
        else:
            x = bank.draw(args.batch // 4)[0]
        loss = losses(from_bytes(x))
        trained.step(loss, passed)
        if first or time.time() - shown > args.show:
            run.log(f"2D step {trained.steps} loss {loss.item():.4f} {run.memory()}")
            shown, first = time.time(), False
        if time.time() - run.saved > 60:
            save_spatial(run, trained.averaged_state())
    sync(run)
    run.log(f"2D half: {trained.steps} steps in {time.time() - begin:.1f} s")
    done = SpatialVAE(**SPATIAL).to(run.device)
    done.load_state_dict(trained.averaged_state())
    with torch.no_grad():
        z = torch.cat([done.encode(from_bytes(bank.draw(32)[0])[:, :, None]).latent_dist.mean for _ in range(8)])
    factor = 1 / z.std().item()
    done = done.with_scaling_factor(factor).requires_grad_(False)
    save_spatial(run, done.state_dict(), factor)
    run.log("2D half", f"scaling_factor {factor:.6f}", checks.spatial(done))
    return done


def sync(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def save_spatial(run: Run, state: dict[str, Tensor], factor: float | None = None) -> None:
    for half, words in (("encoder", (".encoder.", ".quant_conv.")), ("decoder", (".decoder.", ".post_quant_conv."))):
        part = {
            name: value.detach().float().cpu().contiguous()
            for name, value in state.items()
            if any(w in name for w in words)
        }
        save_file(part, run.out / f"spatial_{half}.safetensors", {"scaling_factor": repr(factor)})
    run.saved = time.time()


def load_spatial(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "spatial_encoder.safetensors") | load_file(folder / "spatial_decoder.safetensors")


def train_temporal(run: Run, maker: ClipMaker, spatial: SpatialVAE, seconds: float, checks: "Checks") -> None:
    args = run.args
    frozen = spatial
    factor = spatial.config.scaling_factor

    @torch.no_grad()
    def encode(frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> scaled latents (B, 4, T, h, w)."""
        flat = frames.transpose(1, 2).flatten(0, 1)
        with run.autocast():
            parts = [frozen.autoencoder.encode(part).latent_dist.mean.float() for part in flat.split(512)]
        return factor * torch.cat(parts).unflatten(0, (len(frames), -1)).transpose(1, 2)

    mixed = MixedMaker(run, maker, NUM_FRAMES, args.size)

    def new_clips(count: int) -> list[Tensor]:
        x = mixed(count)
        return [x, encode(from_bytes(x))]

    bank = Bank(args.clips, new_clips, args.fresh)
    while bank.filled < args.clips // 8:
        bank.refill()
    run.log("clips ready", bank.filled, run.memory())
    trained = {}
    for name in args.halves:
        torch.manual_seed(2)
        half = TemporalVAE(**HALVES[name])
        if name in args.temporal_start:
            half.load_state_dict(load(name).temporal.state_dict())
        else:
            start_carrying_frames(half)
        trained[name] = Averaged(half.to(run.device), args.temporal_rate, warm_up=0.06)
        run.log(name, f"{sum(p.numel() for p in half.parameters())} parameters", checks.temporal(spatial, half))
    random = np.random.default_rng(4)

    def losses(half: TemporalVAE, x: Tensor, latents: Tensor, chosen: Tensor, latent_weight: float) -> Tensor:
        with run.autocast():
            z, kl = sampled(half.encode(latents).latent_dist.moments)
            y = half.decode(z, latents.shape[2]).sample.float()
            error = (y - latents).transpose(1, 2).flatten(0, 1).flatten(1)
            errors = error.square().mean(1)
            errors = 2 * errors if args.squared else (errors + 1e-3).sqrt()
            loss = latent_weight * errors.mean() + KL_WEIGHT * kl
            rows = torch.arange(len(x), device=x.device)[:, None]
            frames = y.transpose(1, 2)[rows, chosen].flatten(0, 1)  # (B * K, 4, h, w)
            decoded = frozen.autoencoder.decode(frames / factor).sample
        error = decoded.float() - x.transpose(1, 2)[rows, chosen].flatten(0, 1)
        return loss + (5 * error.square().mean() if args.squared else per_picture(error))

    begin, shown, first, steps = time.time(), time.time(), True, 0
    while (passed := (time.time() - begin) / seconds) < 1 and (not args.steps or steps < args.steps):
        if steps % 2 == 0:
            bank.refill()
        length = int(random.choice(list(LENGTHS), p=list(LENGTHS.values())))
        few = min(args.frames, length)
        batch = min(args.clip_batch * args.frames // few, 4 * args.clip_batch)
        x, latents = bank.draw(batch)
        at = int(random.integers(0, NUM_FRAMES - length + 1))
        x, latents = from_bytes(x[:, :, at : at + length]), latents[:, :, at : at + length]
        chosen = torch.rand(batch, length, device=run.device).argsort(1)[:, :few]
        latent_weight = 0.02 + 0.3 * max(0.0, 1 - 2 * passed)
        values = {}
        for name, half in trained.items():
            values[name] = losses(half.module, x, latents, chosen, latent_weight)
            half.step(values[name], passed)
        steps += 1
        if first or time.time() - shown > args.show:
            shown_values = " ".join(f"{name} {value.item():.4f}" for name, value in values.items())
            run.log(f"temporal step {steps} T {length} {shown_values} {run.memory()}")
            shown, first = time.time(), False
        if time.time() - run.saved > 60:
            save_temporal(run, trained)
            if args.watch:
                for name, half in trained.items():
                    run.log(name, f"{100 * passed:.0f}%", checks.temporal(spatial, averaged(run, name, half)))
    sync(run)
    run.log(
        f"temporal halves: {steps} steps in {time.time() - begin:.1f} s: {1000 * (time.time() - begin) / steps:.1f} ms"
    )
    save_temporal(run, trained)
    statistics = {}
    for name, half in trained.items():
        vae = averaged(run, name, half)
        with torch.no_grad():
            z = torch.cat([vae.encode(bank.draw(16)[1]).latent_dist.mean for _ in range(8)]).transpose(0, 1).flatten(1)
        statistics[name] = dict(latents_mean=z.mean(1).tolist(), latents_std=z.std(1).tolist())
        run.log(name, "end", checks.temporal(spatial, vae))
    meta = dict(
        scaling_factor=factor, spatial=SPATIAL, halves=HALVES, statistics=statistics, steps=steps,
        device=torch.cuda.get_device_name() if run.device.type == "cuda" else "cpu", torch=torch.__version__,
        args={key: str(value) for key, value in vars(args).items()},
    )  # fmt: skip
    (run.out / "meta.json").write_text(json.dumps(meta, indent=1))


def averaged(run: Run, name: str, half: Averaged) -> TemporalVAE:
    """Return a plain TemporalVAE with the averaged weights."""
    vae = TemporalVAE(**HALVES[name]).to(run.device)
    vae.load_state_dict(half.averaged_state())
    return vae.requires_grad_(False)


def save_temporal(run: Run, trained: dict[str, Averaged]) -> None:
    for name, half in trained.items():
        state = {key: value.float().cpu().contiguous() for key, value in half.averaged_state().items()}
        save_file(state, run.out / f"{name}.safetensors")
    run.saved = time.time()


class Checks:
    """PSNR on clips that training does not use: drawn shapes, and content as in training of held-out photographs."""

    def __init__(self, run: Run, held: Path, cutouts: Path):
        self.run, size, count = run, run.args.size, run.args.validation
        photos = pictures(held, cutouts, 99, run.args.side)
        maker = ClipMaker(Atlas(photos, run.device), 5)
        with torch.no_grad():
            made = maker(count, NUM_FRAMES, size)
        seeds = list(VALIDATION_SEEDS)[:count]
        shapes = [to_tensor(synthetic_clip("shapes", NUM_FRAMES, (size, size), seed=seed).frames) for seed in seeds]
        self.clips = {"shapes": torch.cat(shapes).to(run.device), "made": made}

    def _psnr(self, x: Tensor, y: Tensor) -> float:
        return psnr(x, y.clamp(-1, 1), 2.0).mean().item()

    @torch.no_grad()
    def spatial(self, vae: SpatialVAE) -> str:
        texts = []
        for name, x in self.clips.items():
            z = self._encode(vae, x)
            y = self._decode(vae, z)
            line = self._decode(vae, linear_in_time(z))
            outputs = {
                "bicubic": bicubic_round_trip(x),
                "2D": y,
                "interpolation": linear_in_time(y),
                "in latents": line,
            }
            texts.append(f"{name}: " + " ".join(f"{key} {self._psnr(x, value):.2f}" for key, value in outputs.items()))
        return "; ".join(texts)

    def _encode(self, vae: SpatialVAE, x: Tensor) -> Tensor:
        return torch.cat([vae.encode(part).latent_dist.mean for part in x.split(4)])

    def _decode(self, vae: SpatialVAE, z: Tensor) -> Tensor:
        return torch.cat([vae.decode(part).sample for part in z.split(4)])

    @torch.no_grad()
    def temporal(self, spatial: SpatialVAE, half: nn.Module) -> str:
        texts = []
        for name, x in self.clips.items():
            z = self._encode(spatial, x)
            y = half.decode(half.encode(z).latent_dist.mean, NUM_FRAMES).sample
            texts.append(f"{name} {self._psnr(x, self._decode(spatial, y)):.2f}")
        return "; ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photos", "cutouts", "held", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(210.0, 300.0), help="of the 2D half, of the temporal halves"
    )
    parser.add_argument("--spatial-start", choices=HALVES, help="bundled weights whose 2D half is trained further")
    parser.add_argument("--spatial", type=Path, help="folder of an earlier run, whose 2D half is taken as it is")
    parser.add_argument(
        "--temporal-start", nargs="*", default=[], choices=HALVES, help="bundled halves to train further"
    )
    parser.add_argument("--halves", nargs="*", default=list(HALVES), choices=HALVES)
    for name, value in dict(side=1024, size=128, batch=96, pictures=16384, clips=4096, clip_batch=24, fresh=8, frames=4,
                            validation=8, steps=0, workers=4).items():  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    for name, value in dict(spatial_rate=1e-3, temporal_rate=5e-4, random_share=0.25, show=10.0).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    for name in ("bf16", "tune", "squared", "watch"):
        parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, default=False)
    args = parser.parse_args()
    run = Run(args)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = args.tune
    found = pictures(args.photos, args.cutouts, 0, args.side)
    maker = ClipMaker(Atlas(found, run.device), 1)
    checks = Checks(run, args.held, args.cutouts)
    run.log(len(found), "pictures", run.memory())
    if not args.spatial:
        spatial = train_spatial(run, maker, args.seconds[0], checks)
    else:
        spatial = SpatialVAE(**SPATIAL).to(run.device)
        spatial.load_state_dict(load_spatial(args.spatial))
        spatial = spatial.with_scaling_factor(spatial_factor(args.spatial)).requires_grad_(False)
        run.log("2D half", checks.spatial(spatial))
    if args.seconds[1] > 0:
        train_temporal(run, maker, spatial, args.seconds[1], checks)
    run.log("done")


def spatial_factor(folder: Path) -> float:
    from safetensors import safe_open

    with safe_open(folder / "spatial_encoder.safetensors", "pt") as file:
        return float(file.metadata()["scaling_factor"])


if __name__ == "__main__":
    main()
