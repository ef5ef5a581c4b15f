import pytest
import torch

from tests.helpers.lessons import check_of, kept_still
from vae_lab import CausalConv3d
from vae_lab.families import FAMILIES, codec_of, tiny_model
from vae_lab.lessons import (
    cost_bars,
    encoded,
    frames_back,
    latent_steps,
    league,
    model_cost,
    moved,
    nearest_kept,
    noise_clip,
    outputs_that_differ,
    seconds_of,
)


def test_still_tests_that_go_wrong():
    check = check_of("write the still test")
    assert "Right for all 5 models: CogVideoX, Wan 2.1" in check(kept_still).message
    assert "Wan 2.1, 33 frames: your function says True" in check(lambda encode, picture, n: True).message
    assert "a small CogVideoX, 33 frames: your function says False" in check(lambda encode, picture, n: False).message
    assert "must return True or False" in check(lambda encode, picture, n: torch.tensor(True)).message


def test_cost_counts_parameters_operations_and_the_largest_output():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Conv3d(2, 8, 1), torch.nn.Conv3d(8, 1, 1))
        x = torch.zeros(1, 2, 5, 10, 10)
    million, gflops, megabytes = model_cost(model, (model, x))
    assert million == pytest.approx(33e-6) and megabytes == pytest.approx(8 * 500 * 4 / 1e6)
    assert gflops == pytest.approx(500 * (2 * 2 * 8 + 2 * 8) / 1e9)
    assert not any(module._forward_hooks for module in model.modules())


def test_seconds_are_those_of_the_quickest_run():
    runs = []
    assert 0 <= seconds_of(lambda: runs.append(1), 3) < 1 and len(runs) == 3


def test_bars_have_names_once_if_they_are_the_same():
    figure = cost_bars({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 1.0}, "c": {"z": 1.0}}, height=1, own=1)
    names = [[label.get_text() for label in axis.get_yticklabels()] for axis in figure.axes]
    assert names == [["x", "y"], [], ["z"]] or names == [["x", "y"], ["", ""], ["z"]]


def test_lengths():
    assert nearest_kept("mochi", 17) == 19 and nearest_kept("vidtok", 33) == 32 and nearest_kept("wan 2.1", 19) == 17
    assert noise_clip("kandinsky 6 sr", 17).shape == (1, 3, 17, 32, 32)
    back = {"wan 2.1": "17", "kvae": "-", "open-sora 1.2": "20", "allegro": "black", "kandinsky 6 sr": "21"}
    assert {name: frames_back(name, 20) for name in back} == back


def test_stacks_of_layers_that_see_zeros():
    assert outputs_that_differ([]) == 0 and outputs_that_differ([(7, 2)]) == 3
    assert outputs_that_differ([(3, 1), (3, 2), (3, 1)]) == 4


def test_steps_and_moved_frames_of_a_causal_convolution():
    torch.manual_seed(0)
    conv, x = CausalConv3d(2, 2, 3), torch.randn(1, 2, 6, 4, 4)
    with torch.no_grad():
        assert moved(conv, x, 2) == [2, 3, 4]
        steps = latent_steps(conv(x[:, :, :1].repeat(1, 1, 6, 1, 1)))
    assert steps.shape == (5,) and (steps[:2] > 1e-3).all() and (steps[2:] < 1e-5).all()


def test_latents_of_bits_are_numbers():
    codec = codec_of(tiny_model("magvit-v2"))
    with torch.no_grad():
        assert encoded(codec, noise_clip("magvit-v2", 5)).unique().numel() > 2


def test_the_league_puts_the_best_first():
    names = ("open-sora 1.2", "minimax-h3", "vidtok", "easyanimate")
    torch.manual_seed(0)
    with torch.no_grad():
        codecs = {name: codec_of(tiny_model(name)) for name in names}
        table = league(codecs, {name: noise_clip(name, 33) for name in names})
    assert table.index[0] == "EasyAnimate" and table.loc["EasyAnimate"].eq(True).all()
    row = table.loc["Open-Sora 1.2"].to_dict()
    assert [name for name, value in row.items() if value] == ["cut at 17"]
    assert table.loc["MiniMax-H3", "cut before"] is None and table.loc["VidTok", "image"] is None
    for name in names:
        assert table.loc[FAMILIES[name].name, "still"] == FAMILIES[name].still_exact
