"""Numbers of numpy and torch as arguments: they are taken as Python's are, and what is saved with them can be read."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.helpers import SMALL_SPATIAL, small_vae
from tests.helpers.training import TEMPORAL, spatial_config
from vae_lab import CausalConv3d, SpatialVAE, TemporalVAE, load, photo_clip, read_video, synthetic_clip, write_video
from vae_lab.checkpoints import lab_weights
from vae_lab.families import codec_of, maps_of, tiny_model
from vae_lab.figures import padding_diagram
from vae_lab.lessons import question
from vae_lab.probes import frame_dependency, receptive_field, seam_profile
from vae_lab.reconstruct import reconstruct_file
from vae_lab.training.config import Stage
from vae_lab.video import photo

INTEGERS = pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, np.array, torch.tensor])


def numbers_of(arguments: dict, integer: Callable) -> dict:
    return {name: integer(value) if type(value) is int else value for name, value in arguments.items()}


@INTEGERS
def test_models_made_with_them_are_saved_and_read(integer, tmp_path):
    models = {
        "spatial": SpatialVAE(**numbers_of(SMALL_SPATIAL, integer), scaling_factor=np.float32(0.5)),
        "temporal": TemporalVAE(**numbers_of(TEMPORAL, integer)),
        "whole": small_vae(
            micro_frame_size=integer(5), latents_mean=np.zeros(4, np.float32), latents_std=torch.ones(4)
        ),
        "factor": small_vae().spatial.with_scaling_factor(np.float16(0.5)),
        "chunks": small_vae().with_micro_frame_size(integer(5)),
        "codec": codec_of(small_vae()).with_chunk(integer(5)),
        "statistics": small_vae().with_statistics(np.zeros(4), np.ones(4, np.float32)),
    }
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        saved = {key: value for key, value in load(tmp_path / name).config.items() if not key.startswith("_")}
        assert saved == json.loads(json.dumps({key: model.config[key] for key in saved}))


@INTEGERS
def test_recipes(integer):
    numbers = dict(size=16, seed=3, workers=0, warmup_steps=2, cached_clips=4, checkpoint_every=2)
    stage = dict(name="a", steps=2, batch_size=2)
    made = spatial_config(
        **numbers_of(numbers, integer),
        mse_weight=np.float32(0.5),
        stages=(Stage(**numbers_of(stage, integer), learning_rate=np.float64(1e-3), num_frames=np.array([1, 5])),),
    )
    plain = spatial_config(**numbers, mse_weight=0.5, stages=(Stage(**stage, learning_rate=1e-3, num_frames=(1, 5)),))
    assert json.dumps(made.to_dict()) == json.dumps(plain.to_dict())


@INTEGERS
def test_calls(integer, tmp_path):
    vae, x = small_vae(), torch.rand(1, 3, 9, 16, 16)
    write_video(tmp_path / "clip.mp4", np.zeros((9, 16, 16, 3), np.uint8))
    window = dict(start=integer(1), num_frames=integer(5), size=np.array([16, 16]), gain=np.float32(2))
    assert reconstruct_file(vae, tmp_path / "clip.mp4", tmp_path / "out", **window).size == (5, 16, 16)
    assert maps_of(vae, integer(9), integer(16), integer(3)).x.shape == x.shape
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        assert vae.decode(z, integer(9)).sample.shape == codec_of(vae).decode(z, 9).shape == x.shape
    json.dumps(codec_of(vae).stream(integer(9)).encoder.state_dict())


@pytest.mark.parametrize("value", [True, np.True_, np.float32(2.5), np.int64(0), "5", np.array([5])])
def test_what_is_no_number_of_frames_stays_refused(value):
    for call in (lambda: small_vae(micro_frame_size=value), lambda: small_vae().with_micro_frame_size(value)):
        with pytest.raises(ValueError, match="micro_frame_size"):
            call()
    with pytest.raises(ValueError, match="size"):
        spatial_config(size=value)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64, np.array, torch.tensor])
def test_rates_and_pixel_shapes_of_written_videos(number, tmp_path):
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, fps=number(25), pixel_aspect=number(2))
    write_video(tmp_path / "a.gif", frames, fps=number(25))
    clip = read_video(tmp_path / "a.mp4")
    assert clip.fps == 25 and clip.pixel_aspect == 2
    with pytest.raises(ValueError, match="fps must be above 0"):
        write_video(tmp_path / "b.mp4", frames, fps=True)


NO_SEEDS = [True, np.True_, torch.tensor(True), 2.5, float("nan"), float("inf"), "3", b"3", [1], np.array([1, 2]), 1j]


@pytest.mark.parametrize("value", NO_SEEDS, ids=lambda value: type(value).__name__)
def test_seeds_frames_and_views_that_are_none_are_refused(value):
    m = maps_of(small_vae(), 5)
    calls = {
        "seed": [
            lambda: photo_clip("coffee", 2, (8, 8), seed=value),
            lambda: synthetic_clip("shapes", 2, (8, 8), seed=value),
            lambda: frame_dependency(m.encode, m.x, seed=value),
            lambda: receptive_field(m.encode, m.x, seed=value),
            lambda: maps_of(small_vae(), 5, seed=value),
            lambda: tiny_model("wan 2.1", seed=value),
        ],
        "at": [lambda: synthetic_clip("cut", 5, (8, 8), at=value)],
        "start": [
            lambda: photo_clip("coffee", 2, (8, 8), start=(0, value, 1)),
            lambda: photo_clip("coffee", 2, (8, 8), start=value),
        ],
        "stop": [lambda: photo_clip("coffee", 2, (8, 8), stop=(value, 0, 1))],
    }
    for name, refused in calls.items():
        for call in refused:
            with pytest.raises(ValueError, match=f"^{name} must be "):
                call()


@INTEGERS
def test_seeds_frames_and_views(integer):
    m = maps_of(small_vae(), 5)
    assert frame_dependency(m.encode, m.x, seed=integer(3)) is not None
    assert receptive_field(m.encode, m.x, seed=integer(3)) is not None
    one, other = (synthetic_clip("cut", 5, (8, 8), seed=n, at=n) for n in (3, integer(3)))
    assert np.array_equal(one.frames, other.frames)
    views = [(0, 1, 2), np.array([0, 1, 2], np.float32), torch.tensor([0, 1, 2]), [integer(0), integer(1), integer(2)]]
    clips = [photo_clip("coffee", 2, (8, 8), start=view, seed=integer(1)).frames for view in views]
    assert all(np.array_equal(clip, clips[0]) for clip in clips)


UNKNOWN = ["nonsense", [], {}, ["a"], np.array(["a", "b"]), 3, None, object()]


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: type(name).__name__)
def test_a_name_that_is_none_is_a_value_error_whatever_it_is(name):
    m = maps_of(small_vae(), 5)
    calls = [
        lambda: photo(name),
        lambda: photo_clip(name, 2),
        lambda: synthetic_clip(name),
        lambda: lab_weights(name),
        lambda: question(name),
        lambda: frame_dependency(m.encode, m.x, method=name),
        lambda: seam_profile(m.x, m.x, 3, axis=name),
        lambda: TemporalVAE(norm=name),
        lambda: TemporalVAE(act_fn=name),
        lambda: CausalConv3d(1, 1, 3, pad_mode=name),
        lambda: padding_diagram(5, 3, pad_mode=name),
        lambda: spatial_config(mixed_precision=name),
        lambda: spatial_config(stages=name),
        lambda: spatial_config(stages=[name]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be|must hold|there is no question"):
            call()
