"""Put trained halves into the bundled weights: `python scripts/make_lab.py --spatial RUN --lab RUN --lab-8 RUN`.

RUN is the folder of a finished `vae-lab train` or `scripts/tune_decoder.py`. Sets that are not given stay unchanged.
`lab` and `lab-frame-group` hold one 2D half, that of --spatial, and temporal halves that were trained behind it.
`lab-8` has both halves of its RUN. All are written in float16: that halves the files, with an error far below that of
the model.
"""

import argparse
from pathlib import Path

import torch

from vae_lab import SpatialVAE, VideoVAE, load
from vae_lab.checkpoints.bundled import LAB_WEIGHTS

DATA = Path(__file__).parents[1] / "data"
SETS = {name: LAB_WEIGHTS[name] for name in ("lab", "lab-frame-group", "lab-8")}
MICRO_BATCH_SIZE = 4  # Open-Sora's; on a CPU, frames of 128 to 192 pixels take 0.6 of the time and memory of 16 at once


def stack(spatial: SpatialVAE, trained: VideoVAE) -> VideoVAE:
    """Stack the 2D half and the temporal half of `trained`, with its latent mean and std rounded to five digits.

    However many frames the 2D half took at once in training, `spatial` takes `MICRO_BATCH_SIZE` from now on.
    """
    spatial.register_to_config(micro_batch_size=MICRO_BATCH_SIZE)
    mean, std = ([float(f"{value:.5g}") for value in trained.config[key]] for key in ("latents_mean", "latents_std"))
    vae = VideoVAE.of_halves(
        spatial, trained.temporal, micro_frame_size=trained.config.micro_frame_size, latents_mean=mean, latents_std=std
    )
    for parameter in vae.parameters():  # not the statistics, which stay as config.json has them
        parameter.data = parameter.data.to(torch.float16)
    return vae


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for half in ("spatial", *SETS):
        parser.add_argument(f"--{half}", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets")
    args = parser.parse_args(argv)
    shared = load(args.spatial / "model") if args.spatial else load(args.data / "lab").spatial
    for name, folder in SETS.items():
        run = getattr(args, name.replace("-", "_"))
        if not run and (name == "lab-8" or not args.spatial):
            continue
        trained = load(run / "model" if run else args.data / folder)
        stack(trained.spatial if name == "lab-8" else shared, trained).save_pretrained(args.data / folder)
        print(f"wrote {args.data / folder}")


if __name__ == "__main__":
    main()
