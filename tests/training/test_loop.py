"""Real, small runs: stopped, killed, spread over processes, on a full disk."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.helpers import ROOT, processes
from tests.helpers.training import SPATIAL, TEMPORAL, spatial_config, temporal_config
from vae_lab import SpatialVAE, VideoVAE, load, photo_clip, write_video
from vae_lab.__main__ import main
from vae_lab.families import FAMILIES, Codec, codec_of, tiny_model
from vae_lab.training.config import Stage, TrainConfig
from vae_lab.training.data import Inputs, SyntheticClips, to_pixels
from vae_lab.training.loop import train
from vae_lab.training.models import frozen_spatial, new_half
from vae_lab.training.resumable_run import check_environment
from vae_lab.training.run_folder import RunFolder, TrainingError, read_log

TOML = """
part = "spatial"
size = 16
checkpoint_every = 3
log_every = 1
measure_every = 5
warmup_steps = 2
[model]
block_out_channels = [8, 8, 8, 8]
layers_per_block = 1
norm_num_groups = 1
mid_block_add_attention = false
[[stages]]
name = "pixels"
steps = {steps}
learning_rate = 1e-3
batch_size = {batch}
"""


def video_config(**changes) -> TrainConfig:
    """A whole VAE from pixels."""
    stage = Stage(name="pixels", steps=4, learning_rate=1e-3, batch_size=2, num_frames=(9, 9))
    settings = dict(part="whole", size=16, image_fraction=0.3, start="random", checkpoint_every=2, log_every=1)
    model = dict(spatial_config=SPATIAL, temporal_config=TEMPORAL)
    return TrainConfig(**settings | dict(stages=(stage,), model=model) | changes)


def weights(vae) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in vae.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def spatial(few_clips, tmp_path_factory):
    """The folder of a 2D half that was trained a little, as `spatial_config` says."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("spatial")
    train(spatial_config(), folder, progress=False)
    return folder / "model"


@pytest.fixture(scope="module", autouse=True)
def few_clips():
    """Fewer clips for measurements and statistics, which are most of the time of so short a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_lab.training.data.MEASURED_CLIPS", 2)
        patch.setattr("vae_lab.training.data.STATISTICS_CLIPS", 8)
        yield


class Run(NamedTuple):
    folder: Path
    vae: VideoVAE
    seen: list[tuple]
    """(step, steps, shape of a reconstruction) for each call of `watch`."""


@pytest.fixture(scope="module")
def whole(few_clips, spatial, tmp_path_factory):
    """`temporal_config` trained without a stop, once for each number of cached clips."""

    @cache
    def run(cached_clips: int = 4) -> Run:
        folder, seen, x = tmp_path_factory.mktemp("whole"), [], torch.zeros(1, 3, 5, 16, 16)

        def watch(progress):
            seen.append((progress.log[-1]["step"], progress.steps, progress.vae.reconstruct(x).sample.shape))

        config = temporal_config(spatial, cached_clips=cached_clips)
        return Run(folder, train(config, folder, watch=watch, progress=False), seen)

    return run


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "vae_lab", "train", *map(str, arguments)]


def quiet_environment() -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_the_2d_half_learns_and_its_latents_have_unit_scale(tmp_path):
    vae = train(spatial_config(40, measure_every=20), tmp_path, progress=False)
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert np.mean([row["loss"] for row in rows[-10:]]) < np.mean([row["loss"] for row in rows[:10]])
    assert [row["step"] for row in rows if "psnr" in row] == [20, 40]
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] < rates[10] and max(rates) <= 1e-3 and rates[-1] < 1e-5  # warmed up, decayed
    loaded = load(tmp_path / "model")
    assert isinstance(loaded, SpatialVAE) and same(weights(loaded), weights(vae))
    assert all(p.is_contiguous() for model in (loaded, vae) for p in model.parameters())  # results depend on it
    x = torch.from_numpy(np.stack([photo_clip("motorcycle_left", 1, (16, 16), seed=s).frames[0] for s in range(16)]))
    z = loaded.encode(x.permute(0, 3, 1, 2)[:, :, None] / 127.5 - 1).latent_dist.mode()
    assert 0.3 < z.std() < 3


def test_three_stages_leave_the_2d_half_as_it_was(spatial, whole):
    folder, vae, _ = whole()
    assert isinstance(vae, VideoVAE)
    assert same(weights(vae.spatial), weights(load(spatial)))
    rows = read_log(folder / "log.csv")
    assert [row["stage"] for row in rows] == ["identity"] * 4 + ["latents"] * 3 + ["pixels"] * 3
    assert {row["stage"] for row in rows if "identity" in row} == {"identity"}
    loaded = load(folder / "model")
    assert same(weights(loaded), weights(vae))
    z = torch.cat([loaded.encode(torch.rand(1, 3, 6, 16, 16) * 2 - 1).latent_dist.mode() for _ in range(4)])
    assert 0.3 < loaded.normalize(z).std() < 3


def test_without_a_cache_new_latents_are_made_at_every_step(whole):
    folder, vae, _ = whole(cached_clips=0)
    assert not (folder / "cache").exists()
    assert not same(weights(vae), weights(whole().vae))
    assert vae.encode(torch.zeros(1, 3, 5, 16, 16)).latent_dist.mode().shape == (1, 4, 2, 2, 2)


def test_runs_of_the_command_share_their_latents(spatial, tmp_path):
    recipe = tmp_path / "temporal.toml"
    stage = '[[stages]]\nname = "one"\nsteps = 1\nlearning_rate = 1e-3\nnum_frames = [2, 3]\n'
    settings = f'part = "temporal"\nspatial = "{spatial}"\nsize = 16\ncached_clips = 2\n'
    model = "[model]\n" + "".join(f"{key} = {value!r}\n" for key, value in TEMPORAL.items())
    model = model.replace("(", "[").replace(")", "]").replace("True", "true")
    recipe.write_text(settings + stage + model)
    made = []
    for name in ("a", "b"):
        assert main(["train", str(recipe), str(tmp_path / name), "--cache", str(tmp_path / "shared")]) == 0
        assert not (tmp_path / name / "cache").exists()
        (latents,) = (tmp_path / "shared").glob("latents-*/latents.npy")
        made.append(latents.stat().st_mtime_ns)
    assert made[0] == made[1]


def test_a_watcher_sees_every_row_and_a_model_of_pixels(whole):
    assert whole().seen == [(step, 10, (1, 3, 5, 16, 16)) for step in range(1, 11)]


def test_watching_does_not_change_what_comes_out(spatial, whole, tmp_path):
    """Nor how often rows are logged and measured."""
    plain = train(temporal_config(spatial, log_every=3, measure_every=2), tmp_path, progress=False)
    assert same(weights(plain), weights(whole().vae))


def test_videos_of_a_folder_bad_files_skipped_and_listed(spatial, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    write_video(data / "good.mp4", photo_clip("motorcycle_left", 8, (32, 48), seed=1).frames)
    (data / "bad.mp4").write_bytes(b"not a video")
    assert main(["train", str(write_toml(tmp_path, 2)), str(tmp_path / "out"), "--data", str(data)]) == 0
    printed = capsys.readouterr()
    assert "skipped" in printed.out + printed.err and "bad.mp4" in printed.out + printed.err
    assert "model" in printed.out and (tmp_path / "out" / "model" / "config.json").exists()


def write_toml(folder, steps: int, batch: int = 2):
    path = folder / f"run-{steps}-{batch}.toml"
    path.write_text(TOML.format(steps=steps, batch=batch))
    return path


# ---- stopped and started again -------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7, 9])
def test_stopped_anywhere_it_ends_with_the_same_bits(spatial, whole, tmp_path, stop_at):
    def stop(progress):
        if progress.log[-1]["step"] == stop_at:
            raise Stop

    cached_clips = 4 if stop_at % 2 else 0
    config = temporal_config(spatial, cached_clips=cached_clips)
    folder, vae, _ = whole(cached_clips)
    with pytest.raises(Stop):
        train(config, tmp_path, watch=stop, progress=False)
    parts = train(config, tmp_path, progress=False)
    assert same(weights(vae), weights(parts))
    logs = [read_log(run / "log.csv") for run in (folder, tmp_path)]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in logs[0]] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in logs[1]
    ]
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert same(weights(train(config, tmp_path, progress=False)), weights(vae))  # finished: only loaded
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path):
    path = write_toml(tmp_path, 40)
    log, printed, kills = tmp_path / "killed" / "log.csv", tmp_path / "printed", 0
    assert processes.run(["train", path, tmp_path / "whole"], printed) == 0, printed.read_text()
    again = ["train", path, tmp_path / "killed"]
    for steps in (4, 11, 23):  # killed at once when this many rows are written, whatever is going on
        process = processes.start(again, printed)
        end = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < end:
            if log.exists() and len(log.read_text().splitlines()) > steps:
                process.kill()
                break
            time.sleep(0.002)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills == 3
    assert processes.run(again, printed) == 0, printed.read_text()
    a, b = (load(tmp_path / name / "model") for name in ("whole", "killed"))
    assert same(weights(a), weights(b))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_where_to_go_on(number, code, tmp_path):
    printed = tmp_path / "printed"
    process = processes.start(["train", write_toml(tmp_path, 40_000), tmp_path / "out"], printed)
    while process.is_alive() and not (tmp_path / "out" / "checkpoint.pt").exists():
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    last = printed.read_text().splitlines()[-1]
    assert last.startswith("vae-lab train: interrupted; the last good checkpoint is")
    assert last.endswith("the same command resumes from it")


def test_training_goes_on_from_the_weights_of_a_checkpoint(spatial, tmp_path):
    rate = (Stage(name="pixels", steps=1, learning_rate=0.0, batch_size=1),)
    again = train(spatial_config(start=str(spatial), model={}, stages=rate), tmp_path / "a", progress=False)
    assert same(weights(again), weights(load(spatial)))
    assert again.config.block_out_channels == load(spatial).config.block_out_channels
    with pytest.raises(ValueError, match="model must be left out if start is a checkpoint"):
        spatial_config(start=str(spatial))
    with pytest.raises(ValueError, match="must have a temporal half of the lab, it is SpatialVAE"):
        train(temporal_config(spatial, start=str(spatial), model={}), tmp_path / "b", progress=False)


def test_a_run_that_was_stored_with_the_old_name_of_part_resumes(tmp_path):
    """`half`, in checkpoint.pt; without a warning, since nobody has to change it."""
    config = spatial_config(2)
    whole = train(config, tmp_path, progress=False)
    (tmp_path / "model").rename(tmp_path / "before")  # as stopped just before the model was written
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["config"]["half"] = state["config"].pop("part")
    torch.save(state, tmp_path / "checkpoint.pt")
    assert same(weights(train(config, tmp_path, progress=False)), weights(whole))
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [1, 2]
    state["config"]["half"] = "video"
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="holds a run with another part: choose another folder"):
        train(config, tmp_path, progress=False)


def test_a_folder_of_another_run_is_refused(tmp_path):
    train(spatial_config(2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="holds a run with another seed, stages: choose another folder, or remove it"):
        train(spatial_config(3, seed=5), tmp_path, progress=False)
    train(spatial_config(2, log_every=7), tmp_path, progress=False)  # does not change the weights
    with pytest.raises(ValueError, match="holds a run on other clips, or behind another 2D half"):
        train(spatial_config(2), tmp_path, ROOT / "data", progress=False)


def test_one_training_at_a_time_in_a_folder(tmp_path):
    def second(progress):
        train(spatial_config(), tmp_path, progress=False)

    with pytest.raises(TrainingError, match="another training is at work in"):
        train(spatial_config(), tmp_path, watch=second, progress=False)


# ---- what can go wrong ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(spatial, tmp_path, monkeypatch):
    from vae_lab.training import losses

    calls = []
    real = losses.noise_like

    def noise(x, seeds):
        calls.append(seeds)
        return real(x, seeds) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(losses, "noise_like", noise)
    message = "no longer finite at step 3: z must be finite.*; the last good checkpoint is .*, after step 2"
    with pytest.raises(TrainingError, match=message):
        train(spatial_config(), tmp_path, progress=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2 and all(value.isfinite().all() for value in state["half"].values())
    monkeypatch.undo()
    assert same(weights(train(spatial_config(), tmp_path, progress=False)), weights(load(spatial)))


def test_a_full_disk_stops_with_the_last_good_checkpoint(tmp_path):
    path, (out, first, printed) = write_toml(tmp_path, 9), (tmp_path / name for name in ("out", "first", "printed"))
    process = processes.start(["train", path, first], printed)
    while process.is_alive() and not (first / "checkpoint.pt").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    shutil.copytree(first, out)
    good = (out / "checkpoint.pt").read_bytes()
    assert processes.run(["train", path, out], printed, largest_file=len(good) // 2) == 1
    text = printed.read_text()
    assert "could not write the checkpoint of step" in text and "the last good checkpoint is" in text
    assert "Traceback" not in text
    assert (out / "checkpoint.pt").read_bytes() == good
    assert not list(out.glob(".*partial*"))
    assert processes.run(["train", path, out], printed) == 0, printed.read_text()  # with room again it goes on


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(seed=-1), "seed must be an integer from 0 to 9223372036854775807, got -1"),
        (
            dict(model=TEMPORAL | dict(base_chanels=8)),
            r"model \(TemporalVAE\) has no field 'base_chanels'; close matches: base_c",
        ),
        (dict(size=20), r"size \(20\) must be a multiple of the spatial ratio \(8\)"),
        (dict(model=TEMPORAL | dict(in_channels=3)), r"model in_channels \(3\) must equal the 4 latent channels"),
        (
            dict(model=TEMPORAL | dict(base_channels=8)),
            "start_as_interpolation needs norm groups of at least 4 channels",
        ),
    ],
)
def test_what_cannot_be_trained(spatial, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(temporal_config(spatial, **changes), tmp_path, progress=False)


def test_a_2d_half_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere"):
        train(temporal_config(tmp_path / "nowhere"), tmp_path, progress=False)


class Distance(torch.nn.Module):
    def forward(self, x, y):
        return (x - y).square().mean(dim=(1, 2, 3))


def test_a_perceptual_distance_is_named_by_its_module(tmp_path):
    config = spatial_config(2, perceptual=f"{__name__}:Distance", perceptual_weight=0.5)
    train(config, tmp_path / "out", progress=False)
    for row in read_log(tmp_path / "out" / "log.csv"):
        assert row["perceptual"] == pytest.approx(row["mse"], rel=1e-5)
    with pytest.raises(ValueError, match="perceptual must be a text .module:name., got 'lpips'"):
        spatial_config(2, perceptual="lpips", perceptual_weight=0.5)
    for name in ("no_such_module:LPIPS", f"{__name__}:Nothing"):
        with pytest.raises(ValueError, match=f'perceptual must be "module:name" of an importable module, .{name}'):
            train(spatial_config(2, perceptual=name, perceptual_weight=0.5), tmp_path / "x", progress=False)


# ---- several processes ---------------------------------------------------------------------------------------------


def test_two_processes_are_one_with_twice_the_batch(tmp_path, capsys):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]  # fmt: skip
    run = dict(cwd=ROOT, env=quiet_environment() | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    two = subprocess.run([*launch, *command(write_toml(tmp_path, 6, 2), tmp_path / "two")[2:]], **run)
    assert two.returncode == 0, two.stderr
    assert main(["train", str(write_toml(tmp_path, 6, 4)), str(tmp_path / "one")]) == 0
    logs = [read_log(tmp_path / name / "log.csv") for name in ("one", "two")]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == list(range(1, 7))
    for a, b in zip(*logs, strict=True):
        for name in ("loss", "mse", "l1", "kl", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), (a["step"], name)
    assert logs[0][0]["loss"] == pytest.approx(logs[1][0]["loss"], rel=1e-5)
    assert main(["train", str(write_toml(tmp_path, 6, 2)), str(tmp_path / "two")]) == 2
    assert "holds a run on 2 processes, which 1 cannot continue" in capsys.readouterr().err


# ---- a whole VAE from pixels ---------------------------------------------------------------------------------------

COGVIDEOX = dict(
    class_name="AutoencoderKLCogVideoX", block_out_channels=[8, 8, 8, 8], layers_per_block=1, latent_channels=4,
    norm_num_groups=2,
)  # fmt: skip


@pytest.mark.parametrize("model", [dict(spatial_config=SPATIAL, temporal_config=TEMPORAL), COGVIDEOX])
def test_a_whole_vae_is_trained_from_pixels(tmp_path, model):
    config = video_config(model=model)
    before = new_half(config)
    vae = train(config, tmp_path, progress=False)
    assert type(vae) is type(before) and type(vae).__name__ == model.get("class_name", "VideoVAE")
    still = [name for name, value in vae.named_parameters() if torch.equal(value, before.get_parameter(name))]
    assert still == []  # nothing is frozen
    again = load(tmp_path / "model")
    assert same(weights(again), weights(vae))
    z = torch.cat([codec_of(vae).encode(x) for x in Inputs(config, SyntheticClips(), None, "cpu", 0).for_statistics()])
    if "class_name" in model:
        assert again.config.scaling_factor == pytest.approx(1 / z.std().item(), rel=1e-4)
    else:
        assert again.shift.flatten().tolist() == pytest.approx(z.mean((0, 2, 3, 4)).tolist(), abs=1e-5)
        assert again.scale.flatten().tolist() == pytest.approx(z.std((0, 2, 3, 4)).tolist(), rel=1e-4)
        for name, half in (("spatial_config", vae.spatial), ("temporal_config", vae.temporal)):
            assert set(again.config[name]) == set(signature(type(half)).parameters)  # also those left at their default
    assert {row["stage"] for row in read_log(tmp_path / "log.csv")} == {"pixels"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model=dict(class_name="AutoencoderKLWann")), "class_name must be .* an AutoencoderKL class of diffusers"),
        (dict(model=COGVIDEOX, start="interpolation"), 'start must be "random" or a checkpoint for AutoencoderKLCogV'),
        (dict(model=COGVIDEOX | dict(latent_chanels=4)), "has no field 'latent_chanels'; close matches: latent_chan"),
        (dict(model=COGVIDEOX | dict(block_out_channels=[])), "AutoencoderKLCogVideoX. cannot be built"),
    ],
)
def test_whole_vaes_that_cannot_be_built(changes, message):
    with pytest.raises(ValueError, match=message):
        new_half(video_config(**changes))


def test_a_run_may_start_by_carrying_frames():
    """Eight channels hold two of a group's four frames: closer to the latents than one frame and straight lines."""
    model = dict(base_channels=24, channel_multipliers=[1, 2, 2], temporal_downsample=[True, True], num_res_blocks=1,
                 norm_num_groups=2, latent_channels=8)  # fmt: skip
    z = torch.randn(1, 4, 17, 4, 4, generator=torch.Generator().manual_seed(0))
    errors = {}
    for start in ("frames", "interpolation"):
        half = new_half(temporal_config("lab", model=model, start=start))
        y = half.decode(half.encode(z).latent_dist.mode(), 17).sample
        errors[start] = (y - z).square().mean((0, 1, 3, 4))
    assert errors["frames"][::2].max() < 0.01 < 0.3 < errors["frames"][1::2].min()
    assert errors["frames"].mean() < 0.8 * errors["interpolation"].mean()


@pytest.mark.filterwarnings("ignore:.*so nothing is taken from that record")
def test_layers_that_draw_are_seeded_too(tmp_path, monkeypatch):
    """Dropout: whatever torch's generator has given before, also to a run that goes on in the middle."""
    wan = dict(class_name="AutoencoderKLWan", base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, dropout=0.3,
               temperal_downsample=[True])  # fmt: skip
    stage = Stage(name="pixels", steps=4, learning_rate=1e-3, batch_size=1, num_frames=(5, 5))
    config = video_config(model=wan, stages=(stage,), image_fraction=0.0, log_every=1, checkpoint_every=1)

    def stop(progress):
        if progress.log[-1]["step"] == 3:
            raise Stop

    def stopped_at_the_end(*_):
        raise Stop

    whole = weights(train(config, tmp_path / "whole", progress=False))
    torch.manual_seed(99)
    with pytest.raises(Stop):
        train(config, tmp_path / "middle", watch=stop, progress=False)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(RunFolder, "write_model", stopped_at_the_end)
        train(config, tmp_path / "end", progress=False)  # all is there but the model with its statistics
    modes = []
    encode = Codec.encode

    def noted(codec, x):
        if not x.is_meta:
            modes.append(codec.vae.training)
        return encode(codec, x)

    monkeypatch.setattr(Codec, "encode", noted)
    for name in ("middle", "end"):
        assert same(weights(train(config, tmp_path / name, progress=False)), whole)
    assert set(modes) == {False}  # nothing is dropped where the latents' statistics are taken
    without = dataclasses.replace(config, model=wan | dict(dropout=0.0))
    assert not same(weights(train(without, tmp_path / "without", progress=False)), whole)


MINIMAX = dict(class_name="AutoencoderKLMiniMaxH3", **FAMILIES["minimax-h3"].tiny)


@pytest.mark.parametrize(
    ("model", "num_frames", "images", "message"),
    [
        (
            COGVIDEOX, (5, 9), 0.0, "num_frames (5, 9) of stage 'pixels' must hold lengths that the model keeps: "
            "AutoencoderKLCogVideoX (CogVideoX) returns 8 frames for 5; nearest lengths that it keeps: 1 and 8",
        ),
        (MINIMAX, (22, 22), 0.1, "image_fraction (0.1) must hold lengths that the model keeps: "),
        # a variant that the table of families does not know
        (
            COGVIDEOX | dict(temporal_compression_ratio=2), (3, 3), 0.0,
            "cannot be trained on clips of shape (1, 3, 3, 16, 16): it returns (1, 3, 4, 16, 16)",
        ),
        (COGVIDEOX | dict(in_channels=4), (8, 8), 0.0, "must encode clips of shape (1, 3, 8, 16, 16), but Auto"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*so nothing is taken from that record")
def test_a_model_that_does_not_keep_the_length(model, num_frames, images, message, tmp_path):
    stage = Stage(name="pixels", steps=1, learning_rate=1e-3, batch_size=1, num_frames=num_frames)
    with pytest.raises(ValueError, match=re.escape(message)):
        train(video_config(model=model, stages=(stage,), image_fraction=images), tmp_path / "run", progress=False)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "run"]


def test_a_size_that_a_model_does_not_take(tmp_path):
    """CogVideoX's class does not tell its spatial ratio."""
    with pytest.raises(ValueError, match=r"size \(20\) must be a multiple of the spatial ratio \(8\)"):
        train(video_config(model=COGVIDEOX, size=20), tmp_path, progress=False)


def test_a_model_without_a_posterior(tmp_path):
    tiny_model("DC-AE").save_pretrained(tmp_path / "dc")
    config = video_config(model={}, start=str(tmp_path / "dc"), size=32)
    with pytest.raises(
        ValueError, match="AutoencoderDC cannot be trained: .* IdentityDistribution has no mean and no s"
    ):
        train(config, tmp_path / "run", progress=False)


def test_2d_latents_with_another_factor(spatial, tmp_path):
    """The temporal half is trained on, and the model is saved with, latents that are as much larger."""
    own = frozen_spatial(spatial)
    factor = 2 * own.config.scaling_factor
    x = torch.rand(1, 3, 2, 16, 16)
    larger = codec_of(frozen_spatial(spatial, factor)).encode(x)
    torch.testing.assert_close(larger, 2 * codec_of(own).encode(x))
    vae = train(temporal_config(spatial, spatial_scaling_factor=factor), tmp_path, progress=False)
    assert vae.spatial.config.scaling_factor == factor
    cache = np.load(next((tmp_path / "cache").glob("*/latents.npy")))
    frames = np.load(next((tmp_path / "cache").glob("*/frames.npy")))
    expected = codec_of(own).encode(to_pixels(torch.from_numpy(frames[:1])))[0].transpose(0, 1).numpy() * 2
    np.testing.assert_allclose(cache[0], expected, rtol=1e-4, atol=1e-5)
    message = "spatial_scaling_factor must be a number above 0, for part .temporal. only, got 0.0"
    with pytest.raises(ValueError, match=message):
        temporal_config(spatial, spatial_scaling_factor=0.0)
    with pytest.raises(ValueError, match="must be a number above 0, .* got 0.5 for part 'spatial'"):
        spatial_config(spatial_scaling_factor=0.5)


def test_a_temporal_half_with_other_channels_than_the_2d_half(spatial, tmp_path):
    config = temporal_config(spatial, model=TEMPORAL | dict(latent_channels=8))
    with pytest.raises(ValueError, match=r"identity_weight .* model latent_channels \(8\) must equal 4"):
        train(config, tmp_path / "identity", progress=False)
    vae = train(dataclasses.replace(config, stages=config.stages[1:]), tmp_path / "none", progress=False)
    assert len(vae.config.latents_mean) == 8
    assert load(tmp_path / "none" / "model").latent_size((17, 16, 16)) == (5, 2, 2)


def test_gradients_that_the_caller_has_switched_off(spatial, tmp_path):
    with torch.no_grad():
        vae = train(spatial_config(), tmp_path, progress=False)
        assert not torch.is_grad_enabled()
    assert same(weights(vae), weights(load(spatial)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2"),
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_DOWNCAST_BF16", "true"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"),
        ("ACCELERATE_USE_DEEPSPEED", "true"),
        ("ACCELERATE_USE_FSDP", "True"),
        ("ACCELERATE_USE_MEGATRON_LM", "1"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true"),
    ],
)
def test_variables_that_would_change_the_weights_are_refused(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"environment variable {name} .*config alone"):
        train(spatial_config(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_accelerate_launch_sets_without_being_asked_is_no_contradiction(monkeypatch):
    for name, value in (("GRADIENT_ACCUMULATION_STEPS", "1"), ("MIXED_PRECISION", "no"), ("DYNAMO_BACKEND", "NO")):
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    check_environment("bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    check_environment("bf16")
