"""The command line in processes that import torch once for all: each is forked from one that has."""

import os
import resource
import sys
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.helpers.processes", "accelerate", "vae_lab.__main__", "vae_lab.training.loop"])


def start(arguments: list, printed: Path, largest_file: int | None = None) -> BaseProcess:
    """Start `vae-lab` with these arguments on one thread. Its output goes to the file `printed`.

    largest_file: no file may grow beyond so many bytes, as on a full disk: every write beyond it fails.
    """
    process = _FORKS.Process(target=_main, args=([str(a) for a in arguments], printed, largest_file))
    process.start()
    return process


def run(arguments: list, printed: Path, largest_file: int | None = None) -> int | None:
    """`start` and wait. Returns the exit code."""
    process = start(arguments, printed, largest_file)
    process.join()
    return process.exitcode


def _main(arguments: list[str], printed: Path, largest_file: int | None) -> None:
    import torch

    from vae_lab.__main__ import main

    with printed.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.exit(main(arguments))
