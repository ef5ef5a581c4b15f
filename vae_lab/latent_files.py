"""Latents from a file and to one: .safetensors, .pt, .npy and .npz. No code in a file is ever run."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .latent_moments import check_latent

SUFFIXES = (".safetensors", ".pt", ".npy", ".npz")
NAME = "latents"  # of the tensor in files that give names


def read_latents(path: str | Path, key: str | None = None) -> Tensor:
    """The latents of one clip in a file: (1, C, L, h, w), float32 (float64 stays float64).

    Args:
        path: .safetensors, .pt (a tensor, or names to tensors), .npy or .npz. A file may leave the first axis out:
          (C, L, h, w) is one clip too.
        key: name of the tensor where a file holds several.

    Raises FileNotFoundError, or ValueError with the file and what is wrong: not a latent file or cut off, several
    tensors and no key, another rank, more than one clip, integers, NaN.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    try:
        found = _READERS[path.suffix](path)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError,
            KeyError, IndexError) as error:  # fmt: skip
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} cannot be read as {path.suffix}; it may be cut off: {reason}") from None
    values = _chosen(path, found, key)
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{path} must hold numbers, got {values.dtype}")
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
    """Write latents (1, C, L, h, w) so that `read_latents` reads them; the suffix decides how.

    The type stays, but for bfloat16 in .npy and .npz, which numpy has not: it becomes float32, with the same values.
    In .safetensors and .npz the tensor is called "latents". Refuses what `read_latents` would refuse.
    """
    path = Path(path)
    _check_suffix(path)
    if not isinstance(z, Tensor):
        raise ValueError(f"z must be a tensor (1, C, L, h, w), got {type(z).__name__}")
    check_latent(z)
    z = z.detach().cpu().contiguous()
    if path.suffix == ".safetensors":
        save_file({NAME: z}, path)
    elif path.suffix == ".pt":
        torch.save(z.clone(), path)  # a view would be saved with all that it is a view of
    else:
        array = (z.float() if z.dtype == torch.bfloat16 else z).numpy()
        np.save(path, array) if path.suffix == ".npy" else np.savez(path, **{NAME: array})


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}")


def _numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        return dict(found) if isinstance(found, Mapping) else found


_READERS = {
    ".safetensors": load_file,
    ".pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
    ".npy": _numpy,
    ".npz": _numpy,
}


def _chosen(path: Path, found, key: str | None):
    """The one tensor that is meant."""
    if not isinstance(found, Mapping):
        if key is not None:
            raise ValueError(f"{path} holds one tensor without a name, so key must be None, got {key!r}")
        return found
    names = ", ".join(map(str, found)) or "none"
    if key is None and len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} tensors, key must be one of their names: {names}")
    if key is not None and key not in found:
        raise ValueError(f"{path} holds no tensor {key!r}; key must be one of: {names}")
    return found[key] if key is not None else next(iter(found.values()))
