"""Run ablations: train and measure variants of one config with several seeds, through joblib or Dask.

Every finished trial is saved. An interrupted ablation resumes after the last one, and a finished ablation is only read.
"""

import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from ..training.config import from_toml
from ..utils import exit_codes
from ..utils.checks import check_above, check_known
from ..utils.extras import needs_extra
from ..utils.files import locked
from ..utils.text import first_line
from .config import AnyTrialConfig, GenerationTrialConfig, trial_config
from .fingerprints import code_version, key_of
from .metrics import GENERATION_METRICS, METRICS
from .plan import Trial, called, check_different, check_name, decisive, planned
from .results import Ablation
from .store import TrialFolder

with needs_extra("train"):
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

# Libraries whose versions decide a trial's numbers, as the package's code does.
LIBRARIES = ("torch", "diffusers", "accelerate", "numpy", "pillow", "av", "scikit-image")
SCALED = ("steps", "warmup_steps", "cached_clips")  # fields of a config that `read_ablation_file` scales


class AblationError(RuntimeError):
    """The ablation cannot continue. Finished trials are saved."""


def run_ablation(
    base: AnyTrialConfig,
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

    Trials run through joblib: on two cores with n_jobs=2, and inside `with joblib.parallel_config("dask"):` on a Dask
    cluster whose workers all see `out`. A trial computes on one thread, so its numbers are the same to the bit on one
    machine, however many run beside it. A trial whose worker dies is run again, alone. If another ablation runs in
    `out`, this one waits for it; trials that they share are run once.

    Args:
        base: the reference config. Its `seed` is ignored.
        variants: name -> the fields that differ from the base (see `changed`):
          {"replicate": {"model": {"time_pad_mode": "replicate"}}, "short chunks": {"micro_frame_size": 5}}.
        seeds: the base and every variant have one trial per seed, which decides first weights, clips and noise.
        out: the folder of finished trials, with a folder `name` for trials.csv, frames.csv and table.csv.
        data: a folder of videos to train on; None: synthetic clips. `out` must not lie in it.
        n_jobs: how many trials run at once (see joblib); None: as joblib.parallel_config says, else one.
        retry_failed: run failed trials again, instead of returning their saved errors.
        keep_models: keep the models that this call trains in out/scratch; False: remove them when all trials are
          finished. 2D latents always stay there. Saved trials are not trained again for their models.

    Raises:
        ValueError: before any training, if a variant changes an unknown field (close ones are named), equals another
          variant or the base, or cannot be built; or if `out` holds trials of another version of the code.
        AblationError: results cannot be written, or no trial can be started.
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
    waits = partial(tqdm.write, f"waiting for another ablation in {folder.path}", file=sys.stderr)
    with locked(folder.path / ".lock", on_wait=waits if progress else None):
        folder.open(version)
        for trial in trials if retry_failed else ():
            if (folder.read(trial.key) or {}).get("error"):
                folder.file(trial.key).unlink()
        _run(folder, trials, data, n_jobs, progress)
        for trial in trials:  # also trainings of earlier runs that were killed before this line
            folder.close_training(trial.training_key, keep_models)
        results = [dict(variant=trial.variant, seed=trial.seed) | (folder.read(trial.key) or {}) for trial in trials]
        metrics = GENERATION_METRICS if isinstance(base, GenerationTrialConfig) else METRICS
        ablation = Ablation.of_results(results, metrics)
        ablation.write(folder.path / name)
    return ablation


def read_ablation_file(path: str | Path, scale: float = 1.0) -> dict[str, Any]:
    """Read the arguments of `run_ablation` from a TOML file. Errors name the file.

    The file has `seeds`, a table [base] of a TrialConfig with its [[base.stages]] (of a GenerationTrialConfig, if its
    part is "generation"), and a table [variants.NAME] for each variant.

    scale: factor on the SCALED fields in base and variants: 5 for five times the training.
    """
    check_above("scale", scale, 0)

    def build(values: dict[str, Any]) -> dict[str, Any]:
        check_known("an ablation", values, ("seeds", "base", "variants"))
        for name in ("base", "variants"):
            if not isinstance(values.get(name), dict):
                raise ValueError(f"an ablation needs a table [{name}]")
        scaled = {name: _scaled(name, values[name], scale) for name in ("base", "variants")}
        return values | scaled | {"base": trial_config(scaled["base"])}

    return from_toml(path, build)


def _scaled(name: str, value: Any, scale: float) -> Any:
    """Multiply the SCALED numbers in a value, at any depth, by `scale`. A number above 0 stays above 0."""
    if isinstance(value, Mapping):
        return {key: _scaled(key, item, scale) for key, item in value.items()}
    if isinstance(value, list):
        return [_scaled("", item, scale) for item in value]
    scales = name in SCALED and type(value) is int
    return max(min(value, 1), ceil(round(value * scale, 9))) if scales else value


def _run(folder: TrialFolder, trials: Sequence[Trial], data: Path | None, n_jobs: int | None, progress: bool) -> None:
    """Run the trials that are not finished. Those that a worker may have been running when it died run alone."""
    missing = {trial.key: trial for trial in trials if folder.read(trial.key) is None}
    if not missing:
        return
    _check_buildable({trial.variant: trial.config for trial in trials}, {trial.variant for trial in missing.values()})
    quiet = {} if progress else {"disable": True}  # disable=False would overrule TQDM_DISABLE
    with tqdm(total=len(trials), initial=len(trials) - len(missing), unit="trial", **quiet) as bar:
        while missing:
            for key in folder.in_flight() & missing.keys():
                trial = missing.pop(key)
                error = _batch(folder, [trial], data, bar, n_jobs=2, backend="loky")  # in another process
                if error is not None:
                    died = "WorkerDied: its worker died, and again in another try"
                    text = f"{died}: {type(error).__name__}: {first_line(error)}"
                    folder.finish(key, {"config": trial.config.to_dict(), "error": text})
                    bar.update()
            error = _batch(folder, list(missing.values()), data, bar, n_jobs=n_jobs)
            missing = {key: trial for key, trial in missing.items() if folder.read(key) is None}
            if error is not None and not folder.in_flight() & missing.keys():
                raise AblationError(f"no trial could be started ({error}); finished trials are saved") from error


def _check_buildable(configs: Mapping[str, AnyTrialConfig], variants: set[str]) -> None:
    """Refuse variants, among `variants`, that cannot be built, and configs that differ only by spelt-out defaults."""
    from .trial import model_config  # imported only if there are trials to run: it needs torch and diffusers

    keys = {}
    for name, config in configs.items():
        try:
            keys[name] = key_of(decisive(config) | {"model": model_config(config)})
        except Exception as error:  # diffusers' classes may raise anything on values that they do not take
            if name not in variants:
                continue  # finished, when its checkpoints still existed
            kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
            raise ValueError(f"{called(name)} cannot be built: {kind}{error}") from error
    check_different(keys)


def _version() -> str:
    """Return the hash of the code in this process; that of a worker may differ."""
    return code_version("ablation.trial", LIBRARIES)


def _batch(folder: TrialFolder, tasks: Iterable[Trial], data: Path | None, bar: tqdm, **jobs) -> Exception | None:
    """Run trials on the Dask cluster, if one is active, or else through joblib with the settings `jobs`.

    Return the error that stopped a worker, if any. A trial's own error is in its result.
    """
    # plain values, which a worker with other code can read too: it then says so
    calls = [(folder, task.config.to_dict(), task.key, task.training_key, task.source_key, data) for task in tasks]
    backend = get_active_backend()[0]
    try:
        if type(backend).__name__ == "DaskDistributedBackend":
            finished = _on_dask(backend.client, calls)
        else:
            finished = Parallel(**jobs, return_as="generator_unordered")(delayed(_work)(*call) for call in calls)
        for _ in finished:
            bar.update()
    except AblationError:
        raise
    except Exception as error:  # joblib raises many kinds of errors for workers that died
        return error
    return None


def _on_dask(client, calls: Sequence[tuple]) -> Iterator[None]:
    """Run trials as Dask futures: joblib would wait for ever for a task that Dask gave up after several deaths."""
    from distributed import as_completed

    futures = [client.submit(_work, *call, pure=False) for call in calls]
    errors = []
    try:
        for future in as_completed(futures):
            if (error := future.exception()) is None:
                yield
            else:
                errors.append(error)  # the other trials do not stop
        if errors:
            raise errors[-1]
    finally:
        client.cancel(futures)


def _work(folder: TrialFolder, values: dict, key: str, training_key: str, source_key: str, data: Path | None) -> None:
    """Run one trial, in a worker."""
    from .trial import run_trial

    if folder.read(key) is not None:  # a cluster may run a task twice
        return
    if folder.version() != _version():
        versions = f"({_version()}) than the ablation ({folder.version()})"
        raise AblationError(f"a worker has another version of the code {versions}")
    config, begin = trial_config(values), perf_counter()
    try:
        folder.start(key)
        try:
            result = run_trial(config, folder.training(training_key), folder.latents(source_key), data)._asdict()
        except exit_codes.Terminated:
            raise
        except (Exception, SystemExit) as error:
            result = dict(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        folder.finish(key, result | {"config": values, "seconds": round(perf_counter() - begin, 2)})
    except OSError as error:
        raise AblationError(f"could not write to {folder.path}: {error}; finished trials are saved") from error
