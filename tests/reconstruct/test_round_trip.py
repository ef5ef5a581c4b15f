import numpy as np
import torch

from tests.helpers import small_vae
from tests.helpers.video import LONG
from vae_lab.reconstruct.round_trip import RoundTrip


def test_pieces_are_whole_groups():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    assert RoundTrip(vae, 37, 16, 16).lengths == [13, 16, 8]
    assert RoundTrip(vae, 1, 16, 16).lengths == [1]


def test_state_is_carried_to_where_the_model_is():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    whole, first = RoundTrip(vae, 29, 24, 32), RoundTrip(vae, 29, 24, 32)
    before = [whole.feed(LONG.frames[:13]), whole.feed(LONG.frames[13:29])]
    first.feed(LONG.frames[:13])
    second = RoundTrip(vae, 29, 24, 32)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(second.feed(LONG.frames[13:29]).outputs["full"], before[1].outputs["full"])
    assert second.latent_shape == whole.latent_shape == (4, 8, 3, 4)
    assert torch.is_grad_enabled()
