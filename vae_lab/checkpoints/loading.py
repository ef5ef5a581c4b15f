"""Load and inspect checkpoints: the lab's folders, Open-Sora 1.2's, and those of every class that `families` knows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import ModelMixin

from ..families import FAMILIES, class_named
from ..video_vae import VideoVAE
from . import open_sora
from .bundled import LAB_WEIGHTS, lab_weights
from .files import PICKLE_SUFFIXES, Hub, read_headers, read_index, read_json, read_tensors

Shapes = Mapping[str, tuple[int, ...]]
SpatialConfig = Mapping[str, Any] | str | Path | None


class KeyDifferences(NamedTuple):
    """How the tensors in a file differ from those of the model's architecture, by the file's names."""

    missing: list[str]
    """In the model, not in the file."""
    unexpected: list[str]
    """In the file, not in the model."""
    mismatched: list[str]
    """In both with different shapes: "key: (in the file), the model has (in the model)"."""

    def __bool__(self) -> bool:
        return any(map(len, self))

    def describe(self, listed: int | None = 20) -> str:
        """Return a text that lists the keys, at most `listed` of each kind (None: all)."""
        lines = []
        for kind, keys in zip(("missing", "unexpected", "wrongly shaped"), self, strict=True):
            shown = keys[:listed]
            lines += [f"{len(keys)} {kind} keys:"] * bool(keys) + [f"  {key}" for key in shown]
            lines += [f"  … and {len(keys) - len(shown)} more"] * (len(keys) > len(shown))
        return "\n".join(lines)


class CheckpointInfo(NamedTuple):
    """The result of `inspect`, from config.json and the headers of the weight files alone."""

    source: str
    layout: str
    """"vae_lab", "open_sora" or "diffusers"; registered classes of other libraries have diffusers' layout."""
    class_name: str
    config: dict[str, Any]
    files: list[str]
    """Paths, or names in the Hub's repository."""
    parameters: dict[str, int]
    """Numbers in the file for each sub-model (spatial, temporal, …), named by the first part of the file's keys."""
    dtypes: dict[str, int]
    """Number of tensors of each dtype."""
    differences: KeyDifferences


class _Checkpoint(NamedTuple):
    """The files of a checkpoint, and what its config.json says."""

    source: str
    layout: str
    cls: type[ModelMixin]
    config: dict[str, Any]
    folder: Path
    files: list[Path]


def load(
    source: str | Path,
    *,
    spatial_config: SpatialConfig = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype = torch.float32,
) -> ModelMixin:
    """Load a video VAE with its weights, in eval mode on the CPU.

    Args:
        source: "lab" or "lab-frame-group" (the trained weights in data/); a folder saved by `save_pretrained`, in
          Open-Sora's layout, or of another library's class that `families.register` knows; a weight file in such a
          folder (.safetensors, .pt or .pth); or a Hub id "owner/name". A file in Open-Sora's layout without a
          config.json beside it must fit the released architecture.
        spatial_config: for Open-Sora's layout, whose file does not describe its 2D architecture: the config of
          diffusers' AutoencoderKL, or a folder with its config.json. Default: SDXL's. Its scaling_factor is ignored.
        subfolder: of a pipeline's folder or repository, for example "vae".
        revision, local_files_only: for the Hub, as in huggingface_hub.
        dtype: of the parameters.

    Raises:
        ValueError: the layout is unknown, a file is broken, a pickle holds more than tensors, or keys are missing,
          unexpected or of another shape; the message lists them.
        OSError: a file is not there, or a download failed; a partial download is never used.
    """
    checkpoint = _find(source, subfolder, Hub(str(source), subfolder, revision, local_files_only))
    spatial_config = _read_spatial_config(checkpoint, spatial_config)
    if checkpoint.layout == "open_sora":
        return _load_open_sora(checkpoint, spatial_config, dtype).eval()
    return _load_pretrained(checkpoint, dtype).eval()


def inspect(
    source: str | Path,
    *,
    spatial_config: SpatialConfig = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> CheckpointInfo:
    """Return layout, sub-models, parameter counts, config and key differences of a checkpoint; arguments as in `load`.

    Reads config.json and the headers of the weight files, but no tensor. From the Hub, each header is one request.
    """
    hub = Hub(str(source), subfolder, revision, local_files_only)
    checkpoint = _find(source, subfolder, hub, weights=local_files_only)
    vae = _model(checkpoint, _read_spatial_config(checkpoint, spatial_config))
    if checkpoint.files:
        files, (shapes, dtypes) = [str(file) for file in checkpoint.files], read_headers(checkpoint.files)
    else:
        files, shapes, dtypes = hub.read_headers(_weights_name(checkpoint.layout))
    parameters: Counter[str] = Counter()
    for key, shape in shapes.items():
        parameters[key.split(".")[0]] += torch.Size(shape).numel()
    return CheckpointInfo(
        source=str(source),
        layout=checkpoint.layout,
        class_name=checkpoint.cls.__name__,
        config=checkpoint.config,
        files=files,
        parameters=dict(parameters),
        dtypes=dtypes,
        differences=_differences(shapes, checkpoint, vae),
    )


def _find(source: str | Path, subfolder: str | None, hub: Hub, weights: bool = True) -> _Checkpoint:
    """Find a checkpoint here or on the Hub. Without `weights`, only config.json is fetched from the Hub."""
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source must be a str or a Path, got {source!r}")
    path = lab_weights(source) if source in LAB_WEIGHTS else Path(source)
    if path.exists():
        path = path / (subfolder or "")
        folder = path if path.is_dir() else path.parent
        config = _local_config(path, folder)
        layout, cls = _recognise(config, source)
        files = [path] if path.is_file() else _local_weights(folder, layout)
        return _Checkpoint(str(source), layout, cls, config, folder, files)
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
    return _Checkpoint(str(source), layout, cls, config, config_path.parent, files)


def _weights_name(layout: str) -> str:
    return "model.safetensors" if layout == "open_sora" else "diffusion_pytorch_model.safetensors"


def _local_config(path: Path, folder: Path) -> dict[str, Any]:
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    if path.is_file() and any(key.startswith("temporal_vae.") for key in read_headers([path])[0]):
        return open_sora.RELEASED_CONFIG
    if (folder / "model_index.json").is_file():
        raise ValueError(f'{folder} is a whole pipeline: name its VAE with subfolder="vae"')
    raise FileNotFoundError(f"{folder} has no config.json, so its layout cannot be told")


def _recognise(config: Mapping[str, Any], source: str | Path) -> tuple[str, type[ModelMixin]]:
    """The layout of a checkpoint and the class of its model."""
    if open_sora.is_open_sora(config):
        return "open_sora", VideoVAE
    name = config.get("_class_name")
    cls = class_named(name)
    if cls is None or not issubclass(cls, ModelMixin):
        raise ValueError(
            f"{source}: config.json is of no known layout (_class_name {name!r}, model_type "
            f"{config.get('model_type')!r}); known are {', '.join(FAMILIES)}, Open-Sora's {open_sora.MODEL_TYPE} and "
            "diffusers' Autoencoder classes; vae_lab.families.register adds a ModelMixin of another library"
        )
    return "vae_lab" if cls.__module__.startswith("vae_lab.") else "diffusers", cls


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


def _read_spatial_config(checkpoint: _Checkpoint, config: SpatialConfig) -> Mapping[str, Any]:
    if config is not None and checkpoint.layout != "open_sora":
        raise ValueError(f"spatial_config is for Open-Sora's layout, {checkpoint.source} is in {checkpoint.layout}'s")
    if config is None or isinstance(config, Mapping):
        return config or {}
    path = Path(config)
    return read_json(path / "config.json" if path.is_dir() else path)


@contextmanager
def _building(source: str) -> Iterator[None]:
    """Turn whatever a model's constructor raises into a ValueError: a config may hold anything."""
    try:
        yield
    except (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"the config of {source} makes no model: {type(error).__name__}: {error}") from error


def _model(checkpoint: _Checkpoint, spatial_config: Mapping[str, Any], device: str = "meta") -> ModelMixin:
    """The model of a checkpoint's config, with random weights, or with none on the meta device."""
    with _building(checkpoint.source), torch.device(device):
        if checkpoint.layout == "open_sora":
            return VideoVAE(**open_sora.to_config(checkpoint.config, spatial_config))
        return checkpoint.cls.from_config(dict(checkpoint.config))


def _differences(shapes: Shapes, checkpoint: _Checkpoint, vae: ModelMixin) -> KeyDifferences:
    """Compare the shapes in the files with those of the model."""
    if checkpoint.layout == "open_sora":
        expected = open_sora.expected_shapes(vae)
        shapes = {**shapes, **{key: expected[key] for key in _scalars(shapes)}}
    else:
        expected = {key: tuple(value.shape) for key, value in vae.state_dict().items()}
    return KeyDifferences(
        missing=sorted(expected.keys() - shapes.keys()),
        unexpected=sorted(shapes.keys() - expected.keys()),
        mismatched=[
            f"{key}: {shapes[key]}, the model has {expected[key]}"
            for key in sorted(expected.keys() & shapes.keys())
            if shapes[key] != expected[key]
        ],
    )


def _scalars(shapes: Shapes) -> list[str]:
    """Which of shift and scale are one number for all channels: the reference allows that."""
    return [key for key in ("shift", "scale") if shapes.get(key) == ()]


def _refuse(source: str, differences: KeyDifferences, hint: str = "") -> None:
    if differences:
        raise ValueError(f"{source} does not fit its architecture{hint}\n{differences.describe()}")


def _load_open_sora(checkpoint: _Checkpoint, spatial_config: Mapping[str, Any], dtype: torch.dtype) -> VideoVAE:
    vae = _model(checkpoint, spatial_config)
    shapes, _ = read_headers(checkpoint.files)
    differences = _differences(shapes, checkpoint, vae)
    about_2d = any("spatial_vae." in key for keys in differences for key in keys)
    _refuse(checkpoint.source, differences, " (spatial_config sets its 2D half)" if about_2d else "")
    tensors = read_tensors(checkpoint.files)
    tensors |= {key: tensors[key].expand_as(vae.shift).clone() for key in _scalars(shapes)}
    levels = len(vae.temporal.config.channel_multipliers)
    state = {key: tensors[open_sora.to_open_sora_key(key, levels)].to(dtype) for key in vae.state_dict()}
    vae.load_state_dict(state, assign=True)
    mean, std = (tensors[key].float().flatten().tolist() for key in ("shift", "scale"))
    vae.register_to_config(latents_mean=mean, latents_std=std)  # as in the reference, the weights overrule the config
    return vae


def _load_pretrained(checkpoint: _Checkpoint, dtype: torch.dtype) -> ModelMixin:
    shapes, _ = read_headers(checkpoint.files)  # so that a broken file is named, whatever diffusers does with it
    name = checkpoint.files[0].name
    if name != _weights_name(checkpoint.layout) and "-of-" not in name:  # diffusers would not read it, nor say so
        vae = _model(checkpoint, {}, device="cpu")
        _refuse(checkpoint.source, _differences(shapes, checkpoint, vae))
        vae.load_state_dict(read_tensors(checkpoint.files))
        return vae.to(dtype)
    reports = dict(output_loading_info=True, ignore_mismatched_sizes=True)
    with _building(checkpoint.source):
        vae, info = checkpoint.cls.from_pretrained(checkpoint.folder, dtype=dtype, local_files_only=True, **reports)
    mismatched = [f"{key}: {tuple(file)}, the model has {tuple(model)}" for key, file, model in info["mismatched_keys"]]
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    _refuse(checkpoint.source, KeyDifferences(missing, unexpected, mismatched))
    return vae
