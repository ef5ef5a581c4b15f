"""Put a trained MAGVIT-v2 into data/lab_magvit and measure it: `python scripts/make_magvit.py [RUN]`.

RUN is the folder of a finished `vae-lab train data/recipes/magvit_v2.toml RUN`; without it, the bundled weights are
only measured. Weights are written in float16. measured.json gets mean PSNR (dB) over the clips of `measure_lab.py`: of
the model, of a code of as many bits ("mean colour": that of each cell, 4 bits a channel), and of "bicubic" (8x).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure_lab import ROWS, clips
from torch import Tensor

from vae_lab import MagvitV2, load, psnr, to_tensor
from vae_lab.metrics import DATA_RANGE, bicubic_round_trip

FOLDER = Path(__file__).parents[1] / "data" / "lab_magvit"
COLUMNS = ("bicubic", "mean colour", "MAGVIT-v2")


def mean_colour(x: Tensor, ratio: int = 4, cell: int = 4, bits: int = 4) -> Tensor:
    """Replace each cell by its mean colour, rounded to `bits` bits a channel. The first frame has cells of its own."""
    steps = 2**bits - 1
    parts = []
    for part, frames in ((x[:, :, :1], 1), (x[:, :, 1:], ratio)):
        parts.append(F.interpolate(F.avg_pool3d(part, (frames, cell, cell)), part.shape[2:]))
    return ((torch.cat(parts, dim=2) + 1) / 2 * steps).round() / steps * 2 - 1


@torch.no_grad()
def measure(vae: MagvitV2, rows: Sequence[str] = ROWS) -> tuple[dict[str, dict[str, float]], float, int]:
    """Return PSNR by row and column, the entropy of the codes in bits, and how many of them were used."""
    measured, indices = {}, []
    for name in rows:
        values = {column: [] for column in COLUMNS}
        for frames in clips(name):
            x = to_tensor(frames)
            z = vae.encode(x).latent_dist.mode()
            indices.append(vae.indices_of(z).flatten())
            outputs = (bicubic_round_trip(x), mean_colour(x), vae.decode(z).sample)
            for column, y in zip(COLUMNS, outputs, strict=True):
                values[column].append(psnr(x, y.clamp(-1, 1), DATA_RANGE).mean().item())
        measured[name] = {column: round(float(np.mean(v)), 2) for column, v in values.items()}
    share = torch.cat(indices).bincount() / sum(map(len, indices))
    return measured, round(torch.special.entr(share).sum().item() / np.log(2), 2), int((share > 0).sum())


def table(measured: dict) -> str:
    """Write the measurements as a Markdown table of PSNR."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, row in measured.items():
        lines.append(f"| {name} | {' | '.join(f'{row[column]:.2f}' for column in COLUMNS)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN")
    args = parser.parse_args(argv)
    if args.run:
        trained = load(args.run / "model")
        vae = MagvitV2(**{name: value for name, value in trained.config.items() if name[0] != "_"})  # not its folder
        vae.load_state_dict(trained.state_dict())
        vae.half().save_pretrained(FOLDER)
    measured, entropy, used = measure(load(FOLDER))
    (FOLDER / "measured.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    print(table(measured))
    print(f"entropy of the codes {entropy} bits, {used} codes used")


if __name__ == "__main__":
    main()
