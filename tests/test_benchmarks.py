"""The benchmarks run, on small models. What they measure is for `make bench`: no test looks at times."""

import pytest

from benchmarks import cached_latents, convolutions, reading, streaming
from tests.helpers import small_vae
from tests.helpers.training import TEMPORAL, spatial_config
from vae_lab.training.loop import train


@pytest.mark.slow
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


@pytest.mark.slow
def test_streaming_prints_a_ratio_and_peaks(tmp_path, capsys):
    small_vae(temporal=dict(norm="frame_group")).save_pretrained(tmp_path)
    sizes = ["--rounds", "2", "--frames", "8", "--size", "8", "--piece", "4", "--lengths", "5", "9"]
    ratio = streaming.main(["--model", str(tmp_path), *sizes])
    printed = capsys.readouterr().out
    assert ratio > 0 and f"streaming: {ratio:.2f} times the speed of one call" in printed
    assert "9 frames streamed: peak" in printed and "memory: " in printed


@pytest.mark.slow
def test_reading_prints_a_ratio_for_each_size(capsys):
    ratio = reading.main(["--rounds", "1", "--pixels", "1"])
    printed = capsys.readouterr().out
    assert ratio > 0 and printed.count("accurate has") == 4 and "1920x1080: fast" in printed


def test_convolutions_prints_a_ratio_for_each_way(tmp_path, capsys):
    small_vae().save_pretrained(tmp_path)
    ratio = convolutions.main(["--model", str(tmp_path), "--rounds", "1", "--sizes", "2", "3"])
    printed = capsys.readouterr().out
    assert ratio > 0 and f"decode 17x3x3: {ratio:.2f} of the time" in printed and printed.count("code 17x") == 4
