import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.helpers import SMALL_TEMPORAL
from vae_lab import TemporalVAE
from vae_lab.temporal_vae import FrameGroupNorm, depth_to_time


def small(**config) -> TemporalVAE:
    torch.manual_seed(0)
    return TemporalVAE(**SMALL_TEMPORAL | dict(temporal_downsample=(True, True)) | config).eval().double()


@settings(max_examples=40)
@given(
    frames=st.integers(1, 20), height=st.integers(1, 5), width=st.integers(1, 5), batch=st.integers(1, 2),
    flags=st.lists(st.booleans(), min_size=1, max_size=3), blocks=st.integers(1, 2),
    norm=st.sampled_from(["group", "frame_group"]), pad_mode=st.sampled_from(["constant", "replicate"]),
)  # fmt: skip
def test_predicted_sizes_are_the_real_ones(frames, height, width, batch, flags, blocks, norm, pad_mode):
    vae = small(
        temporal_downsample=flags, channel_multipliers=(1,) * len(flags) + (2,), num_res_blocks=blocks, norm=norm,
        pad_mode=pad_mode,
    )  # fmt: skip
    x = torch.randn(batch, 4, frames, height, width, dtype=torch.double)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        y = vae.decode(z, frames).sample
    assert z.shape == (batch, 4, *vae.latent_size((frames, height, width)))
    assert vae.temporal_compression_ratio == 2 ** sum(flags)
    assert y.shape == x.shape


@pytest.mark.parametrize("frames", [5, 16, 17])
def test_frame_group_norm_is_causal_to_the_bit_and_group_norm_is_not(frames):
    x = torch.randn(1, 4, frames, 3, 3, dtype=torch.double)
    changed = x.clone()
    changed[:, :, -1] += 1
    for norm, moves in (("frame_group", False), ("group", True)):
        vae = small(norm=norm)
        with torch.no_grad():
            z, z_changed = (vae.encode(v).latent_dist.mode() for v in (x, changed))
            y, y_changed = (
                vae.decode(v, frames).sample for v in (z, torch.cat([z[:, :, :-1], z_changed[:, :, -1:]], 2))
            )
        assert (z != z_changed)[:, :, -1].any()
        assert (z != z_changed)[:, :, :-1].any().item() is moves
        assert (y != y_changed)[:, :, :-4].any().item() is moves  # the last group is the last 4 frames


def test_frame_group_norm_is_group_norm_of_each_frame():
    x = torch.randn(2, 4, 3, 5, 5)
    norm, reference = FrameGroupNorm(2, 4), torch.nn.GroupNorm(2, 4)
    for module in (norm, reference):
        torch.nn.init.constant_(module.weight, 1.5)
        torch.nn.init.constant_(module.bias, -0.5)
    for t in range(3):
        torch.testing.assert_close(norm(x)[:, :, t], reference(x[:, :, t]))


def test_depth_to_time_order():
    x = torch.arange(2 * 4 * 3).view(2, 4, 3, 1, 1)  # channels are (c, factor): c0f0 c0f1 c1f0 c1f1
    y = depth_to_time(x)
    assert y.shape == (2, 2, 6, 1, 1)
    for c in range(2):
        for t in range(6):
            assert torch.equal(y[:, c, t], x[:, 2 * c + t % 2, t // 2])


def test_two_orders_of_downsampling_have_other_keys_and_the_same_sizes():
    early, late = small(temporal_downsample=(True, False)), small(temporal_downsample=(False, True))
    assert early.latent_size((7, 2, 2)) == late.latent_size((7, 2, 2)) == (4, 2, 2)
    assert set(early.state_dict()) != set(late.state_dict())


def test_front_padding_is_zeros_in_front():
    vae = small()
    x = torch.randn(1, 4, 5, 2, 2, dtype=torch.double)
    padded = torch.cat([torch.zeros(1, 4, 3, 2, 2, dtype=torch.double), x], 2)
    with torch.no_grad():
        assert torch.equal(vae.encode(x).latent_dist.mode(), vae.encode(padded).latent_dist.mode())
        z = vae.encode(x).latent_dist.mode()
        assert torch.equal(vae.decode(z, 5).sample, vae.decode(z, 8).sample[:, :, 3:])


def test_save_and_load(tmp_path):
    vae = small(norm="frame_group", act_fn="relu").float()
    vae.save_pretrained(tmp_path)
    again = TemporalVAE.from_pretrained(tmp_path)
    assert again.config.norm == "frame_group"
    assert again.config.act_fn == "relu"
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))


def test_gradients_reach_every_parameter():
    vae = small()
    x = torch.randn(1, 4, 6, 3, 3, dtype=torch.double)
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample(torch.Generator().manual_seed(0)), 6).sample
    ((y - x).square().mean() + posterior.kl().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(norm="layer"), "norm must be one of .* got 'layer'"),
        (dict(act_fn="gelu"), "act_fn must be one of .* got 'gelu'"),
        (dict(pad_mode="circular"), "pad_mode must be one of"),
        (dict(norm_num_groups=3), r"multiple of norm_num_groups \(3\), got 4 channels"),
        (
            dict(temporal_downsample=(True,)),
            r"each channel multiplier except the last \(2\), got \(True,\)",
        ),
        (dict(num_res_blocks=0), "num_res_blocks must be at least 1, got 0"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        small(**config)


@pytest.mark.parametrize(("num_frames", "latents"), [(9, 2), (4, 2), (0, 1)])
def test_num_frames_must_fit(num_frames, latents):
    last = 4 * latents
    with pytest.raises(
        ValueError,
        match=rf"num_frames \({num_frames}\) does not fit a latent of {latents} frames.*{last - 3} to {last}",
    ):
        small().decode(torch.zeros(1, 4, latents, 2, 2, dtype=torch.double), num_frames)


def test_convolutions_that_look_ahead():
    vae = small(norm="frame_group", is_causal=False)
    assert vae.state_dict().keys() == small().state_dict().keys()
    x = torch.randn(1, 4, 8, 4, 4, dtype=torch.double)
    z = vae.encode(x).latent_dist.mode()
    later = x.clone()
    later[:, :, 4:] += 1  # frames of the second latent
    assert (vae.encode(later).latent_dist.mode() - z)[:, :, 0].abs().max() > 0
    assert vae.decode(z, 8).sample.shape == x.shape


def test_padding_of_time_alone():
    modes = [m.time_pad_mode for m in small(time_pad_mode="replicate").modules() if hasattr(m, "conv")]
    assert set(modes) == {"replicate"}
    with pytest.raises(ValueError, match="time_pad_mode must be one of .* got 'zeros'"):
        small(time_pad_mode="zeros")
