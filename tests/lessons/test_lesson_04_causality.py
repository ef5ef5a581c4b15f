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
    assert question("moved by the last frame", [4])([4]).message == "The latents [4]."
    assert question("quality after the swap", {"as trained": 23.0, "norms swapped": 24.0})("better").right is True
    assert question("which module", "SiLU")("CausalConv3d").message == (
        "Not 'CausalConv3d'. Notebook 01 has shown that its windows end with the frame's own group."
    )
