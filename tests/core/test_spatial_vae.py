from copy import deepcopy

import pytest
import torch
from diffusers.models import upsampling

from tests.helpers import SMALL_SPATIAL
from vae_lab import SpatialVAE, load
from vae_lab.utils.upsampling import Upsample2D, quicken_upsampling


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return SpatialVAE(**SMALL_SPATIAL).eval()


def test_every_frame_is_what_autoencoder_kl_makes_of_it(vae):
    x = torch.rand(2, 3, 5, 16, 24) * 2 - 1
    z = vae.encode(x).latent_dist.mode()
    y = vae.decode(z).sample
    assert z.shape == (2, 4, 5, 2, 3)
    assert y.shape == x.shape
    for b in range(2):
        for t in range(5):
            image = x[b : b + 1, :, t]
            latent = vae.autoencoder.encode(image).latent_dist.mode() * 0.18215
            torch.testing.assert_close(z[b : b + 1, :, t], latent)
            torch.testing.assert_close(y[b : b + 1, :, t], vae.autoencoder.decode(latent / 0.18215).sample)


WIDE = dict(block_out_channels=(128, 256), layers_per_block=1, norm_num_groups=32)  # widths of the released size


def usual_upsamplers(vae: SpatialVAE) -> SpatialVAE:
    """A copy that upsamples with diffusers' class."""
    vae = deepcopy(vae)
    for module in vae.modules():
        if type(module) is Upsample2D:
            module.__class__, module.conv.__class__ = upsampling.Upsample2D, torch.nn.Conv2d
    return vae


@pytest.mark.parametrize(("model", "side"), [("wide", 48), ("lab-8", 96)])
@torch.no_grad()
def test_rounds_no_more_than_diffusers_own_way(model, side):
    """Frames with their channels last round two to five times as much: in oneDNN's convolutions and torch's norms."""
    torch.manual_seed(0)
    vae = SpatialVAE(**WIDE).eval() if model == "wide" else load(model).spatial
    x, usual, exact = torch.rand(1, 3, 2, side, side) * 2 - 1, usual_upsamplers(vae).autoencoder, deepcopy(vae).double()
    assert vae.frames_at_once(side, side) >= 2
    truth = exact.encode(x.double()).latent_dist.mode()
    z = truth.float().contiguous()
    factor, frames, latents = vae.config.scaling_factor, x[0].transpose(0, 1), z[0].transpose(0, 1)
    encoded = usual.encode(frames.contiguous()).latent_dist.mode() * factor
    decoded = usual.decode(latents.contiguous() / factor).sample
    for ours, theirs, best in (
        (vae.encode(x).latent_dist.mode(), encoded, truth),
        (vae.decode(z).sample, decoded, exact.decode(z.double()).sample),
    ):
        errors = [(y - best).square().mean().sqrt() for y in (ours, theirs.transpose(0, 1).unsqueeze(0))]
        assert errors[0] < 1.25 * errors[1]


def test_upsamplers_multiply_less_and_compute_the_same(monkeypatch):
    """In any layout, and with gradients. float64, and convolutions of other libraries, take diffusers' way."""
    torch.manual_seed(0)
    up = usual_upsamplers(SpatialVAE(**SMALL_SPATIAL)).autoencoder.decoder.up_blocks[0].upsamplers[0]
    quick = deepcopy(up)
    quicken_upsampling(quick)
    assert type(quick) is Upsample2D
    kernels, convolution = [], torch.mkldnn_convolution

    def counted(x, weight, *args):
        kernels.append(weight.shape[2:])
        return convolution(x, weight, *args)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    whole = torch.randn(3, up.channels, 5, 7)
    for x in (whole, whole[:1], whole[:, :, :1, :1], whole.contiguous(memory_format=torch.channels_last)):
        x.requires_grad_()
        expected = up(x)
        expected.square().mean().backward()
        gradients, x.grad = x.grad, None
        found = quick(x)
        found.square().mean().backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(x.grad, gradients)
        torch.testing.assert_close(quick.conv.weight.grad, up.conv.weight.grad)
        assert kernels == 4 * [(2, 2)] and found.is_contiguous()
        kernels.clear()
        x = x.detach()
    assert torch.equal(quick.double()(whole.double()), up.double()(whole.double()))
    replaced = quick.float()
    replaced.conv = up.float().conv  # as a library does that adds to convolutions
    torch.testing.assert_close(replaced(whole), up(whole))
    assert not kernels


@pytest.mark.parametrize("micro_batch_size", [1, 3, None])
def test_micro_batch_size_changes_no_result(vae, micro_batch_size):
    other = SpatialVAE(**SMALL_SPATIAL, micro_batch_size=micro_batch_size)
    other.load_state_dict(vae.state_dict())
    x = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    torch.testing.assert_close(other.encode(x).latent_dist.mode(), vae.encode(x).latent_dist.mode())


def test_micro_batches_keep_tensors_small_on_cpus(monkeypatch):
    with torch.device("meta"):
        sdxl = SpatialVAE()  # 256 channels at full size in the decoder
    assert [sdxl.frames_at_once(side, side) for side in (40, 56, 64, 256)] == [4, 3, 2, 1]
    assert sdxl.frames_at_once(48, 88) == 2 and sdxl.frames_at_once(48, 88, itemsize=2) == 4
    sdxl.enable_tiling(32)
    assert sdxl.frames_at_once(1024, 1024) == 4
    vae = SpatialVAE(**SMALL_SPATIAL, micro_batch_size=3).eval()
    x = torch.rand(1, 3, 4, 16, 24) * 2 - 1
    found = {}
    for most, lengths in ((2**25, [3, 1]), (8 * 16 * 24 * 4 * 2 + 1, [2, 2]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr("vae_lab.spatial_vae.MOST_BYTES", most)
        calls = []
        hooks = [
            half.register_forward_pre_hook(lambda _, args, calls=calls: calls.append(len(args[0])))
            for half in (vae.autoencoder.encoder, vae.autoencoder.decoder)
        ]
        found[most] = vae(x).sample
        assert calls == 2 * lengths
        for hook in hooks:
            hook.remove()
    for y in found.values():
        torch.testing.assert_close(y, found[1])


def test_sample_is_scaled_too(vae):
    x = torch.rand(1, 3, 1, 16, 16) * 2 - 1
    ours = vae.encode(x).latent_dist
    theirs = vae.autoencoder.encode(x[:, :, 0]).latent_dist
    torch.testing.assert_close(ours.std[:, :, 0], theirs.std * 0.18215)
    assert not torch.equal(ours.sample(torch.Generator().manual_seed(0)), ours.mode())


def test_another_scaling_factor_keeps_weights_type_and_mode(vae):
    x = torch.rand(1, 3, 2, 16, 16) * 2 - 1
    other = vae.with_scaling_factor(2 * 0.18215)
    torch.testing.assert_close(other.encode(x).latent_dist.mode(), 2 * vae.encode(x).latent_dist.mode())
    assert not other.training and other.autoencoder is not vae.autoencoder
    assert SpatialVAE(**SMALL_SPATIAL).double().with_scaling_factor(1.0).dtype == torch.float64


def test_forward_and_ratio(vae):
    x = torch.rand(1, 3, 2, 8, 8) * 2 - 1
    torch.testing.assert_close(vae(x).sample, vae.decode(vae.encode(x).latent_dist.mode()).sample)
    assert vae.spatial_compression_ratio == 8
    assert vae.latent_size((5, 16, 24)) == (5, 2, 3)
    assert SpatialVAE(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4).spatial_compression_ratio == 2


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 1, 12, 16), r"height \(12\) must be a multiple of 8"),
        (torch.zeros(1, 3, 1, 16, 12), r"width \(12\) must be a multiple of 8"),
        (torch.zeros(1, 4, 1, 16, 16), r"x must have 3 channels, got 4"),
        (torch.zeros(1, 3, 16, 16), r"x must be a tensor of shape \(B, C, T, H, W\), got shape \(1, 3, 16, 16\)"),
        (torch.zeros(1, 3, 0, 16, 16), "x must not be empty"),
        (torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8), "x must be floating point, got torch.uint8"),
        (torch.full((1, 3, 1, 16, 16), torch.nan), "x must be finite, got NaN or infinity"),
        ([[0.0]], "x must be a tensor of shape .* got list"),
    ],
)
def test_bad_input(vae, x, message):
    with pytest.raises(ValueError, match=message):
        vae.encode(x)


def test_bad_arguments(vae):
    with pytest.raises(ValueError, match=r"num_frames \(3\) must equal the 2 latent frames of a 2D VAE"):
        vae.decode(torch.zeros(1, 4, 2, 2, 2), num_frames=3)
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1, got 0"):
        SpatialVAE(**SMALL_SPATIAL, micro_batch_size=0)
    with pytest.raises(ValueError, match="scaling_factor must be above 0 and finite, got 0"):
        SpatialVAE(**SMALL_SPATIAL, scaling_factor=0)
    with pytest.raises(ValueError, match=r"\(10, 8\) must each be a multiple of norm_num_groups \(4\)"):
        SpatialVAE(block_out_channels=(10, 8), norm_num_groups=4)
