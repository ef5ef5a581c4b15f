"""The command line: `vae-lab` and `python -m vae_lab`."""

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import shapes
from ..utils import exit_codes
from ..utils.extras import MissingExtraError
from ..utils.text import count, span
from . import ablate
from .arguments import MIN_SIDE, SHOWN_CHUNKS, at_least, chunk, clip_size, frame_size, gain, path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vae-lab", description="Open-Sora 1.2's video VAE, exact and inspectable.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "reconstruct", help="run a video through a VAE and show what came back",
        description="Encode and decode a video; write the reconstruction, a side-by-side video, a contact sheet, "
        "metrics.json and a page with a frame slider (index.html) into a folder.",
    )  # fmt: skip
    command.add_argument("input", type=path, metavar="IN", help="video, gif, image or folder of images")
    command.add_argument("output", type=path, metavar="OUT", help="folder to write to, made if need be")
    _add_model(command, "--model")
    command.add_argument("--start", type=at_least(0), default=0, metavar="T", help="first frame, from 0 (default 0)")
    command.add_argument("--frames", type=at_least(1), metavar="N", help="how many frames (default: all)")
    command.add_argument("--size", type=frame_size, metavar="HxW", help="scale to cover this size and crop the middle")
    _add_chunk(command)
    command.add_argument("--gain", type=gain, default=4.0, help="factor on the shown difference (default 4)")
    command.add_argument("--device", default="cpu", help="torch device (default cpu)")
    command.set_defaults(run=run_reconstruct)

    command = commands.add_parser(
        "sizes", help="latent size, chunks and frame groups of a clip",
        description="Print how a clip of this size is cut into chunks and groups, and the size of its latent.",
    )  # fmt: skip
    command.add_argument("size", type=clip_size, metavar="TxHxW", help="frames x height x width, as in 51x256x256")
    command.add_argument(
        "--chunk",
        type=chunk,
        default=shapes.MICRO_FRAME_SIZE,
        metavar="N",
        help='frames a chunk, or "none" (default 17)',
    )
    command.add_argument(
        "--temporal-ratio", type=at_least(1), default=shapes.TEMPORAL_RATIO, metavar="R", help="default 4"
    )
    command.set_defaults(run=run_sizes)

    command = commands.add_parser(
        "inspect", help="what a checkpoint holds, from its header alone",
        description="Print a checkpoint's layout, sub-models, parameter counts, config and key differences. No tensor "
        "is read. The exit code is 1 where keys differ from the architecture.",
    )  # fmt: skip
    _add_model(command, "checkpoint")
    command.set_defaults(run=run_inspect)

    command = commands.add_parser(
        "probe", help="is it causal, how far does it see, what happens at the borders of chunks",
        description="Measure the causality, receptive field, chunks and seams of any video VAE. The exit code is 0 "
        "whatever is found.",
    )  # fmt: skip
    _add_model(command, "checkpoint")
    _add_chunk(command)
    command.add_argument(
        "--frames", type=at_least(2), default=shapes.MICRO_FRAME_SIZE, metavar="N",
        help="of a chunk, for a model that has none (default 17)",
    )  # fmt: skip
    command.set_defaults(run=run_probe)

    command = commands.add_parser(
        "train", help="train a 2D or a temporal VAE, or go on with it",
        description="Train what CONFIG says into the folder OUT: checkpoint.pt, log.csv and, in the end, model/. "
        "Stopped and started again, it goes on from the last checkpoint. On several processes or GPUs: "
        "accelerate launch -m vae_lab train CONFIG OUT.",
    )  # fmt: skip
    command.add_argument("config", type=path, metavar="CONFIG", help="TOML file, as those in data/recipes")
    command.add_argument("output", type=path, metavar="OUT", help="folder of the run, made if need be")
    command.add_argument("--data", type=path, metavar="FOLDER", help="videos and images (default: made content)")
    command.add_argument("--cache", type=path, metavar="FOLDER", help="2D latents, shared by runs (default: in OUT)")
    command.set_defaults(run=run_train)

    command = commands.add_parser(
        "ablate", help="train and compare variants of a config",
        description="Train and measure the base and the variants in FILE with each of its seeds, and write tables: "
        "means, spread over seeds, paired differences with intervals. Finished trials are kept, so that it goes on "
        "where it was stopped. The exit code is 1 where a trial failed.",
    )  # fmt: skip
    ablate.add_arguments(command, path, at_least)
    command.set_defaults(run=ablate.run)
    return parser


def _add_model(command: argparse.ArgumentParser, name: str) -> None:
    optional: dict[str, Any] = dict(default="lab") if name.startswith("-") else dict(metavar="CHECKPOINT")
    command.add_argument(
        name, help='"lab", "lab-frame-group", a folder, a weight file or a Hub id (owner/name)', **optional
    )
    command.add_argument(
        "--spatial-config", type=Path, metavar="PATH",
        help="for Open-Sora's layout: config.json of the 2D VAE, or its folder (default: SDXL's)",
    )  # fmt: skip
    command.add_argument("--subfolder", help="of a pipeline, e.g. vae")
    command.add_argument("--revision", help="of a Hub repository")
    command.add_argument("--local-files-only", action="store_true", help="never ask the Hub, use its local cache")


def _add_chunk(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--chunk", type=chunk, default=argparse.SUPPRESS, metavar="N",
        help='frames the temporal half takes at a time, or "none": one piece (default: as the model has it)',
    )  # fmt: skip


def _load(args: argparse.Namespace, source: str):
    """The model of the command line, with the chunks that are asked for."""
    from ..checkpoints.loading import load
    from ..families import codec_of

    vae = load(source, **_model_arguments(args))
    if "chunk" not in args:
        return vae
    try:
        return codec_of(vae).with_chunk(args.chunk)
    except ValueError as error:
        raise ValueError(f"--chunk cannot be used with {source}: {error}") from error


def _model_arguments(args: argparse.Namespace) -> dict:
    names = ("spatial_config", "subfolder", "revision", "local_files_only")
    return {name: getattr(args, name) for name in names}


def run_reconstruct(args: argparse.Namespace) -> int:
    from ..reconstruct.plan import OUTPUTS, Plan

    plan = Plan(args.input, args.output, args.start, args.frames, args.size, args.gain, args.device)
    height, width = plan.info.height, plan.info.width
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{args.input} is {height}x{width} pixels; the smallest is {MIN_SIDE}x{MIN_SIDE}, one latent cell"
        )
    vae = _load(args, args.model)

    from ..reconstruct.run import StoppedError, run_plan
    from ..reconstruct.segments import WorkFolder
    from ..reconstruct.summary import describe

    print(f"model        {args.model} ({type(vae).__name__})")
    title = f"{args.input.name} through {args.model}".encode(errors="replace").decode()  # names may hold any bytes
    try:
        summary = run_plan(plan, vae, args.model, title, progress=True)
    except StoppedError as error:
        print(f"vae-lab reconstruct: {error}", file=sys.stderr)
        return exit_codes.STOPPED
    except (KeyboardInterrupt, SystemExit) as stop:
        print(f"vae-lab reconstruct: interrupted, {WorkFolder(args.output).kept()}", file=sys.stderr)
        return exit_codes.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else exit_codes.TERMINATED
    _print_facts(describe(summary))
    print(f"wrote        {', '.join(str(args.output / name) for name in OUTPUTS)}")
    if plan.info.breaks_off:
        print(f"vae-lab reconstruct: {plan.info.breaks_off}; it was reconstructed up to there", file=sys.stderr)
        return exit_codes.STOPPED
    return 0


def _print_facts(facts: Mapping[str, str]) -> None:
    for name, text in facts.items():
        print(f"{name:<12} " + text.replace("\n", "\n" + " " * 13))


def run_sizes(args: argparse.Namespace) -> int:
    num_frames, *frame = args.size
    padded = [shapes.padded_size(side) for side in frame]
    ratio = args.temporal_ratio
    latent = shapes.latent_size((num_frames, *padded), ratio, micro_frame_size=args.chunk)
    chunks = shapes.latent_chunks(num_frames, ratio, args.chunk)
    groups = shapes.frame_groups(num_frames, ratio, args.chunk)
    print(f"clip         {count(num_frames, 'frame')} of {frame[0]}x{frame[1]} (height x width)")
    if padded != frame:
        print(
            f"padding      to {padded[0]}x{padded[1]}, a multiple of {shapes.SPATIAL_RATIO} (the model refuses others)"
        )
    print(f"latent       {count(latent[0], 'frame')} of {latent[1]}x{latent[2]}, 4 channels")
    print(f"compression  {shapes.compression_ratio(args.size, latent):.1f} numbers to 1")
    print(
        f"chunks       {len(chunks)}"
        + ("" if args.chunk is None else f" of up to {args.chunk} frames, each encoded alone")
    )
    first_frame = first_latent = 0
    for index, (num_latents, length) in enumerate(chunks):
        if index < SHOWN_CHUNKS or index == len(chunks) - 1:
            cells = [span(group) for group in groups[first_latent : first_latent + num_latents]]
            if len(cells) > 12:
                cells[6:-3] = ["…"]
            padding = shapes.front_padding(length, ratio)
            frames = range(first_frame, first_frame + length)
            latents = range(first_latent, first_latent + num_latents)
            print(
                f"  chunk {index}: frames {span(frames)} after {count(padding, 'zero frame')} "
                f"-> latents {span(latents)}: {' | '.join(cells)}"
            )
        elif index == SHOWN_CHUNKS:
            print("  …")
        first_frame, first_latent = first_frame + length, first_latent + num_latents
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    import json

    from ..checkpoints.loading import inspect

    info = inspect(args.checkpoint, **_model_arguments(args))
    print(f"checkpoint   {info.source}")
    print(f"layout       {info.layout}, {info.class_name}")
    for file in info.files:
        print(f"file         {file}")
    for name, numbers in info.parameters.items():
        print(f"  {name:<16} {numbers:>13,} numbers")
    print(f"  {'in all':<16} {sum(info.parameters.values()):>13,} numbers")
    print(f"types        {', '.join(f'{number} tensors of {name}' for name, number in info.dtypes.items())}")
    print(f"config       {json.dumps(info.config, indent=2, default=str)}")
    print(
        f"keys         {info.differences.describe(listed=None) if info.differences else 'as the architecture has them'}"
    )
    return 1 if info.differences else 0


def run_probe(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..probes.report import probe

    vae = _load(args, args.checkpoint)
    print(f"model        {args.checkpoint} ({type(vae).__name__})")
    report = probe(vae, args.frames, progress=lambda names: tqdm(names, "probe", leave=False, disable=None))
    _print_facts(report.describe())
    return 0


def run_train(args: argparse.Namespace) -> int:
    from ..training.config import TrainConfig

    config = TrainConfig.from_toml(args.config)

    from ..training.loop import train
    from ..training.run_folder import RunFolder, TrainingError

    folder = RunFolder(args.output)
    try:
        train(config, args.output, args.data, cache=args.cache)
    except TrainingError as error:
        print(f"vae-lab train: {error}", file=sys.stderr)
        return exit_codes.STOPPED
    except KeyboardInterrupt:
        print(f"vae-lab train: interrupted; {folder.last_good()}", file=sys.stderr)
        return exit_codes.INTERRUPTED
    print(f"wrote        {folder.model}, {folder.log}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, exit_codes.terminate)
    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    try:
        return args.run(args)
    except BrokenPipeError:  # whoever read our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"vae-lab {args.command}: {error}", file=sys.stderr)
        return exit_codes.BAD_INPUT
    except KeyboardInterrupt:
        print(f"vae-lab {args.command}: interrupted, nothing was written", file=sys.stderr)
        return exit_codes.INTERRUPTED
