"""Load and inspect checkpoints: the lab's folders, Open-Sora 1.2's, and those of every class that `families` knows.

They are video VAEs, or the transformer that generates their latents (`generation.STDiT3`).
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin

from ..families.codec import class_named, family_of
from ..families.table import FAMILIES
from ..generation.diffusers_transformers import DiffusersTransformer
from ..generation.stdit import STDiT3
from ..utils.files import check_kind
from ..video_vae import VideoVAE
from . import open_sora, open_sora_stdit
from .bundled import LAB_WEIGHTS, lab_weights
from .files import Headers, Hub, choose_weights, is_weights, named_files, read_headers, read_json, read_tensors
from .names import Fit, KeyDifferences, fit_names

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SpatialConfig = Mapping[str, Any] | str | Path | None


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
    family: str = ""
    """Name of the family of video VAEs; empty if none is known."""
    notes: tuple[str, ...] = ()
    """Sentences: which variant was taken, which prefix is left out of the names, what else the file holds."""


class _Checkpoint(NamedTuple):
    """The files of a checkpoint, and what its config.json says."""

    source: str
    layout: str
    cls: type[ModelMixin]
    config: dict[str, Any]
    folder: Path
    files: list[Path]
    remote: list[str]
    """Names on the Hub of files that were not downloaded, in place of `files`."""
    hub: Hub | None
    note: str = ""


def load(
    source: str | Path,
    *,
    spatial_config: SpatialConfig = None,
    variant: str | None = None,
    entry: str | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    torch_dtype: torch.dtype | Literal["auto"] | None = None,
) -> ModelMixin:
    """Load a video VAE, or an STDiT3, with its weights, in eval mode on the CPU.

    A warning says which variant was taken if a folder has no other weights, which prefix ("module.", "ema.") the names
    in the file have, and what else the file holds.

    Args:
        source: "lab", "lab-frame-group", "lab-8" or "lab-magvit" (the trained weights in data/); a folder saved
          by `save_pretrained`, in Open-Sora's layout, or of another library's class that `families.register` knows; a
          weight file in such a folder (safetensors, .bin, .pt, .pth or .ckpt), or its index of shards; a Hub id
          "owner/name", or a file there, "owner/name/folder/file.safetensors". A file in Open-Sora's layout without a
          config.json beside it must fit the released architecture.
        spatial_config: for Open-Sora's layout, whose file does not describe its 2D architecture: the config of
          diffusers' AutoencoderKL, or a folder with its config.json. Default: SDXL's. Its scaling_factor is ignored.
        variant: which weights of a folder, for example "fp16": those in `diffusion_pytorch_model.fp16.safetensors`.
        entry: which weights of a file that holds several sets: "ema" of a pickle `{"model": …, "ema": …}`, or of a
          file whose names begin with "model." and "ema.".
        subfolder: of a pipeline's folder or repository, for example "vae".
        revision, local_files_only: for the Hub, as in huggingface_hub.
        dtype: of the parameters, whatever the file has; "auto": the one that most of its tensors have.
        torch_dtype: diffusers' other name for `dtype`.

    Raises:
        ValueError: the layout is unknown, a file is broken, a pickle holds more than tensors and plain values, a file
          holds several sets of weights and `entry` names none, or keys are missing, unexpected or of another shape; the
          message lists them.
        OSError: a file is not there, or a download failed; a partial download is never used.
    """
    if torch_dtype is not None:
        if dtype not in (torch.float32, torch_dtype):
            raise ValueError(f"dtype and torch_dtype mean the same, got {dtype} and {torch_dtype}")
        dtype = torch_dtype
    if dtype not in ("auto", *DTYPES):
        allowed = ", ".join(map(str, DTYPES))
        raise ValueError(f'dtype must be a floating-point dtype of torch ({allowed}) or "auto", got {dtype!r}')
    checkpoint = _find(source, variant, subfolder, revision, local_files_only)
    vae = _model(checkpoint, _read_spatial_config(checkpoint, spatial_config))
    fit = _fit(checkpoint, read_headers(checkpoint.files), vae, entry)
    if fit.differences:
        about_2d = all("spatial_vae." in key for keys in fit.differences for key in keys)
        hint = " (spatial_config sets its 2D half)" if about_2d else ""
        notes = "".join(f"\n{note}" for note in fit.notes)
        raise ValueError(f"{source} does not fit its architecture{hint}\n{fit.differences.describe()}{notes}")
    for note in fit.notes:
        warnings.warn(note, stacklevel=2)
    tensors = read_tensors(checkpoint.files, set(fit.keys.values()))
    if dtype == "auto":
        ((saved, _),) = Counter(tensor.dtype for tensor in tensors.values()).most_common(1)
        dtype = saved if saved in DTYPES else torch.float32
    _set_weights(vae, tensors, fit.keys, checkpoint.layout, dtype)
    return vae.eval()


def inspect(
    source: str | Path,
    *,
    spatial_config: SpatialConfig = None,
    variant: str | None = None,
    entry: str | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> CheckpointInfo:
    """Return layout, sub-models, parameter counts, config and key differences of a checkpoint; arguments as in `load`.

    Reads config.json and the headers of the weight files, but no tensor. From the Hub, each header is one request, and
    only pickles are downloaded.
    """
    checkpoint = _find(source, variant, subfolder, revision, local_files_only, download=local_files_only)
    vae = _model(checkpoint, _read_spatial_config(checkpoint, spatial_config))
    hub, remote = checkpoint.hub, checkpoint.remote
    headers = hub.read_headers(remote) if hub and remote else read_headers(checkpoint.files)
    fit = _fit(checkpoint, headers, vae, entry)
    parameters: Counter[str] = Counter()
    for name, key in fit.keys.items():
        parameters[name.split(".")[0]] += math.prod(headers.shapes[key])
    return CheckpointInfo(
        source=str(source),
        layout=checkpoint.layout,
        class_name=checkpoint.cls.__name__,
        config=checkpoint.config,
        files=[str(file) for file in checkpoint.files] or checkpoint.remote,
        parameters=dict(parameters),
        dtypes=dict(Counter(headers.dtypes[key] for key in fit.keys.values())),
        differences=fit.differences,
        family=family.name if (family := family_of(vae)) else "",
        notes=tuple(fit.notes),
    )


def _find(
    source: str | Path,
    variant: str | None,
    subfolder: str | None,
    revision: str | None,
    local_files_only: bool,
    download: bool = True,
) -> _Checkpoint:
    """Find a checkpoint here or on the Hub. Without `download`, only pickles are downloaded."""
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source must be a str or a Path, got {source!r}")
    if variant is not None and not (isinstance(variant, str) and re.fullmatch(r"[\w-]+", variant)):
        raise ValueError(f'variant must be a word such as "fp16", got {variant!r}')
    if subfolder is not None and not (isinstance(subfolder, str) and not Path(subfolder).is_absolute()):
        raise ValueError(f'subfolder must be a relative path such as "vae", got {subfolder!r}')
    path = lab_weights(source) if source in LAB_WEIGHTS else Path(source)
    if path.exists():
        if revision is not None:
            raise ValueError(f"revision is for the Hub, but {source} is here")
        if path.is_file() and (variant or subfolder):
            raise ValueError(f"{'variant' if variant else 'subfolder'} is for folders, but {source} is a file")
        return _find_here(str(source), path / (subfolder or ""), variant)
    parts = str(source).split("/")
    name = parts[-1] if len(parts) > 2 and is_weights(parts[-1]) else None
    repository = parts[:-1] if name else parts
    is_id = not Path(parts[0]).exists() if name else len(parts) == 2
    if isinstance(source, Path) or not is_id or not all(parts) or parts[0] in (".", "..", "~"):
        raise FileNotFoundError(
            f'no checkpoint at {source}: it must be "lab", "lab-frame-group", "lab-8", "lab-magvit", a folder, a file '
            'or a Hub id "owner/name"'
        )
    if name and variant:
        raise ValueError(f"variant is for folders, but {source} is a file")
    subfolder = "/".join([*([subfolder] if subfolder else []), *repository[2:]]) or None
    hub = Hub("/".join(repository[:2]), subfolder, revision, local_files_only)
    config_path = hub.fetch("config.json")
    if config_path is None and name:  # the file itself may tell its layout
        return _find_here(str(source), hub.require(name), variant)
    if config_path is None:
        pipeline = subfolder is None and hub.fetch("model_index.json")
        hint = ': it is a whole pipeline, name its VAE with subfolder="vae"' if pipeline else ""
        raise FileNotFoundError(f"{source} has no config.json{f' in {subfolder}' if subfolder else ''}{hint}")
    config = read_json(config_path)
    layout, cls = _recognise(config, source)
    note = ""
    if name is None:
        name, note = hub.find_weights(layout, variant, config_path.parent, download)
    names = hub.weight_files(name)
    download = download or not all(name.endswith(".safetensors") for name in names)
    files, remote = ([hub.require(name) for name in names], []) if download else ([], names)
    return _Checkpoint(str(source), layout, cls, config, config_path.parent, files, remote, hub, note)


def _find_here(source: str, path: Path, variant: str | None) -> _Checkpoint:
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    check_kind(path)  # the usual file beside it must not be read in its place
    folder = path if path.is_dir() else path.parent
    files = named_files(path) if path.is_file() else []
    config = _local_config(folder, files)
    layout, cls = _recognise(config, source)
    note = ""
    if not files:
        name, note = choose_weights([file.name for file in folder.iterdir()], layout, variant, folder)
        files = named_files(folder / name) if name.endswith(".json") else [folder / name]
    return _Checkpoint(source, layout, cls, config, folder, files, [], None, note)


def _local_config(folder: Path, files: list[Path]) -> dict[str, Any]:
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    keys = read_headers(files).shapes if files else {}
    if any(re.search(r"(^|[./])temporal_vae\.", key) for key in keys):
        return open_sora.RELEASED_CONFIG
    if any(re.search(r"(^|[./])temporal_blocks\.\d+\.scale_shift_table$", key) for key in keys):
        return open_sora_stdit.RELEASED_CONFIG
    if (folder / "model_index.json").is_file():
        raise ValueError(f'{folder} is a whole pipeline: name its VAE with subfolder="vae"')
    raise FileNotFoundError(f"{folder} has no config.json, so its layout cannot be told")


def _recognise(config: Mapping[str, Any], source: str | Path) -> tuple[str, type[ModelMixin]]:
    """The layout of a checkpoint and the class of its model."""
    architectures = config.get("architectures")
    types = [config.get("model_type"), *(architectures if isinstance(architectures, list) else ())]
    if open_sora.MODEL_TYPE in types:
        return "open_sora", VideoVAE
    name = config.get("_class_name")
    if name is None and open_sora_stdit.MODEL_TYPE in types:
        return "open_sora", STDiT3
    transformers = {cls.__name__: cls for cls in (STDiT3, DiffusersTransformer)}
    cls = transformers.get(str(name)) or class_named(name)
    if cls is None or not issubclass(cls, ModelMixin):
        near = get_close_matches(str(name), {family.class_name: None for family in FAMILIES.values()})
        advice = f"close matches: {', '.join(near)}; " if near else ""
        raise ValueError(
            f"{source}: config.json is of no known layout (_class_name {name!r}, model_type "
            f"{config.get('model_type')!r}); {advice}known are {', '.join(FAMILIES)}, Open-Sora's "
            f"{open_sora.MODEL_TYPE} and {open_sora_stdit.MODEL_TYPE}, and diffusers' Autoencoder classes; "
            "vae_lab.families.register adds a ModelMixin of another library"
        )
    return "vae_lab" if cls.__module__.startswith("vae_lab.") else "diffusers", cls


def _read_spatial_config(checkpoint: _Checkpoint, config: SpatialConfig) -> Mapping[str, Any]:
    if config is not None and checkpoint.cls is STDiT3:
        raise ValueError(f"spatial_config is for VAEs, {checkpoint.source} is an STDiT3")
    if config is not None and checkpoint.layout != "open_sora":
        raise ValueError(f"spatial_config is for Open-Sora's layout, {checkpoint.source} is in {checkpoint.layout}'s")
    if config is None or isinstance(config, Mapping):
        return config or {}
    path = Path(config)
    return read_json(path / "config.json" if path.is_dir() else path)


def _model(checkpoint: _Checkpoint, spatial_config: Mapping[str, Any]) -> ModelMixin:
    """The model of a checkpoint's config. Its parameters have no memory yet."""
    cls, config = checkpoint.cls, dict(checkpoint.config)
    try:
        if checkpoint.layout == "open_sora":
            stdit = cls is STDiT3
            config = open_sora_stdit.to_config(config) if stdit else open_sora.to_config(config, spatial_config)
        vae = _empty(cls, config)
    except Exception as error:  # a config may hold anything, and constructors raise anything
        kind = "" if type(error) is ValueError else type(error).__name__  # such as an assertion without a text
        reason = ": ".join(filter(None, (kind, str(error))))
        culprits = "".join(f"\n{text}" for text in _culprits(cls, config))
        raise ValueError(f"the config of {checkpoint.source} makes no model: {reason}{culprits}") from error
    if checkpoint.layout != "open_sora":
        vae.register_to_config(_name_or_path=str(checkpoint.folder))  # as from_pretrained does
    return vae


def _empty(cls: type[ModelMixin], config: Mapping[str, Any]) -> ModelMixin:
    with init_empty_weights():
        return cls.from_config(dict(config))


def _culprits(cls: type[ModelMixin], config: Mapping[str, Any]) -> Iterator[str]:
    """Name each entry of a config with whose default the model could be made, if there are such entries."""
    for name, parameter in signature(cls).parameters.items():
        if name in config and parameter.default not in (parameter.empty, config[name]):
            with suppress(Exception):
                _empty(cls, {**config, name: parameter.default})
                yield f"its {name} is {config[name]!r}; with the default {parameter.default!r} it makes one"


def _fit(checkpoint: _Checkpoint, headers: Headers, vae: ModelMixin, entry: str | None) -> Fit:
    """Find the model's tensors among those in the files."""
    source = checkpoint.source if checkpoint.hub or len(checkpoint.files) > 1 else str(checkpoint.files[0])
    expected = {key: tuple(value.shape) for key, value in vae.state_dict().items()}
    may_lack = {VideoVAE: ("shift", "scale"), STDiT3: open_sora_stdit.STORED_CONSTANTS}.get(type(vae), ())
    options: dict[str, Any] = dict(entry=entry, statistics=may_lack)
    if checkpoint.layout == "open_sora" and isinstance(vae, VideoVAE):
        expected = open_sora.expected_shapes(vae)
    elif checkpoint.layout != "open_sora":
        options["rename"] = vae._fix_state_dict_keys_on_load
    fit = fit_names(source, headers.shapes, headers.others, expected, **options)
    return fit._replace(notes=[checkpoint.note] * bool(checkpoint.note) + fit.notes)


def _set_weights(
    vae: ModelMixin, tensors: Mapping[str, torch.Tensor], keys: Mapping[str, str], layout: str, dtype: torch.dtype
) -> None:
    """Copy tensors into an empty model. keys: the layout's names -> those of `tensors`."""
    translated = layout == "open_sora" and isinstance(vae, VideoVAE)
    if translated:
        levels = len(vae.temporal.config.channel_multipliers)
        theirs = {key: open_sora.to_open_sora_key(key, levels) for key in vae.state_dict()}
        keys = {key: keys[name] for key, name in theirs.items() if name in keys}
    state = {}
    for key, value in vae.state_dict().items():
        tensor = tensors.get(keys.get(key, ""), value)  # its own, from the config, if the file lacks it
        if tensor.dim() == 0:  # such as a scale of 2
            tensor = tensor.to(torch.promote_types(tensor.dtype, value.dtype))
        if value.is_floating_point() and not tensor.is_floating_point():
            raise ValueError(f"{keys[key]} must hold floating-point numbers, got {tensor.dtype}: it is quantised")
        state[key] = tensor.expand_as(value).clone(memory_format=torch.contiguous_format)  # not the file's memory
    vae.load_state_dict(state, assign=True)
    torch.nn.Module.to(vae, dtype)  # ModelMixin.to warns of every dtype
    kept, least = set(vae._keep_in_fp32_modules or ()), torch.promote_types(dtype, torch.float32)
    precise = {key: value.to(least) for key, value in state.items() if kept.intersection(key.split("."))}
    vae.load_state_dict(precise, strict=False, assign=True)
    if translated:  # as in the reference, the weights overrule the config
        mean, std = (state[key].float().flatten().tolist() for key in ("shift", "scale"))
        vae.register_to_config(latents_mean=mean, latents_std=std)
