"""Files that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, and is removed otherwise."""
    beside = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"cannot write {path}: there is a folder of that name, and it is not empty")
    try:
        yield beside
        beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)
