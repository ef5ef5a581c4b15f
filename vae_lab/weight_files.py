"""Weight files and the JSON beside them: headers without tensors, tensors without running any code."""

import json
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

PICKLE_SUFFIXES = (".pt", ".pth", ".bin")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values


def read_index(index: Path) -> list[Path]:
    """The files that an index of a sharded checkpoint names; they lie beside it."""
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    if not names or any(Path(name).name != name for name in names):
        raise ValueError(f"{index} must map keys to files beside it, got {names}")
    return [index.parent / name for name in names]


def read_headers(files: list[Path]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shape of every tensor, and tensors of each type, without reading a tensor."""
    shapes, dtypes = {}, Counter()
    for file in files:
        if file.suffix in PICKLE_SUFFIXES:
            tensors = _unpickle(file, "meta")
            shapes |= {key: tuple(value.shape) for key, value in tensors.items()}
            dtypes.update(str(value.dtype).removeprefix("torch.") for value in tensors.values())
        else:
            with _open_safetensors(file) as opened:
                slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
                shapes |= {key: tuple(value.get_shape()) for key, value in slices.items()}
                dtypes.update(value.get_dtype() for value in slices.values())
    return shapes, dict(dtypes)


def read_tensors(files: list[Path]) -> dict[str, torch.Tensor]:
    """All tensors, on the CPU."""
    tensors = {}
    for file in files:
        if file.suffix in PICKLE_SUFFIXES:
            tensors |= _unpickle(file, "cpu")
        else:
            with _open_safetensors(file) as opened:
                tensors |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
    return tensors


def _open_safetensors(file: Path):
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _unpickle(file: Path, device: str) -> dict[str, torch.Tensor]:
    """The state dict in a .pt file; nothing but tensors and plain containers is ever unpickled."""
    try:
        values = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} is refused, it is broken or holds more than tensors: {_first_line(error)}") from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is not a readable torch file: {_first_line(error)}") from None
    if isinstance(values, Mapping) and isinstance(values.get("state_dict"), Mapping):
        values = values["state_dict"]
    if not isinstance(values, Mapping) or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise ValueError(f"{file} must hold a state dict (names to tensors), got {type(values).__name__}")
    return dict(values)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
