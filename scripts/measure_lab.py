"""Measure the bundled weights on held-out clips: `python scripts/measure_lab.py` writes data/lab/measured.json.

Mean PSNR (dB) and SSIM over chunks of 17 frames at 128x128, with seeds that training never used: the middle of camera
moves of 51 frames over each held-out photograph; whole moves of 17 frames over these photographs ("fast"); drawn
shapes that move up to 5 pixels a frame; gliding textures; synthetic clips as in training ("made"); photographs that
come 3.5 times closer in 17 frames, with a cut to another at frame 2 to 12 ("approach"); and two chunks of real footage,
data/dog.mp4 ("real"). The sets are compared with each frame shrunk 8x and enlarged again ("bicubic"), with their 2D
half alone ("2D"), which is the same in all sets, and with every fourth frame of that and linear interpolation between
them ("line").
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vae_lab import load, photo_clip, psnr, read_video, ssim, synthetic_clip, to_tensor
from vae_lab.metrics import bicubic_round_trip, linear_in_time
from vae_lab.training.synthetic import random_clip
from vae_lab.video.clips import HELD_OUT_PHOTOS, SYNTHETIC_KINDS

SEEDS = range(1000, 1006)
SIZE, NUM_FRAMES = 128, 17
DATA = Path(__file__).parents[1] / "data"
WEIGHTS = ("lab-8", "lab", "lab-frame-group")
ROWS = (*HELD_OUT_PHOTOS, "fast", "shapes", "texture", "made", "approach", "real")
COLUMNS = ("bicubic", "2D", "line", *WEIGHTS)


def clips(name: str) -> Iterator[np.ndarray]:
    if name == "real":
        for start in (0, NUM_FRAMES):
            yield read_video(DATA / "dog.mp4", start, NUM_FRAMES, (SIZE, SIZE)).frames
        return
    for number, seed in enumerate(SEEDS):
        if name == "made":
            yield random_clip(np.random.default_rng([seed, 1_000_000]), NUM_FRAMES, SIZE)
        elif name == "approach":
            cut, photos = 2 + 2 * number, (HELD_OUT_PHOTOS[number % 3], HELD_OUT_PHOTOS[(number + 1) % 3])
            halves = [photo_clip(p, NUM_FRAMES, (SIZE, SIZE), (0.4, 0.4, 1), (0.5, 0.5, 3.5)).frames for p in photos]
            yield np.concatenate([halves[0][:cut], halves[1][cut:]])
        elif name in SYNTHETIC_KINDS:
            yield synthetic_clip(name, NUM_FRAMES, (SIZE, SIZE), seed=seed).frames
        elif name == "fast":
            photo = HELD_OUT_PHOTOS[number % len(HELD_OUT_PHOTOS)]
            yield photo_clip(photo, NUM_FRAMES, (SIZE, SIZE), seed=seed).frames
        else:
            yield photo_clip(name, 3 * NUM_FRAMES, (SIZE, SIZE), seed=seed).frames[NUM_FRAMES : 2 * NUM_FRAMES]


@torch.no_grad()
def measure(name: str, vaes: dict) -> dict[str, dict[str, float]]:
    spatial = next(iter(vaes.values())).spatial  # the same in all sets
    rows = {"psnr": {key: [] for key in COLUMNS}, "ssim": {key: [] for key in COLUMNS}}
    for frames in clips(name):
        x = to_tensor(frames)
        spatial_latent = spatial.encode(x).latent_dist.mode()
        outputs = {"bicubic": bicubic_round_trip(x), "2D": spatial.decode(spatial_latent).sample}
        for key, vae in vaes.items():
            latent = vae.encode_spatial_latent(spatial_latent).latent_dist.mode()
            outputs[key] = vae.decode(latent, len(frames)).sample
        outputs["line"] = linear_in_time(outputs["2D"])
        for key in COLUMNS:
            y = outputs[key]
            for metric, function in (("psnr", psnr), ("ssim", ssim)):
                rows[metric][key].append(function(x, y.clamp(-1, 1), data_range=2.0).mean().item())
    return {m: {key: round(float(np.mean(v)), 3) for key, v in row.items()} for m, row in rows.items()}


def table(measured: dict) -> str:
    """Write the measurements as a Markdown table of PSNR / SSIM."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, row in measured.items():
        cells = (f"{row['psnr'][key]:.2f} / {row['ssim'][key]:.3f}" for key in COLUMNS)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    vaes = {name: load(name) for name in WEIGHTS}
    measured = {name: measure(name, vaes) for name in ROWS}
    (DATA / "lab" / "measured.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    print(table(measured))


if __name__ == "__main__":
    main()
