import pytest
import torch

from vae_lab import SpatialVAE, TemporalVAE, photo_clip, psnr, to_tensor
from vae_lab.metrics import bicubic_round_trip, linear_in_time
from vae_lab.training.initialization import FIRST_LOGVAR, start_as_interpolation, start_carrying_frames

SPATIAL = dict(block_out_channels=(16, 16, 32, 32), layers_per_block=1, mid_block_add_attention=False)
TEMPORAL = dict(num_res_blocks=1, channel_multipliers=(1, 1, 2))


@pytest.mark.parametrize("groups", [1, 2, 4])
@torch.no_grad()
def test_the_2d_half_starts_near_bicubic_and_random_weights_do_not(groups):
    x = to_tensor(photo_clip("motorcycle_left", 1, (64, 64), seed=3).frames)
    vae = SpatialVAE(**SPATIAL, norm_num_groups=groups)
    mean = lambda y: psnr(x, y.clamp(-1, 1), 2.0).mean().item()  # noqa: E731
    bicubic = mean(bicubic_round_trip(x))
    assert mean(vae(x).sample) < bicubic - 5
    start_as_interpolation(vae)
    assert mean(vae(x).sample) > bicubic - 4
    assert vae.encode(x).latent_dist.logvar.mean() == pytest.approx(
        FIRST_LOGVAR + 2 * torch.tensor(0.18215).log(), abs=1
    )


@pytest.mark.parametrize("norm", ["group", "frame_group"])
@pytest.mark.parametrize("temporal_downsample", [(False, True), (True, True)])
@pytest.mark.parametrize("is_causal", [True, False])
@torch.no_grad()
def test_the_temporal_half_starts_as_interpolation_between_the_last_frames_of_groups(
    norm, temporal_downsample, is_causal
):
    vae = TemporalVAE(**TEMPORAL, base_channels=16, norm_num_groups=2, norm=norm, is_causal=is_causal,
                      temporal_downsample=temporal_downsample)  # fmt: skip
    start_as_interpolation(vae)
    x = 0.5 * torch.randn(2, 4, 17, 4, 4) + torch.tensor([0.5, -1, 0, 0.2]).view(4, 1, 1, 1)
    ratio = vae.temporal_compression_ratio
    assert (vae.encode(x).latent_dist.mean - x[:, :, ::ratio]).abs().max() < 0.05
    assert (vae(x).sample - linear_in_time(x, ratio)).abs().max() < 0.1


def test_every_weight_can_learn_after_one_step():
    vae = SpatialVAE(**SPATIAL, norm_num_groups=2, scaling_factor=1.0)
    start_as_interpolation(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3)
    x = torch.rand(2, 3, 1, 32, 32) * 2 - 1
    for _ in range(2):  # at first the residual branches are zero, and so are their first convolutions' gradients
        optimizer.zero_grad()
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample(torch.Generator().manual_seed(0))).sample
        ((y - x).square().mean() + 1e-6 * posterior.kl().sum()).backward()
        optimizer.step()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        (lambda: SpatialVAE(**SPATIAL, norm_num_groups=8), "needs norm groups of at least 4 channels, and 6 channels"),
        (lambda: SpatialVAE(**SPATIAL, norm_num_groups=1, latent_channels=2), "at least as many latent channels"),
        (lambda: TemporalVAE(**TEMPORAL, temporal_downsample=(True, True), base_channels=8, norm_num_groups=1),
         "and 8 channels beside two constants a group, got 8 channels in 1 groups"),
        (lambda: TemporalVAE(**TEMPORAL, temporal_downsample=(True, True), base_channels=16, norm_num_groups=1,
                             latent_channels=2), r"needs at least in_channels \(4\) latent channels, got 2"),
    ],
)  # fmt: skip
def test_what_has_no_room(vae, message):
    with pytest.raises(ValueError, match=message):
        start_as_interpolation(vae())


CARRYING = dict(num_res_blocks=1, base_channels=24, norm_num_groups=2)


def lifted(x, ratio, frames):
    """Interpolate linearly between the frames of each group that are carried whole, given as positions 1 to ratio."""
    known = [t for t in range(x.shape[2]) if t % ratio in {frame % ratio for frame in frames}]
    y = torch.empty_like(x)
    for t in range(x.shape[2]):
        before, after = max(k for k in known if k <= t), min(k for k in known if k >= t)
        share = (t - before) / max(after - before, 1)
        y[:, :, t] = torch.lerp(x[:, :, before], x[:, :, after], share)
    return y


def decibels(x, y):
    return 10 * torch.log10(8.0**2 / (x - y).square().mean()).item()  # latents span about 8


@pytest.mark.parametrize("norm", ["group", "frame_group"])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize(
    ("temporal_downsample", "multipliers", "latent_channels", "frames"),
    [
        ((True, False), (1, 2, 2), 4, [2]),
        ((False, True), (1, 2, 2), 8, [1, 2]),
        ((True, True), (1, 2, 2), 4, [4]),
        ((True, True), (1, 2, 2), 7, [4]),
        ((True, True), (1, 2, 2), 8, [4, 2]),
        ((True, True), (1, 2, 2), 16, [1, 2, 3, 4]),
        ((True, True), (1, 2, 2), 18, [1, 2, 3, 4]),
        ((True, True, True), (1, 2, 4, 4), 4, [8]),
        ((True, True, True), (1, 2, 4, 4), 16, [8, 4, 2, 6]),
    ],
)
@torch.no_grad()
def test_a_temporal_half_starts_by_carrying_as_many_frames_as_the_channels_reach(
    norm, is_causal, temporal_downsample, multipliers, latent_channels, frames
):
    torch.manual_seed(0)
    vae = TemporalVAE(**CARRYING, channel_multipliers=multipliers, temporal_downsample=temporal_downsample, norm=norm,
                      is_causal=is_causal, latent_channels=latent_channels)  # fmt: skip
    start_carrying_frames(vae)
    x = 0.5 * torch.randn(2, 4, 17, 4, 4) + torch.tensor([0.5, -1, 0, 0.2]).view(4, 1, 1, 1)
    ratio, expected = vae.temporal_compression_ratio, lifted(x, 2 ** sum(temporal_downsample), frames)
    z = vae.encode(x).latent_dist.mean
    y = vae.decode(z, 17).sample
    assert decibels(y, expected) > 32
    if len(frames) == ratio:
        assert decibels(y, x) > 32
    else:
        assert decibels(y, x) == pytest.approx(decibels(expected, x), abs=0.2)
    assert (z[:, :4] - x[:, :, ::ratio]).abs().max() < 0.15  # the last frame comes first
    if latent_channels >= 8 and ratio == 4:
        assert (z[:, 4:8, 1:] - x[:, :, 2::4]).abs().max() < 0.15  # then the one in the middle


def test_every_weight_can_learn_from_the_start_that_carries_frames():
    vae = TemporalVAE(**CARRYING, channel_multipliers=(1, 2, 2), temporal_downsample=(True, True), latent_channels=8)
    start_carrying_frames(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3)
    x = torch.randn(2, 4, 9, 4, 4)
    for _ in range(2):
        optimizer.zero_grad()
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample(torch.Generator().manual_seed(0)), 9).sample
        ((y - x).square().mean() + 1e-6 * posterior.kl().sum()).backward()
        optimizer.step()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(latent_channels=3), r"start_carrying_frames needs at least in_channels \(4\) latent channels, got 3"),
        (
            dict(channel_multipliers=(1, 1, 1)),
            "and 32 channels beside two constants a group, got 24 channels in 2 groups",
        ),
        (dict(base_channels=16), "and 16 channels beside two constants a group, got 16 channels in 2 groups"),
        (dict(temporal_downsample=(False, False)), "needs a flag set in temporal_downsample"),
    ],
)
def test_what_has_no_room_to_carry_frames(changes, message):
    arguments = CARRYING | dict(channel_multipliers=(1, 2, 2), temporal_downsample=(True, True)) | changes
    with pytest.raises(ValueError, match=message):
        start_carrying_frames(TemporalVAE(**arguments))


def test_only_a_temporal_half_carries_frames():
    with pytest.raises(ValueError, match="must be a TemporalVAE to start by carrying frames, got SpatialVAE"):
        start_carrying_frames(SpatialVAE(**SPATIAL, norm_num_groups=2))
