import copy

import torch

from vae_lab import TemporalVAE
from vae_lab.lessons import plant_leak, question


def test_a_leak_is_planted_in_one_convolution():
    vae = TemporalVAE(base_channels=4, num_res_blocks=1, norm="frame_group", norm_num_groups=2)
    weights = vae.state_dict()
    paths = {plant_leak(copy.deepcopy(vae), seed) for seed in range(20)}
    assert len(paths) > 5 and all(path.startswith("encoder.") for path in paths)
    path = plant_leak(vae, seed=1)
    convolutions = [m for m in vae.modules() if isinstance(m, torch.nn.Conv3d) and m.padding == (1, 1, 1)]
    assert convolutions == [vae.get_submodule(path)]
    planted = {key.replace(f"{path}.", f"{path}.conv."): value for key, value in vae.state_dict().items()}
    assert planted.keys() == weights.keys() and all(torch.equal(planted[key], weights[key]) for key in weights)


def test_measured_answers_follow_the_measurement():
    assert question("moved by the last frame", [4])([4]).message == "The latent frames [4]."
    assert question("quality after the swap", {"as trained": 23.0, "norms swapped": 24.0})("better").right is True
    assert question("which module", "SiLU")("CausalConv3d").message == (
        "Not 'CausalConv3d'. Notebook 01 showed that its windows end with the frame's own group."
    )


def test_a_norm_of_each_frame_is_told_from_others():
    check = question("write frame norm")
    assert check(lambda norm, x: torch.stack([norm(f) for f in x.unbind(2)], 2)).right is True
    assert check(lambda norm, x: norm(x) if x.shape[2] > 1 else x).right is False
    assert "That is the norm over all frames." in check(lambda norm, x: norm(x)).message
    mixed = check(lambda norm, x: norm(x.reshape(-1, *x.shape[1:2], *x.shape[3:])).reshape(x.shape))
    assert "Which axes do flatten and unflatten join and split?" in mixed.message
    assert "must have the shape of x, got (1, 8, 3, 2)" in check(lambda norm, x: norm(x[:, :, 0])).message
