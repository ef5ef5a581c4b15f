"""Ablations: variants of one config, each trained and measured with several seeds, as a table with intervals.

Every trial is kept when it is finished, so an ablation that was stopped, by whatever, goes on where it stood, and one
that is finished is only read.
"""

import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from tqdm import tqdm

from .ablation_table import BASE, Ablation
from .fingerprints import code_version, content_hash, key_of
from .lab_weights import LAB_WEIGHTS, lab_weights
from .train_config import RUNTIME_FIELDS, STARTS, check_known
from .trial_config import METRICS, TrialConfig, changed
from .trial_files import RESERVED, TrialFolder

LIBRARIES = ("torch", "diffusers", "numpy", "pillow", "scikit-image")  # what decides a trial's numbers beside our code


SCALED = ("steps", "warmup_steps", "cached_clips")  # what a larger ablation has more of


class AblationError(RuntimeError):
    """The ablation cannot go on; what is finished is kept."""


class _Trial(NamedTuple):
    variant: str
    seed: int
    config: TrialConfig
    key: str
    training_key: str


def run_ablation(
    base: TrialConfig,
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path = "out/ablations",
    name: str = "ablation",
    *,
    data: str | Path | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
    retry_failed: bool = False,
    keep_models: bool = False,
) -> Ablation:
    """Train and measure `base` and each variant of it with each seed, and compare them seed by seed.

    Trials run through joblib: n_jobs=2 uses two cores, and `with joblib.parallel_config("dask"):` around the same call
    a Dask cluster whose workers all see `out`. A trial computes on one thread, so its numbers do not depend on how many
    run beside it: on one machine they are the same to the bit. One whose worker dies is tried again, alone.

    Args:
        base: its `seed` is not looked at.
        variants: name -> the fields that are another, as `trial_config.changed` takes them:
          {"replicate": {"model": {"time_pad_mode": "replicate"}}, "short chunks": {"micro_frame_size": 5}}.
        seeds: each decides first weights, training clips and noise of a trial of base and of every variant.
        out: a folder of finished trials. Several ablations may share it, and then run no trial twice.
        name: of the folder in `out` that gets `trials.csv`, `frames.csv` and `table.csv`.
        data: a folder of videos to train on, or None for made content.
        n_jobs: trials at once; None: what joblib.parallel_config says, else one.
        retry_failed: run trials again that failed; else they stay what they are, rows with an error.
        keep_models: leave the trained models in out/scratch; else they are removed when all trials are finished. (2D
          latents stay there for other ablations.)

    Raises:
        ValueError: a variant that changes an unknown field (near ones are named), is another one or the base itself,
          or cannot be built; before anything is trained. A folder of another version of the code.
        AblationError: no trial can be started at all.

    Where another ablation is at work in `out`, this one waits: what they share is run once.
    """
    version = code_version("trials", LIBRARIES)
    trials = _planned(base, variants, seeds, None if data is None else str(data), version)
    if not name or Path(name).name != name or name in RESERVED:
        raise ValueError(f"name must be that of a folder in out, other than {', '.join(RESERVED)}, got {name!r}")
    folder = TrialFolder(Path(out).absolute())
    folder.open(version)
    with _lock(folder.path, progress):
        if retry_failed:
            _forget_failed(folder, trials)
        _run(folder, trials, None if data is None else str(data), n_jobs, progress)
        if not keep_models:
            folder.remove_trainings()
        results = [
            dict(variant=trial.variant, seed=trial.seed, key=trial.key) | folder.read(trial.key) for trial in trials
        ]
        ablation = Ablation.of_results(results, METRICS)
        ablation.write(folder.path / name)
    return ablation


@contextmanager
def _lock(folder: Path, progress: bool) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            tqdm.write(f"waits for another ablation in {folder}", file=sys.stderr)
        lock.acquire()
    with lock:
        yield


def read_ablation_file(path: str | Path, scale: float = 1.0) -> dict[str, Any]:
    """Arguments of `run_ablation` in a TOML file: `seeds`, a table [base] of a TrialConfig with its [[base.stages]],
    and a table [variants.NAME] for each variant. Errors name the file.

    scale: of every stage's steps, warm-up and cached clips, in base and variants: 5 for five times the training.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be above 0 and finite, got {scale}")
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
        check_known("an ablation", values, ("seeds", "base", "variants"))
        for name in ("base", "variants"):
            if not isinstance(values.get(name), dict):
                raise ValueError(f"an ablation needs a table [{name}]")
        scaled = {name: _scaled(values[name], scale) for name in ("base", "variants")}
        return values | scaled | {"base": TrialConfig.from_dict(scaled["base"])}
    except (ValueError, TypeError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{path}: {error}") from error


def _scaled(values: Any, scale: float) -> Any:
    """A table of a config with its SCALED numbers, at any depth, times `scale`; none becomes 0 that was not."""
    if isinstance(values, Mapping):
        return {
            name: -int(-value * scale // 1) if name in SCALED and type(value) is int else _scaled(value, scale)
            for name, value in values.items()
        }
    return [_scaled(value, scale) for value in values] if isinstance(values, list) else values


# ---- what is to be run ---------------------------------------------------------------------------------------------


def _planned(base, variants, seeds, data: str | None, version: str) -> list[_Trial]:
    """All trials, variant after variant, the base first."""
    if not isinstance(base, TrialConfig):
        raise ValueError(f"base must be a TrialConfig, got {type(base).__name__}")
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise ValueError(f"seeds must be different whole numbers of at least 0, got {seeds}")
    configs = _configs(base, variants)
    sources = {name: _sources(config, data) for name, config in configs.items()}
    return [
        _Trial(
            name,
            seed,
            config := TrialConfig.from_dict(configs[name].to_dict() | {"seed": seed}),
            key_of(version, sources[name], _decisive(config)),
            key_of(version, sources[name], _decisive(config.training)),
        )
        for name in configs
        for seed in seeds
    ]


def _configs(base: TrialConfig, variants: Mapping[str, Mapping[str, Any]]) -> dict[str, TrialConfig]:
    """Name -> config, the base among them. Refuses what is unknown, the same twice, or cannot be built."""
    if not isinstance(variants, Mapping) or not variants:
        raise ValueError(f"variants must be a table of at least one name -> differences, got {variants!r}")
    configs = {BASE: base}
    for name, difference in variants.items():
        if not isinstance(name, str) or not name or name == BASE:
            raise ValueError(f"a variant's name must be a text other than {BASE!r}, got {name!r}")
        if not isinstance(difference, Mapping):
            raise ValueError(f"variant {name!r} must be a table of fields and values, got {difference!r}")
        if "seed" in difference:
            raise ValueError(f"variant {name!r} must not change seed: every variant is run with each of the seeds")
        try:
            config = changed(base, difference)
        except (ValueError, TypeError) as error:
            raise ValueError(f"variant {name!r}: {error}") from error
        same = next((other for other in configs if _decisive(configs[other]) == _decisive(config)), None)
        if same is not None:
            raise ValueError(f"variant {name!r} is the same as {f'variant {same!r}' if same != BASE else 'the base'}")
        configs[name] = config
    return configs


def _decisive(config) -> dict[str, Any]:
    """What of a config decides a trial's numbers. The seed does too; it is the same here for all variants."""
    return {name: value for name, value in config.to_dict().items() if name not in RUNTIME_FIELDS}


def _sources(config: TrialConfig, data: str | None) -> list:
    """What a trial reads: its clips, and the weights it starts from or stands behind. A Hub id stands for itself."""
    names = [config.spatial] if config.half == "temporal" else []
    names += [config.start] if config.start not in STARTS else []
    paths = [lab_weights(name) if name in LAB_WEIGHTS else Path(name) for name in names]
    clips = None
    if data is not None:
        files = sorted(path for path in Path(data).rglob("*") if path.is_file())
        clips = [[path.relative_to(data).as_posix(), path.stat().st_size] for path in files]
    return [clips, *(content_hash(path) if path.exists() else str(path) for path in paths)]


# ---- running -------------------------------------------------------------------------------------------------------


def _run(folder: TrialFolder, trials: Sequence[_Trial], data: str | None, n_jobs: int | None, progress: bool) -> None:
    """Run what is not finished yet. Where a worker dies, what it may have been at is run again, one after another."""
    tasks = {trial.key: trial for trial in trials if folder.read(trial.key) is None}
    if not tasks:
        return
    _check_buildable({trial.variant: trial.config for trial in tasks.values()})
    with tqdm(total=len(trials), initial=len(trials) - len(tasks), unit="trial", disable=not progress) as bar:
        while tasks:
            for key in folder.in_flight():  # of a run before this one
                folder.forget(key)
            error = _batch(folder, list(tasks.values()), data, n_jobs, bar)
            if error is None:
                return
            suspects = [tasks[key] for key in folder.in_flight() if key in tasks]
            if not suspects:
                raise AblationError(f"no trial could be started ({error}); those finished are kept") from error
            for trial in suspects:
                error = _batch(folder, [trial], data, n_jobs, bar)
                if error is not None:
                    reason = f"WorkerDied: its worker died, and died again when it ran alone: {_first_line(error)}"
                    folder.finish(trial.key, _result(trial.config, error=reason))
                    bar.update()
            tasks = {key: trial for key, trial in tasks.items() if folder.read(key) is None}


def _check_buildable(configs: Mapping[str, TrialConfig]) -> None:
    from .trials import check_buildable  # only where there is something to run: with it come torch and diffusers

    for name, config in configs.items():
        try:
            check_buildable(config)
        except (ValueError, OSError) as error:
            who = "the base" if name == BASE else f"variant {name!r}"
            raise ValueError(f"{who} cannot be built: {error}") from error


def _batch(folder: TrialFolder, tasks: Sequence[_Trial], data, n_jobs, bar: tqdm) -> Exception | None:
    """Run these; returns what ended it before its time. What goes wrong in a trial is its result, no error here."""
    calls = (delayed(_work)(folder, trial.config.to_dict(), trial.key, trial.training_key, data) for trial in tasks)
    try:
        for _ in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls):
            bar.update()
    except Exception as error:  # joblib's and Dask's errors for workers that died are of many kinds
        return error
    return None


def _work(folder: TrialFolder, values: dict[str, Any], key: str, training_key: str, data: str | None) -> None:
    """One trial, in a worker."""
    from .trials import run_trial

    if folder.read(key) is not None:  # a cluster may give a task out twice
        return
    folder.start(key)
    config, begin, done = TrialConfig.from_dict(values), perf_counter(), {}
    try:
        measured = run_trial(config, folder.training(training_key), folder.latents, data)
        done = dict(metrics=measured.metrics, frames=measured.frames)
    except Exception as error:
        done = dict(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    folder.finish(key, _result(config, **done) | {"seconds": round(perf_counter() - begin, 2)})


def _result(config: TrialConfig, metrics=None, frames=None, error: str = "", traceback: str = "") -> dict[str, Any]:
    return {
        "config": config.to_dict(), "metrics": metrics or {}, "frames": frames or {}, "error": error,
        "traceback": traceback, "seconds": float("nan"),
    }  # fmt: skip


def _forget_failed(folder: TrialFolder, trials: Sequence[_Trial]) -> None:
    for trial in trials:
        if (folder.read(trial.key) or {}).get("error"):
            folder.forget(trial.key)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
