"""Measure leaks and seams of the bundled weights: `python scripts/measure_seams.py` writes data/lab/seams.json.

All sets are measured in chunks of 17 frames, as shipped, and "lab-frame-group" also in one piece, as it streams. The
leak is the largest effect of a later frame on a latent that must not see it, as a fraction of the largest permitted
effect. The other columns are about the borders between chunks, in clips of 51 frames scaled to 128x128: the RMS error
there divided by that inside, the PSNR there and inside, and how much a still picture changes across a border, divided
by its change inside.
"""

import json
from pathlib import Path

import torch

from vae_lab import VideoVAE, load, photo_clip, read_video, to_tensor
from vae_lab.families import maps_of
from vae_lab.probes.causality import leaks
from vae_lab.probes.seams import seam_profile, static_video_test
from vae_lab.video.clips import HELD_OUT_PHOTOS

DATA = Path(__file__).parents[1] / "data"
CLIPS = (*HELD_OUT_PHOTOS, "shapes")
SIZE, NUM_FRAMES, CHUNK = 128, 51, 17
STILL = (0.5, 0.35, 1.3)  # view of the still camera: x, y, zoom
COLUMNS = ("leak", "seam ratio", "PSNR at borders", "PSNR inside", "still jump")


def models() -> dict[str, VideoVAE]:
    group, causal = load("lab"), load("lab-frame-group")
    return {
        "`lab`, chunks of 17": group.with_micro_frame_size(CHUNK),
        "`lab-frame-group`, chunks of 17": causal.with_micro_frame_size(CHUNK),
        "`lab-frame-group`, one piece": causal.with_micro_frame_size(None),
        "`lab-8`, chunks of 17": load("lab-8").with_micro_frame_size(CHUNK),
    }


@torch.no_grad()
def measure(vae: VideoVAE) -> dict[str, float]:
    leak = leaks(maps_of(vae, CHUNK)).encoder
    clips = [read_video(DATA / f"{name}.mp4", 0, NUM_FRAMES, (SIZE, SIZE)).frames for name in CLIPS]
    x = torch.cat([to_tensor(frames) for frames in clips])
    y = torch.cat([vae(clip).sample for clip in x.split(1)])
    seams = seam_profile(x, y.clamp(-1, 1), CHUNK)
    photos = [photo_clip(name, 1, (SIZE, SIZE), start=STILL, stop=STILL).frames for name in HELD_OUT_PHOTOS]
    still = static_video_test(lambda clip: vae(clip).sample, torch.cat(list(map(to_tensor, photos))), NUM_FRAMES, CHUNK)
    values = (
        leak.largest / leak.largest_allowed,
        seams.ratio,
        seams.psnr_borders,
        seams.psnr_inside,
        still.mean_borders / still.mean_inside,
    )
    return dict(zip(COLUMNS, (float(f"{value:.3g}") for value in values), strict=True))


def table(measured: dict) -> str:
    lines = ["| | leak | seam ratio | PSNR at borders | PSNR inside | still jump |", "|---|---|---|---|---|---|"]
    for name, row in measured.items():
        leak = f"{row['leak']:.1%}" if row["leak"] else "exactly 0"
        lines.append(
            f"| {name} | {leak} | {row['seam ratio']:.2f} | {row['PSNR at borders']:.1f} dB | "
            f"{row['PSNR inside']:.1f} dB | {row['still jump']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    measured = {name: measure(vae) for name, vae in models().items()}
    (DATA / "lab" / "seams.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    print(table(measured))


if __name__ == "__main__":
    main()
