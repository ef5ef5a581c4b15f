"""The commands of `vae-lab`, which is also `python -m vae_lab`. Each returns an exit code."""

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from .. import shapes
from ..utils import exit_codes
from ..utils.extras import MissingExtraError
from ..utils.text import count, first_line, span
from .arguments import build_parser

SHOWN_CHUNKS = 4  # by `sizes`, besides the last one


def _load(args: argparse.Namespace, source: str) -> Any:
    """Load the model that the command line names, with the chunks that it asks for."""
    import torch

    from ..checkpoints.loading import load
    from ..families.codec import codec_of

    vae = load(source, dtype=getattr(torch, args.dtype), **_model_arguments(args))
    if "chunk" in args:
        try:
            vae = codec_of(vae).with_chunk(args.chunk)
        except ValueError as error:
            raise ValueError(f"--chunk cannot be used with {source}: {error}") from error
    print(f"model        {source} ({type(vae).__name__})")
    return vae


def _model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    names = ("spatial_config", "variant", "entry", "subfolder", "revision", "local_files_only")
    return {name: getattr(args, name) for name in names}


def _print_facts(facts: Mapping[str, str]) -> None:
    for name, text in facts.items():
        print(f"{name:<12} " + text.replace("\n", "\n" + " " * 13))


def _stop(args: argparse.Namespace, message: object, code: int = exit_codes.STOPPED) -> int:
    """Print why a command stopped, and return its exit code."""
    print(f"vae-lab {args.command}: {message}", file=sys.stderr)
    return code


def reconstruct(args: argparse.Namespace) -> int:
    """`vae-lab reconstruct`: everything is checked before the model is loaded."""
    from ..reconstruct.plan import OUTPUTS, Plan

    plan = Plan(args.input, args.output, args.start, args.frames, args.size, args.gain, args.device, args.strict)
    for note in plan.info.notes:
        print(f"note: {args.input}: {note}", file=sys.stderr)
    height, width, cell = plan.info.height, plan.info.width, shapes.SPATIAL_RATIO
    if min(height, width) < cell:
        raise ValueError(f"{args.input} is {height}x{width} pixels; the smallest is {cell}x{cell}, one latent cell")

    from ..reconstruct.run import StoppedError, run_plan
    from ..reconstruct.segments import WorkFolder
    from ..reconstruct.summary import describe

    vae = _load(args, args.model)
    title = f"{args.input.name} through {args.model}".encode(errors="replace").decode()  # names may hold any bytes
    try:
        summary = run_plan(plan, vae, args.model, title, progress=True)
    except StoppedError as error:
        return _stop(args, error)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = exit_codes.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else exit_codes.TERMINATED
        return _stop(args, f"interrupted, {WorkFolder(args.output).kept()}", code)
    _print_facts(describe(summary))
    print(f"wrote        {', '.join(str(args.output / name) for name in OUTPUTS)}")
    if plan.info.breaks_off:
        return _stop(args, f"{plan.info.breaks_off}; it was reconstructed up to there")
    return 0


def sizes(args: argparse.Namespace) -> int:
    """`vae-lab sizes`."""
    num_frames, height, width = args.size
    padded = shapes.padded_size(height), shapes.padded_size(width)
    timeline = shapes.Timeline(num_frames, args.temporal_ratio, args.chunk)
    latent = shapes.latent_size((num_frames, *padded), args.temporal_ratio, micro_frame_size=args.chunk)
    print(f"clip         {count(num_frames, 'frame')} of {height}x{width} (height x width)")
    if padded != (height, width):
        rule = f"a multiple of {shapes.SPATIAL_RATIO} (the model refuses others)"
        print(f"padding      to {padded[0]}x{padded[1]}, {rule}")
    print(f"latent       {count(latent[0], 'frame')} of {latent[1]}x{latent[2]}, 4 channels")
    print(f"compression  {shapes.compression_ratio(args.size, latent):.1f} numbers to 1")
    chunks, groups = timeline.chunks, timeline.groups
    limit = "" if args.chunk is None else f" of up to {args.chunk} frames, each encoded alone"
    print(f"chunks       {len(chunks)}{limit}")
    first = first_latent = 0
    for index, (num_latents, length) in enumerate(chunks):
        frames, latents = range(first, first + length), range(first_latent, first_latent + num_latents)
        first, first_latent = frames.stop, latents.stop
        if index < SHOWN_CHUNKS or index == len(chunks) - 1:
            cells = [span(groups[latent]) for latent in latents]
            if len(cells) > 12:
                cells[6:-3] = ["…"]
            padding = count(shapes.front_padding(length, args.temporal_ratio), "zero frame")
            arrow = f"frames {span(frames)} after {padding} -> latents {span(latents)}"
            print(f"  chunk {index}: {arrow}: {' | '.join(cells)}")
        elif index == SHOWN_CHUNKS:
            print("  …")
    return 0


def inspect(args: argparse.Namespace) -> int:
    """`vae-lab inspect`: 1 if the checkpoint's keys differ from the architecture."""
    import json

    from ..checkpoints.loading import inspect

    info = inspect(args.checkpoint, **_model_arguments(args))
    print(f"checkpoint   {info.source}")
    print(f"layout       {info.layout}, {info.class_name}")
    for file in info.files:
        print(f"file         {file}")
    for name, numbers in (info.parameters | {"in all": sum(info.parameters.values())}).items():
        print(f"  {name:<16} {numbers:>13,} numbers")
    print(f"types        {', '.join(f'{number} tensors of {name}' for name, number in info.dtypes.items())}")
    print(f"config       {json.dumps(info.config, indent=2, default=str)}")
    differences = info.differences.describe(listed=None) if info.differences else "as the architecture has them"
    print(f"keys         {differences}")
    for note in info.notes:
        print(f"note: {note}", file=sys.stderr)
    return exit_codes.STOPPED if info.differences else 0


def probe(args: argparse.Namespace) -> int:
    """`vae-lab probe`."""
    from tqdm import tqdm

    from ..probes.report import probe

    vae = _load(args, args.checkpoint)
    report = probe(vae, args.frames, progress=lambda names: tqdm(names, "probe", leave=False, disable=None))
    _print_facts(report.describe())
    return 0


def train(args: argparse.Namespace) -> int:
    """`vae-lab train`."""
    from ..training.config import TrainConfig

    config = TrainConfig.from_toml(args.config)  # before torch is imported

    from ..training.loop import train
    from ..training.run_folder import RunFolder, TrainingError

    folder = RunFolder(args.output)
    try:
        train(config, args.output, args.data, cache=args.cache)
    except TrainingError as error:
        return _stop(args, error)
    except KeyboardInterrupt:
        return _stop(args, f"interrupted; {folder.last_good()}", exit_codes.INTERRUPTED)
    print(f"wrote        {folder.model}, {folder.log}")
    return 0


def ablate(args: argparse.Namespace) -> int:
    """`vae-lab ablate`: 1 if a trial failed or the work stopped."""
    from ..ablation.results import TABLES
    from ..ablation.runner import AblationError, read_ablation_file, run_ablation

    file = read_ablation_file(args.file, args.scale)
    name = args.file.stem if args.scale == 1 else f"{args.file.stem}_x{args.scale:g}"
    options = dict(n_jobs=args.jobs, retry_failed=args.retry_failed, keep_models=args.keep_models)
    try:
        ablation = run_ablation(**file, out=args.output, name=name, data=args.data, **options)
    except AblationError as error:
        return _stop(args, error)
    except KeyboardInterrupt:
        message = f"interrupted; finished trials are in {args.output}, and the same command resumes"
        return _stop(args, message, exit_codes.INTERRUPTED)
    print(ablation)
    print(f"wrote        {', '.join(str(args.output / name / f'{table}.csv') for table in TABLES)}")
    for trial in ablation.failed.itertuples():
        _stop(args, f"{trial.variant}, seed {trial.seed}: {first_line(trial.error)}")
    if len(ablation.failed):
        return _stop(args, "failed trials are kept as they are; --retry-failed runs them again")
    return 0


COMMANDS = {command.__name__: command for command in (reconstruct, sizes, inspect, probe, train, ablate)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    args = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, exit_codes.terminate)
    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    try:
        return COMMANDS[args.command](args)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except (ValueError, OSError, MissingExtraError) as error:
        return _stop(args, error, exit_codes.BAD_INPUT)
    except KeyboardInterrupt:
        return _stop(args, "interrupted, nothing was written", exit_codes.INTERRUPTED)
