"""Read the files of a checkpoint, here or on the Hub. Headers are read without tensors, and no code is ever run."""

import json
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import HfApi, errors, hf_hub_download
from safetensors import SafetensorError, safe_open

from ..utils.files import check_kind, read_text
from ..utils.text import first_line

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
VARIANTS = ("fp16", "bf16", "fp32", "ema", "non_ema")
MAX_ENTRIES = 1_000_000  # of a pickle: its entries may contain each other
_NUMPY = (np.int8(0).__reduce__()[0], np.dtype, *(type(np.dtype(kind)) for kind in "?efdbhilq"))  # of its numbers
HARMLESS: list[Any] = [Namespace, PosixPath, *_NUMPY]
"""Classes that training scripts save beside weights, and that do nothing when they are made: options and numbers."""
_SHARD = re.compile(r"-\d+-of-\d+(?=[.-])")


class Headers(NamedTuple):
    """What weight files hold, by flat names; the module `names` says what these are."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    others: list[str]
    """Names of everything that is not a dense tensor."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ValueError if it holds anything else."""
    text = read_text(path)
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values


def is_weights(name: str) -> bool:
    """Return whether a name is that of a weight file, or of an index of shards."""
    return name.endswith(SUFFIXES) or re.search(r"\.index\b.*\.json$", name) is not None


def usual_names(layout: str, variant: str | None = None) -> list[str]:
    """Return the names under which a layout's weights are saved, in the order in which they are tried.

    This is the order of diffusers; of transformers for Open-Sora's layout, which transformers saved.
    """
    names = []
    for suffix, theirs in (("safetensors", "model"), ("bin", "pytorch_model")):
        stem = theirs if layout == "open_sora" else "diffusion_pytorch_model"
        if variant is None:
            whole, indices = [f"{stem}.{suffix}"], [f"{stem}.{suffix}.index.json"]
        else:  # indices had another name in old versions
            whole = [f"{stem}.{variant}.{suffix}"]
            indices = [f"{stem}.{suffix}.index.{variant}.json", f"{stem}.{suffix}.{variant}.index.json"]
        names += whole + indices if layout == "open_sora" else indices + whole
    return names


def choose_weights(names: Collection[str], layout: str, variant: str | None, source: str | Path) -> tuple[str, str]:
    """Return which of the names in a folder is its weight file or index, and a note if this is an unusual one.

    If the usual files are missing, the only variant or the only other file is taken. Raises FileNotFoundError if there
    is none or more than one; the message says what can be named.
    """
    weights = sorted(filter(is_weights, names))
    variants: dict[str | None, str] = {}  # None: without a variant
    for part in (None, *(part for name in weights if not _SHARD.search(name) for part in name.split("."))):
        if saved := [name for name in usual_names(layout, part) if name in weights]:
            variants.setdefault(part, saved[0])
    if variant in variants:
        return variants[variant], ""
    main = next(name for name in usual_names(layout, variant) if name.endswith(".safetensors"))
    known = [name for part in variants for name in usual_names(layout, part)]
    others = [name for name in weights if name not in known and not _SHARD.search(name)]
    if variant is None and len(variants) + len(others) == 1:
        read = [(name, f"{source} has no {main}, so variant={part!r} is read") for part, name in variants.items()]
        return read[0] if read else (others[0], "")
    has = [f"variant={part}" if part is None else f'variant="{part}"' for part in variants]
    message = f"{source} has no {main}" + (f"; it can be loaded with {' or '.join(has)}" if has else "")
    if others:
        message += f"; it has {', '.join(others)}: name one"
    elif weights and not has:
        message += f"; it has {weights[0]}, but no index of these shards"
    raise FileNotFoundError(message)


def named_files(path: Path) -> list[Path]:
    """Return the files to read if this one is named: itself, or the shards of an index. A shard alone is refused."""
    if path.suffix == ".json":
        if not is_weights(path.name):
            raise ValueError(f"{path} holds no weights: name its folder")
        return read_index(path)
    for index in sorted(path.parent.glob("*.index*.json")):
        shards = []
        with suppress(ValueError):  # of an index that is broken
            shards = read_index(index)
        if path in shards and len(shards) > 1:
            raise ValueError(f"{path} is one of {len(shards)} shards: name {index}, or the folder")
    return [path]


def read_index(index: Path) -> list[Path]:
    """Return the weight files that the index of a sharded checkpoint names. Names outside its folder are refused."""
    suffix = ".bin" if ".bin." in index.name else ".safetensors"
    weight_map = read_json(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) and name.endswith(suffix) for name in names):
        raise ValueError(f"{index} must have a weight_map from keys to {suffix} files")
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{index} must name files beside it, got {outside[0]}")
    return [index.parent / name for name in sorted(set(names))]


def read_headers(files: list[Path]) -> Headers:
    """Return names, shapes and dtypes of everything in the files, without reading a tensor."""
    headers = Headers({}, {}, [])
    for file in files:
        if _is_safetensors(file):
            with _open_safetensors(file) as opened:
                slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
                headers.shapes.update((key, tuple(value.get_shape())) for key, value in slices.items())
                headers.dtypes.update((key, value.get_dtype()) for key, value in slices.items())
        else:
            tensors, others = _unpickle(file, "meta")
            headers.shapes.update((key, tuple(value.shape)) for key, value in tensors.items())
            headers.dtypes.update((key, str(value.dtype).removeprefix("torch.")) for key, value in tensors.items())
            headers.others.extend(others)
    return headers


def read_tensors(files: list[Path], keys: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of these names, on the CPU. Their memory may be the file's."""
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        if _is_safetensors(file):
            with _open_safetensors(file) as opened:
                tensors |= {key: opened.get_tensor(key) for key in opened.keys() if key in keys}  # noqa: SIM118
        else:
            tensors |= {key: value for key, value in _unpickle(file, "cpu")[0].items() if key in keys}
    return tensors


def _is_safetensors(file: Path) -> bool:
    """Tell by the content, because names mislead: some .bin files on the Hub are safetensors."""
    check_kind(file)
    with file.open("rb") as opened:
        head = opened.read(9)
    if head.startswith(b"version "):
        raise ValueError(f"{file} is a pointer of Git LFS, not the weights: `git lfs pull` fetches them")
    if head[8:] == b"{" or (file.suffix == ".safetensors" and not head.startswith(b"PK")):
        return True
    if head and not head.startswith((b"PK", b"\x80")):  # a zip file or a pickle
        raise ValueError(f"{file} is neither a safetensors file nor a torch file")
    return False


def _open_safetensors(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from None


def _unpickle(file: Path, device: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors in a torch file and the names of the rest. Only tensors and plain values are unpickled."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            mmap = device == "cpu" and zipfile.is_zipfile(file)
            values = torch.load(file, map_location=device, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"{file} is refused, it is broken or holds more than tensors: {named[1] if named else first_line(error)}. "
            "If you trust its author, save the weights alone (of a whole model, its state_dict()) and load these; this "
            "runs the code in the file: "
            'torch.save(torch.load(file, weights_only=False)["state_dict"], "weights.pt")'
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is not a readable torch file: {first_line(error)}") from None
    flat = list(islice(_flatten(values), MAX_ENTRIES)) if isinstance(values, Mapping) else []
    tensors = {key: value for key, value in flat if isinstance(value, torch.Tensor) and value.layout == torch.strided}
    if not tensors or len(flat) == MAX_ENTRIES:
        raise ValueError(f"{file} must hold a state dict (names to dense tensors), got {type(values).__name__}")
    return tensors, [key for key, _ in flat if key not in tensors]


def _flatten(values: Mapping, prefix: str = "", depth: int = 4) -> Iterator[tuple[str, Any]]:
    """Yield everything in nested state dicts, by flat names."""
    for key, value in values.items():
        if depth and isinstance(value, Mapping) and value and all(isinstance(name, str) for name in value):
            yield from _flatten(value, f"{prefix}{key}/", depth - 1)
        else:
            yield f"{prefix}{key}", value


class Hub(NamedTuple):
    """One repository on the Hub, and the arguments of requests to it."""

    repo_id: str
    subfolder: str | None
    revision: str | None
    local_files_only: bool

    def fetch(self, filename: str) -> Path | None:
        """Return the path of a file in the local cache, downloading it if needed; None if the repository lacks it."""
        where = self._asdict()
        with self._errors(filename):
            return Path(hf_hub_download(where.pop("repo_id"), filename, **where))
        return None

    def find_weights(self, layout: str, variant: str | None, folder: Path, download: bool) -> tuple[str, str]:
        """Return the name of the weight file or index, and a note if it is an unusual one.

        folder: where the repository's files lie in the cache; without the Hub's list, these are the names.
        download: download the file at once, or take it from the cache.
        """
        not_cached = None
        for name in usual_names(layout, variant):
            try:
                if self.fetch(name) if download else self._exists(name):
                    return name, ""
            except OSError as error:
                if not isinstance(error.__cause__, errors.LocalEntryNotFoundError):
                    raise
                if not_cached is None or name.endswith(".safetensors"):
                    not_cached = error
        names = [file.name for file in folder.iterdir()]
        if not self.local_files_only:
            try:
                with self._errors("its list of files"):
                    tree = HfApi().list_repo_tree(self.repo_id, self.subfolder, revision=self.revision)
                    names = [Path(entry.path).name for entry in tree]
            except OSError:  # a mirror that serves files only
                with suppress(OSError):
                    others = (name for part in VARIANTS for name in usual_names(layout, part))
                    names += [name for name in others if self._exists(name)]
        try:
            return choose_weights(names, layout, variant, self.repo_id)
        except FileNotFoundError as error:
            raise not_cached or error from None

    def weight_files(self, name: str) -> list[str]:
        """Return the name of a weight file, or those of an index's shards. One of several shards is refused."""
        if name.endswith(".json"):
            return [file.name for file in named_files(self.require(name))]
        if _SHARD.search(name):
            stem, *variant, suffix = _SHARD.sub("", name).rsplit(".", 2)
            indices = {".".join([stem, suffix, *order, "json"]) for order in (["index", *variant], [*variant, "index"])}
            for index in filter(None, map(self.fetch, indices)):
                named_files(index.with_name(name))
        return [name]

    def require(self, name: str) -> Path:
        """Fetch a file. Raises FileNotFoundError if the repository lacks it."""
        path = self.fetch(name)
        if path is None:
            raise FileNotFoundError(f"{self.repo_id} has no {self._path(name)}")
        return path

    def read_headers(self, names: list[str]) -> Headers:
        """Return names, shapes and dtypes, from the first bytes of each safetensors file."""
        tensors: dict[str, Any] = {}
        for name in names:
            with self._errors(name):
                path = self._path(name)
                tensors |= HfApi().parse_safetensors_file_metadata(self.repo_id, path, revision=self.revision).tensors
        shapes = {key: tuple(info.shape) for key, info in tensors.items()}
        return Headers(shapes, {key: info.dtype for key, info in tensors.items()}, [])

    def _path(self, name: str) -> str:
        return f"{self.subfolder}/{name}" if self.subfolder else name

    def _exists(self, name: str) -> bool:
        with self._errors(name):
            return HfApi().file_exists(self.repo_id, self._path(name), revision=self.revision)
        return False

    @contextmanager
    def _errors(self, filename: str) -> Iterator[None]:
        """Turn the Hub's errors into ones that say what failed. A file that the repository lacks is no error here."""
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
                '"lab", "lab-frame-group", "lab-8" or "lab-magvit"'
            ) from error
        except errors.HFValidationError as error:
            raise ValueError(f"{self.repo_id!r} is no Hub id: {error}") from error
        except Exception as error:  # from the HTTP client: connection refused, transfer interrupted, …
            raise OSError(f"cannot download {filename} of {self.repo_id}: {type(error).__name__}: {error}") from error
