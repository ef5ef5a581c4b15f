"""Measure the lab weights on held-out photographs: `python data/measure_lab.py` writes data/lab/measured.json.

Mean PSNR in dB over camera moves of 17 frames at 128x128 over each held-out photograph, with seeds that training never
saw: of 8x bicubic down-and-up (what the 2D half must beat), of the 2D half alone, and of both halves.
"""

import json
from pathlib import Path

from vae_lab import load, photo_clip, psnr, to_tensor
from vae_lab.clips import HELD_OUT_PHOTOS
from vae_lab.metrics import bicubic_round_trip

SEEDS = range(1000, 1006)


def measure(name: str, vae) -> dict[str, float]:
    sums = {"bicubic": 0.0, "2D only": 0.0, "full": 0.0}
    for seed in SEEDS:
        x = to_tensor(photo_clip(name, 17, (128, 128), seed=seed).frames)
        result = vae.reconstruct(x)
        for key, y in zip(sums, (bicubic_round_trip(x), result.spatial_only, result.sample), strict=True):
            sums[key] += psnr(x, y.clamp(-1, 1), data_range=2.0).mean().item()
    return {key: round(value / len(SEEDS), 2) for key, value in sums.items()}


def main() -> None:
    vae = load("lab")
    measured = {name: measure(name, vae) for name in HELD_OUT_PHOTOS}
    (Path(__file__).parent / "lab" / "measured.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    for name, row in measured.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.2f}" for key in ("bicubic", "2D only", "full")) + " |")


if __name__ == "__main__":
    main()
