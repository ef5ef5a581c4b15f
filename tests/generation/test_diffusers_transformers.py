"""Transformers of diffusers in the place of an STDiT3: called, trained, saved and loaded as it is."""

import dataclasses
from functools import partial

import diffusers
import pytest
import torch

from tests.generation.test_training import causal_vae, config_of, same, weights
from vae_lab import load
from vae_lab.checkpoints import inspect
from vae_lab.generation import load_generator, train_generator
from vae_lab.generation.config import TRANSFORMERS as NAMES
from vae_lab.generation.diffusers_transformers import TRANSFORMERS, DiffusersTransformer

ARGUMENTS = {
    "LatteTransformer3DModel": dict(num_attention_heads=2, attention_head_dim=8, num_layers=1, cross_attention_dim=16),
    "CogVideoXTransformer3DModel": dict(num_attention_heads=2, attention_head_dim=8, num_layers=1, time_embed_dim=16),
    "AllegroTransformer3DModel": dict(
        num_attention_heads=2, attention_head_dim=12, num_layers=1, cross_attention_dim=24
    ),
}
SIZES = dict(in_channels=5, latent_size=(3, 4, 4), caption_channels=12, model_max_length=4)
CALL = dict(fps=24, height=32, width=32)
every = pytest.mark.parametrize("name", ARGUMENTS)


def transformer(name: str, **sizes) -> DiffusersTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DiffusersTransformer(name, arguments=ARGUMENTS[name], **SIZES | sizes).eval()


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(batch, 5, 3, 4, 4, generator=draw), torch.randn(batch, 4, 12, generator=draw)
    return x, torch.tensor([900.0, 20.0])[:batch], y


def test_the_recipe_names_what_the_table_holds():
    assert ("STDiT3", *TRANSFORMERS) == NAMES and ARGUMENTS.keys() == TRANSFORMERS.keys()


@every
@torch.no_grad()
def test_latents_keep_their_axes(name):
    """A change in one cell of one frame moves the output there first; the batch, the text and the time matter."""
    model, (x, t, y) = transformer(name), inputs()
    assert isinstance(model.transformer, getattr(diffusers, name))
    v = model(x, t, y, **CALL).sample
    assert v.shape == x.shape and v.dtype == torch.float32
    for i in range(2):
        torch.testing.assert_close(model(x[i : i + 1], t[i : i + 1], y[i : i + 1], **CALL).sample, v[i : i + 1])
    moved = x.clone()
    moved[0, :, 1, 2:, :2] += 1  # one patch of frame 1
    change = (model(moved, t, y, **CALL)[0] - v).abs()
    assert change[1].max() == 0 and change[0, :, 1, 2:, :2].mean() > 2 * change[0].mean()
    assert not torch.equal(model(x, t.flip(0), y, **CALL).sample, v)
    assert not torch.equal(model(x, t, y.flip(0), **CALL).sample, v)
    assert torch.equal(model(x, t, y, return_dict=False, **CALL)[0], v)


@every
@torch.no_grad()
def test_frames_have_an_order(name):
    """With the frames in reverse, the velocity is not only reversed: the model knows where in time a frame is."""
    model, (x, t, y) = transformer(name), inputs()
    back = model(x.flip(2), t, y, **CALL).sample.flip(2)
    assert (back - model(x, t, y, **CALL).sample).abs().max() > 1e-3


@every
def test_it_is_trained_saved_and_loaded_as_an_stdit3_is(name, tmp_path):
    causal_vae().save_pretrained(tmp_path / "vae")
    config = config_of(tmp_path / "vae", transformer=name, model=ARGUMENTS[name])
    generator = train_generator(config, tmp_path / "run", progress=False)
    assert isinstance(generator.transformer, DiffusersTransformer)
    again = load_generator(tmp_path / "run" / "model")
    assert same(weights(again), weights(generator))
    info = inspect(tmp_path / "run" / "model")
    assert (info.layout, info.class_name, bool(info.differences)) == ("vae_lab", "DiffusersTransformer", False)
    readers = (load, lambda folder: diffusers.AutoModel.from_pretrained(str(folder)))
    for read in readers:
        other = read(tmp_path / "run" / "model")
        assert type(other) is DiffusersTransformer
        assert all(map(torch.equal, other.state_dict().values(), generator.transformer.state_dict().values()))
    clips = again.generate(["red disc left"], 2, guidance=2.0)
    assert (
        clips[0].shape == (9, 48, 48, 3)
        and (clips[0] == generator.generate(["red disc left"], 2, guidance=2.0)[0]).all()
    )


def test_dropout_resumes_to_the_bit(tmp_path):
    """Dropout draws from torch's own generator, whose state a resumed run does not know."""
    name = "LatteTransformer3DModel"
    causal_vae().save_pretrained(tmp_path / "vae")
    config = config_of(tmp_path / "vae", transformer=name, model=ARGUMENTS[name] | dict(dropout=0.5))

    def stop(progress):
        if progress.log[-1]["step"] == 3:
            raise KeyboardInterrupt

    whole = train_generator(config, tmp_path / "whole", progress=False)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, tmp_path / "stopped", watch=stop, progress=False)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's draws are left alone
    torch.manual_seed(3)
    assert same(weights(train_generator(config, tmp_path / "stopped", progress=False)), weights(whole))
    without = dataclasses.replace(config, model=ARGUMENTS[name])
    assert not same(weights(train_generator(without, tmp_path / "without", progress=False)), weights(whole))


@every
def test_a_new_one_has_velocity_0_and_every_weight_learns(name, tmp_path):
    from vae_lab.generation.training import new_transformer

    causal_vae().save_pretrained(tmp_path / "vae")
    model = new_transformer(config_of(tmp_path / "vae", transformer=name, model=ARGUMENTS[name]), (5, 3, 4, 4))
    x, t, y = inputs()
    assert not model(x, t, y, **CALL).sample.any()
    torch.nn.init.normal_(model.transformer.proj_out.weight)
    model(x, t, y, **CALL).sample.square().mean().backward()
    assert [key for key, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: DiffusersTransformer("DiT", **SIZES),
            "class_name must be one of LatteTransformer3DModel, .*, got 'DiT'",
        ),
        (
            lambda: DiffusersTransformer("LatteTransformer3DModel", arguments=dict(num_layer=1), **SIZES),
            r"arguments \(LatteTransformer3DModel\) has no field 'num_layer'; close matches: num_layers",
        ),
        (
            lambda: DiffusersTransformer("LatteTransformer3DModel", arguments=dict(sample_size=4), **SIZES),
            r"arguments \(LatteTransformer3DModel\) has no field 'sample_size'",
        ),
        (
            lambda: transformer("LatteTransformer3DModel", latent_size=(3, 4, 6)),
            "latent_size of a LatteTransformer3DModel must be square, got 4x6",
        ),
        (
            lambda: DiffusersTransformer("LatteTransformer3DModel", arguments=dict(patch_size=0), **SIZES),
            "make no LatteTransformer3DModel: ",
        ),
        (
            lambda: transformer("CogVideoXTransformer3DModel", model_max_length=0),
            "model_max_length must be at least 1, got 0",
        ),
        (
            lambda: transformer("LatteTransformer3DModel", model_max_length="4"),
            "model_max_length must be an integer of at least 1, got '4'",
        ),
        (lambda: transformer("CogVideoXTransformer3DModel", latent_size=(3, 4)), r"latent_size must be \(L, h, w\)"),
        (lambda: transformer("CogVideoXTransformer3DModel", latent_size=3), r"latent_size must be \(L, h, w\), got 3"),
        *(
            (
                partial(transformer, name, latent_size=(3, 5, 5)),
                rf"\(3, 5, 5\) must be a multiple of a {name}'s patches",
            )
            for name in ARGUMENTS
        ),
    ],
)
def test_what_makes_no_transformer(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@every
def test_bad_calls(name):
    model, (x, t, y) = transformer(name), inputs()
    for arguments, message in (
        ((x[:, :, :2], t, y), r"x must have latents of \(3, 4, 4\) \(L, h, w\), got \(2, 4, 4\)"),
        ((x[:, :4], t, y), "x must have 5 channels, got 4"),
        ((x, t[:1], y), r"timestep must have shape \(2,\), one for each clip, got \(1,\)"),
        ((x, t * 10, y), r"timestep must be from 0 \(data\) to 1000 \(noise\), got 9000.0"),
        ((x, t, None), r"y must have shape \(2, 4, 12\), got NoneType"),
        ((x, t, y[:, :3]), r"y must have shape \(2, 4, 12\), got \(2, 3, 12\)"),
        ((x, t, y, torch.ones(2, 4)), "y_mask must be None: .* attends to all frames and tokens alike"),
        ((x, t, y, None, torch.ones(2, 3, dtype=torch.bool)), "x_mask must be None"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*arguments, **CALL)


def test_only_an_stdit3_keeps_frames(tmp_path):
    causal_vae().save_pretrained(tmp_path / "vae")
    config = config_of(
        tmp_path / "vae",
        transformer="LatteTransformer3DModel",
        model=ARGUMENTS["LatteTransformer3DModel"],
        keep_first=0.5,
    )
    with pytest.raises(ValueError, match=r"keep_first \(0.5\) must be 0 for a LatteTransformer3DModel"):
        train_generator(config, tmp_path / "run", progress=False)
