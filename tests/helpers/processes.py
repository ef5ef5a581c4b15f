"""Processes that import torch, diffusers and matplotlib once for all: each is forked from one that has.

`vae_lab` is not imported there, so every process imports its own.
"""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from runpy import run_path

import pytest

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["accelerate", "diffusers.models.autoencoders.autoencoder_kl", "diffusers.optimization", "ipykernel.kernelapp"]
    + ["av", "matplotlib.pyplot", "pandas", "scipy.signal", "scipy.stats", "skimage.metrics"]
)


def start(arguments: list, printed: Path, largest_file: int | None = None, before: str = "") -> BaseProcess:
    """Start `vae-lab` with these arguments on one thread. Its output goes to the file `printed`.

    largest_file: no file may grow beyond so many bytes, as on a full disk: every write beyond it fails.
    before: Python that the process runs first.
    """
    process = _FORKS.Process(target=_main, args=([str(a) for a in arguments], printed, largest_file, before))
    process.start()
    return process


def stop_in(module: str, function: str, number: int) -> str:
    """Code for `before`: the process sends itself a signal where `module` calls `function`."""
    return f"""if True:
        import os, time, {module}
        def stop(*_):
            os.kill(os.getpid(), {number:d})
            time.sleep(60)
        {module}.{function} = stop
        """


def run(arguments: list, printed: Path, largest_file: int | None = None) -> int | None:
    """`start` and wait. Returns the exit code."""
    process = start(arguments, printed, largest_file)
    process.join()
    return process.exitcode


def _main(arguments: list[str], printed: Path, largest_file: int | None, before: str) -> None:
    import torch

    from vae_lab.__main__ import main

    with printed.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # if the tests run in the background, it would ignore it
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    exec(before, {})
    sys.exit(main(arguments))


def python(code: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess:
    """Run Python under more variables of the environment. `folder` keeps what it prints.

    huggingface_hub, which reads them when it is imported, is imported by the code.
    """
    printed = [folder / f"{name}.{len(list(folder.glob('*.out')))}.out" for name in ("stdout", "stderr")]
    process = _FORKS.Process(target=_python, args=(code, environment, printed))
    process.start()
    process.join(120)
    assert process.exitcode is not None, f"{code!r} takes more than two minutes"
    return subprocess.CompletedProcess(code, process.exitcode, *(file.read_text() for file in printed))


def _python(code: str, environment: dict[str, str], printed: list[Path]) -> None:
    for descriptor, path in enumerate(printed, 1):
        with path.open("w") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    exec(code, {"__name__": "__main__"})


@contextmanager
def forked_workers():
    """Inside, the workers of joblib and Dask are forked."""
    import dask

    # First imported inside dask.config.set, it would lose its defaults at the end
    import distributed  # noqa: F401
    from joblib.externals.loky.backend import context

    ensure_running()  # before Dask says what to import
    before = context.get_start_method()
    context.set_start_method("forkserver", force=True)
    try:
        with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
            yield
    finally:
        context.set_start_method(before, force=True)


# ---- notebooks' kernels --------------------------------------------------------------------------------------------


@contextmanager
def forked_kernels():
    """Inside, nbclient's kernels are forked. They stay ipykernel's, each in a separate process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", _ForkedKernel)
        yield


class _ForkedKernel:
    """What jupyter_client uses of a subprocess.Popen."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], env: dict[str, str], cwd: str, **_):
        receiver, sender = _FORKS.Pipe(duplex=False)
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        settings = dict(arguments=arguments, env=env, cwd=cwd, ready=sender)
        script = Path(__file__).with_name("forked_kernel.py")
        self._process = _FORKS.Process(target=run_path, args=(str(script), {"settings": settings}, "__main__"))
        self._process.start()
        sender.close()
        self.pid = self._process.pid
        receiver.recv()  # it leads a process group, which jupyter_client kills

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
