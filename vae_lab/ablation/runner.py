"""Ablations: variants of one config, each trained and measured with several seeds, as a table with intervals.

Every trial is kept when it is finished, so an ablation that was stopped, by whatever, goes on where it stood, and one
that is finished is only read.
"""

import sys
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from ..utils import exit_codes
from ..utils.checks import check_above, check_known
from ..utils.extras import needs_extra
from ..utils.files import locked
from .config import TrialConfig
from .fingerprints import code_version, key_of
from .metrics import METRICS
from .plan import Trial, called, check_name, decisive, planned, the_same
from .results import Ablation
from .store import TrialFolder

with needs_extra("train"):
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

# What decides a trial's numbers beside our code
LIBRARIES = ("torch", "diffusers", "accelerate", "numpy", "pillow", "av", "scikit-image")
SCALED = ("steps", "warmup_steps", "cached_clips")  # what a larger ablation has more of


class AblationError(RuntimeError):
    """The ablation cannot go on; what is finished is kept."""


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
        data: a folder of videos to train on, or None for made content. `out` must not lie in it.
        n_jobs: trials at once, as joblib takes it; None: what joblib.parallel_config says, else one.
        retry_failed: run trials again that failed; else they stay what they are, rows with an error.
        keep_models: leave the models that are trained now in out/scratch, for good; else they are removed when all
          trials are finished. (2D latents stay there for other ablations.) A trial that is only read has no model.

    Raises:
        ValueError: a variant that changes an unknown field (near ones are named), is another one or the base itself,
          or cannot be built; before anything is trained. A folder of another version of the code.
        AblationError: results cannot be written, or no trial can be started at all.

    Where another ablation is at work in `out`, this one waits: what they share is run once.
    """
    check_name(name)
    if n_jobs is not None and (type(n_jobs) is not int or n_jobs == 0):
        raise ValueError(f"n_jobs must be an integer other than 0, or None, got {n_jobs!r}")
    out, data = Path(out).absolute(), None if data is None else Path(data).absolute()
    version = _version()
    trials = planned(base, variants, seeds, data, out, version)
    folder = TrialFolder(out)
    folder.check(version)
    if (folder.path / name).is_file():
        raise ValueError(f"name must be that of a folder in out, {folder.path / name} is a file")
    folder.path.mkdir(parents=True, exist_ok=True)
    waits = partial(tqdm.write, f"waits for another ablation in {folder.path}", file=sys.stderr)
    with locked(folder.path / ".lock", on_wait=waits if progress else None):
        folder.open(version)
        if retry_failed:
            _forget_failed(folder, trials)
        _run(folder, trials, data, n_jobs, progress)
        for trial in trials:  # those of a run that was killed before it came so far are among them
            (folder.keep_training if keep_models else folder.remove_training)(trial.training_key)
        results = [
            dict(variant=trial.variant, seed=trial.seed, key=trial.key) | folder.read(trial.key) for trial in trials
        ]
        ablation = Ablation.of_results(results, METRICS)
        ablation.write(folder.path / name)
    return ablation


def read_ablation_file(path: str | Path, scale: float = 1.0) -> dict[str, Any]:
    """Arguments of `run_ablation` in a TOML file: `seeds`, a table [base] of a TrialConfig with its [[base.stages]],
    and a table [variants.NAME] for each variant. Errors name the file.

    scale: of every stage's steps, warm-up and cached clips, in base and variants: 5 for five times the training.
    """
    check_above("scale", scale, 0)
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
        check_known("an ablation", values, ("seeds", "base", "variants"))
        for name in ("base", "variants"):
            if not isinstance(values.get(name), dict):
                raise ValueError(f"an ablation needs a table [{name}]")
        scaled = {name: _scaled(values[name], scale) for name in ("base", "variants")}
        return values | scaled | {"base": TrialConfig.from_dict(scaled["base"])}
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # of TOML and of text: ValueErrors
        raise ValueError(f"{path}: {error}") from error


def _scaled(values: Any, scale: float) -> Any:
    """A table of a config with its SCALED numbers, at any depth, times `scale`; none becomes 0 that was not."""
    if isinstance(values, Mapping):
        return {
            name: _times(value, scale) if name in SCALED and type(value) is int else _scaled(value, scale)
            for name, value in values.items()
        }
    return [_scaled(value, scale) for value in values] if isinstance(values, list) else values


def _times(number: int, scale: float) -> int:
    return max(min(number, 1), ceil(round(number * scale, 9)))


# ---- running -------------------------------------------------------------------------------------------------------


def _run(folder: TrialFolder, trials: Sequence[Trial], data: Path | None, n_jobs: int | None, progress: bool) -> None:
    """Run what is not finished yet.

    Where a worker died, now or in a run before, what it may have been at is run again in a worker of its own.
    """
    missing = {trial.key: trial for trial in trials if folder.read(trial.key) is None}
    if not missing:
        return
    _check_buildable({trial.variant: trial.config for trial in trials}, {trial.variant for trial in missing.values()})
    tasks = dict(missing)
    quiet = {} if progress else {"disable": True}  # disable=False would overrule TQDM_DISABLE
    with tqdm(total=len(trials), initial=len(trials) - len(tasks), unit="trial", **quiet) as bar:
        while tasks:
            suspects = [tasks[key] for key in folder.in_flight() if key in tasks]
            for trial in suspects:
                _alone(folder, trial, data)
                bar.update()
                del tasks[trial.key]
            error = _batch(folder, list(tasks.values()), data, n_jobs, bar)
            tasks = {key: trial for key, trial in tasks.items() if folder.read(key) is None}
            if error is not None and not any(key in tasks for key in folder.in_flight()):
                raise AblationError(f"no trial could be started ({error}); those finished are kept") from error


def _check_buildable(configs: Mapping[str, TrialConfig], variants: set[str]) -> None:
    """Of these variants; each must be another model, or another config beside it, than all others."""
    from .trial import model_config  # only where there is something to run: with it come torch and diffusers

    whole: dict[str, str] = {}
    for name, config in configs.items():
        try:
            model = model_config(config)
        except Exception as error:  # a class of diffusers may fail with any on a value it was not made for
            if name not in variants:
                continue  # finished, when what it is built of was still there
            kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
            raise ValueError(f"{called(name)} cannot be built: {kind}{error}") from error
        key = key_of(decisive(config) | {"model": model})
        if key in whole:
            raise the_same(name, whole[key])
        whole[key] = name


def _version() -> str:
    """Of the code that is here: a worker's may be another one."""
    return code_version("ablation.trial", LIBRARIES)


def _arguments(folder: TrialFolder, trial: Trial, data: Path | None) -> tuple:
    return folder, trial.config.to_dict(), *trial[3:], None if data is None else str(data)


def _batch(folder: TrialFolder, tasks: Sequence[Trial], data, n_jobs, bar: tqdm) -> Exception | None:
    """Run these; returns what ended it before its time. What goes wrong in a trial is its result, no error here."""
    backend = get_active_backend()[0]
    if type(backend).__name__ == "DaskDistributedBackend":
        return _on_dask(backend.client, folder, tasks, data, bar)
    calls = (delayed(_work)(*_arguments(folder, trial, data)) for trial in tasks)
    try:
        for _ in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls):
            bar.update()
    except AblationError:
        raise
    except Exception as error:  # joblib's errors for workers that died are of many kinds
        return error
    return None


def _on_dask(client, folder: TrialFolder, tasks: Sequence[Trial], data, bar: tqdm) -> None:
    """With futures of its own: joblib's wait for ever for a task that Dask has given up, after several workers died."""
    from distributed import as_completed

    submit = lambda trial: client.submit(_work, *_arguments(folder, trial, data), pure=False)  # noqa: E731
    futures, blamed = {submit(trial): trial for trial in tasks}, []
    try:
        for future in as_completed(futures):
            if future.exception() is None:
                bar.update()
            else:
                blamed.append(futures[future])  # perhaps for another trial that was given to the same worker
        for trial in blamed:
            if (error := submit(trial).exception()) is not None:
                _give_up(folder, trial, error)
            bar.update()
    finally:
        client.cancel(list(futures))


def _alone(folder: TrialFolder, trial: Trial, data) -> None:
    """Run a trial in a process with no other one beside it; where that dies too, the trial has failed."""
    try:
        Parallel(n_jobs=2, backend="loky")([delayed(_work)(*_arguments(folder, trial, data))])
    except Exception as error:
        _give_up(folder, trial, error)


def _give_up(folder: TrialFolder, trial: Trial, error: Exception) -> None:
    if isinstance(error, AblationError):
        raise error
    reason = f"WorkerDied: its worker died, and again in another try: {_first_line(error)}"
    folder.finish(trial.key, _result(trial.config, error=reason))


def _work(
    folder: TrialFolder, values: dict[str, Any], key: str, training_key: str, source_key: str, data: str | None
) -> None:
    """One trial, in a worker."""
    from .trial import run_trial

    if folder.read(key) is not None:  # a cluster may give a task out twice
        return
    if (found := folder.version()) != _version():
        raise AblationError(f"a worker has another version of the code ({_version()}) than the ablation ({found})")
    config, begin = TrialConfig.from_dict(values), perf_counter()
    try:
        folder.start(key)
        result = _measured(run_trial, config, folder.training(training_key), folder.latents(source_key), data)
        folder.finish(key, result | {"seconds": round(perf_counter() - begin, 2)})
    except OSError as error:
        raise AblationError(f"could not write to {folder.path}: {error}; trials finished before are kept") from error


def _measured(run_trial, config: TrialConfig, *places) -> dict[str, Any]:
    """What the trial gives, or its error."""
    try:
        measured = run_trial(config, *places)
    except exit_codes.Terminated:
        raise
    except (Exception, SystemExit) as error:
        return _result(config, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return _result(config, metrics=measured.metrics, frames=measured.frames)


def _result(config: TrialConfig, metrics=None, frames=None, error: str = "", traceback: str = "") -> dict[str, Any]:
    return {
        "config": config.to_dict(), "metrics": metrics or {}, "frames": frames or {}, "error": error,
        "traceback": traceback, "seconds": float("nan"),
    }  # fmt: skip


def _forget_failed(folder: TrialFolder, trials: Sequence[Trial]) -> None:
    for trial in trials:
        if (folder.read(trial.key) or {}).get("error"):
            folder.forget(trial.key)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
