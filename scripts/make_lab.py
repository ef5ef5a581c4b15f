"""Put trained halves into the lab's weights: `python scripts/make_lab.py --spatial RUN --temporal RUN`.

RUN is the folder of a finished `vae-lab train`; a half that is not given stays as it is. data/lab and
data/lab_frame_group hold the same 2D half and each its own temporal half, in float16: half the bytes, and an error far
below the model's own. A new 2D half makes the temporal halves behind it useless until they are trained again.
"""

import argparse
from pathlib import Path

import torch

from vae_lab import SpatialVAE, VideoVAE, load

DATA = Path(__file__).parents[1] / "data"


def stack(spatial: SpatialVAE, trained: VideoVAE) -> VideoVAE:
    """The 2D half with the temporal half of `trained` and the statistics of its latents, rounded to five digits."""
    mean, std = ([float(f"{value:.5g}") for value in trained.config[key]] for key in ("latents_mean", "latents_std"))
    vae = VideoVAE.of_halves(
        spatial, trained.temporal, micro_frame_size=trained.config.micro_frame_size, latents_mean=mean, latents_std=std
    )
    for parameter in vae.parameters():  # not the statistics, which stay as config.json has them
        parameter.data = parameter.data.to(torch.float16)
    return vae


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for half in ("spatial", "temporal", "frame-group"):
        parser.add_argument(f"--{half}", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of lab and lab_frame_group")
    args = parser.parse_args(argv)
    spatial = load(args.spatial / "model") if args.spatial else load(args.data / "lab").spatial
    for folder, run in (("lab", args.temporal), ("lab_frame_group", args.frame_group)):
        trained = load(run / "model" if run else args.data / folder)
        stack(spatial, trained).save_pretrained(args.data / folder)
        print(f"wrote {args.data / folder}")


if __name__ == "__main__":
    main()
