"""`python -m ipykernel_launcher` in a forked process, which `processes.forked_kernels` starts.

It is run as a script: a module of `tests` would import `vae_lab`, and which one that is PYTHONPATH decides.
"""

import atexit
import os
import sys
from multiprocessing.connection import Connection

import matplotlib
from ipykernel.kernelapp import IPKernelApp


def main(arguments: list[str], env: dict[str, str], cwd: str, ready: Connection) -> None:
    assert "vae_lab" not in sys.modules
    os.setsid()
    ready.send(None)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    matplotlib.rcParams["backend"] = env.get("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    atexit._run_exitfuncs()  # a process of multiprocessing ends without


if __name__ == "__main__":
    main(**settings)  # noqa: F821
