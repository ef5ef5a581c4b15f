import json

import pytest

from vae_lab.training.config import Stage, TrainConfig

STAGE = dict(name="latents", steps=10, learning_rate=1e-3)


def config(**changes) -> TrainConfig:
    return TrainConfig(**(dict(half="temporal", stages=(Stage(**STAGE),)) | changes))


def test_a_config_survives_json_and_toml(tmp_path):
    made = config(model=dict(channel_multipliers=(1, 2)), stages=(Stage(**STAGE, num_frames=(2, 9)),), seed=3)
    again = TrainConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.to_dict() == made.to_dict()
    assert again.stages == made.stages
    path = tmp_path / "run.toml"
    path.write_text('half = "spatial"\n[model]\nlayers_per_block = 1\n[[stages]]\nname = "a"\nsteps = 5\n'
                    "learning_rate = 1e-3\n[[stages]]\nname = 'b'\nsteps = 7\nlearning_rate = 1e-4\n")  # fmt: skip
    read = TrainConfig.from_toml(path)
    assert (read.half, read.steps, read.model["layers_per_block"]) == ("spatial", 12, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(half="temporal", stages=[STAGE], kl_wieght=1), "has no field 'kl_wieght'; near it: kl_weight"),
        (dict(half="temporal", stages=[STAGE | dict(step=1)]), "Stage has no field 'step'; near it: steps"),
        (dict(half="temporal"), "TrainConfig needs a value for 'stages'"),
        (dict(half="temporal", stages=[dict(name="a", steps=1)]), "Stage needs a value for 'learning_rate'"),
        (dict(half="temporal", stages=STAGE), r"stages must be a list of tables \(\[\[stages\]\] in TOML\)"),
        (dict(half="temporal", stages=[STAGE], model=5), "model must be a table of arguments, got 5"),
        (dict(half="temporal", stages=[STAGE | dict(num_frames=5)]), r"must be .shortest, longest., got 5"),
        (dict(half="temporal", stages=[]), "stages must hold at least one Stage"),
        (dict(half="both", stages=[STAGE]), "half must be one of spatial, temporal, video, got 'both'"),
        (dict(half="temporal", stages=[STAGE | dict(target="sound")]), "target must be one of pixels, latents"),
        (dict(half="temporal", stages=[STAGE | dict(num_frames=[9, 2])]), r"num_frames must be \(shortest, longest\)"),
        (dict(half="temporal", stages=[STAGE | dict(steps=0)]), "steps must be .*at least 1"),
        (dict(half="temporal", stages=[STAGE | dict(learning_rate=-1)]), "learning_rate must be a number"),
        (dict(half="temporal", stages=[STAGE], image_fraction=1.5), "image_fraction must be from 0 to 1, got 1.5"),
        (dict(half="temporal", stages=[STAGE], ema_decay=1.0), "ema_decay must be at least 0 and below 1"),
        (dict(half="temporal", stages=[STAGE], max_grad_norm=0), "max_grad_norm must be above 0, got 0"),
        (dict(half="temporal", stages=[STAGE], kl_weight=float("nan")), "kl_weight must be a number of at least 0"),
        (dict(half="temporal", stages=[STAGE], perceptual_weight=0.1), "must be given together"),
        (dict(half="spatial", stages=[STAGE | dict(target="latents")]), 'stage .latents.: the 2D half is trained on'),
    ],
)  # fmt: skip
def test_what_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(values)


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("half = ")
    with pytest.raises(ValueError, match="broken.toml: Invalid value"):
        TrainConfig.from_toml(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="broken.toml: .*utf-8"):
        TrainConfig.from_toml(path)


def test_the_recipes_of_the_lab_are_configs():
    from tests.helpers import ROOT

    recipes = list((ROOT / "data" / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        TrainConfig.from_toml(path)
