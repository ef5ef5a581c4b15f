"""Real, small ablations: finished, stopped, killed, on joblib's processes and on a Dask cluster."""

import dataclasses
import datetime
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pandas as pd
import pytest
import torch
from filelock import FileLock

from tests.helpers import ROOT, SMALL_SPATIAL, deadly, processes
from vae_lab import SpatialVAE, photo_clip, write_video
from vae_lab.__main__ import main
from vae_lab.ablation import plan as ablation_plan, runner as ablation
from vae_lab.ablation.config import TrialConfig
from vae_lab.ablation.metrics import METRICS
from vae_lab.ablation.runner import AblationError, read_ablation_file, run_ablation
from vae_lab.ablation.store import TrialFolder
from vae_lab.training.config import Stage
from vae_lab.utils import exit_codes

TEMPORAL = dict(base_channels=12, num_res_blocks=1, channel_multipliers=(1, 1, 1), norm_num_groups=1,
                temporal_downsample=(True, True))  # fmt: skip
VARIANTS = {"frame_group": {"model": {"norm": "frame_group"}}, "chunks of 5": {"micro_frame_size": 5}}
FAILS = {"mirrored": {"model": {"time_pad_mode": "reflect"}}}  # which takes no single frame: an image
TOML = """
seeds = [0, 1]
[base]
part = "temporal"
size = 16
measured_size = 16
measured_frames = 9
cached_clips = 4
warmup_steps = 2
spatial = "{spatial}"
[base.model]
base_channels = 12
num_res_blocks = 1
channel_multipliers = [1, 1, 1]
norm_num_groups = 1
temporal_downsample = [true, true]
[[base.stages]]
name = "latents"
target = "latents"
steps = 3
learning_rate = 1e-3
batch_size = 2
num_frames = [2, 6]
[variants.frame_group]
model.norm = "frame_group"
[variants."chunks of 5"]
micro_frame_size = 5
"""


@pytest.fixture(scope="module", autouse=True)
def quick_workers():
    """Those of a test's own commands are joblib's usual ones."""
    with processes.forked_workers():
        yield


@pytest.fixture(scope="session")
def spatial(shared_folder) -> Path:
    torch.manual_seed(0)
    folder = shared_folder / "spatial"
    config = dict(SMALL_SPATIAL, norm_num_groups=1, mid_block_add_attention=False, scaling_factor=1.0)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            SpatialVAE(**config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(spatial) -> TrialConfig:
    stage = Stage(name="latents", steps=3, learning_rate=1e-3, target="latents", batch_size=2, num_frames=(2, 6))
    return TrialConfig(
        part="temporal", size=16, measured_size=16, measured_frames=9, model=TEMPORAL, spatial=str(spatial),
        cached_clips=4, warmup_steps=2, stages=(stage,),
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished_once(base, shared_folder) -> tuple[Path, Path]:
    """(folder, the file of what came out): whichever process first needs the ablation runs it."""
    out, kept = shared_folder / "finished", shared_folder / "finished.pickle"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(run_ablation(base, VARIANTS | FAILS, (0, 1), out, progress=False)))
    return out, kept


@pytest.fixture
def finished(finished_once, tmp_path_factory):
    """(folder, what came out): two seeds, and a variant that fails. The folder is the test's own copy."""
    out, kept = finished_once
    return shutil.copytree(out, tmp_path_factory.mktemp("finished") / "out"), pickle.loads(kept.read_bytes())


def numbers(result) -> pd.DataFrame:
    return result.trials.drop(columns="seconds")


def trial_files(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (out / "trials").glob("[!.]*.json")}


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_every_variant_and_seed_is_a_row(finished):
    _, result = finished
    assert list(zip(result.trials["variant"], result.trials["seed"], strict=True)) == [
        (variant, seed) for variant in ("base", *VARIANTS, *FAILS) for seed in (0, 1)
    ]
    good = result.trials[result.trials["error"] == ""]
    assert len(good) == 6
    assert good[list(METRICS)].notna().all().all()
    assert (good.groupby("variant")["psnr"].nunique() == 2).all()  # seeds are other weights and clips
    assert len(result.frames) == 6 * 4 * 9
    means = result.frames.groupby(["variant", "seed"])["psnr"].mean()
    squares = (result.frames["time_error"] ** 2).groupby([result.frames["variant"], result.frames["seed"]]).mean()
    for trial in good.itertuples():
        assert means[trial.variant, trial.seed] == pytest.approx(trial.psnr, abs=1e-12)
        assert squares[trial.variant, trial.seed] == pytest.approx(trial.time_error**2, abs=1e-12)


def test_a_failed_trial_is_a_row_with_its_error_and_the_rest_go_on(finished):
    out, result = finished
    assert list(result.failed["variant"]) == ["mirrored"] * 2
    assert result.failed["error"].str.startswith('ValueError: time_pad_mode "reflect" needs more than').all()
    assert result.failed[list(METRICS)].isna().all().all()
    kept = [json.loads(text) for text in trial_files(out).values()]
    assert sum("line" in trial["traceback"] for trial in kept) == 2
    row = result.table("psnr").set_index("variant").loc["mirrored"]
    assert row["n"] == 0 and row["pairs"] == 0 and pd.isna(row["difference"])


def test_the_tables_are_written_with_all_digits(finished):
    out, result = finished
    for name, table in (("trials", result.trials), ("frames", result.frames), ("table", result.table())):
        read = pd.read_csv(out / "ablation" / f"{name}.csv")
        if "error" in read:
            read["error"] = read["error"].fillna("")
        pd.testing.assert_frame_equal(read, table, check_dtype=False, check_exact=True)


def test_a_finished_ablation_is_only_read(finished, base, monkeypatch):
    out, result = finished
    monkeypatch.setattr(ablation, "Parallel", None)
    again = run_ablation(base, VARIANTS | FAILS, (0, 1), out, progress=False)
    pd.testing.assert_frame_equal(again.trials, result.trials, check_exact=True)
    pd.testing.assert_frame_equal(again.table(), result.table(), check_exact=True)
    pd.testing.assert_frame_equal(again.frames, result.frames, check_exact=True)
    quieter = dataclasses.replace(base, log_every=1, workers=2)  # which changes no number
    pd.testing.assert_frame_equal(run_ablation(quieter, VARIANTS | FAILS, (0, 1), out).trials, result.trials)
    some = run_ablation(base, {"another name": VARIANTS["frame_group"]}, (1,), out, "some", progress=False)
    assert numbers(some)["psnr"].tolist() == [
        row.psnr for row in result.trials.itertuples() if row.seed == 1 and row.variant in ("base", "frame_group")
    ]
    assert {path.name for path in (out / "some").iterdir()} == {"trials.csv", "frames.csv", "table.csv"}


def test_reading_needs_no_torch(finished, base):
    out, _ = finished
    code = (
        "import sys, tomllib\nfrom vae_lab.ablation import AblationError, read_ablation_file, run_ablation\n"
        f"run_ablation(**read_ablation_file({str(out / 'file.toml')!r}), out={str(out)!r}, progress=False)\n"
        "print('torch' in sys.modules, 'diffusers' in sys.modules)"
    )
    (out / "file.toml").write_text(TOML.format(spatial=base.spatial))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_two_runs_are_the_same_to_the_bit_alone_or_side_by_side(finished, base, tmp_path):
    _, result = finished
    again = run_ablation(base, VARIANTS | FAILS, (1,), tmp_path, n_jobs=2, progress=False)
    for side_by_side, alone in ((numbers(again), numbers(result)), (again.frames, result.frames)):
        alone = alone[alone["seed"] == 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(side_by_side, alone, check_exact=True)


def test_failed_trials_are_run_again_where_asked(finished, base, tmp_path):
    out, result = finished
    trials = out / "trials"
    good = trials / f"{result.trials['key'][0]}.json"
    bad = trials / f"{result.failed['key'].iloc[0]}.json"
    before = good.stat().st_mtime_ns, bad.stat().st_mtime_ns
    run_ablation(base, VARIANTS | FAILS, (0, 1), out, progress=False, retry_failed=True)
    assert good.stat().st_mtime_ns == before[0]
    assert bad.stat().st_mtime_ns > before[1]


def test_models_are_removed_in_the_end_unless_kept(finished, base, tmp_path):
    out, _ = finished
    models = lambda folder: len(list((folder / "scratch" / "trainings").glob("*/model")))  # noqa: E731
    assert models(out) == 0
    run_ablation(base, {"chunks of 5": VARIANTS["chunks of 5"]}, (0,), tmp_path, progress=False, keep_models=True)
    assert models(tmp_path) == 1  # one training for both
    run_ablation(base, VARIANTS, (0,), tmp_path, progress=False)  # whose own is removed, and no other
    assert models(tmp_path) == 1


def test_killed_while_a_model_is_removed_there_is_no_half_of_it(finished, base, tmp_path, monkeypatch):
    """A later variant with the same training would take it for a whole one."""
    out, _ = finished
    different = {"chunks of 5": VARIANTS["chunks of 5"]}

    def killed(path, **_) -> None:
        if path.exists():
            next(path.rglob("*.safetensors")).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        run_ablation(base, {"a": {"kl_weight": 1.0}}, (0,), tmp_path, progress=False)
    again = run_ablation(base, different, (0,), tmp_path, "later", progress=False)
    expected = run_ablation(base, different, (0,), out, "later", progress=False)
    pd.testing.assert_frame_equal(numbers(again), numbers(expected), check_exact=True)
    run_ablation(base, {"a": {"kl_weight": 1.0}}, (0,), tmp_path, progress=False)
    assert not list((tmp_path / "scratch" / "trainings").iterdir())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_trial_that_asks_to_exit_has_failed(finished, base, n_jobs):
    """Those after it are run."""
    out, _ = finished
    quits = {"perceptual": "tests.helpers.deadly:Quits", "perceptual_weight": 1.0}
    variants = {"quits": quits, "after it": {"kl_weight": 1.0}, "last": {"micro_frame_size": 3}}
    result = run_ablation(base, variants, (0,), out, n_jobs=n_jobs, progress=False)
    assert result.failed["error"].tolist() == ["SystemExit: 0"]
    assert result.trials["psnr"].notna().sum() == 3


def test_a_sigterm_is_no_error_of_a_trial(base, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_lab.ablation.trial.run_trial", exit_codes.terminate)
    folder = TrialFolder(tmp_path)
    folder.open(ablation._version())
    with pytest.raises(exit_codes.Terminated):
        ablation._work(folder, base.to_dict(), "key", "training", "source", None)
    assert folder.in_flight() == {"key"} and folder.read("key") is None


def test_other_content_is_another_trial(finished, base, tmp_path):
    """The weights that a trial stands behind are part of its key, not their name."""
    _, result = finished
    folder = tmp_path / "spatial"
    torch.manual_seed(1)
    SpatialVAE.from_config(SpatialVAE.load_config(base.spatial)).save_pretrained(folder)
    other = dataclasses.replace(base, spatial=str(folder))
    again = run_ablation(other, {"frame_group": VARIANTS["frame_group"]}, (0,), tmp_path / "out", progress=False)
    assert set(again.trials["key"]).isdisjoint(result.trials["key"])


def test_what_a_checkpoint_is_said_to_be_and_clips_of_the_same_size_count_too(base, tmp_path):
    """A weight file means what the config.json beside it says; a changed video need not change its size."""
    folder, videos = tmp_path / "spatial", tmp_path / "videos"
    SpatialVAE.from_pretrained(base.spatial).save_pretrained(folder)
    videos.mkdir()
    write_video(videos / "one.mp4", photo_clip("motorcycle_left", 8, (32, 32)).frames, 24)
    (weights,) = folder.glob("*.safetensors")
    trial = dataclasses.replace(base, spatial=str(weights))
    keys, out = set(), tmp_path / "out"

    def run() -> None:
        keys.update(
            run_ablation(trial, {"a": {"micro_frame_size": 5}}, (0,), out, data=videos, progress=False).trials["key"]
        )

    run()
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"scaling_factor": 1.0', '"scaling_factor": 2.0'))
    run()
    assert len(keys) == 4
    os.utime(videos / "one.mp4", (1, 1))
    run()
    assert len(keys) == 6
    assert len(list((out / "scratch" / "latents").iterdir())) == 3
    with pytest.raises(ValueError, match=r"out \(.*\) must not lie in data \("):
        run_ablation(trial, {"a": {"kl_weight": 1.0}}, (0,), videos / "out", data=videos)
    (tmp_path / "link").symlink_to(videos)
    with pytest.raises(ValueError, match=r"out \(.*\) must not lie in data \("):
        run_ablation(trial, {"a": {"kl_weight": 1.0}}, (0,), videos / "out", data=tmp_path / "link")


def test_paths_are_those_of_the_caller(base, tmp_path, monkeypatch):
    """A worker that is in another folder reads what the caller means."""
    variants, found = {"chunks of 5": VARIANTS["chunks of 5"]}, []
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        SpatialVAE.from_config(SpatialVAE.load_config(base.spatial)).save_pretrained(tmp_path / name / "spatial")
        monkeypatch.chdir(tmp_path / name)
        trial = dataclasses.replace(base, spatial="spatial")
        for jobs in (2, 1):  # in the second round, the workers are still in the first folder or one before
            out = tmp_path / f"{name}{jobs}"
            found.append(run_ablation(trial, variants, (0,), out, n_jobs=jobs, progress=False).trials["psnr"].tolist())
    assert found[0] == found[1] != found[2] == found[3]


def test_threads_take_turns(finished, base, tmp_path):
    """What torch and diffusers do while a model is made is of the whole process."""
    _, result = finished
    with joblib.parallel_config("threading", n_jobs=4):
        again = run_ablation(base, VARIANTS, (0,), tmp_path, progress=False)
    alone = numbers(result).iloc[:6].query("seed == 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(numbers(again), alone, check_exact=True)


def test_settings_of_a_process_are_fresh_for_every_trial(base, tmp_path):
    variants = {"bf16": {"mixed_precision": "bf16"}}
    result = run_ablation(dataclasses.replace(base, workers=1), variants, (0,), tmp_path, progress=False)
    assert result.failed.empty and result.trials["psnr"].nunique() == 2
    side_by_side = run_ablation(
        dataclasses.replace(base, workers=1, cached_clips=0), variants, (0,), tmp_path, n_jobs=2, progress=False
    )
    assert side_by_side.failed.empty


# ---- stopped, killed -----------------------------------------------------------------------------------------------


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_killed_it_loses_at_most_what_was_in_flight(finished, spatial, tmp_path, capsys):
    _, result = finished
    file, out = tmp_path / "file.toml", tmp_path / "out"
    file.write_text(TOML.format(spatial=spatial))
    command = ["ablate", str(file), str(out), "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_lab", *command], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: trial_files(out))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = trial_files(out)
    assert 1 <= len(kept) < 6
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(
        "Ablation: the base and 2 variants, 2 seeds\ntime error (1: std of 2D latents), mean ± std over seeds; "
    )
    assert kept.items() <= trial_files(out).items()  # the seconds in them too
    assert not list((out / "scratch" / "trainings").iterdir())  # nor those of the run that was killed
    read = pd.read_csv(out / "file" / "trials.csv")
    assert read["psnr"].tolist() == result.trials["psnr"].iloc[:6].tolist()


def test_workers_that_die(base, tmp_path):
    """Their trials are run again alone. One that dies again is a row with an error. The others are not harmed."""
    deadly.died(os.getpid()).unlink(missing_ok=True)
    deaths = {
        name: {"perceptual": f"tests.helpers.deadly:{name}", "perceptual_weight": 1.0} for name in ("Always", "Once")
    }
    result = run_ablation(base, deaths | VARIANTS, (0,), tmp_path, n_jobs=2, progress=False)
    deadly.died(os.getpid()).unlink()  # it was there
    assert result.failed["variant"].tolist() == ["Always"]
    assert result.failed["error"].iloc[0].startswith("WorkerDied: its worker died, and again in another try: Term")
    finished = {"base": True, "Always": False, "Once": True, "frame_group": True, "chunks of 5": True}
    assert result.trials.set_index("variant")["psnr"].notna().to_dict() == finished
    assert not list((tmp_path / "started").iterdir())


def test_a_trial_that_ends_the_whole_process_is_passed_in_the_next_run(spatial, tmp_path, capsys):
    """One job runs in the process itself. What was in flight when it died is then run in a worker."""
    file = tmp_path / "file.toml"
    variants = '[variants.deadly]\nperceptual = "tests.helpers.deadly:Always"\nperceptual_weight = 1.0\n'
    variants += "[variants.last]\nkl_weight = 1.0"
    text = TOML.format(spatial=spatial)
    file.write_text(text[: text.index("[variants")].replace("[0, 1]", "[0]") + variants)
    command = ["ablate", str(file), str(tmp_path / "out"), "--jobs", "1"]
    assert processes.run(command, tmp_path / "printed") == -signal.SIGKILL
    assert main(command) == 1
    assert "vae-lab ablate: deadly, seed 0: WorkerDied: its worker died" in capsys.readouterr().err
    trials = pd.read_csv(tmp_path / "out" / "file" / "trials.csv").set_index("variant")
    assert trials["psnr"].notna().to_dict() == {"base": True, "deadly": False, "last": True}


def test_a_finished_trial_that_looks_started_stays(finished, base):
    """As after a kill between the two steps of `finish`."""
    out, result = finished
    first, second = result.trials["key"][:2]
    before = trial_files(out)
    (out / "started" / first).touch()
    (out / "trials" / f"{second}.json").unlink()
    again = run_ablation(base, VARIANTS | FAILS, (0, 1), out, progress=False)
    pd.testing.assert_frame_equal(numbers(again), numbers(result), check_exact=True)
    assert trial_files(out)[f"{first}.json"] == before[f"{first}.json"]


def test_results_that_cannot_be_written_stop_it(spatial, tmp_path):
    """The kernel refuses files above 1 kB; no trial is said to have failed."""
    (tmp_path / "file.toml").write_text(TOML.format(spatial=spatial))
    command = ["ablate", tmp_path / "file.toml", tmp_path / "out", "--jobs", "1"]
    assert processes.run(command, tmp_path / "printed", largest_file=1000) == 1
    assert f"vae-lab ablate: could not write to {tmp_path / 'out'}: " in (tmp_path / "printed").read_text()
    assert trial_files(tmp_path / "out") == {}


@pytest.mark.filterwarnings("default")
def test_the_same_call_on_a_dask_cluster_one_of_whose_workers_is_killed(finished, base, tmp_path):
    import dask
    from distributed import Client, LocalCluster

    _, result = finished
    kept = {}
    once = {"distributed.scheduler.allowed-failures": 1}  # how often Dask runs a task again whose worker died
    options = dict(n_workers=2, threads_per_worker=1, host="localhost", dashboard_address=None)
    local = tmp_path / "dask"
    with dask.config.set(once), LocalCluster(**options, local_directory=local) as cluster, Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2 and os.getpid() not in pids

        def kill() -> None:
            wait_for(lambda: trial_files(tmp_path / "out"))
            os.kill(pids[0], signal.SIGKILL)
            kept.update(trial_files(tmp_path / "out"))

        killer = threading.Thread(target=kill)
        killer.start()
        with joblib.parallel_config("dask"):
            again = run_ablation(base, VARIANTS, (0, 1), tmp_path / "out", progress=False)
            killer.join()
            always = {"perceptual": "tests.helpers.deadly:Always", "perceptual_weight": 1.0}
            dead = run_ablation(base, {"deadly": always}, (0,), tmp_path / "out", "dead", progress=False)
    assert dead.failed["variant"].tolist() == ["deadly"]
    assert dead.failed["error"].iloc[0].startswith("WorkerDied: its worker died, and again in another try: Killed")
    assert 1 <= len(kept) < 6
    assert kept.items() <= trial_files(tmp_path / "out").items()
    same = numbers(result)[numbers(result)["variant"] != "mirrored"]
    pd.testing.assert_frame_equal(numbers(again), same, check_exact=True)


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_that_can_start_no_trial_stops_it(base, tmp_path, monkeypatch):
    from distributed import Client

    def not_installed(*_) -> None:
        raise ModuleNotFoundError("No module named 'vae_lab'")

    monkeypatch.setattr(ablation, "_work", not_installed)
    options = dict(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    refused = pytest.raises(AblationError, match=r"no trial could be started \(No module named 'vae_lab'\)")
    with Client(**options, local_directory=tmp_path / "dask"), joblib.parallel_config("dask"), refused:
        run_ablation(base, VARIANTS, (0,), tmp_path / "out", progress=False)
    assert not trial_files(tmp_path / "out")  # no trial is said to have failed


def test_a_second_ablation_in_the_folder_waits(finished, base, capsys):
    out, result = finished
    with FileLock(out / ".lock"):
        second = threading.Thread(target=run_ablation, args=(base, VARIANTS, (0, 1), out, "second"))
        second.start()
        wait_for(lambda: f"waiting for another ablation in {out}" in capsys.readouterr().err)
        assert second.is_alive() and not (out / "second").exists()
    second.join(60)
    assert (out / "second" / "table.csv").exists()


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": {"micro_frame_sise": 5}}, "variant 'a': TrialConfig has no field 'micro_frame_sise'; close matches: mi"),
        ({"a": {"model": {"pad_mod": "reflect"}}}, "variant 'a' cannot be built: .*field 'pad_mod'; close matches: pa"),
        ({"a": {"stages": {"latent": {"steps": 5}}}}, "variant 'a': stages has no field 'latent'; close matches: lat"),
        ({"a": {"stages": {"latents": {"step": 5}}}}, "variant 'a': Stage has no field 'step'; close matches: steps"),
        ({"a": {"size": 0}}, "variant 'a': size must be at least 1, got 0"),
        ({"a": {"size": 20}}, r"variant 'a' cannot be built: size \(20\) must be a multiple of the spatial ratio"),
        ({"a": {"model": {"base_channels": 13, "norm_num_groups": 2}}}, "variant 'a' cannot be built: .* multiple of"),
        ({"a": {"model": {"in_channels": 3}}}, r"variant 'a' cannot be built: model in_channels \(3\) must equal the"),
        ({"a": {"spatial": "nowhere"}}, "variant 'a' cannot be built: no checkpoint at nowhere"),
        ({"a": {"micro_frame_size": 5}, "b": {"micro_frame_size": 5}}, "variant 'b' is the same as variant 'a'"),
        ({"a": {"model": {"base_channels": 12}, "micro_frame_size": 17}}, "variant 'a' is the same as the base"),
        ({"a": {}}, "variant 'a' is the same as the base"),
        ({"a": {"seed": 5}}, "variant 'a' must not change seed"),
        ({"a": {"model": {"norm": "group"}}}, "variant 'a' is the same as the base"),  # the default, spelled out
        ({"a": {"model": {"is_causal": "false"}}}, "variant 'a' cannot be built: is_causal must be True or False, got"),
        ({"a": {"model": {"temporal_downsample": ["no", "yes"]}}}, "temporal_downsample must be True or False, got"),
        ({"a": {"measured_size": 20}}, r"variant 'a' cannot be built: measured_size \(20\) must be a multiple of the"),
        ({"a": {"cached_clips": 1.5}}, "variant 'a': cached_clips must be an integer from 0 to .*, got 1.5"),
        ({"a": {"image_fraction": "0.3"}}, "variant 'a': image_fraction must be a number of at least 0, got '0.3'"),
        ({"a": {"spatial": 5}}, "variant 'a': spatial must be a non-empty string, got 5"),
        ({"a": {"stages": []}}, "variant 'a': stages must hold at least one Stage"),
        ({"a": {"stages": {"latents": 5}}}, "variant 'a': stages must be a list of stages or a table of stage name"),
        ({"a": {"model": {"base_channels": {1, 2}}}}, "variant 'a': Object of type set is not JSON serializable"),
        ({"a": {"perceptual": "nothing:x", "perceptual_weight": 1.0}}, "there is no module 'nothing'"),
        ({"a": {"perceptual": "nothing", "perceptual_weight": 1.0}}, 'variant .a.: perceptual must be a text "module'),
        ({"base": {"micro_frame_size": 5}}, "a variant's name must be a printable text other than 'base', got 'base'"),
        ({"a\nb": {"micro_frame_size": 5}}, r"a variant's name must be a printable text .*, got 'a\\nb'"),
        ({"a": 5}, "variant 'a' must be a table of fields and values, got 5"),
        ({}, "variants must be a table of at least one name -> differences"),
    ],
)  # fmt: skip
def test_variants_that_are_refused(base, tmp_path, variants, message):
    with pytest.raises(ValueError, match=message):
        run_ablation(base, {"good": {"kl_weight": 0.5}} | variants if variants else variants, (0,), tmp_path)
    assert not (tmp_path / "trials").exists() or not trial_files(tmp_path)


@pytest.mark.parametrize("seeds", [(), (0, 0), (-1,), (0.5,), (True,), 3, None, [[0]]])
def test_seeds_that_are_refused(base, tmp_path, seeds):
    with pytest.raises(ValueError, match="seeds must be different whole numbers of at least 0, got "):
        run_ablation(base, VARIANTS, seeds, tmp_path)


def test_folders_that_are_refused(base, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="out must be a folder"):
        run_ablation(base, VARIANTS, (0,), tmp_path / "file")
    for name in ("trials", "", "a/b", "..", ".lock", "x" * 101, "a\0b", None):
        with pytest.raises(ValueError, match="name must be that of a folder in out, other than .*scratch, got"):
            run_ablation(base, VARIANTS, (0,), tmp_path, name)
    old = tmp_path / "old"
    (old / "trials").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds trials of unknown code: code_version is missing"):
        run_ablation(base, VARIANTS, (0,), old)
    (old / "code_version").write_text("0123456789ab\n")
    with pytest.raises(ValueError, match=r"another version of the code \(0123456789ab, this is [0-9a-f]{12}\)"):
        run_ablation(base, VARIANTS, (0,), old)


TRIAL = dict(key="{key}", config={}, metrics={}, frames={}, error="", traceback="", seconds=1.0)


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[]", "5", "null", "[" * 100_000]
    + [
        json.dumps(TRIAL | other)
        for other in (
            dict(key="another"), dict(metrics=5), dict(metrics={"psnr": "x"}), dict(metrics={"psnr": None}),
            dict(frames=5), dict(frames={"a": {}}), dict(frames={"a": {"psnr": [1.0], "time_error": []}}),
            dict(frames={"a": {"psnr": ["x"]}}), dict(error=None), dict(seconds="x"),
        )
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_damaged_trial_is_named(finished, base, text):
    out, result = finished
    path = out / "trials" / f"{result.trials['key'][0]}.json"
    path.write_text(text.replace("{key}", path.stem))
    with pytest.raises(ValueError, match=f"{path.name} is damaged .* remove it to run the trial again"):
        run_ablation(base, VARIANTS, (0, 1), out, progress=False)


def test_more_that_is_refused(base, tmp_path):
    for jobs in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="n_jobs must be an integer other than 0, or None, got "):
            run_ablation(base, VARIANTS, (0,), tmp_path, n_jobs=jobs)
    with pytest.raises(ValueError, match="data must be a folder of videos, there is none at .*nowhere"):
        run_ablation(base, VARIANTS, (0,), tmp_path, data=tmp_path / "nowhere")


def test_no_base(base, tmp_path):
    dated = dataclasses.replace(base, model={**base.model, "extra": datetime.date(1979, 5, 27)})
    with pytest.raises(ValueError, match="base: Object of type date is not JSON serializable"):
        run_ablation(dated, VARIANTS, (0,), tmp_path)
    with pytest.raises(ValueError, match="base must be a TrialConfig or a GenerationTrialConfig, got dict"):
        run_ablation({}, VARIANTS, (0,), tmp_path)


def test_a_class_that_fails_in_its_own_way_is_refused_too(tmp_path):
    stage = Stage(name="pixels", target="pixels", steps=1, learning_rate=1e-3, batch_size=1)
    spatial = TrialConfig(part="spatial", start="random", stages=[stage])
    with pytest.raises(ValueError, match="variant 'a' cannot be built: AttributeError: 'int' object has no attribute"):
        run_ablation(spatial, {"a": {"model": {"act_fn": 1}}}, (0,), tmp_path, progress=False)


# ---- files and the command -----------------------------------------------------------------------------------------


def test_scale(tmp_path):
    (tmp_path / "file.toml").write_text(TOML.format(spatial="lab") + "stages.latents.steps = 5")
    small, large = (read_ablation_file(tmp_path / "file.toml", scale) for scale in (0.01, 2.5))
    numbers = lambda a: (a["base"].steps, a["base"].warmup_steps, a["base"].cached_clips)  # noqa: E731
    assert numbers(small) == (1, 1, 1) and numbers(large) == (8, 5, 10)  # 3, 2 and 4
    assert large["variants"]["chunks of 5"] == {"micro_frame_size": 5, "stages": {"latents": {"steps": 13}}}
    tenth = (tmp_path / "file.toml", 1.1)
    (tmp_path / "file.toml").write_text(TOML.format(spatial="lab").replace("steps = 3", "steps = 100"))
    assert read_ablation_file(*tenth)["base"].steps == 110  # 100 * 1.1 is a little more in floating point
    assert read_ablation_file(tmp_path / "file.toml", 1e-12)["base"].cached_clips == 1  # 0 would be another thing
    with pytest.raises(ValueError, match="file.toml: cannot convert float infinity to integer"):
        read_ablation_file(tmp_path / "file.toml", 1e308)
    with pytest.raises(ValueError, match="scale must be above 0 and finite, got 0"):
        read_ablation_file(tmp_path / "file.toml", 0)


def test_half_is_read_as_the_old_name_of_part_in_files(tmp_path):
    text = TOML.format(spatial="lab")
    (tmp_path / "new.toml").write_text(text)
    (tmp_path / "old.toml").write_text(text.replace("part = ", "half = "))
    with pytest.warns(FutureWarning, match="half is now called part"):
        old = read_ablation_file(tmp_path / "old.toml")
    assert old == read_ablation_file(tmp_path / "new.toml") and type(old["base"]) is TrialConfig


def test_the_bundled_files_are_good(tmp_path):
    files = sorted((ROOT / "data" / "ablations").glob("*.toml"))
    assert files
    for file in files:
        arguments = read_ablation_file(file)
        configs = ablation_plan.configs_of(arguments["base"], arguments["variants"])
        ablation._check_buildable(configs, set(configs))


def test_the_bundled_files_share_their_base():
    """Its trials are run once, for seven of them; two others share theirs."""
    bases = [read_ablation_file(file)["base"] for file in (ROOT / "data" / "ablations").glob("*.toml")]
    assert sorted(sum(base == other for other in bases) for base in bases) == [1] * 4 + [2] * 2 + [7] * 7


def test_a_worker_with_other_code_is_refused(base, tmp_path, monkeypatch):
    """As on a cluster whose machines were not all brought up to date: `workers` see other versions of libraries."""
    monkeypatch.setattr(ablation, "LIBRARIES", (*ablation.LIBRARIES, "scipy"))  # here, and not in the workers
    with pytest.raises(AblationError, match=r"a worker has another version of the code \(.{12}\) than the ablation"):
        run_ablation(base, VARIANTS, (0,), tmp_path, n_jobs=2, progress=False)
    assert trial_files(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0]\nvariant = 3", "an ablation has no field 'variant'; close matches: variants"),
        ("seeds = [0]\n[variants]", r"an ablation needs a table \[base\]"),
        ("[base]\npart = 'temporal'\n[variants]", "TrialConfig needs a value for 'stages'"),
        ("seeds = [0", "file.toml: "),
        (f"seeds = {'[' * 5000}{']' * 5000}", "file.toml: maximum recursion depth exceeded"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "file.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_ablation_file(tmp_path / "file.toml")
    assert str(error.value).startswith(str(tmp_path / "file.toml"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_that_it_resumes(number, code, spatial, tmp_path):
    (tmp_path / "mine.toml").write_text(TOML.format(spatial=spatial))
    stop = processes.stop_in("vae_lab.ablation.trial", "run_trial", number)
    out, printed = tmp_path / "out", tmp_path / "printed"
    process = processes.start(["ablate", tmp_path / "mine.toml", out, "--jobs", "1"], printed, before=stop)
    process.join(60)
    assert process.exitcode == code
    message = f"interrupted; finished trials are in {out}, and the same command resumes"
    assert printed.read_text().splitlines()[-1] == f"vae-lab ablate: {message}"


def test_the_command_tells_of_failed_trials(finished, spatial, tmp_path, capsys):
    out, _ = finished
    text, failing = TOML.format(spatial=spatial), '[variants.mirrored]\nmodel.time_pad_mode = "reflect"\n'
    (tmp_path / "mine.toml").write_text(text + failing)
    assert main(["ablate", str(tmp_path / "mine.toml"), str(out), "--jobs", "1"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("Ablation: the base and 3 variants, 2 seeds, 2 failed trials\n")
    assert 'vae-lab ablate: mirrored, seed 0: ValueError: time_pad_mode "reflect"' in printed.err
    assert printed.err.endswith("failed trials are kept as they are; --retry-failed runs them again\n")
    assert pd.read_csv(out / "mine" / "table.csv")["variant"].nunique() == 4
    (tmp_path / "mine.toml").write_text(text[: text.index("[variants")].replace("[0, 1]", "[0]") + failing)
    assert main(["ablate", str(tmp_path / "mine.toml"), str(tmp_path), "--jobs", "1", "--scale", "0.5"]) == 1
    assert (tmp_path / "mine_x0.5" / "table.csv").exists()  # beside the tables of other scales
    assert main(["ablate", str(tmp_path / "nothing.toml")]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["ablate", str(tmp_path / "mine.toml"), ""])
    assert 'a path must not be empty; the current folder is "."' in capsys.readouterr().err
