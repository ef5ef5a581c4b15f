"""Real, tiny ablations of a generator: what is measured, stored and refused."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from tests.helpers import ROOT, small_vae
from vae_lab.ablation import runner as ablation
from vae_lab.ablation.config import GenerationTrialConfig, TrialConfig, changed, trial_config
from vae_lab.ablation.generated import measure_generator, measured_prompts, training_gflop
from vae_lab.ablation.metrics import GENERATION_METRICS, METRICS
from vae_lab.ablation.results import say, verdict
from vae_lab.ablation.runner import read_ablation_file, run_ablation
from vae_lab.generation import GenerationConfig, Generator, STDiT3, embed, score, train_generator
from vae_lab.training.config import Stage

MODEL = dict(hidden_size=16, depth=1, num_heads=2, attention="full")
VARIANTS = {
    "shift 1": {"shift": 1.0},
    "factorised": {"model": {"attention": "factorised"}},
    "raw": {"normalise": False},
}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    small_vae(0, dict(norm="frame_group")).save_pretrained(folder)
    return folder


def config_of(vae, **changes) -> GenerationTrialConfig:
    settings = dict(
        vae=str(vae), num_frames=5, size=48, clips=8, held_out_clips=4, batch_size=2, steps=3, warmup_steps=1
    )
    settings |= dict(learning_rate=1e-2, model=MODEL, measured_clips=3, measured_steps=2)
    return GenerationTrialConfig(**settings | changes)


@pytest.fixture(scope="module")
def finished(vae, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return out, run_ablation(config_of(vae), VARIANTS, (0, 1), out, progress=False)


def numbers(result) -> pd.DataFrame:
    return result.trials.drop(columns="seconds")


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_every_variant_and_seed_is_measured_and_compared(finished):
    out, result = finished
    trials = result.trials
    assert list(trials["variant"].unique()) == ["base", *VARIANTS] and (trials["error"] == "").all()
    assert list(result.metrics) == list(GENERATION_METRICS) and trials[list(GENERATION_METRICS)].notna().all().all()
    shares = trials[["colour", "shape", "direction", "speed", "one_object"]]
    assert np.allclose(trials["score"], shares.mean(axis=1)) and set(np.unique(shares * 3)) <= {0, 1, 2, 3}
    assert trials["held_out_loss"].nunique() == 8 and trials["parameters"].nunique() == 1
    base, factorised = (trials[trials["variant"] == name]["training_gflop"] for name in ("base", "factorised"))
    assert (base.to_numpy() > factorised.to_numpy()).all()
    assert repr(result).splitlines()[1].startswith("score (1: everything right), mean ± std over seeds")
    assert len(result.table()) == 4 * len(GENERATION_METRICS) and result.frames.empty
    assert result.plot("held_out_loss").axes[0].get_xlabel() == "loss (dot: seed, bar: mean)"
    assert "- **shift 1**: loss " in say(result, "held_out_loss")
    assert verdict("held_out_loss", -0.2, -0.1) == "better" and verdict("colour", -0.2, -0.1) == "worse"
    with pytest.raises(ValueError, match="these trials and clips have no time_error to draw"):
        result.plot_frames()


def test_a_finished_ablation_is_only_read_and_a_trial_is_a_training(finished, vae, tmp_path, monkeypatch):
    out, result = finished
    monkeypatch.setattr(ablation, "_batch", lambda *a, **k: pytest.fail("a trial ran again"))
    assert numbers(run_ablation(config_of(vae), VARIANTS, (0, 1), out, progress=False)).equals(numbers(result))
    torch.set_num_threads(1)
    config = config_of(vae, seed=1, shift=1.0)
    generator = train_generator(config.training, tmp_path, progress=False)
    row = result.trials[(result.trials["variant"] == "shift 1") & (result.trials["seed"] == 1)].iloc[0]
    assert {name: row[name] for name in measure_generator(generator, config)} == measure_generator(generator, config)
    assert not any((out / "scratch" / "trainings").iterdir())  # models are removed, latents stay


def test_what_is_measured_by_hand(finished, vae, tmp_path):
    config = config_of(vae, measured_clips=66)
    generator = train_generator(config.training, tmp_path, progress=False)
    prompts = measured_prompts(config)
    assert len(prompts) == 66 and prompts[0] == prompts[64] and len(set(prompts)) == 64
    metrics, clips = measure_generator(generator, config), generator.generate(prompts, 2, seed=1_000_000)
    assert metrics["colour"] == score(prompts, clips).share("colour")
    assert metrics["parameters"] == sum(p.numel() for p in generator.transformer.parameters())
    assert isinstance(generator, Generator) and isinstance(generator.transformer, STDiT3)


def test_compute_is_counted_with_attention():
    """Full attention costs 4 C (2 (TS)^2 - T S^2 - S T^2) more forward, and twice that backward."""
    full, factorised = (
        training_gflop(config_of("x", model=MODEL | {"attention": name}, steps=1, batch_size=1), (4, 3, 8, 8))
        for name in ("full", "factorised")
    )
    more = 4 * 16 * (2 * (3 * 16) ** 2 - 3 * 16**2 - 16 * 3**2)
    assert full - factorised == pytest.approx(3 * more / 1e9)
    assert training_gflop(config_of("x", steps=3, batch_size=2), (4, 3, 8, 8)) == pytest.approx(6 * full)
    assert embed(["red disc left"]).shape[1:] == (4, 12)  # the text that is counted


# ---- configs and files ---------------------------------------------------------------------------------------------


def test_the_part_decides_the_kind_of_config(vae):
    config = config_of(vae)
    assert trial_config(config.to_dict()) == config and type(config.training) is GenerationConfig
    stage = Stage(name="latents", steps=1, learning_rate=1e-3)
    assert isinstance(trial_config(TrialConfig(part="temporal", stages=(stage,)).to_dict()), TrialConfig)
    deeper = changed(config, {"model": {"depth": 2}})
    assert deeper.model == MODEL | {"depth": 2} and dataclasses.replace(deeper, model=MODEL) == config
    latte = {"transformer": "LatteTransformer3DModel", "model": {"num_layers": 1}}
    assert changed(config, latte).model == {"num_layers": 1}  # the arguments of another class are of no use


def test_the_file_in_data_is_read_and_scaled():
    file = read_ablation_file(ROOT / "data" / "ablations" / "generation.toml", scale=2)
    base = file["base"]
    assert (
        isinstance(base, GenerationTrialConfig)
        and base.steps == 2 * read_ablation_file(ROOT / "data" / "ablations" / "generation.toml")["base"].steps
    )
    assert set(file["variants"]) == {
        "shift 1", "logit-normal", "factorised", "raw latents", "lab-frame-group", "lab",
    }  # fmt: skip
    for difference in file["variants"].values():
        assert changed(base, difference) != base


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"shift": 0}, "variant 'x': shift must be above 0"),
        ({"steps_": 3}, "variant 'x': GenerationTrialConfig has no field 'steps_'; close matches: steps"),
        ({"stages": []}, "variant 'x': .*stages"),
        ({"shift": 3.0}, "variant 'x' is the same as the base"),
        ({"model": {"depth": 1, "mlp_ratio": 4.0}}, "variant 'x' is the same as the base"),
        ({"measured_steps": 0}, "variant 'x': measured_steps must be"),
        ({"measured_clips": 0.5}, "variant 'x': measured_clips must be"),
        ({"num_frames": 33}, "variant 'x' cannot be built: size must be at least"),
        ({"model": {"num_heads": 3}}, "variant 'x' cannot be built: hidden_size"),
    ],
)
def test_bad_variants_are_refused_before_any_training(vae, tmp_path, variant, message):
    with pytest.raises(ValueError, match=message):
        run_ablation(config_of(vae), {"x": variant}, (0,), tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("trials/*"))


def test_half_a_vae_is_refused(vae, tmp_path):
    small_vae().temporal.save_pretrained(tmp_path / "half")
    half = {"half": {"vae": str(tmp_path / "half")}}
    with pytest.raises(
        ValueError, match="variant 'half' cannot be built: vae must encode pixels, .* encodes spatial latents"
    ):
        run_ablation(config_of(vae), half, (0,), tmp_path / "out", progress=False)


def test_no_videos_and_no_other_base(vae, tmp_path):
    with pytest.raises(ValueError, match=r"data \(.*\) must be left out: generators train on clips that are drawn"):
        run_ablation(config_of(vae), VARIANTS, (0,), tmp_path / "out", data=tmp_path, progress=False)
    with pytest.raises(ValueError, match="base must be a TrialConfig or a GenerationTrialConfig, got GenerationConfig"):
        run_ablation(config_of(vae).training, VARIANTS, (0,), tmp_path / "out", progress=False)


def test_another_vae_is_another_trial(vae, tmp_path, finished):
    """The weights behind a path count, not the path."""
    out, result = finished
    other = tmp_path / "vae"
    small_vae(1, dict(norm="frame_group")).save_pretrained(other)
    keys = []
    for folder in (vae, other):
        ablated = run_ablation(config_of(folder), {"raw": {"normalise": False}}, (0,), out, "more", progress=False)
        keys.append(ablated.trials["key"][0])
    assert keys[0] == result.trials["key"][0] != keys[1]
    stored = json.loads((out / "trials" / f"{keys[1]}.json").read_text())
    assert stored["config"]["part"] == "generation" and stored["config"]["vae"] == str(other)
    assert METRICS.keys() & stored["metrics"].keys() == {"parameters", "training_gflop"}
