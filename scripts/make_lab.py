"""Put trained halves into the bundled weights: `python scripts/make_lab.py SPATIAL HALF HALF HALF`.

All are folders that train_lab.py wrote: SPATIAL with the 2D half, each HALF with one or more temporal halves behind it.
All sets hold the one 2D half. They are written in float16: that halves the files, with an error far below that of the
model.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from train_lab import HALVES, load_spatial, spatial_factor

from vae_lab import SpatialVAE, TemporalVAE, VideoVAE
from vae_lab.checkpoints.bundled import LAB_WEIGHTS

DATA = Path(__file__).parents[1] / "data"
MICRO_BATCH_SIZE = 4  # Open-Sora's; on a CPU, frames of 128 to 192 pixels take 0.6 of the time and memory of 16 at once


def stack(spatial_folder: Path, folder: Path, name: str) -> VideoVAE:
    """Stack the 2D half and the temporal half of this name, with its latent mean and std rounded to five digits."""
    meta = json.loads((folder / "meta.json").read_text())
    spatial = SpatialVAE(**{**meta["spatial"], "micro_batch_size": MICRO_BATCH_SIZE})
    spatial.load_state_dict(load_spatial(spatial_folder))
    spatial = spatial.with_scaling_factor(spatial_factor(spatial_folder))
    temporal = TemporalVAE(**meta["halves"][name])
    temporal.load_state_dict(load_file(folder / f"{name}.safetensors"))
    statistics = {key: [float(f"{value:.5g}") for value in values] for key, values in meta["statistics"][name].items()}
    vae = VideoVAE.of_halves(spatial, temporal, micro_frame_size=17, **statistics)
    for parameter in vae.parameters():  # not the statistics, which stay as config.json has them
        parameter.data = parameter.data.to(torch.float16)
    return vae


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spatial", type=Path)
    parser.add_argument("halves", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets")
    args = parser.parse_args(argv)
    for folder in args.halves:
        for name in HALVES:
            if (folder / f"{name}.safetensors").is_file():
                stack(args.spatial, folder, name).save_pretrained(args.data / LAB_WEIGHTS[name])
                print(f"wrote {args.data / LAB_WEIGHTS[name]}")


if __name__ == "__main__":
    main()
