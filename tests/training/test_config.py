import json

import pytest

from vae_lab.training.config import Stage, TrainConfig

STAGE = dict(name="latents", steps=10, learning_rate=1e-3)


def config(**changes) -> TrainConfig:
    return TrainConfig(**(dict(part="temporal", stages=(Stage(**STAGE),)) | changes))


def test_a_config_survives_json_and_toml(tmp_path):
    made = config(model=dict(channel_multipliers=(1, 2)), stages=(Stage(**STAGE, num_frames=(2, 9)),), seed=3)
    again = TrainConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.to_dict() == made.to_dict()
    assert again.stages == made.stages
    path = tmp_path / "run.toml"
    path.write_text('part = "spatial"\n[model]\nlayers_per_block = 1\n[[stages]]\nname = "a"\nsteps = 5\n'
                    "learning_rate = 1e-3\n[[stages]]\nname = 'b'\nsteps = 7\nlearning_rate = 1e-4\n")  # fmt: skip
    read = TrainConfig.from_toml(path)
    assert (read.part, read.steps, read.model["layers_per_block"]) == ("spatial", 12, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(part="temporal", stages=[STAGE], kl_wieght=1), "has no field 'kl_wieght'; close matches: kl_weight"),
        (dict(part="temporal", stages=[STAGE | dict(step=1)]), "Stage has no field 'step'; close matches: steps"),
        (dict(part="temporal"), "TrainConfig needs a value for 'stages'"),
        (dict(part="temporal", stages=[dict(name="a", steps=1)]), "Stage needs a value for 'learning_rate'"),
        (dict(part="temporal", stages=STAGE), r"stages must be a list of tables \(\[\[stages\]\] in TOML\)"),
        (dict(part="temporal", stages=[STAGE], model=5), "model must be a table of arguments, got 5"),
        (dict(part="temporal", stages=[STAGE | dict(num_frames=5)]), r"must be .shortest, longest., got 5"),
        (dict(part="temporal", stages=[]), "stages must hold at least one Stage"),
        (dict(part="both", stages=[STAGE]), "part must be one of spatial, temporal, whole, got 'both'"),
        (dict(part="temporal", stages=[STAGE | dict(target="sound")]), "target must be one of pixels, latents"),
        (dict(part="temporal", stages=[STAGE | dict(num_frames=[9, 2])]), r"num_frames must be \(shortest, longest\)"),
        (dict(part="temporal", stages=[STAGE | dict(steps=0)]), "steps must be .*at least 1"),
        (dict(part="temporal", stages=[STAGE | dict(learning_rate=-1)]), "learning_rate must be a number"),
        (dict(part="temporal", stages=[STAGE], image_fraction=1.5), "image_fraction must be from 0 to 1, got 1.5"),
        (dict(part="temporal", stages=[STAGE], ema_decay=1.0), "ema_decay must be at least 0 and below 1"),
        (dict(part="temporal", stages=[STAGE], max_grad_norm=0), "max_grad_norm must be above 0 and finite, got 0"),
        (dict(part="temporal", stages=[STAGE], kl_weight=float("nan")), "kl_weight must be a number of at least 0"),
        (dict(part="temporal", stages=[STAGE], perceptual_weight=0.1), "must be given together"),
        (dict(part="spatial", stages=[STAGE], start="frames"), '"frames" is for part "temporal", got part .spatial'),
        (dict(part="spatial", stages=[STAGE | dict(target="latents")]), 'stage .latents.: the 2D half is trained on'),
    ],
)  # fmt: skip
def test_what_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(values)


def test_half_is_read_as_the_old_name_of_part(tmp_path):
    """In calls, plain values and files, with a warning; each `part` has its old name."""
    for old, new in (("spatial", "spatial"), ("temporal", "temporal"), ("video", "whole")):
        with pytest.warns(FutureWarning, match='half is now called part, and its "video" is "whole"'):
            assert TrainConfig(half=old, stages=(Stage(**STAGE),)) == config(part=new)
        with pytest.warns(FutureWarning, match="half is now called part"):
            read = TrainConfig.from_dict(dict(half=old, stages=[STAGE]))
        assert read == config(part=new) and "half" not in read.to_dict()
    (tmp_path / "old.toml").write_text(
        'half = "video"\n[[stages]]\nname = "latents"\nsteps = 10\nlearning_rate = 1e-3\n'
    )
    with pytest.warns(FutureWarning, match="half is now called part"):
        assert TrainConfig.from_toml(tmp_path / "old.toml") == config(part="whole")
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="part must be one of spatial, temporal, whole"):
        TrainConfig(half="both", stages=(Stage(**STAGE),))
    with pytest.raises(ValueError, match="part must be one of spatial, temporal, whole, got 'video'"):
        config(part="video")
    with pytest.raises(ValueError, match="part and half, its old name, must not both be given"):
        TrainConfig.from_dict(dict(part="spatial", half="spatial", stages=[STAGE]))
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'part'"):
        TrainConfig(stages=(Stage(**STAGE),))


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("part = ")
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
