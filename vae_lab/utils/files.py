"""Files and folders that are written whole or not at all, files to read, locks, and a hash of weights."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from .text import first_line

LONGEST_NAME = 255  # bytes, in nearly all file systems
MAX_TEXT = 16_000_000  # characters: configs and indices of checkpoints have thousands
OPEN_FILES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # what the shell has opened for this process

if TYPE_CHECKING:
    from hashlib import _Hash

    from torch import Tensor


def bundled_file(*parts: str) -> Path:
    """Return a file that comes with the lab: in data/ beside the package, or inside an installed wheel."""
    package = Path(__file__).parents[1]
    for data in (package / "data", package.parent / "data"):
        if data.joinpath(*parts).is_file():
            return data.joinpath(*parts)
    name = "/".join(parts)
    raise FileNotFoundError(f"{name} is neither in {package / 'data'} nor in {package.parent / 'data'}")


def check_kind(path: Path) -> None:
    """Refuse what is there but is neither a file nor a folder: a device has no end, a pipe may have no writer."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is neither a file nor a folder but a pipe, a socket or a device; save it as a file")


def read_text(path: str | Path) -> str:
    """Return the text in a config or another file that is read whole: UTF-8, at most MAX_TEXT characters.

    Pipes are read if the shell has made them, as for `vae-lab train <(…) OUT` or `vae-lab train /dev/stdin OUT`.
    Raises OSError if there is no such file, ValueError, naming it, for all that is refused.
    """
    path = Path(path)
    if not (path.is_fifo() and str(path).startswith(OPEN_FILES)):
        check_kind(path)
    if path.is_dir():
        raise ValueError(f"{path} must be a file, it is a folder")
    with path.open(encoding="utf-8") as file:
        try:
            text = file.read(MAX_TEXT + 1)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: it is not text in UTF-8: {error}") from None
    if len(text) > MAX_TEXT:
        raise ValueError(f"{path} must hold at most {MAX_TEXT:,} characters, it is longer")
    return text


@contextmanager
def write_beside(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to: it replaces `path` if the block succeeds, and is removed otherwise.

    durable: for a folder that only one process writes to. The file is flushed to the disk first, so that even after a
    power cut `path` is the old file or the new one, whole; and the path beside has a fixed name, so that processes
    that are killed leave at most one such file.
    Raises FileNotFoundError or FileExistsError if `path` cannot be replaced: it has no folder, or is one with files.
    """
    beside = _beside(path, f".partial{'' if durable else f'-{os.getpid()}'}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"cannot write {path}: there is a folder of that name, and it is not empty")
    try:
        yield beside
        if durable:
            sync(beside)
        beside.replace(path)
    finally:
        remove(beside)


def _beside(path: Path, mark: str) -> Path:
    """A hidden name beside `path`, with its suffix. A hash stands in for a name that would become too long."""
    name = f".{path.stem}{mark}{path.suffix}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        suffix = path.suffix if len(os.fsencode(path.suffix)) < 64 else ""
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{mark}{suffix}"
    return path.with_name(name)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`: it replaces the folder `path` if the block succeeds, and is removed otherwise.

    At no time does `path` hold a folder that is half written. Only one process may write `path` at a time.
    """
    beside = _beside(path, ".partial")
    remove(beside)
    try:
        beside.mkdir(parents=True)
        yield beside
        remove(path)
        beside.rename(path)
    finally:
        remove(beside)


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk itself, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write with torch.save. What it reports by a RuntimeError, such as a full disk, raises OSError."""
    import torch

    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise (_os_error(error) or OSError(None, first_line(error), str(path))) from None


def reason(error: Exception) -> str:
    """Say why a file could not be written: in the system's words if there are any, else by the error's first line."""
    return getattr(_os_error(error), "strerror", None) or first_line(error)


def _os_error(error: BaseException | None) -> OSError | None:
    """The error itself, or the nearest OSError it was raised in the handling of."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


@contextmanager
def locked(
    path: Path, *, refusal: Exception | None = None, on_wait: Callable[[], object] | None = None
) -> Iterator[None]:
    """Hold a lock file, which ends with the process however that ends.

    refusal: raised if another process holds the lock; None: wait for it, after a call of `on_wait`.
    """
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except Timeout as error:
        if refusal is not None:
            raise refusal from error
        if on_wait is not None:
            on_wait()
        held = lock.acquire()
    with held:
        yield


def hash_weights(digest: "_Hash", weights: Mapping[str, "Tensor"]) -> None:
    """Update a hash with the names and bits of a state dict's tensors, in the order of their names."""
    import torch

    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
