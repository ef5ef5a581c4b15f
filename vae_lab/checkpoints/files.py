"""Read the files of a checkpoint, here or on the Hub. Headers are read without tensors, and no code is ever run."""

import json
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from ..utils.text import first_line

PICKLE_SUFFIXES = (".pt", ".pth", ".bin")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ValueError if it holds anything else."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values


def read_index(index: Path) -> list[Path]:
    """Return the weight files that the index of a sharded checkpoint names. Names outside its folder are refused."""
    weight_map = read_json(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) and name.endswith(".safetensors") for name in names):
        raise ValueError(f"{index} must have a weight_map from keys to .safetensors files")
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{index} must name files beside it, got {outside[0]}")
    return [index.parent / name for name in sorted(set(names))]


def read_headers(files: list[Path]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Return the shape of every tensor, and how many tensors there are of each dtype, without reading a tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: Counter[str] = Counter()
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
    """Return all tensors, on the CPU."""
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        if file.suffix in PICKLE_SUFFIXES:
            tensors |= _unpickle(file, "cpu")
        else:
            with _open_safetensors(file) as opened:
                tensors |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
    return tensors


def _open_safetensors(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _unpickle(file: Path, device: str) -> dict[str, torch.Tensor]:
    """Return the state dict in a .pt file. Only tensors and plain containers are unpickled."""
    try:
        values = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} is refused, it is broken or holds more than tensors: {first_line(error)}") from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is not a readable torch file: {first_line(error)}") from None
    if isinstance(values, Mapping) and isinstance(values.get("state_dict"), Mapping):
        values = values["state_dict"]
    if not isinstance(values, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for key, value in values.items()
    ):
        raise ValueError(f"{file} must hold a state dict (names to dense tensors), got {type(values).__name__}")
    return dict(values)


class Hub(NamedTuple):
    """One repository on the Hub, and the arguments of requests to it."""

    repo_id: str
    subfolder: str | None
    revision: str | None
    local_files_only: bool

    def fetch(self, filename: str) -> Path | None:
        """Return the path of a file in the local cache, downloading it if needed; None if the repository lacks it."""
        from huggingface_hub import hf_hub_download

        where = self._asdict()
        with self._errors(filename):
            return Path(hf_hub_download(where.pop("repo_id"), filename, **where))
        return None

    def fetch_weights(self, name: str) -> None:
        """Download the weight file of that name, or all shards of its index."""
        if self.fetch(name) is None:
            for shard in self._read_index(name):
                if self.fetch(shard) is None:
                    raise FileNotFoundError(f"{self.repo_id} has no {shard}, which its index names")

    def read_headers(self, name: str) -> tuple[list[str], dict[str, tuple[int, ...]], dict[str, int]]:
        """Return file names, shapes and dtypes, from the first bytes of the weight file or of each shard."""
        names, headers = [name], [self._header(name)]
        if headers == [None]:
            names = self._read_index(name)
            headers = [self._header(shard) for shard in names]
        tensors = {key: info for header in headers for key, info in header.tensors.items()}
        dtypes = Counter(info.dtype for info in tensors.values())
        return names, {key: tuple(info.shape) for key, info in tensors.items()}, dict(dtypes)

    def _header(self, filename: str):
        from huggingface_hub import HfApi

        path = f"{self.subfolder}/{filename}" if self.subfolder else filename
        with self._errors(filename):
            return HfApi().parse_safetensors_file_metadata(self.repo_id, path, revision=self.revision)
        return None

    def _read_index(self, name: str) -> list[str]:
        index = self.fetch(f"{name}.index.json")
        if index is None:
            raise FileNotFoundError(f"{self.repo_id} has no {name}")
        return [shard.name for shard in read_index(index)]

    @contextmanager
    def _errors(self, filename: str) -> Iterator[None]:
        """Turn the Hub's errors into ones that say what failed. A file that the repository lacks is no error here."""
        from huggingface_hub import errors

        try:
            yield
        except errors.LocalEntryNotFoundError as error:
            if self.local_files_only:
                message = f"{filename} of {self.repo_id} is not in the local cache"
                raise FileNotFoundError(f"{message}; call without local_files_only to download it") from error
            raise OSError(f"cannot download {filename} of {self.repo_id}: {error}") from error
        except errors.RemoteEntryNotFoundError:
            pass
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"no checkpoint {self.repo_id}: neither a folder or file here nor a repository on the Hub, nor "
                '"lab" or "lab-frame-group"'
            ) from error
        except errors.HFValidationError as error:
            raise ValueError(f"{self.repo_id!r} is no Hub id: {error}") from error
        except Exception as error:  # from the HTTP client: connection refused, transfer interrupted, …
            raise OSError(f"cannot download {filename} of {self.repo_id}: {type(error).__name__}: {error}") from error
