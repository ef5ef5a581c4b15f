"""The command `vae-lab ablate`."""

import argparse
import os
import sys
from pathlib import Path

from ..utils import exit_codes
from ..utils.text import first_line


def add_arguments(command: argparse.ArgumentParser, path, at_least) -> None:
    """path: parser of a path; at_least: makes the parser of a whole number from so many on."""
    command.add_argument(
        "file", type=path, metavar="FILE",
        help="TOML file, as data/ablations/padding.toml; relative paths in it are from the current folder",
    )  # fmt: skip
    command.add_argument(
        "output", type=path, nargs="?", default=Path("out/ablations"), metavar="OUT",
        help="folder of the trials, which several FILEs may share (default: out/ablations); tables go to OUT/NAME, "
        "where NAME is FILE's, with _x5 behind it for a scale of 5",
    )  # fmt: skip
    command.add_argument(
        "--jobs", type=at_least(1), default=os.cpu_count(), metavar="N",
        help="trials at once, each on a core of its own (default: as many as there are cores)",
    )  # fmt: skip
    command.add_argument(
        "--scale", type=float, default=1.0, metavar="X",
        help="factor on all steps and cached clips (default 1): 5 for five times the training",
    )  # fmt: skip
    command.add_argument("--data", type=path, metavar="FOLDER", help="videos and images (default: made content)")
    command.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    command.add_argument("--keep-models", action="store_true", help="leave the trained models in OUT/scratch")


def run(args: argparse.Namespace) -> int:
    """0, or 1 where a trial failed or the work stopped."""
    from ..ablation.results import TABLES
    from ..ablation.runner import AblationError, read_ablation_file, run_ablation

    arguments = read_ablation_file(args.file, args.scale)
    name = args.file.stem if args.scale == 1 else f"{args.file.stem}_x{args.scale:g}"
    try:
        ablation = run_ablation(
            **arguments, out=args.output, name=name, data=args.data, n_jobs=args.jobs,
            retry_failed=args.retry_failed, keep_models=args.keep_models,
        )  # fmt: skip
    except AblationError as error:
        print(f"vae-lab ablate: {error}", file=sys.stderr)
        return exit_codes.STOPPED
    except KeyboardInterrupt:
        print(
            f"vae-lab ablate: interrupted; finished trials are in {args.output}, the same command goes on",
            file=sys.stderr,
        )
        return exit_codes.INTERRUPTED
    print(ablation)
    print(f"wrote        {', '.join(str(args.output / name / f'{table}.csv') for table in TABLES)}")
    for trial in ablation.failed.itertuples():
        print(f"vae-lab ablate: {trial.variant}, seed {trial.seed}: {first_line(trial.error)}", file=sys.stderr)
    if len(ablation.failed):
        print("vae-lab ablate: failed trials are kept as they are; --retry-failed runs them again", file=sys.stderr)
        return exit_codes.STOPPED
    return 0
