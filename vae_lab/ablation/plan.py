"""The trials of an ablation, and the keys under which their results are stored. This module does not need torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints.bundled import LAB_WEIGHTS, lab_weights
from ..generation.config import GenerationConfig
from ..training.config import RUNTIME_FIELDS, STARTS, TrainConfig
from ..utils.checks import is_number
from .config import AnyTrialConfig, GenerationTrialConfig, TrialConfig, changed
from .fingerprints import content_hash, key_of
from .results import BASE
from .store import RESERVED


class Trial(NamedTuple):
    """One variant with one seed."""

    variant: str
    seed: int
    config: AnyTrialConfig  # with absolute paths: a worker may run in another folder
    key: str
    training_key: str
    source_key: str  # hash of the clips and weights that the trial reads


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder for tables."""
    fits = isinstance(name, str) and 0 < len(name) <= 100 and not name.startswith(".") and not {*name} & {*"/\\\0"}
    if not fits or name in RESERVED:
        raise ValueError(f"name must be that of a folder in out, other than {', '.join(RESERVED)}, got {name!r}")


def planned(base, variants, seeds, data: Path | None, out: Path, version: str) -> list[Trial]:
    """Return all trials, variant after variant, the base first. Refuse what cannot be one ablation."""
    if not isinstance(base, AnyTrialConfig):
        raise ValueError(f"base must be a TrialConfig or a GenerationTrialConfig, got {type(base).__name__}")
    if data is not None and isinstance(base, GenerationTrialConfig):
        raise ValueError(f"data ({data}) must be left out: generators train on clips that are drawn from prompts")
    if data is not None and not data.is_dir():
        raise ValueError(f"data must be a folder of videos, there is none at {data}")
    if data is not None and out.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"out ({out}) must not lie in data ({data}): it would become part of it")
    given = list(seeds) if isinstance(seeds, Iterable) else []
    whole = all(is_number(seed, Integral) and seed >= 0 for seed in given)
    if not given or not whole or len(set(given)) < len(given):
        raise ValueError(f"seeds must be different whole numbers of at least 0, got {seeds!r}")
    hashes: dict[Path, str] = {}
    trials = []
    for name, variant in configs_of(base, variants).items():
        sources = _sources(variant, data, hashes)
        for seed in map(int, given):
            config = replace(variant, seed=seed)
            key, training_key = (key_of(version, sources, decisive(c)) for c in (config, config.training))
            trials.append(Trial(name, seed, _with_absolute_paths(config), key, training_key, key_of(sources)))
    return trials


def configs_of(base: AnyTrialConfig, variants: Mapping[str, Mapping[str, Any]]) -> dict[str, AnyTrialConfig]:
    """Return the config of the base and of each variant, by name. Refuse unknown fields, and two equal configs."""
    if not isinstance(variants, Mapping) or not variants:
        raise ValueError(f"variants must be a table of at least one name -> differences, got {variants!r}")
    configs: dict[str, AnyTrialConfig] = {}
    for name, difference in [(BASE, {}), *variants.items()]:
        if configs and (not isinstance(name, str) or not name.isprintable() or name in ("", BASE)):
            raise ValueError(f"a variant's name must be a printable text other than {BASE!r}, got {name!r}")
        if not isinstance(difference, Mapping):
            raise ValueError(f"variant {name!r} must be a table of fields and values, got {difference!r}")
        if "seed" in difference:
            raise ValueError(f"variant {name!r} must not change seed: every variant is run with each of the seeds")
        try:
            configs[name] = changed(base, difference)
            json.dumps(configs[name].to_dict())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{called(name)}: {error}") from error
    check_different({name: decisive(config) for name, config in configs.items()})
    return configs


def check_different(variants: Mapping[str, Any]) -> None:
    """Refuse variants (name -> what decides their numbers) that equal an earlier one or the base."""
    for earlier, name in combinations(variants, 2):
        if variants[earlier] == variants[name]:
            raise ValueError(f"variant {name!r} is the same as {called(earlier)}")


def called(name: str) -> str:
    """Return how messages call a variant."""
    return "the base" if name == BASE else f"variant {name!r}"


def decisive(config: TrainConfig | GenerationConfig) -> dict[str, Any]:
    """Return the fields of a config that decide a trial's numbers."""
    return {name: value for name, value in config.to_dict().items() if name not in RUNTIME_FIELDS}


def _paths(config: AnyTrialConfig) -> dict[str, Path]:
    """Return the checkpoints that a trial reads, by field. Names such as "lab" stand for bundled weights."""
    if isinstance(config, GenerationTrialConfig):
        names = {"vae": config.vae}
    else:
        names = {"spatial": config.spatial} if config.part == "temporal" else {}
        names |= {"start": config.start} if config.start not in STARTS else {}
    return {field: lab_weights(name) if name in LAB_WEIGHTS else Path(name) for field, name in names.items()}


def _with_absolute_paths(config: AnyTrialConfig) -> AnyTrialConfig:
    absolute: dict[str, Any] = {
        field: str(path.absolute())
        for field, path in _paths(config).items()
        if getattr(config, field) not in LAB_WEIGHTS and path.exists()
    }
    return replace(config, **absolute)


def _sources(config: AnyTrialConfig, data: Path | None, hashes: dict[Path, str]) -> list:
    """Return plain values that identify what a trial reads: clips, weights, the code of a perceptual distance.

    A Hub id stands for itself. hashes: a cache of the hashes of checkpoints.
    """
    parts: list = [None]
    if data is not None:
        stats = [(path.relative_to(data).as_posix(), path.stat()) for path in sorted(data.rglob("*")) if path.is_file()]
        parts = [[[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]]
    for path in _paths(config).values():
        if path.exists() and path not in hashes:
            beside = path.parent / "config.json"  # a weight file is read with the config beside it
            files = [path, beside] if path.is_file() and beside.exists() else [path]
            hashes[path] = key_of(*map(content_hash, files))
        parts.append(hashes.get(path, str(path)))
    if isinstance(config, TrialConfig) and config.perceptual is not None:
        parts.append(_code_of(config.perceptual.partition(":")[0]))
    return parts


def _code_of(module: str) -> str:
    """Return the hash of a module's file; its name if it has none. Refuse a module that is not available."""
    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # find_spec runs the package around the module
        spec = None
    if spec is None:
        raise ValueError(f'perceptual must be "module:name" of an importable module, there is no module {module!r}')
    return content_hash(Path(spec.origin)) if spec.origin and Path(spec.origin).is_file() else module
