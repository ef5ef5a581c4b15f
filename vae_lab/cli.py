"""The command line: `vae-lab`, which is also `python -m vae_lab`.

Each command is a function that returns an exit code. Arguments that cannot be used are refused before anything is read.
"""

import argparse
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from . import shapes
from .utils import exit_codes
from .utils.extras import MissingExtraError
from .utils.text import count, first_line, span

SHOWN_CHUNKS = 4  # by `sizes`, besides the last one
MAX_SIZE = 1_000_000  # frames or pixels along an axis
VIDEO_FILES = (".mp4", ".webm", ".gif")  # that `generate` writes
LIKE_LAB = (
    '"lab", "lab-frame-group", "lab-8", "lab-magvit", a folder, a weight file, or a Hub id (owner/name or '
    "owner/name/file)"
)


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
    _add_model(add, "--model", default="lab-8")
    add("--start", type=at_least(0), default=0, metavar="T", help="first frame, from 0 (default: 0)")
    add("--frames", type=at_least(1), metavar="N", help="number of frames (default: all)")
    add("--size", type=frame_size, metavar="HxW", help="scale to cover this size, crop to the middle")
    _add_dtype_and_chunk(add)
    add("--gain", type=float, default=4.0, help="factor on the displayed difference (default: 4)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    text = (
        "compute large convolutions in less time and with more rounding: F4 (errors of up to 1e-5; default of --fast), "
        "F2 (3e-6; 5e-6 without AVX-512) or bf16 (3e-2; the one that a CUDA device has)"
    )
    add("--fast", nargs="?", const="F4", choices=("F4", "F2", "bf16"), help=text)
    add("--strict", action="store_true", help="refuse a truncated video, and one with damaged frames")

    description = (
        "Print the chunks and groups of a clip of this size, and the size of its latent; with --family, what that "
        "family makes of the clip and all that is known of it."
    )
    add = commands.add_parser("sizes", help="show the latent size of a clip", description=description).add_argument
    add("size", type=clip_size, metavar="TxHxW", help="frames x height x width, as in 51x256x256")
    text = 'frames per chunk, or "none" (default: 17)'
    add("--chunk", type=chunk, default=argparse.SUPPRESS, metavar="N", help=text)
    text = "frames per latent frame (default: 4)"
    add("--temporal-ratio", type=at_least(1), default=argparse.SUPPRESS, metavar="R", help=text)
    text = "latent channels (default: 4, as released; the bundled lab-8 has 8)"
    add("--channels", type=at_least(1), default=argparse.SUPPRESS, metavar="C", help=text)
    text = 'a family of VAEs, such as "wan 2.1", and what is known of it; "all": a table of all families'
    add("--family", metavar="NAME", help=text)
    text = "also try how much time and memory MODEL will take for the clip on this machine (default of --plan: lab-8)"
    add("--plan", nargs="?", const="lab-8", metavar="MODEL", help=text)

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
    text = "frames per measured chunk, for a model without chunks (default: 17, or the nearest that it keeps)"
    add("--frames", type=at_least(2), metavar="N", help=text)

    description = (
        "Train the model that CONFIG describes. Write checkpoint.pt, log.csv and, at the end, model/ into OUT. After "
        "an interruption the same command resumes from the last checkpoint. For several processes or GPUs: "
        "accelerate launch -m vae_lab train CONFIG OUT."
    )
    add = commands.add_parser("train", help="train a model, or resume training", description=description).add_argument
    add("config", type=path, metavar="CONFIG", help="TOML file, such as those in data/recipes")
    add("output", type=path, metavar="OUT", help="folder of the run; it is created if missing")
    _add_data(add)
    add("--cache", type=path, metavar="FOLDER", help="2D latents, shared by runs (default: in OUT)")

    description = (
        "Generate a clip of what PROMPT says, and tell what is seen. `vae-lab train` makes generators, from recipes "
        "of part generation. The exit code is 0 whatever is seen."
    )
    add = commands.add_parser("generate", help="generate a clip from a prompt", description=description).add_argument
    text = 'colour, shape, direction and, if you like, speed: "red disc left fast"'
    add("prompt", metavar="PROMPT", help=text)
    text = "video file (.mp4, .webm, .gif), or a folder for clip.mp4 and reading.json; it is created if missing"
    add("output", type=path, metavar="OUT", help=text)
    text = '"lab-generator" (default), "lab-generator-factorised", or a folder: model/ of a training'
    add("--model", default="lab-generator", metavar="MODEL", help=text)
    add("--steps", type=at_least(1), default=8, metavar="N", help="steps from noise to the clip (default: 8)")
    add("--method", choices=("euler", "heun"), default="euler", help="of each step (default: euler)")
    add("--guidance", type=float, default=1.0, metavar="W", help="towards the prompt (default: 1, none)")
    add("--seed", type=at_least(0), default=0, metavar="S", help="of the noise (default: 0)")

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


def _load(args: argparse.Namespace, source: str) -> Any:
    """Load the model that the command line names, with the chunks that it asks for."""
    import torch

    from .checkpoints.loading import load
    from .families.codec import codec_of

    vae = load(source, dtype=getattr(torch, args.dtype), **_model_arguments(args))
    if "chunk" in args:
        try:
            vae = codec_of(vae).with_chunk(args.chunk)
        except ValueError as error:
            raise ValueError(f"--chunk cannot be used with {source}: {error}") from error
    print(f"model        {source} ({type(vae).__name__})")
    return vae


def _fast(args: argparse.Namespace, vae: Any) -> AbstractContextManager:
    """The fast mode that the command line asks for."""
    if args.fast is None:
        return nullcontext()

    from .utils.fast import Fast

    try:
        return Fast(vae.to(args.device), args.fast)  # it is for the weights where they are
    except ValueError as error:
        raise ValueError(f"--fast cannot be used with {args.model}: {error}") from error


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


INTERRUPTS = KeyboardInterrupt, exit_codes.Terminated


def _interrupted(args: argparse.Namespace, stop: BaseException, message: str) -> int:
    """Print what is kept of the work that a signal stopped, and return the exit code."""
    code = exit_codes.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else exit_codes.TERMINATED
    return _stop(args, message, code)


def reconstruct(args: argparse.Namespace) -> int:
    """`vae-lab reconstruct`: everything but what depends on the model is checked before that is loaded."""
    from .reconstruct.plan import OUTPUTS, Plan

    # Torch's threads wait for one another many times a second. By default they keep their core for milliseconds. Those
    # that wait for more than about 0.1 ms leave it to what writes videos; at once would make each small operation slow.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    if args.fast not in (None, "bf16") and args.device != "cpu":
        raise ValueError(f"--fast {args.fast} needs --device cpu, got {args.device!r}; --fast bf16 does not")
    plan = Plan(args.input, args.output, args.start, args.frames, args.size, args.gain, args.device, args.strict)
    for note in plan.info.notes:
        print(f"note: {args.input}: {note}", file=sys.stderr)

    from .reconstruct.run import StoppedError, run_plan
    from .reconstruct.segments import WorkFolder
    from .reconstruct.summary import describe

    vae = _load(args, args.model)
    fast = _fast(args, vae)
    title = f"{args.input.name} through {args.model}".encode(errors="replace").decode()  # names may hold any bytes
    try:
        with fast:
            summary = run_plan(plan, vae, args.model, title, progress=True)
    except StoppedError as error:
        return _stop(args, error)
    except (KeyboardInterrupt, SystemExit) as stop:  # a model's code may exit too
        return _interrupted(args, stop, f"interrupted, {WorkFolder(args.output).kept()}")
    _print_facts(describe(summary))
    print(f"wrote        {', '.join(str(args.output / name) for name in OUTPUTS)}")
    if plan.info.breaks_off:
        return _stop(args, f"{plan.info.breaks_off}; it was reconstructed up to there")
    return 0


def sizes(args: argparse.Namespace) -> int:
    """`vae-lab sizes`."""
    given = vars(args)
    if args.family is not None or args.plan is not None:
        what = "--plan, whose model" if args.family is None else "--family, which"
        for name in ("chunk", "temporal_ratio", "channels"):
            if name in given:
                raise ValueError(f"--{name.replace('_', '-')} cannot be used with {what} has its own")
    if args.family is not None:
        if args.plan is not None:
            raise ValueError("--plan cannot be used with --family: it tries a model, and a family has no weights")
        return _sizes_of(args.family, args.size)
    if args.plan is not None:
        return _plan(args.plan, args.size)
    num_frames, height, width = args.size
    ratio, chunk = given.get("temporal_ratio", shapes.TEMPORAL_RATIO), given.get("chunk", shapes.MICRO_FRAME_SIZE)
    channels = given.get("channels", shapes.LATENT_CHANNELS)
    padded = shapes.padded_size(height), shapes.padded_size(width)
    timeline = shapes.Timeline(num_frames, ratio, chunk)
    latent = shapes.latent_size((num_frames, *padded), ratio, micro_frame_size=chunk)
    print(f"clip         {count(num_frames, 'frame')} of {height}x{width} (height x width)")
    if padded != (height, width):
        rule = f"a multiple of {shapes.SPATIAL_RATIO} (the model refuses others)"
        print(f"padding      to {padded[0]}x{padded[1]}, {rule}")
    print(f"latent       {count(latent[0], 'frame')} of {latent[1]}x{latent[2]}, {count(channels, 'channel')}")
    compression = shapes.compression_ratio(args.size, latent, latent_channels=channels)
    print(f"compression  {compression:.1f} numbers to 1")
    chunks, groups = timeline.chunks, timeline.groups
    limit = "" if chunk is None else f" of up to {chunk} frames, each encoded alone"
    print(f"chunks       {len(chunks)}{limit}")
    first = first_latent = 0
    for index, (num_latents, length) in enumerate(chunks):
        frames, latents = range(first, first + length), range(first_latent, first_latent + num_latents)
        first, first_latent = frames.stop, latents.stop
        if index < SHOWN_CHUNKS or index == len(chunks) - 1:
            cells = [span(groups[latent]) for latent in latents]
            if len(cells) > 12:
                cells[6:-3] = ["…"]
            padding = count(shapes.front_padding(length, ratio), "zero frame")
            arrow = f"frames {span(frames)} after {padding} -> latents {span(latents)}"
            print(f"  chunk {index}: {arrow}: {' | '.join(cells)}")
        elif index == SHOWN_CHUNKS:
            print("  …")
    return 0


def _plan(source: str, size: Sequence[int]) -> int:
    """`vae-lab sizes --plan`."""
    from .checkpoints.loading import load
    from .reconstruct.cost import clip_cost

    vae = load(source)
    cost = clip_cost(vae, size)
    latent = vae.latent_size(size)
    memory = "this system does not tell"
    if cost.peak is not None and cost.before is not None:
        memory = f"{cost.peak / 1e9:.2f} GB at most, of which {cost.before / 1e9:.2f} GB without the clip"
    _print_facts(
        {
            "clip": f"{count(size[0], 'frame')} of {size[1]}x{size[2]} (height x width)",
            "latent": f"{count(latent[0], 'frame')} of {latent[1]}x{latent[2]}, by {source}",
            "encode": f"about {cost.encode:.1f} s",
            "decode": f"about {cost.decode:.1f} s",
            "memory": memory,
            "trial": f"{cost.trial:.1f} s, of one micro batch and one chunk",
        }
    )
    return 0


def _sizes_of(family: str, size: Sequence[int]) -> int:
    """`vae-lab sizes --family`: a table of all families, or all that is known of one."""
    from .families.sizes import clip_size, describe_family, describe_size, size_rows

    if family.strip().lower() == "all":
        print("\n".join(size_rows(*size)))
    else:
        _print_facts(describe_size(clip_size(family, *size)) | describe_family(family))
    return 0


def inspect(args: argparse.Namespace) -> int:
    """`vae-lab inspect`: 1 if the checkpoint's keys differ from the architecture."""
    import json

    from .checkpoints.loading import inspect

    info = inspect(args.checkpoint, **_model_arguments(args))
    print(f"checkpoint   {info.source}")
    print(f"layout       {info.layout}, {info.class_name}")
    if info.family:
        print(f"family       {info.family}")
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
    """`vae-lab probe`: 1 if nothing could be measured."""
    from tqdm import tqdm

    from .probes.report import probe

    vae = _load(args, args.checkpoint)
    report = probe(vae, args.frames, progress=lambda names: tqdm(names, "probe", leave=False, disable=None))
    _print_facts(report.describe())
    return 0 if report.results else exit_codes.STOPPED


def train(args: argparse.Namespace) -> int:
    """`vae-lab train`."""
    from .generation.config import GenerationConfig, read_recipe

    config = read_recipe(args.config)  # before torch is imported
    if isinstance(config, GenerationConfig) and args.data is not None:
        raise ValueError(f"--data {args.data} cannot be used: a generator is trained on clips drawn from prompts")

    from .generation.training import train_generator
    from .training.loop import train
    from .training.run_folder import RunFolder, TrainingError

    folder = RunFolder(args.output)
    try:
        if isinstance(config, GenerationConfig):
            train_generator(config, args.output, cache=args.cache)
        else:
            train(config, args.output, args.data, cache=args.cache)
    except TrainingError as error:
        return _stop(args, error)
    except INTERRUPTS as stop:
        return _interrupted(args, stop, f"interrupted; {folder.last_good()}")
    print(f"wrote        {folder.model}, {folder.log}")
    return 0


def generate(args: argparse.Namespace) -> int:
    """`vae-lab generate`."""
    import json

    from .generation.prompts import Prompt
    from .utils.checks import finite, integer_within
    from .video.writing import write_video

    prompt, guidance = Prompt.parse(args.prompt), finite("--guidance", args.guidance)
    integer_within("--seed", args.seed, 0, (1 << 64) - 1)
    as_file = args.output.suffix.lower() in VIDEO_FILES and not args.output.is_dir()
    if args.output.suffix and not as_file and not args.output.is_dir():
        raise ValueError(f"OUT must end in {', '.join(VIDEO_FILES)} or have no suffix, got {args.output}")
    folder = args.output.parent if as_file else args.output
    if blocks := [path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()]:
        raise ValueError(f"OUT ({args.output}) must be a video or a folder, and lie in one; {blocks[-1]} is a file")

    from .generation.generator import load_generator
    from .generation.judge import read_clip

    generator = load_generator(args.model)
    options = dict(method=args.method, guidance=guidance, seed=args.seed)
    (frames,) = generator.generate([prompt], args.steps, **options)
    reading = read_clip(frames)
    folder.mkdir(parents=True, exist_ok=True)
    clip = args.output if as_file else folder / "clip.mp4"
    write_video(clip, frames, generator.settings.fps)
    written = [clip]
    if not as_file:
        written.append(folder / "reading.json")
        values = dict(prompt=str(prompt), model=args.model, steps=args.steps, **options, seen=reading._asdict())
        written[-1].write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    _print_facts(
        {
            "prompt": str(prompt),
            "clip": f"{count(len(frames), 'frame')} of {frames.shape[1]}x{frames.shape[2]} (height x width)",
            "seen": reading.describe(),
            "wrote": ", ".join(map(str, written)),
        }
    )
    return 0


def ablate(args: argparse.Namespace) -> int:
    """`vae-lab ablate`: 1 if a trial failed or the work stopped."""
    from .ablation.results import TABLES
    from .ablation.runner import AblationError, read_ablation_file, run_ablation

    file = read_ablation_file(args.file, args.scale)
    name = args.file.stem if args.scale == 1 else f"{args.file.stem}_x{args.scale:g}"
    options = dict(n_jobs=args.jobs, retry_failed=args.retry_failed, keep_models=args.keep_models)
    try:
        ablation = run_ablation(**file, out=args.output, name=name, data=args.data, **options)
    except AblationError as error:
        return _stop(args, error)
    except INTERRUPTS as stop:
        message = f"interrupted; finished trials are in {args.output}, and the same command resumes"
        return _interrupted(args, stop, message)
    print(ablation)
    print(f"wrote        {', '.join(str(args.output / name / f'{table}.csv') for table in TABLES)}")
    for trial in ablation.failed.itertuples():
        _stop(args, f"{trial.variant}, seed {trial.seed}: {first_line(trial.error)}")
    if len(ablation.failed):
        return _stop(args, "failed trials are kept as they are; --retry-failed runs them again")
    return 0


COMMANDS = {command.__name__: command for command in (reconstruct, sizes, inspect, probe, train, generate, ablate)}


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
    except INTERRUPTS as stop:
        return _interrupted(args, stop, "interrupted, nothing was written")
