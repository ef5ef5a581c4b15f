"""One way in for every checkpoint layout: our own folders, Open-Sora 1.2's, and diffusers' video VAEs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import ModelMixin

from ..spatial_vae import SpatialVAE
from ..temporal_vae import TemporalVAE
from ..video_vae import VideoVAE
from . import open_sora
from .bundled import LAB_WEIGHTS, lab_weights
from .files import PICKLE_SUFFIXES, Hub, read_headers, read_index, read_json, read_tensors

LAB_CLASSES = {cls.__name__: cls for cls in (VideoVAE, SpatialVAE, TemporalVAE)}
_LISTED = 20  # keys of a kind in an error; `inspect` lists them all


class KeyDifferences(NamedTuple):
    """Where the tensors in a file and those of a model's architecture differ, in the file's names."""

    missing: list[str]
    """In the model, not in the file."""
    unexpected: list[str]
    """In the file, not in the model."""
    mismatched: list[str]
    """In both with different shapes: "key: (in the file), the model has (in the model)"."""

    def __bool__(self) -> bool:
        return any(map(len, self))

    def describe(self, listed: int | None = _LISTED) -> str:
        lines = []
        for kind, keys in zip(("missing", "unexpected", "wrongly shaped"), self, strict=True):
            shown = keys[:listed]
            lines += [f"{len(keys)} {kind} keys:"] * bool(keys) + [f"  {key}" for key in shown]
            lines += [f"  … and {len(keys) - len(shown)} more"] * (len(keys) > len(shown))
        return "\n".join(lines)


class CheckpointInfo(NamedTuple):
    """What `inspect` found, from config.json and the headers of the weight files alone."""

    source: str
    layout: str
    """"vae_lab", "open_sora" or "diffusers"."""
    class_name: str
    config: dict[str, Any]
    files: list[str]
    """Paths, or names in the Hub's repository."""
    parameters: dict[str, int]
    """Numbers in the file for each sub-model: spatial, temporal, … by the file's first name in the key."""
    dtypes: dict[str, int]
    """Tensors of each type."""
    differences: KeyDifferences


class _Found(NamedTuple):
    source: str
    layout: str
    cls: type[ModelMixin]
    config: dict[str, Any]
    folder: Path
    files: list[Path]


def load(
    source: str | Path,
    *,
    spatial_config: Mapping[str, Any] | str | Path | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype = torch.float32,
) -> ModelMixin:
    """A video VAE with its weights, in eval mode on the CPU.

    Args:
        source: "lab" or "lab-frame-group" (the trained weights in data/); a folder saved by `save_pretrained`, in
          Open-Sora's layout or of a diffusers video VAE; a weight file in such a folder (.safetensors, .pt or .pth); or
          a Hub id "owner/name".
          A file in Open-Sora's layout without a config.json beside it is held against the released architecture.
        spatial_config: for Open-Sora's layout, whose file does not tell its 2D architecture: the config of diffusers'
          AutoencoderKL, or a folder with its config.json. Default: SDXL's. Its scaling_factor is not used (0.18215 is).
        subfolder: of a pipeline's folder or repository, "vae" for instance.
        revision, local_files_only: of the Hub, as in huggingface_hub.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown layout, a broken file, a pickle that holds more than tensors, or keys that are missing,
          unexpected or of another shape: all are listed.
        OSError: a file that is not there, or a download that failed; nothing half-downloaded is ever used.
    """
    found = _find(source, subfolder, Hub(str(source), subfolder, revision, local_files_only))
    _refuse_spatial_config(found, spatial_config)
    if found.layout == "open_sora":
        vae = _load_open_sora(found, _spatial_config(spatial_config), dtype)
    else:
        vae = _load_pretrained(found, dtype)
    return vae.eval()


def inspect(
    source: str | Path,
    *,
    spatial_config: Mapping[str, Any] | str | Path | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> CheckpointInfo:
    """Layout, sub-models, parameter counts, config and key differences of a checkpoint; arguments as in `load`.

    Reads config.json and the headers of the weight files, no tensor; of a Hub repository, a request for each header.
    """
    hub = Hub(str(source), subfolder, revision, local_files_only)
    found = _find(source, subfolder, hub, weights=local_files_only)
    _refuse_spatial_config(found, spatial_config)
    files, shapes, dtypes = found.files, *read_headers(found.files)
    if not files:
        files, shapes, dtypes = hub.read_headers(_weights_name(found.layout))
    parameters = Counter()
    for key, shape in shapes.items():
        parameters[key.split(".")[0]] += torch.Size(shape).numel()
    if found.layout == "open_sora":
        differences = _compare_open_sora(shapes, _meta_open_sora(found, _spatial_config(spatial_config)))
    else:
        differences = _compare(shapes, _shapes(_meta(found)))
    return CheckpointInfo(
        source=str(source),
        layout=found.layout,
        class_name=found.cls.__name__,
        config=found.config,
        files=[str(file) for file in files],
        parameters=dict(parameters),
        dtypes=dtypes,
        differences=differences,
    )


# ---- finding -------------------------------------------------------------------------------------------------------


def _find(source: str | Path, subfolder: str | None, hub: Hub, weights: bool = True) -> _Found:
    """The files of a checkpoint and what its config.json says; without `weights` the Hub is asked for that alone."""
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source must be a str or a Path, got {source!r}")
    path = lab_weights(source) if source in LAB_WEIGHTS else Path(source)
    if path.exists():
        path = path / (subfolder or "")
        folder = path if path.is_dir() else path.parent
        config = _local_config(path, folder)
        layout, cls = _recognise(config, source)
        files = [path] if path.is_file() else _local_weights(folder, layout)
        return _Found(str(source), layout, cls, config, folder, files)
    parts = str(source).split("/")
    if isinstance(source, Path) or len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise FileNotFoundError(
            f'no checkpoint at {source}: it must be "lab", "lab-frame-group", a folder, a file or a Hub id "owner/name"'
        )
    config_path = hub.fetch("config.json")
    if config_path is None:
        raise FileNotFoundError(f"{source} has no config.json{f' in {subfolder}' if subfolder else ''}")
    config = read_json(config_path)
    layout, cls = _recognise(config, source)
    if weights:
        hub.fetch_weights(_weights_name(layout))
    files = _local_weights(config_path.parent, layout) if weights else []
    return _Found(str(source), layout, cls, config, config_path.parent, files)


def _weights_name(layout: str) -> str:
    return "model.safetensors" if layout == "open_sora" else "diffusion_pytorch_model.safetensors"


def _local_config(path: Path, folder: Path) -> dict[str, Any]:
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    if path.is_file() and any(key.startswith("temporal_vae.") for key in read_headers([path])[0]):
        return {"model_type": open_sora.MODEL_TYPE, "micro_frame_size": 17, "vae_2d": {"micro_batch_size": 4}}
    if (folder / "model_index.json").is_file():
        raise ValueError(f'{folder} is a whole pipeline: name its VAE with subfolder="vae"')
    raise FileNotFoundError(f"{folder} has no config.json, so its layout cannot be told")


def _recognise(config: Mapping[str, Any], source: str | Path) -> tuple[str, type[ModelMixin]]:
    import diffusers

    if open_sora.is_open_sora(config):
        return "open_sora", VideoVAE
    name = config.get("_class_name")
    if isinstance(name, str) and name in LAB_CLASSES:
        return "vae_lab", LAB_CLASSES[name]
    cls = getattr(diffusers, name, None) if isinstance(name, str) and "Autoencoder" in name else None
    if cls is None:
        raise ValueError(
            f"{source}: config.json is of no known layout (_class_name {name!r}, model_type "
            f"{config.get('model_type')!r}); known are {', '.join(LAB_CLASSES)}, Open-Sora's {open_sora.MODEL_TYPE} "
            "and diffusers' Autoencoder classes"
        )
    return "diffusers", cls


def _local_weights(folder: Path, layout: str) -> list[Path]:
    weights = _weights_name(layout)
    if (folder / weights).is_file():
        return [folder / weights]
    if (folder / f"{weights}.index.json").is_file():
        return read_index(folder / f"{weights}.index.json")
    others = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", *PICKLE_SUFFIXES))
    if layout == "open_sora" and len(others) == 1:
        return others
    raise FileNotFoundError(
        f"{folder} has no {weights}" + (f"; it has {', '.join(p.name for p in others)}: name one" if others else "")
    )


# ---- building ------------------------------------------------------------------------------------------------------


def _compare(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> KeyDifferences:
    return KeyDifferences(
        missing=sorted(expected.keys() - found.keys()),
        unexpected=sorted(found.keys() - expected.keys()),
        mismatched=[
            f"{key}: {found[key]}, the model has {expected[key]}"
            for key in sorted(expected.keys() & found.keys())
            if found[key] != expected[key]
        ],
    )


def _refuse(source: str, differences: KeyDifferences, hint: str = "") -> None:
    if differences:
        raise ValueError(f"{source} does not fit its architecture{hint}\n{differences.describe()}")


def _shapes(model: ModelMixin) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@contextmanager
def _building(source: str) -> Iterator[None]:
    """A config may hold anything: what a model's constructor makes of it is the config's fault, and said so."""
    try:
        yield
    except (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"the config of {source} makes no model: {type(error).__name__}: {error}") from error


def _meta(found: _Found) -> ModelMixin:
    with _building(found.source), torch.device("meta"):
        return found.cls.from_config(dict(found.config))


def _meta_open_sora(found: _Found, spatial_config: Mapping[str, Any]) -> VideoVAE:
    with _building(found.source), torch.device("meta"):
        return VideoVAE(**open_sora.to_config(found.config, spatial_config))


def _refuse_spatial_config(found: _Found, spatial_config: object) -> None:
    if spatial_config is not None and found.layout != "open_sora":
        raise ValueError(f"spatial_config is for Open-Sora's layout, {found.source} is in {found.layout}'s")


def _spatial_config(config: Mapping[str, Any] | str | Path | None) -> Mapping[str, Any]:
    if config is None or isinstance(config, Mapping):
        return config or {}
    path = Path(config)
    return read_json(path / "config.json" if path.is_dir() else path)


def _compare_open_sora(shapes: Mapping[str, tuple[int, ...]], vae: VideoVAE) -> KeyDifferences:
    expected = open_sora.expected_shapes(vae)
    scalars = {key: expected[key] for key in _scalars(shapes)}
    return _compare({**shapes, **scalars}, expected)


def _scalars(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Which of shift and scale are one number for all channels: the reference allows that."""
    return [key for key in ("shift", "scale") if shapes.get(key) == ()]


def _load_open_sora(found: _Found, spatial_config: Mapping[str, Any], dtype: torch.dtype) -> VideoVAE:
    vae = _meta_open_sora(found, spatial_config)
    shapes, _ = read_headers(found.files)
    differences = _compare_open_sora(shapes, vae)
    about_2d = any("spatial_vae." in key for keys in differences for key in keys)
    _refuse(found.source, differences, " (spatial_config sets its 2D half)" if about_2d else "")
    tensors = read_tensors(found.files)
    tensors |= {key: tensors[key].expand_as(vae.shift).clone() for key in _scalars(shapes)}
    levels = len(vae.temporal.config.channel_multipliers)
    state = {key: tensors[open_sora.to_open_sora_key(key, levels)].to(dtype) for key in vae.state_dict()}
    vae.load_state_dict(state, assign=True)
    mean, std = (tensors[key].float().flatten().tolist() for key in ("shift", "scale"))
    vae.register_to_config(latents_mean=mean, latents_std=std)  # the file has the last word, as in the reference
    return vae


def _load_pretrained(found: _Found, dtype: torch.dtype) -> ModelMixin:
    if found.layout == "vae_lab":
        _refuse(found.source, _compare(read_headers(found.files)[0], _shapes(_meta(found))))
    else:
        for file in found.files:  # so that a broken file is named, whatever diffusers does with it
            read_headers([file])
    with _building(found.source):
        vae, info = found.cls.from_pretrained(
            found.folder, dtype=dtype, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    mismatched = [f"{key}: {tuple(found)}, the model has {tuple(has)}" for key, found, has in info["mismatched_keys"]]
    _refuse(found.source, KeyDifferences(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), mismatched))
    return vae
