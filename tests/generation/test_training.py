"""Real, small trainings of a generator: stopped, resumed, refused; and what the finished generator does."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers import ROOT, small_vae
from vae_lab import VideoVAE, load, read_video
from vae_lab.__main__ import main
from vae_lab.families import codec_of
from vae_lab.generation import GenerationConfig, STDiT3, load_generator, prompted_clip, score, train_generator
from vae_lab.generation.config import read_recipe
from vae_lab.generation.data import clip_prompts, latent_clips
from vae_lab.generation.generator import SETTINGS, Generator
from vae_lab.generation.training import FIELDS, learning_rate_factor, new_optimizers, new_transformer
from vae_lab.training.config import TrainConfig
from vae_lab.training.run_folder import TrainingError, read_log

PROMPTS = ["red disc left", "blue bar up slow", "green disc down"]


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The folder of a small causal VAE with 5 latent channels."""
    folder = tmp_path_factory.mktemp("vae")
    causal_vae().save_pretrained(folder)
    return folder


def causal_vae(seed: int = 0) -> VideoVAE:
    statistics = dict(latents_mean=[0.0] * 5, latents_std=[1.0] * 5)
    return small_vae(seed, dict(norm="frame_group", latent_channels=5), **statistics)


def config_of(vae, **changes) -> GenerationConfig:
    settings = dict(vae=str(vae), num_frames=9, size=48, clips=8, held_out_clips=4, batch_size=3, steps=6)
    settings |= dict(learning_rate=1e-2, warmup_steps=2, checkpoint_every=2, log_every=1, measure_every=3)
    model = dict(hidden_size=16, depth=1, num_heads=2, attention="full")
    return GenerationConfig(**settings | dict(model=model) | changes)


@pytest.fixture(scope="module")
def whole(vae, tmp_path_factory):
    """A training without a stop: (folder, generator, what `watch` saw)."""
    folder, seen = tmp_path_factory.mktemp("whole"), []

    def watch(progress):
        seen.append((progress.log[-1]["step"], progress.steps, progress.transformer))

    return folder, train_generator(config_of(vae), folder, watch=watch, progress=False), seen


def weights(generator: Generator) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in generator.transformer.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_the_run_folder_holds_a_log_and_a_generator(whole, vae):
    folder, generator, seen = whole
    rows = read_log(folder / "log.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] == [step for step, _, _ in seen]
    assert set(rows[-1]) == set(FIELDS)
    assert [row["step"] for row in rows if "held_out_loss" in row] == [3, 6]
    assert all(isinstance(transformer, STDiT3) and steps == 6 for _, steps, transformer in seen)
    assert GenerationConfig.from_dict(json.loads((folder / "config.json").read_text())) == config_of(vae)
    assert isinstance(load(folder / "model"), STDiT3)
    again = load_generator(folder / "model")
    assert same(weights(again), weights(generator)) and again.settings == generator.settings
    assert again.latent_shape == (5, 3, 6, 6)
    assert same(weights(train_generator(config_of(vae), folder, progress=False)), weights(generator))  # only loaded


def test_the_loss_falls_and_begins_at_velocity_0(vae, tmp_path):
    """With velocity 0, the loss is the variance of x0 - e, 2 for normalised latents."""
    config = config_of(vae, steps=120, learning_rate=3e-3, batch_size=8, log_every=10, measure_every=60)
    train_generator(config, tmp_path, progress=False)
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert losses[0] == pytest.approx(2, abs=0.35) and np.mean(losses[-3:]) < 0.75 * losses[0]


def test_latents_are_normalised_by_the_training_clips_statistics(vae, tmp_path):
    config = config_of(vae)
    clips = latent_clips(config, codec_of(load(vae)), tmp_path, progress=False)
    assert clips.latents.shape == (12, 5, 3, 6, 6) and len(clips.prompts) == 12
    x = prompted_clip(np.random.default_rng([0, 9]), clips.prompts[9], 9, 48)
    z = load(vae).encode(torch.tensor(x).permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mode()
    assert torch.allclose(clips.latents[9], z[0], atol=1e-4)
    generator = train_generator(config, tmp_path / "run", cache=tmp_path, progress=False)
    z = generator.normalised(clips.latents[: config.clips])
    assert torch.allclose(z.mean((0, 2, 3, 4)), torch.zeros(5), atol=1e-4)
    assert torch.allclose(z.std((0, 2, 3, 4)), torch.ones(5), atol=1e-4)
    raw = train_generator(config_of(vae, normalise=False), tmp_path / "raw", cache=tmp_path, progress=False)
    assert torch.equal(raw.normalised(clips.latents), clips.latents)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # both runs share the latents


# ---- stopped and resumed --------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_interrupted_run_ends_with_the_same_bits(after, whole, vae, tmp_path):
    def stop(progress):
        if progress.log[-1]["step"] == after:
            raise Stop

    with pytest.raises(Stop):
        train_generator(config_of(vae), tmp_path, watch=stop, progress=False)
    torch.manual_seed(after)  # the state of torch's own generator has no part in it
    resumed = train_generator(config_of(vae), tmp_path, progress=False)
    assert same(weights(resumed), weights(whole[1]))
    without_time = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder / "log.csv")]
        for folder in (tmp_path, whole[0])
    ]
    assert without_time[0] == without_time[1]


def test_muon_trains_the_matrices_of_the_blocks_and_resumes_to_the_bit(vae, tmp_path):
    config = config_of(vae, muon_learning_rate=0.02)
    model = new_transformer(config, (5, 3, 12, 12))
    adamw, muon = new_optimizers(config, model)
    names = {id(weight): name for name, weight in model.named_parameters()}
    theirs, others = ([names[id(p)] for group in part.param_groups for p in group["params"]] for part in (muon, adamw))
    assert isinstance(muon, torch.optim.Muon) and sorted(theirs + others) == sorted(names.values())
    assert all(name.endswith(".weight") and "_blocks." in name for name in theirs)
    assert not [n for n in others if "_blocks." in n and n.endswith(("proj.weight", "linear.weight", "fc1.weight"))]

    def stop(progress):
        if progress.log[-1]["step"] == 3:
            raise Stop

    whole = train_generator(config, tmp_path / "whole", progress=False)
    with pytest.raises(Stop):
        train_generator(config, tmp_path / "stopped", watch=stop, progress=False)
    assert same(weights(train_generator(config, tmp_path / "stopped", progress=False)), weights(whole))
    assert not same(weights(whole), weights(train_generator(config_of(vae), tmp_path / "adamw", progress=False)))


def test_two_processes_train_as_one_with_twice_the_batch(vae, tmp_path):
    recipe = 'part = "generation"\nvae = "{}"\nnum_frames = 9\nsize = 48\nclips = 8\nheld_out_clips = 4\nsteps = 3\n'
    recipe += "batch_size = {}\nlearning_rate = 1e-3\n[model]\nhidden_size = 16\ndepth = 1\nnum_heads = 2\n"
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
    results = []
    for name, batch, start in (("one", 4, [sys.executable]), ("two", 2, launch)):
        (tmp_path / f"{name}.toml").write_text(recipe.format(vae, batch))
        command = [*start, "-m", "vae_lab", "train", str(tmp_path / f"{name}.toml"), str(tmp_path / name)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
        assert run.returncode == 0, run.stderr
        results.append(weights(load_generator(tmp_path / name / "model")))
    assert all(torch.allclose(a, results[1][name], atol=1e-5) for name, a in results[0].items())


def test_the_folder_of_another_run_is_refused(whole, vae, tmp_path):
    folder = whole[0]
    with pytest.raises(ValueError, match="holds a run with another learning_rate, shift: choose another folder"):
        train_generator(config_of(vae, learning_rate=1e-3, shift=1), folder, progress=False)
    train_generator(config_of(vae, log_every=2), folder, progress=False)  # which does not change the weights
    other = tmp_path / "vae"
    causal_vae(seed=1).save_pretrained(other)
    config = config_of(other)
    train_generator(config, tmp_path / "run", progress=False)
    causal_vae(seed=2).save_pretrained(other)
    with pytest.raises(ValueError, match="on other clips, or behind another VAE: choose another folder"):
        train_generator(config, tmp_path / "run", progress=False)


def test_a_loss_that_is_not_finite_stops_the_run(vae, tmp_path):
    config = config_of(vae, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e30, steps=20, checkpoint_every=1)
    with pytest.raises(TrainingError, match="no longer finite at step .* the last good checkpoint is"):
        train_generator(config, tmp_path, progress=False)


# ---- the generator --------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits(whole):
    generator = whole[1]
    a, b, other = (generator.generate(PROMPTS, 3, seed=seed, guidance=2) for seed in (5, 5, 6))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not any(np.array_equal(x, y) for x, y in zip(a, other, strict=True))
    assert all(clip.shape == (9, 48, 48, 3) and clip.dtype == np.uint8 for clip in a)
    assert torch.equal(generator.noise(3, seed=4)[1:], generator.noise(2, seed=5))
    assert len(score(PROMPTS, a).readings) == 3


def test_samples_are_where_the_transformer_is(whole):
    """The device "meta" has shapes alone, and refuses to compute with tensors of the CPU as any other device does."""
    generator = load_generator(whole[0] / "model")
    generator.transformer.to("meta")
    path = generator.path(PROMPTS, 2, guidance=2.0, noise=generator.noise(3))
    assert path.points.device.type == generator.sample(PROMPTS, 2).device.type == "meta"


def test_a_path_ends_where_a_sample_does(whole):
    _, generator, _ = whole
    path = generator.path(PROMPTS, 4, seed=3)
    assert path.timesteps[0] == 1000 and path.timesteps[-1] == 0 and len(path.timesteps) == 5
    assert torch.equal(path.points[0], generator.noise(3, seed=3))
    assert torch.equal(path.points[-1], generator.sample(PROMPTS, 4, seed=3))
    assert torch.allclose(path.answers[-2], path.points[-1], atol=1e-5)  # the last step goes to t = 0
    assert torch.allclose(path.answers[0], generator.sample(PROMPTS, 1, seed=3), atol=1e-5)
    assert torch.equal(generator.path(PROMPTS, 4, noise=path.points[0]).points, path.points)


def test_guidance_weighs_the_text_against_none(whole):
    generator, noise = whole[1], whole[1].noise(1)
    v, u = (generator.sample(PROMPTS[:1], 1, noise=noise, guidance=g) - noise for g in (1, 0))
    assert torch.allclose(generator.sample(PROMPTS[:1], 1, noise=noise, guidance=3) - noise, u + 3 * (v - u), atol=1e-5)
    assert not torch.allclose(v, u)
    assert generator.settings.caption_dropout == 0.1
    settings = dataclasses.replace(generator.settings, caption_dropout=0.0)
    other = Generator(generator.transformer, generator.codec.vae, settings)
    assert torch.equal(other.sample(PROMPTS[:1], 1, noise=noise) - noise, v)
    with pytest.raises(ValueError, match="guidance must be 1, got 3.0: .* trained with a caption_dropout of 0"):
        other.sample(PROMPTS[:1], 1, guidance=3)


def test_a_first_frame_is_kept(vae, tmp_path):
    generator = train_generator(config_of(vae, keep_first=0.5), tmp_path, progress=False)
    clip = prompted_clip(np.random.default_rng(0), PROMPTS[0], 9, 48)
    z = generator.sample(PROMPTS, 4, first_frame=clip[0])
    whole_clip = generator.normalised(load(vae).encode(torch.tensor(clip).permute(3, 0, 1, 2)[None] / 127.5 - 1)
                                      .latent_dist.mode())  # fmt: skip
    assert torch.allclose(z[:, :, :1], whole_clip[:, :, :1].expand(3, -1, -1, -1, -1), atol=1e-3)  # the VAE is causal
    with pytest.raises(ValueError, match=r"first_frame must be 48 pixels high and wide, got \(32, 32\)"):
        generator.sample(PROMPTS, 4, first_frame=clip[0, :32, :32])
    with pytest.raises(ValueError, match=r"first_frame must be 48 pixels high and wide, got \(32, 32\)"):
        generator.sample(PROMPTS, 4, first_frame=list(clip[0, :32, :32]))
    assert generator.settings.keep_first == load_generator(tmp_path / "model").settings.keep_first == 0.5


def test_only_a_generator_that_was_trained_for_it_continues_an_image(whole):
    with pytest.raises(ValueError, match="first_frame needs a generator that was trained with keep_first above 0"):
        whole[1].sample(PROMPTS, 1, first_frame=np.zeros((48, 48, 3), np.uint8))


def test_another_vae_is_refused(whole, tmp_path):
    folder, generator, _ = whole
    with pytest.raises(ValueError, match="vae must have 5 latent channels, VideoVAE has 4"):
        load_generator(folder / "model", small_vae())
    with pytest.raises(ValueError, match="vae must be the one that the .* got another VideoVAE"):
        load_generator(folder / "model", causal_vae(seed=1))
    with pytest.raises(ValueError, match=r"z must have shape \(B, 5, 3, 6, 6\), .* got \(1, 4, 3, 6, 6\)"):
        generator.decode(torch.zeros(1, 4, 3, 6, 6))
    with pytest.raises(ValueError, match=r"lab.*in float32, .* got another VideoVAE \(torch.bfloat16, identity"):
        load_generator("lab-generator", load("lab-8", dtype=torch.bfloat16))
    with pytest.raises(FileNotFoundError, match=f"holds no generator: there is no {SETTINGS}"):
        load_generator(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no {SETTINGS}, .*; {folder / 'model'} has one"):
        load_generator(folder)  # of the run
    with pytest.raises(ValueError, match="source must be a str or a Path, got None"):
        load_generator(None)
    generator.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    for change, message in (
        (dict(latents_mean=[0.0] * 3), "latents_mean must have 5 numbers, one for each latent channel, got 3"),
        (dict(colour="red"), f"{SETTINGS} has no field 'colour'"),
        (dict(num_frames="9"), f"{SETTINGS}: num_frames must be an integer of at least 1, got '9'"),
        (dict(size=0), "size must be at least 1, got 0"),
        (dict(fps=0), "fps must be above 0 and finite, got 0"),
        (dict(shift="3"), "shift must be above 0 and finite, got 3"),
        (dict(vae=3), "vae must be a non-empty string, got 3"),
        (dict(vae_identity=None), "vae_identity must be a non-empty string, got None"),
        (dict(latents_mean="01234"), "latents_mean must be a list of numbers, got '01234'"),
        (dict(latents_mean=["a"] * 5), "latents_mean must be a finite number, got 'a'"),
        (dict(latents_std=[1.0] * 4 + [0.0]), "latents_std must be above 0 and finite, got 0.0"),
        (dict(keep_first=-1), "keep_first must be a number of at least 0, got -1"),
    ):
        (tmp_path / SETTINGS).write_text(json.dumps(settings | change))
        with pytest.raises(ValueError, match=message):
            load_generator(tmp_path)


@pytest.mark.parametrize("latent", [lambda z: z[:, :4], lambda z: z[..., :5]], ids=["channels", "width"])
def test_latents_of_another_size_are_refused(whole, latent):
    with pytest.raises(ValueError, match=r"noise must have shape \(B, 5, 3, 6, 6\), the VAE's for these clips, got"):
        whole[1].sample(PROMPTS[:1], noise=latent(torch.zeros(1, 5, 3, 6, 6)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(noise=torch.zeros(2, 5, 3, 6, 6)), "noise must be for as many clips as there are prompts, 1, got 2"),
        (dict(guidance=np.ones(2)), r"guidance must be a finite number, got array\(\[1., 1.\]\)"),
        (dict(guidance=True), "guidance must be a finite number, got True"),
        (dict(seed="first"), "seed must be an integer from .* got 'first'"),
        (dict(seed=True), "seed must be an integer from .* got True"),
        (dict(num_steps=True), "num_steps must be an integer of at least 1, got True"),
    ],
    ids=str,
)
def test_bad_arguments_of_a_sample_are_refused(options, message, whole):
    with pytest.raises(ValueError, match=message):
        whole[1].sample(PROMPTS[:1], **options)


def test_what_belongs_to_no_path_and_no_noise_is_refused(whole):
    for name, value in (("method", "heun"), ("on_step", print)):
        with pytest.raises(ValueError, match=f"{name} is for sample"):
            whole[1].path(PROMPTS, 2, **{name: value})
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        whole[1].noise(0)
    with pytest.raises(ValueError, match="prompts must be a list of prompts, got 'red disc left'"):
        whole[1].path("red disc left", 2)


def test_latents_of_any_dtype_are_decoded(whole):
    z = whole[1].noise(1)
    a, b = (whole[1].decode(latents)[0].astype(int) for latents in (z.double(), z))
    assert abs(a - b).max() <= 1  # of 255: the last rounding


# ---- the config -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(steps=0), "steps must be at least 1, got 0"),
        (dict(clips=1), "clips must be an integer from 2 to 1000000, got 1"),
        (dict(shift=0), "shift must be above 0 and finite, got 0"),
        (dict(learning_rate="fast"), "learning_rate must be above 0 and finite, got fast"),
        (dict(sampling="normal"), "sampling must be one of uniform, logit-normal, got 'normal'"),
        (dict(caption_dropout=1.5), "caption_dropout must be from 0 to 1, got 1.5"),
        (dict(ema_decay=1), "ema_decay must be from 0 to 1, 1 excluded, got 1"),
        (dict(normalise=1), "normalise must be true or false, got 1"),
        (dict(part="temporal"), "part must be one of generation, got 'temporal'"),
        (dict(model=[1]), r"model must be a table of arguments, got \[1\]"),
        (dict(muon_learning_rate=0), "muon_learning_rate must be above 0 and finite, got 0"),
        (dict(transformer="DiT"), "transformer must be one of STDiT3, LatteTransformer3DModel, .*, got 'DiT'"),
    ],
    ids=str,
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config_of("lab", **change)


def test_what_does_not_fit_is_refused_before_training(vae, tmp_path):
    for change, message in (
        (dict(model=dict(hiden_size=16)), r"model \(STDiT3\) has no field 'hiden_size'; close matches: hidden_size"),
        (dict(model=dict(in_channels=4)), r"model \(STDiT3\) has no field 'in_channels'"),
        (dict(size=32), "size must be at least 40 for 9 frames of .*, got 32"),
        (dict(model=dict(hidden_size=18)), r"hidden_size \(18\) must be a multiple of 4"),
        (dict(num_frames=1, keep_first=0.5), r"keep_first \(0.5\) must be 0 for clips of one latent frame"),
    ):
        with pytest.raises(ValueError, match=message):
            train_generator(config_of(vae, **change), tmp_path, progress=False)
    assert not (tmp_path / "cache").exists()  # no clip was encoded
    with pytest.raises(ValueError, match="vae must encode pixels, .* encodes spatial latents"):
        small_vae().temporal.save_pretrained(tmp_path / "half")
        train_generator(config_of(tmp_path / "half"), tmp_path / "run", progress=False)


def test_every_prompt_has_as_many_clips():
    prompts = clip_prompts(config_of("lab", clips=128, held_out_clips=64))
    assert all(prompts[:128].count(prompt) == 2 and prompts[128:].count(prompt) == 1 for prompt in set(prompts))


def test_the_learning_rate_rises_stays_and_falls():
    config = config_of("lab", steps=100, warmup_steps=10, decay_fraction=0.5)
    factors = [learning_rate_factor(config, step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9:51] == [1.0] * 42
    assert factors[75] == pytest.approx(0.5) and factors[100] == 0
    assert learning_rate_factor(dataclasses.replace(config, decay_fraction=0), 99) == 1


def test_a_new_transformer_depends_on_the_seed_alone():
    config = config_of("lab")
    a, b, c = (
        new_transformer(dataclasses.replace(config, seed=seed), (5, 3, 12, 12)).state_dict() for seed in (0, 0, 1)
    )
    assert same(a, b) and not same(a, c)


def test_recipes_are_of_generators():
    recipes = sorted((ROOT / "data" / "recipes" / "generation").glob("*.toml"))
    full, factorised = (read_recipe(path) for path in reversed(recipes))
    assert (full.model["attention"], factorised.model["attention"]) == ("full", "factorised")
    assert dataclasses.replace(factorised, model=full.model) == full  # the twin differs in nothing else
    count = {
        sum(p.numel() for p in new_transformer(config, (4, 5, 8, 8)).parameters()) for config in (full, factorised)
    }
    assert len(count) == 1


# ---- the command line -----------------------------------------------------------------------------------------------


def test_the_command_trains_and_generates(vae, tmp_path, capsys):
    assert isinstance(read_recipe(ROOT / "data" / "recipes" / "temporal.toml"), TrainConfig)
    recipe = tmp_path / "tiny.toml"
    config = config_of(vae).to_dict()
    model = config.pop("model")
    lines = [f"{name} = {json.dumps(value)}" for name, value in config.items() if value is not None]
    recipe.write_text(
        "\n".join([*lines, "[model]", *(f"{name} = {json.dumps(value)}" for name, value in model.items())])
    )
    run = tmp_path / "run"
    assert main(["train", str(recipe), str(run)]) == 0
    assert "wrote" in capsys.readouterr().out
    generate = ["generate", "red disc left", "--model", str(run / "model"), "--steps", "2", "--guidance", "2"]
    assert main([*generate, str(tmp_path / "new" / "out")]) == 0
    printed = capsys.readouterr().out
    assert "prompt       red disc left fast\nclip         9 frames of 48x48" in printed and "seen         " in printed
    told = json.loads((tmp_path / "new" / "out" / "reading.json").read_text())
    assert (told["prompt"], told["steps"], told["seed"]) == ("red disc left fast", 2, 0) and "speed" in told["seen"]
    assert len(read_video(tmp_path / "new" / "out" / "clip.mp4")) == 9
    for suffix in (".mp4", ".webm", ".gif"):
        assert main([*generate, str(tmp_path / f"clip{suffix}")]) == 0
        assert (tmp_path / f"clip{suffix}").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["purple disc left", "out"], "unknown word 'purple'; known are colour: red, green, blue, yellow; shape: "),
        (["red disc left", "out", "--steps", "0"], "'0' must be a whole number of at least 1"),
        (["red disc left", "out", "--guidance", "much"], "invalid float value: 'much'"),
        (["red disc left", "out", "--seed", str(1 << 64)], "--seed must be an integer from 0 to 18446744073709551615"),
        (["red disc left", "out", "--guidance", "nan"], "--guidance must be a finite number, got nan"),
        (["red disc left", "out.avi"], "OUT must end in .mp4, .webm, .gif or have no suffix, got out.avi"),
        (["red disc left", "out", "--model", "nowhere"], "nowhere holds no generator"),
    ],
    ids=str,
)
def test_bad_commands_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["generate", *([] if "--model" in arguments else ["--model", "nowhere"]), *arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["here", "here/clip.mp4", "here/deep/er"])
def test_a_file_in_the_place_of_a_folder_is_refused_before_anything_is_loaded(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("mine")
    assert main(["generate", "red disc left", out, "--model", "nowhere"]) == 2
    assert f"OUT ({out}) must be a video or a folder, and lie in one; here is a file" in capsys.readouterr().err
    assert (tmp_path / "here").read_text() == "mine"


@pytest.mark.parametrize("part", ['part = "generator"\n', ""])
def test_a_recipe_with_a_vae_is_of_part_generation(part, tmp_path, capsys):
    (tmp_path / "a.toml").write_text(f'{part}vae = "lab"\nsteps = 1\nlearning_rate = 1e-3\n')
    assert main(["train", str(tmp_path / "a.toml"), str(tmp_path / "run")]) == 2
    assert 'part must be "generation" in a recipe with a vae, that of a generator, got ' in capsys.readouterr().err


def test_a_generator_takes_no_folder_of_videos(vae, tmp_path, capsys):
    recipe = tmp_path / "a.toml"
    recipe.write_text(f'part = "generation"\nvae = "{vae}"\nsteps = 1\nlearning_rate = 1e-3\n')
    assert main(["train", str(recipe), str(tmp_path / "run"), "--data", "videos"]) == 2
    assert "--data videos cannot be used" in capsys.readouterr().err
