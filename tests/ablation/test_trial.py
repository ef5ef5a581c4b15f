"""What a trial measures, against models whose answers are known."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers import small_vae
from vae_lab import SpatialVAE, TemporalVAE, load
from vae_lab.ablation.config import TrialConfig, changed
from vae_lab.ablation.metrics import METRICS, METRICS_BY_FRAME
from vae_lab.ablation.trial import THREADS, as_used, measure, measured_clips, run_trial, training_gflop
from vae_lab.families.maps import maps_of
from vae_lab.gaussian import DiagonalGaussian
from vae_lab.probes.dependency import future_leak
from vae_lab.training.config import Stage
from vae_lab.training.models import stack

STAGES = [
    Stage(name="one", steps=2, learning_rate=1e-3, target="latents", batch_size=2, num_frames=(1, 5)),
    Stage(name="two", steps=3, learning_rate=1e-3, target="latents", batch_size=1, num_frames=(5, 5)),
]
TEMPORAL = dict(base_channels=12, num_res_blocks=1, channel_multipliers=(1, 1, 1), norm_num_groups=1,
                temporal_downsample=(True, True))  # fmt: skip


def config(**changes) -> TrialConfig:
    settings = dict(part="temporal", size=16, measured_size=16, measured_frames=9, model=TEMPORAL, cached_clips=2,
                    stages=STAGES)  # fmt: skip
    return TrialConfig(**settings | changes)


# ---- what is measured ----------------------------------------------------------------------------------------------


def test_the_lab_weights_measured_by_hand():
    vae, c = load("lab"), config(measured_size=32, measured_frames=20)
    measured = measure(vae, c)
    assert list(measured.metrics) == list(METRICS)
    clips = measured_clips(c)
    assert {x.shape for x in clips.values()} == {(1, 3, 20, 32, 32)}
    errors = []
    for name, x in clips.items():
        result = vae.reconstruct(x)
        y = vae.decode_spatial_latent(result.latent, 20).sample - result.spatial_latent
        error = [(y[:, :, t].square().mean().sqrt() / result.spatial_latent.std()).item() for t in range(20)]
        assert measured.frames[name]["time_error"] == pytest.approx(error, rel=1e-4)
        mse = (x - result.sample.clamp(-1, 1)).square().mean((0, 1, 3, 4))
        assert measured.frames[name]["psnr"] == pytest.approx((10 * torch.log10(4 / mse)).tolist(), rel=1e-4)
        assert list(measured.frames[name].keys()) == list(METRICS_BY_FRAME)
        errors.append(error)
    assert measured.metrics["time_error"] == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-4)
    assert measured.metrics["compression"] == 20 * 32 * 32 * 3 / (6 * 4 * 4 * 4)  # 5 latents of 17 frames, 1 of 3
    assert measured.metrics["active_channels"] == 4
    assert measured.metrics["parameters"] == sum(p.numel() for p in vae.temporal.parameters())
    maps = maps_of(vae, 17)
    leak = future_leak(maps.encode, maps.x, maps.encoder_last_seen)
    assert 0 < measured.metrics["leak"] == pytest.approx(leak.largest / leak.largest_allowed)
    still = torch.cat([vae.encode(x[:, :, :1].expand(-1, -1, 17, -1, -1)).latent_dist.mode() for x in clips.values()])
    drift = (still - still[:, :, 4:]).abs().amax((1, 2, 3, 4)) / still.flatten(1).std(1)
    assert measured.metrics["still_drift"] == pytest.approx(drift.mean().item(), rel=1e-4)
    assert measure(load("lab-frame-group"), c).metrics["leak"] == 0


def test_rules_of_magvit_v2_neither_leak_nor_drift():
    temporal = TemporalVAE(base_channels=8, norm_num_groups=2, norm="frame_group", pad_mode="replicate").eval()
    c = config(micro_frame_size=16)
    metrics = measure(stack(load("lab").spatial, temporal).with_micro_frame_size(16), c).metrics
    assert metrics["leak"] == 0 and metrics["still_drift"] < 1e-4  # rounding


def test_a_model_that_says_nothing():
    """Latents that are 0 with variance 1: no active channel, no divergence; and every frame grey."""
    vae = small_vae()
    for parameter in vae.parameters():
        parameter.data.zero_()
    measured = measure(vae, config())
    assert list(measured.metrics) == list(METRICS)  # each row has a value, and each value a row
    assert [name for name, value in measured.metrics.items() if np.isnan(value)] == [
        "time_error",
        "still_drift",
    ]  # 0 / 0
    assert measured.metrics["active_channels"] == 0
    assert measured.metrics["kl"] == 0
    assert measured.metrics["latent_std"] == 0
    grey = [(10 * torch.log10(4 / x.square().mean((0, 1, 3, 4)))).tolist() for x in measured_clips(config()).values()]
    assert [values["psnr"] for values in measured.frames.values()] == [pytest.approx(g, rel=1e-4) for g in grey]


def test_other_models_are_measured_as_far_as_they_go():
    torch.manual_seed(0)
    model = dict(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=1, mid_block_add_attention=False)
    spatial = SpatialVAE(**model)
    stage = Stage(name="pixels", steps=1, learning_rate=1e-3)
    measured = measure(spatial.eval(), config(part="spatial", model=model, stages=[stage]))
    assert np.isnan(measured.metrics["time_error"]) and np.isnan(measured.metrics["identity"])
    assert measured.metrics["psnr"] > 0 and "time_error" not in measured.frames["coffee"]


def test_measured_clips_are_those_no_training_sees_and_the_same_for_all_seeds():
    clips = measured_clips(config())
    assert list(clips) == ["astronaut", "chelsea", "coffee", "shapes"]
    other = measured_clips(config(seed=5, kl_weight=1.0))
    assert all(torch.equal(x, other[name]) for name, x in clips.items())
    assert all((x[:, :, 0] != x[:, :, -1]).any() for x in clips.values())  # they move


def test_what_a_model_is_used_with():
    vae = load("lab")
    used = as_used(vae, config(micro_frame_size=5))
    assert used.config.micro_frame_size == 5 and used.temporal is vae.temporal
    x = measured_clips(config())["coffee"]
    factor = 2 * vae.spatial.config.scaling_factor
    scaled = as_used(vae, config(used_spatial_scaling_factor=factor))
    torch.testing.assert_close(
        scaled.spatial.encode(x).latent_dist.mode(), 2 * vae.spatial.encode(x).latent_dist.mode()
    )
    assert isinstance(vae.encode(x).latent_dist, DiagonalGaussian)


def test_flops_are_those_torch_counts():
    """Of two stages: 20 % of their steps on images, the rest on their longest clips."""
    from vae_lab.training.losses import Objective
    from vae_lab.training.models import frozen_spatial, new_half

    c = config()

    def gflop(num_frames: int) -> float:
        with FlopCounterMode(display=False) as counter:
            z = torch.zeros(1, 4, num_frames, 2, 2)
            Objective(c, new_half(c), frozen_spatial("lab"))(c.stages[0], None, z, [0])["loss"].backward()
        return counter.get_total_flops() / 1e9

    expected = (2 * 2 + 3 * 1) * (0.2 * gflop(1) + 0.8 * gflop(5))
    assert training_gflop(c) == pytest.approx(expected)
    assert training_gflop(dataclasses.replace(c, image_fraction=0.0)) == pytest.approx(7 * gflop(5))


def test_a_trial_computes_on_one_thread_and_gives_the_threads_back(tmp_path, monkeypatch):
    from vae_lab.ablation import trial as trials

    seen = []
    monkeypatch.setattr(trials, "measure", lambda vae, config: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_trial(config(), tmp_path / "training", tmp_path / "cache")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [THREADS] == [1]


@contextlib.contextmanager
def default_of(set_it, value, before):
    set_it(value)
    try:
        yield
    finally:
        set_it(before)


@pytest.mark.parametrize(
    "settings",
    [
        torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: default_of(torch.set_default_dtype, torch.float64, torch.float32),
        lambda: default_of(torch.set_default_device, "meta", None),
    ],
    ids=["inference mode", "no grad", "autocast", "float64", "meta"],
)  # fmt: skip
def test_what_the_caller_has_set_changes_nothing(trained, tmp_path, settings):
    torch.manual_seed(7)
    before, dtype = torch.get_rng_state(), torch.get_default_dtype()
    with settings():
        assert run_trial(config(), tmp_path / "training", tmp_path / "cache") == trained
    assert torch.equal(torch.get_rng_state(), before) and torch.get_default_dtype() == dtype


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return run_trial(config(), folder / "training", folder / "cache")


# ---- configs -------------------------------------------------------------------------------------------------------


def test_a_difference_changes_what_it_names():
    base = config()
    other = changed(
        base, {"model": {"norm": "frame_group"}, "stages": {"two": {"steps": 7}}, "kl_weight": 0.5, "size": 32}
    )
    assert dict(other.model) == TEMPORAL | {
        "norm": "frame_group", "channel_multipliers": [1, 1, 1], "temporal_downsample": [True, True],
    }  # fmt: skip
    assert [stage.steps for stage in other.stages] == [2, 7]
    assert (other.kl_weight, other.size) == (0.5, 32)
    assert changed(base, {"size": base.size}).to_dict() == base.to_dict()
    assert changed(base, {"half": "temporal"}).to_dict() == changed(base, {}).to_dict()  # the old name of part
    whole = changed(base, {"stages": [{"name": "new", "steps": 1, "learning_rate": 0.1}]})
    assert [stage.name for stage in whole.stages] == ["new"]


def test_another_class_is_another_model():
    stage = Stage(name="pixels", steps=1, learning_rate=1e-3)
    base = config(part="whole", start="random", model=dict(temporal_config=TEMPORAL), stages=[stage])
    model = {"class_name": "AutoencoderKLCogVideoX", "latent_channels": 4}
    assert dict(changed(base, {"model": model}).model) == model
    assert base.makes_video_vae and not changed(base, {"model": model}).makes_video_vae


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(measured_frames=0), "measured_frames must be at least 1, got 0"),
        (dict(measured_size=1.5), "measured_size must be an integer of at least 1, got 1.5"),
        (dict(micro_frame_size=0), "micro_frame_size must be at least 1, got 0"),
        (dict(used_spatial_scaling_factor=-1.0), "used_spatial_scaling_factor must be a number above 0, for part"),
        (dict(part="spatial", micro_frame_size=5, stages=[Stage(name="a", steps=1, learning_rate=1.0)]),
         "micro_frame_size is for VideoVAEs only, got 5 for another model"),
    ],
)  # fmt: skip
def test_configs_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
