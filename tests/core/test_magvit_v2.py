"""MAGVIT-v2 against a published PyTorch copy, and its quantizer against what makes a quantizer one."""

import itertools
import math
import re

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.helpers import ROOT
from vae_lab import MagvitV2, load
from vae_lab.magvit_v2 import BinaryCode, Downsampler, code_entropies
from vae_lab.training import Stage, TrainConfig, train

TINY = dict(latent_channels=4, base_channels=8, num_res_blocks=1, norm_num_groups=4)
BITS = 6


def numbers(shape, seed):
    """Made-up numbers from -1 to 1, the same on every machine."""
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(n * 12.9898 + seed * 78.233) * 43758.5453).frac().reshape(shape)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return MagvitV2(**TINY).eval()


@torch.no_grad()
def test_values_of_o2_magvit2():
    """Values of cofe-ai/O2-MAGVIT2 `modeling/magvit2.py` (commit 62929b9) with these weights.

    They were computed once, by its Encoder without the bias of the first convolution, and its Decoder.
    """
    golden = load_file(ROOT / "tests" / "golden" / "magvit_v2.safetensors")
    vae = MagvitV2(
        latent_channels=BITS, base_channels=32, channel_multipliers=(1, 2, 2), temporal_downsample=(False, True),
        num_res_blocks=2, pad_mode="constant", down_kernel_size=3, norm_eps=1e-5,
    ).double()  # fmt: skip
    for number, p in enumerate(vae.parameters()):
        size = 0.5 if p.ndim == 1 else (6 / p[0].numel()) ** 0.5
        p.copy_(numbers(p.shape, number + 1) * size + 0.3 * (p.ndim == 1))
    code = vae.encode(numbers((1, 3, 5, 8, 12), 0)).latent_dist
    assert (code.raw - golden["raw"]).abs().max() < 1e-5
    assert (vae.decode(code.mode(), 5).sample - golden["sample"]).abs().max() < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_edges_are_repeated_as_jax_does(stride):
    layer = Downsampler(2, stride, kernel_size=4, pad_mode="replicate").double()
    x = torch.randn(1, 2, 5, 6, 8, dtype=torch.double)
    padded = np.pad(x, [(0, 0), (0, 0), (3, 0), (1, 2), (1, 2)], mode="edge")  # CausalConv of google/praxis
    assert layer(x).equal(F.conv3d(torch.from_numpy(padded), layer.conv.weight, layer.conv.bias, (stride, 2, 2)))


@torch.no_grad()
def test_each_frame_sees_only_the_past_before_it_is_quantized():
    torch.manual_seed(0)
    vae = MagvitV2(**TINY).double()
    x = torch.randn(1, 3, 9, 16, 16, dtype=torch.double)
    changed = x.clone()
    changed[:, :, 5:] = 0
    raw, other = (vae.encode(clip).latent_dist.raw for clip in (x, changed))
    assert raw[:, :, :2].equal(other[:, :, :2]) and not raw[:, :, 2].equal(other[:, :, 2])
    still = vae.encode(x[:, :, :1].expand(-1, -1, 9, -1, -1)).latent_dist.raw
    assert (still - raw[:, :, :1]).abs().max() < 1e-12
    z, later = torch.randn(1, 4, 3, 2, 2, dtype=torch.double), torch.zeros(1, 4, 1, 2, 2, dtype=torch.double)
    longer, shorter = vae.decode(torch.cat([z, later], 2)).sample[:, :, :9], vae.decode(z).sample
    assert (longer - shorter).abs().max() < 1e-12


def test_codes_and_their_numbers_are_a_bijection():
    vae = MagvitV2(**{**TINY, "latent_channels": BITS})
    index = torch.arange(2**BITS).view(1, 4, 4, 4)
    codes = vae.codes_of(index)
    assert codes.abs().eq(1).all() and len(codes.movedim(1, -1).reshape(-1, BITS).unique(dim=0)) == 2**BITS
    assert vae.indices_of(codes).equal(index)
    assert vae.codes_of(torch.tensor([[[[1, 2, 32]]]]))[0, :, 0, 0].T.tolist() == [
        [1, -1, -1, -1, -1, -1], [-1, 1, -1, -1, -1, -1], [-1, -1, -1, -1, -1, 1],
    ]  # fmt: skip


def test_the_sign_is_the_nearest_of_all_codes(vae):
    z = torch.randn(1, 4, 2, 5, 5)
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    nearest = corners[torch.cdist(z.movedim(1, -1).reshape(-1, 4), corners).argmin(1)]
    assert vae.quantize(z).movedim(1, -1).reshape(-1, 4).equal(nearest)
    assert vae.quantize(vae.quantize(z)).equal(vae.quantize(z))


@pytest.mark.parametrize("num_bits", [1, 2, 5])
def test_entropies_by_the_formula(num_bits):
    """softmax(-distance / temperature) over all codes, distance = -2 x . c (LookupFreeQuantizer in quantizer.py)."""
    raw = torch.randn(2, num_bits, 2, 3, 3) * 0.01
    cells = raw.movedim(1, -1).reshape(-1, num_bits).double()
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=num_bits))).double()
    p = (2 * cells @ corners.T / 0.01).softmax(1)
    each, over_all = code_entropies(raw)
    assert each.item() == pytest.approx(-(p * p.log()).sum(1).mean().item(), rel=1e-5)
    mean = p.mean(0)
    assert over_all.item() == pytest.approx(-(mean * (mean + 1e-5).log()).sum().item(), rel=1e-5)
    assert each < over_all + 1e-3 <= num_bits * math.log(2) + 1e-3  # a code has at most K bits
    commitment = 0.25 * (raw.sign() - raw).square().mean()
    assert BinaryCode(raw).loss().item() == pytest.approx((commitment + 0.1 * (each - over_all)).item(), rel=1e-5)


def test_the_loss_is_least_if_codes_are_certain_and_equally_frequent(vae):
    codes = vae.codes_of(torch.arange(16).view(1, 1, 4, 4))
    least = BinaryCode(codes).loss()
    assert least.item() == pytest.approx(-0.1 * math.log(16), abs=1e-4)
    one_code, no_code = codes[..., :1, :1].expand_as(codes), 0.001 * codes
    few = vae.codes_of(torch.arange(16).view(1, 1, 4, 4) % 8)
    for other in (one_code, no_code, few, 0.9 * codes, codes + 0.1 * torch.randn_like(codes)):
        assert BinaryCode(other).loss() > least + 1e-4


def test_gradients_pass_straight_through():
    raw = torch.randn(1, 3, 1, 2, 2, requires_grad=True)
    weights = torch.randn(1, 3, 1, 2, 2)
    code = BinaryCode(raw).mode()
    assert code.abs().eq(1).all()
    (code * weights).sum().backward()
    assert raw.grad.equal(weights)


def test_refusals(vae):
    for build, message in [
        (dict(latent_channels=25), "latent_channels must be an integer from 1 to 24"),
        (dict(temporal_downsample=(True,)), "temporal_downsample must have one flag"),
        (dict(pad_mode="edge"), "pad_mode must be one of replicate, constant"),
        (dict(norm_eps=0), "norm_eps must be above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            MagvitV2(**{**TINY, **build})
    for x, message in [
        ((1, 3, 16, 8, 8), r"x must have 1 \+ k \* 4 frames, got 16; nearest lengths: 13 and 17"),
        ((1, 3, 5, 8, 12), "height and width of x must be multiples of 8, got 8x12"),
        ((1, 4, 5, 8, 8), "x must have 3 channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            vae.encode(torch.zeros(x))
    with pytest.raises(ValueError, match=r"num_frames \(8\) must be 9, to which 3 latent frames decode"):
        vae.decode(torch.zeros(1, 4, 3, 1, 1), 8)
    for index in (torch.tensor([[[[16]]]]), torch.tensor([[[[-1]]]]), torch.zeros(1, 1, 1, 1), torch.tensor([1])):
        with pytest.raises(ValueError, match=r"index must be integers \(B, L, h, w\) from 0 to 15"):
            vae.codes_of(index)
    one = torch.ones(1, 1, 1, 1)
    for index, got in [
        (one.bool(), "torch.bool of shape (1, 1, 1, 1)"),
        (one.long()[:0], "torch.int64 of shape (0, 1, 1, 1)"),
        (one.long()[:, :0], "torch.int64 of shape (1, 0, 1, 1)"),
        ([[[[1]]]], "list"),
    ]:
        with pytest.raises(ValueError, match=re.escape(f"from 0 to 15, got {got}")):
            vae.codes_of(index)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32])
def test_codes_of_small_integers(dtype):
    """18 bits reach beyond what these types hold."""
    vae = MagvitV2(**{**TINY, "latent_channels": 18})
    index = torch.tensor([[[[0, 3, 100]]]])
    assert torch.equal(vae.codes_of(index.to(dtype)), vae.codes_of(index))


def test_saved_loaded_and_called_like_the_others(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    other = load(tmp_path)
    x = torch.randn(1, 3, 5, 16, 16)
    with torch.no_grad():
        code = vae.encode(x).latent_dist
        assert code.sample().equal(code.mode()) and not code.std.any() and code.mean.equal(code.mode())
        assert other(x, sample_posterior=True).sample.equal(vae.decode(code.mode()).sample)
    assert vae.bits_per_pixel == 4 / 256


def test_diffusers_interface(tmp_path):
    torch.manual_seed(0)
    vae, x = MagvitV2(**TINY), torch.randn(2, 3, 5, 16, 16, dtype=torch.double)
    vae.save_pretrained(tmp_path)
    assert isinstance(diffusers.AutoModel.from_pretrained(str(tmp_path)), MagvitV2)
    vae = vae.double()
    (code,) = vae.encode(x, return_dict=False)
    (y,) = vae.decode(code.mode(), return_dict=False)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in vae.named_parameters()}
    vae.zero_grad()
    vae.enable_gradient_checkpointing()
    vae.enable_slicing()
    sliced = vae(x, sample_posterior=True).sample
    assert torch.allclose(sliced, y)
    (sliced * weights).sum().backward()
    for name, parameter in vae.named_parameters():
        assert torch.allclose(parameter.grad, before[name]), name


def test_training(tmp_path):
    config = TrainConfig(
        part="whole", start="random", size=16, model=dict(class_name="MagvitV2", **TINY), kl_weight=1.0,
        stages=(Stage(name="clips", steps=2, learning_rate=1e-3, batch_size=2, num_frames=(5, 5)),), log_every=1,
    )  # fmt: skip
    log = []
    trained = train(config, tmp_path, watch=lambda progress: log.append(progress.log[-1]), progress=False)
    assert isinstance(trained, MagvitV2) and isinstance(load(tmp_path / "model"), MagvitV2)
    for row in log:  # "kl" is the quantizer's loss
        assert row["loss"] == pytest.approx(row["mse"] + 0.05 * row["l1"] + row["kl"])


def test_the_quantizers_loss_can_be_minimised():
    torch.manual_seed(0)
    vae, x = MagvitV2(**TINY), torch.rand(4, 3, 5, 16, 16) * 2 - 1
    optimizer = torch.optim.AdamW(vae.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        code = vae.encode(x).latent_dist
        loss = code.loss() + (vae.decode(code.mode()).sample - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((loss.item(), code.loss().item()))
    assert losses[-1][0] < losses[0][0] - 0.1 and losses[-1][1] < losses[0][1] - 0.02
