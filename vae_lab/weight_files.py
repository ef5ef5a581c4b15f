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
        values = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values


def read_index(index: Path) -> list[Path]:
    """The files that an index of a sharded checkpoint names; they lie beside it."""
    weight_map = read_json(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) and name.endswith(".safetensors") for name in names):
        raise ValueError(f"{index} must have a weight_map from keys to .safetensors files")
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{index} must name files beside it, got {outside[0]}")
    return [index.parent / name for name in sorted(set(names))]


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
    if not isinstance(values, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for key, value in values.items()
    ):
        raise ValueError(f"{file} must hold a state dict (names to dense tensors), got {type(values).__name__}")
    return dict(values)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
