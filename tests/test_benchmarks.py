"""The benchmarks run, on small models. What they measure is for `make bench`: no test looks at times."""

import copy
import json

import pytest
import torch

from benchmarks import cached_latents, frames, gpu, measuring, models, phases, plans, reading, streaming
from tests.helpers import small_vae
from tests.helpers.training import TEMPORAL, spatial_config
from vae_lab.training.loop import train


def test_cached_latents_prints_a_ratio(tmp_path, capsys):
    train(spatial_config(2), tmp_path / "spatial", progress=False)
    model = "".join(f"{key} = {str(value).lower()}\n" for key, value in TEMPORAL.items())
    model = model.replace("(", "[").replace(")", "]")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'part = "temporal"\nspatial = "{tmp_path / "spatial" / "model"}"\nsize = 16\n[model]\n{model}[[stages]]\n'
        'name = "latents"\ntarget = "latents"\nsteps = 100\nlearning_rate = 1e-3\nbatch_size = 2\n'
    )
    ratio = cached_latents.main(["--recipe", str(recipe), "--rounds", "2", "--steps", "2"])
    printed = capsys.readouterr().out
    assert ratio > 0 and f"cached latents: {ratio:.1f} times the steps per second" in printed


def test_streaming_prints_a_ratio_and_peaks(tmp_path, capsys):
    small_vae(temporal=dict(norm="frame_group")).save_pretrained(tmp_path)
    sizes = ["--rounds", "2", "--frames", "8", "--size", "8", "--piece", "4", "--lengths", "5", "9"]
    ratio = streaming.main(["--model", str(tmp_path), *sizes])
    printed = capsys.readouterr().out
    assert ratio > 0 and f"streaming: {ratio:.2f} times the speed of one call" in printed
    assert "9 frames streamed: peak" in printed and "memory: " in printed


def test_reading_prints_a_ratio_for_each_size(capsys):
    ratio = reading.main(["--rounds", "1", "--pixels", "1"])
    printed = capsys.readouterr().out
    assert ratio > 0 and printed.count("accurate has") == 4 and "1920x1080: fast" in printed


def test_straightforward_computes_the_same_in_another_way():
    vae = small_vae(micro_frame_size=None)
    x = torch.rand(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sizes, usual = [], vae.reconstruct(x).sample
    hook = vae.spatial.autoencoder.encoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with measuring.straightforward(), torch.profiler.profile() as profile:
        torch.testing.assert_close(vae.reconstruct(x).sample, usual)
    assert sizes == [4, 1] and "aten::constant_pad_nd" in {event.name for event in profile.events()}
    hook.remove()


def test_models_measures_and_prints_every_way(capsys, monkeypatch):
    sizes = dict(rounds=1, peaks=True)
    ways = ("straightforward", "exact", "F4", *models.PEERS)
    cases = (
        models.Case("temporal", "lab", (5, 4, 4), **sizes, ways=models.EXACT),
        models.Case("stack", "lab", (5, 16, 16), **sizes, ways=ways),
    )
    monkeypatch.setattr(models, "SHORT", cases)
    monkeypatch.setattr(models, "LENGTHS", {"short": (1, 5)})
    found, printed = models.main([]), capsys.readouterr().out
    assert [row["way"] for row in found["rows"]] == 2 * [*models.EXACT] + 2 * [*ways]
    assert all(0 < row["error"] < 1e-5 for row in found["rows"] if row["way"] not in models.PEERS)
    assert all(row["cpu"] > 0 and row["peak"] >= 0 for row in found["rows"])  # 0: memory in use before was enough
    assert [row["frames"] for row in found["lengths"]] == [1, 5]
    assert "stack, lab, 5x16x16" in printed and "temporal half, lab, 5x4x4 cells" in printed
    assert json.loads(json.dumps(found)) == found


def test_phases_times_a_reconstruction(capsys):
    found = phases.main(["--frames", "3"])
    assert found["frames"] == 3 and all(value > 0 for value in found.values())
    assert "frames a second" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_measured_on_it(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == {} and "no CUDA device" in capsys.readouterr().out


def test_what_a_gpu_would_run_gives_the_clip_back():
    small = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    for vae, size in ((small.temporal, (5, 4, 4)), (small.spatial, (6, 16, 16)), (small, (5, 16, 16))):
        x = models.clip("temporal" if vae is small.temporal else "spatial", size, torch.float64)
        found = {
            name: gpu.round_trip(way, copy.deepcopy(vae), x)()
            for name, way in gpu.WAYS.items()
            if way.within != "bf16" and not way.compiled
        }
        truth = gpu.round_trip(gpu.Way(torch.float64), copy.deepcopy(vae), x)()
        for name, y in found.items():
            assert y.shape == truth.shape and y.dtype == gpu.WAYS[name].dtype
            assert (y - truth).abs().max() < (0.3 if y.dtype == torch.bfloat16 else 1e-5) * truth.abs().max(), name


def test_plans_are_compared_with_what_happens(tmp_path, capsys, monkeypatch):
    small_vae().save_pretrained(tmp_path)
    monkeypatch.setattr(plans, "SIZES", ((5, 16, 16),))
    found = plans.main(["--model", str(tmp_path)])
    assert all(ratio > 0 for ratio in found["5x16x16"].values()) and "(5, 16, 16): encode " in capsys.readouterr().out


def test_frames_compares_batches_and_tiles(capsys, monkeypatch):
    monkeypatch.setattr(frames, "BATCHES", {(2, 32, 32): (2, 1)})
    monkeypatch.setattr(frames, "TILES", (96,))
    rows, printed = frames.main(["--rounds", "1"]), capsys.readouterr().out
    assert [row["ratio"][0] > 0 for row in rows[:2]] == [True, True] and "1 frames a call" in printed
    whole, tiled = rows[2:]
    assert whole["largest_difference"] == 0 < tiled["largest_difference"] and whole["psnr"] > 20


def test_errors_are_the_mean_of_several_clips(monkeypatch):
    half, way, clip = small_vae().temporal, ("straightforward",), models.clip
    one, four = (models.errors(half, "temporal", way, clips) for clips in (1, 4))
    monkeypatch.setattr(models, "clip", lambda *arguments, seed: clip(*arguments, seed=0))
    assert models.errors(half, "temporal", way, 4)["straightforward"] == pytest.approx(one["straightforward"])
    assert four != one
