"""The arguments of `vae-lab`, and their values that are refused before anything is read."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..shapes import MICRO_FRAME_SIZE, TEMPORAL_RATIO

MAX_SIZE = 1_000_000  # frames or pixels along an axis
LIKE_LAB = '"lab", "lab-frame-group", a folder, a weight file, or a Hub id (owner/name or owner/name/file)'


def size(axes: str, example: str) -> Callable[[str], tuple[int, ...]]:
    """Return a parser of numbers joined by x, one for each of the axes: "51x256x256" becomes (51, 256, 256)."""

    def parse(text: str) -> tuple[int, ...]:
        parts = text.split("x")
        fits = [re.fullmatch(r"\d{1,7}", part) is not None and 1 <= int(part) <= MAX_SIZE for part in parts]
        if len(parts) != len(axes.split(" x ")) or not all(fits):
            raise argparse.ArgumentTypeError(f"{text!r} must be {axes}, each from 1 to {MAX_SIZE}, as in {example}")
        return tuple(map(int, parts))

    return parse


clip_size, frame_size = size("frames x height x width", "51x256x256"), size("height x width", "256x256")


def at_least(low: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {low}")
        return int(text)

    return parse


def path(text: str) -> Path:
    """Parse a path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError('a path must not be empty; the current folder is "."')
    return Path(text)


def chunk(text: str) -> int | None:
    """Parse a number of frames; "none" becomes None."""
    return None if text == "none" else at_least(1)(text)


class _Parser(argparse.ArgumentParser):
    """Hints at paths that begin with "-", which are read as options."""

    def parse_known_args(self, args=None, namespace=None):
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        for text in getattr(self, "_given", ()):
            known = text.partition("=")[0] in self._option_string_actions
            if text.startswith("-") and not known and (os.path.lexists(text) or re.search(r"\.\w*[A-Za-z]\w*$", text)):
                message += f"; if {text} is a file or folder, write {os.path.join('.', text)}"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` of what it parses names the command."""
    parser = _Parser(prog="vae-lab", description="Open-Sora 1.2's video VAE, exact and inspectable.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    description = (
        "Encode and decode a video. Write the reconstruction, a side-by-side video, a contact sheet, metrics.json and "
        "a page with a frame slider (index.html) into a folder. After an interruption the same command resumes."
    )
    add = commands.add_parser("reconstruct", help="run a video through a VAE", description=description).add_argument
    add("input", type=path, metavar="IN", help="video, gif, image or folder of images")
    add("output", type=path, metavar="OUT", help="folder to write to; it is created if missing")
    _add_model(add, "--model", default="lab")
    add("--start", type=at_least(0), default=0, metavar="T", help="first frame, from 0 (default: 0)")
    add("--frames", type=at_least(1), metavar="N", help="number of frames (default: all)")
    add("--size", type=frame_size, metavar="HxW", help="scale to cover this size, crop to the middle")
    _add_dtype_and_chunk(add)
    add("--gain", type=float, default=4.0, help="factor on the displayed difference (default: 4)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--strict", action="store_true", help="refuse a truncated video, and one with damaged frames")

    description = "Print the chunks and groups of a clip of this size, and the size of its latent."
    add = commands.add_parser("sizes", help="show the latent size of a clip", description=description).add_argument
    add("size", type=clip_size, metavar="TxHxW", help="frames x height x width, as in 51x256x256")
    add("--chunk", type=chunk, default=MICRO_FRAME_SIZE, metavar="N", help='frames per chunk, or "none" (default: 17)')
    text = "frames per latent frame (default: 4)"
    add("--temporal-ratio", type=at_least(1), default=TEMPORAL_RATIO, metavar="R", help=text)

    description = (
        "Print a checkpoint's layout, sub-models, parameter counts, config and key differences. No tensor is read. The "
        "exit code is 1 if its keys differ from the architecture."
    )
    add = commands.add_parser("inspect", help="show what a checkpoint holds", description=description).add_argument
    _add_model(add, "checkpoint", metavar="CHECKPOINT")

    description = (
        "Measure the causality, receptive field, chunks and seams of a video VAE. The exit code is 0 whatever the "
        "measurements show."
    )
    add = commands.add_parser("probe", help="measure causality and seams", description=description).add_argument
    _add_model(add, "checkpoint", metavar="CHECKPOINT")
    _add_dtype_and_chunk(add)
    text = "frames per measured chunk, for a model without chunks (default: 17)"
    add("--frames", type=at_least(2), default=MICRO_FRAME_SIZE, metavar="N", help=text)

    description = (
        "Train the model that CONFIG describes. Write checkpoint.pt, log.csv and, at the end, model/ into OUT. After "
        "an interruption the same command resumes from the last checkpoint. For several processes or GPUs: "
        "accelerate launch -m vae_lab train CONFIG OUT."
    )
    add = commands.add_parser("train", help="train a VAE, or resume training", description=description).add_argument
    add("config", type=path, metavar="CONFIG", help="TOML file, such as those in data/recipes")
    add("output", type=path, metavar="OUT", help="folder of the run; it is created if missing")
    _add_data(add)
    add("--cache", type=path, metavar="FOLDER", help="2D latents, shared by runs (default: in OUT)")

    description = (
        "Train and measure the base and the variants in FILE with each of its seeds. Write tables of means, spreads "
        "over seeds, and paired differences with intervals. Finished trials are kept, so the same command resumes "
        "after an interruption. The exit code is 1 if a trial failed."
    )
    add = commands.add_parser(
        "ablate", help="train and compare variants of a config", description=description
    ).add_argument
    text = "TOML file, such as data/ablations/padding.toml; relative paths in it start at the current folder"
    add("file", type=path, metavar="FILE", help=text)
    text = (
        "folder of the trials, which several FILEs may share (default: out/ablations); tables go to OUT/NAME, where "
        "NAME is that of FILE, followed by _x5 for a scale of 5"
    )
    add("output", type=path, nargs="?", default=Path("out/ablations"), metavar="OUT", help=text)
    text = "trials at a time, each on one core (default: one per core)"
    add("--jobs", type=at_least(1), default=os.cpu_count(), metavar="N", help=text)
    text = "factor on all steps and cached clips (default: 1): 5 for five times the training"
    add("--scale", type=float, default=1.0, metavar="X", help=text)
    _add_data(add)
    add("--retry-failed", action="store_true", help="run failed trials again")
    add("--keep-models", action="store_true", help="keep the trained models in OUT/scratch")
    return parser


def _add_model(add: Callable, name: str, default: str | None = None, metavar: str | None = None):
    add(name, default=default, metavar=metavar, help=LIKE_LAB)
    text = "for Open-Sora's layout: config.json of the 2D VAE, or its folder (default: SDXL's)"
    add("--spatial-config", type=Path, metavar="PATH", help=text)
    add("--variant", metavar="NAME", help='which weights of a folder or repository, such as "fp16"')
    add("--entry", metavar="NAME", help='which weights of a file that holds several sets, such as "ema"')
    add("--subfolder", help="subfolder of a pipeline, such as vae")
    add("--revision", help="revision of a Hub repository")
    add("--local-files-only", action="store_true", help="use the Hub's local cache only")


def _add_dtype_and_chunk(add: Callable) -> None:
    names = ("float32", "float64", "bfloat16", "float16")
    add("--dtype", "--torch-dtype", choices=names, default=names[0], help="of the weights (default: float32)")
    text = 'frames per chunk of the temporal part, or "none" for one piece (default: as in the model)'
    add("--chunk", type=chunk, default=argparse.SUPPRESS, metavar="N", help=text)


def _add_data(add: Callable) -> None:
    text = "folder of videos and images to train on (default: synthetic clips)"
    add("--data", type=path, metavar="FOLDER", help=text)
