"""Read latents from .safetensors, .pt, .npy and .npz files, and write them. Code in a file is never run."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..utils.text import first_line
from .arrays import check_latent, check_tensor

READERS = {
    ".safetensors": lambda file: load_file(file.name),
    ".pt": lambda file: torch.load(file, map_location="cpu", weights_only=True),
    ".npy": lambda file: np.load(file, allow_pickle=False),
    ".npz": lambda file: np.load(file, allow_pickle=False),
}
CODE = ("unsupported global", "unsupported class", "object arrays cannot be loaded")  # in messages of torch and numpy


def read_latents(path: str | Path, key: str | None = None) -> Tensor:
    """Read the latents of one clip: (1, C, L, h, w), float32 (float64 stays float64).

    Args:
        path: .safetensors, .pt (a tensor, or a dict of tensors), .npy or .npz, of (1, C, L, h, w) or (C, L, h, w).
        key: the name of the tensor, if the file holds several; only this one is read.

    Raises FileNotFoundError, or ValueError with the file and the reason: not a latent file, damaged or truncated,
    objects that could run code, several tensors and no key, another rank, more than one clip, integers, NaN.
    """
    if key is not None and not isinstance(key, str):
        raise ValueError(f"key must be text, got {key!r}")
    path = _checked(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # torch warns about pickles that it refuses
        try:
            content = READERS[path.suffix](file)
        except Exception as error:  # the readers fail in many ways on damaged files
            raise _unreadable(path, error) from None
        name = _chosen(path, content, key)
        try:
            values = content if name is None else content[name]
        except Exception as error:
            raise _unreadable(path, error) from None
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
            raise ValueError(f"{path} must hold numbers of at most 64 bits, got {values.dtype}")
        values = torch.from_numpy(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("=")))
    if not isinstance(values, Tensor):
        raise ValueError(f"{path} must hold a tensor, got {type(values).__name__}")
    if values.layout != torch.strided:
        raise ValueError(f"{path} must hold a dense tensor, got {values.layout}")
    if values.ndim not in (4, 5):
        raise ValueError(f"{path} must hold (1, C, L, h, w) or (C, L, h, w), got shape {tuple(values.shape)}")
    z = values[None] if values.ndim == 4 else values
    check_latent(z, str(path))
    return z if z.dtype == torch.float64 else z.float()


def write_latents(path: str | Path, z: Tensor) -> None:
    """Write latents (1, C, L, h, w) in the format of the suffix, so that `read_latents` reads them.

    The type stays, except for bfloat16 in .npy and .npz, which numpy lacks: it becomes float32 with the same values.
    In .safetensors and .npz the tensor is called "latents". Refuses what `read_latents` would refuse.
    """
    path = _checked(path)
    check_tensor(z)
    z = z.detach().cpu().contiguous()
    if path.suffix == ".safetensors":
        save_file({"latents": z}, path)
    elif path.suffix == ".pt":
        torch.save(z.clone(), path)  # otherwise a view is saved with its whole storage
    else:
        if z.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"z must be float16, bfloat16, float32 or float64 in {path.suffix}, got {z.dtype}")
        array = (z.float() if z.dtype == torch.bfloat16 else z).numpy()
        np.save(path, array) if path.suffix == ".npy" else np.savez(path, latents=array)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"{path} must end in {', '.join(READERS)}")
    return path


def _unreadable(path: Path, error: Exception) -> ValueError:
    refused, reason = f"{path} cannot be read as {path.suffix}", first_line(error)
    if any(sign in str(error).lower() for sign in CODE):
        objects = "other Python objects than tensors, which could run code when they are read"
        return ValueError(f"{refused}: it holds {objects}; save the tensor alone")
    if isinstance(error, MemoryError | OverflowError):
        reason = "it says that it holds more than fits in memory"
    elif "weights" in reason.lower() or "pickle" in reason.lower():  # torch's and numpy's advice is not for latents
        reason = f"what is in it is not what {'numpy.save' if path.suffix.startswith('.np') else 'torch.save'} writes"
    return ValueError(f"{refused}; it may be cut off or damaged: {reason}")


def _chosen(path: Path, content: Any, key: str | None) -> str | None:
    """The name of the tensor to read; None if it has no name."""
    if not isinstance(content, Mapping):
        if key is not None:
            raise ValueError(f"{path} holds one tensor without a name, so key must be None, got {key!r}")
        return None
    names = ", ".join(map(str, content)) or "none"
    if key is None and len(content) != 1:
        which = f"key must be one of their names: {names} (read_latents takes it)"
        raise ValueError(f"{path} holds {len(content)} tensors, {which}")
    if key is not None and key not in content:
        raise ValueError(f"{path} holds no tensor {key!r}; key must be one of: {names}")
    return next(iter(content)) if key is None else key
