"""On a CUDA device, where there is one: the golden values, every family, fast mode and a generator."""

import copy

import pytest
import torch

from vae_lab import load
from vae_lab.families import FAMILIES, codec_of, tiny_model
from vae_lab.generation import load_generator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def all_bits():
    """cuDNN rounds float32 to TF32 by default, which has 10 bits."""
    usual, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = usual


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found.cpu() - truth).abs().max() / truth.abs().max()).item()


@pytest.mark.parametrize("frames", [1, 5, 16, 35])
def test_golden_values_hold(golden_vae, golden_cases, frames):
    x, recon = (golden_cases[f"T{frames}.{name}"] for name in ("x", "recon"))
    assert error(copy.deepcopy(golden_vae).cuda().reconstruct(x.cuda()).sample, recon) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_as_on_the_cpu(name):
    family = FAMILIES[name]
    side, num_frames = 128 if name == "allegro" else 4 * family.spatial_ratio, family.nearest_legal(9)[-1]
    x = torch.rand(1, 3, num_frames, side, side) * 2 - 1
    usual, other = codec_of(tiny_model(name)), codec_of(tiny_model(name).cuda())
    with torch.no_grad():
        z = usual.encode(x)
        assert error(other.encode(x.cuda()), z) < 3e-5
        assert error(other.decode(z.cuda(), num_frames), usual.decode(z, num_frames)) < 3e-5


def test_fast_mode_is_bf16():
    vae, x = load("lab-8"), torch.rand(1, 3, 5, 32, 32) * 2 - 1  # wide enough to gain
    with torch.no_grad():
        truth, vae = vae.reconstruct(x).sample, copy.deepcopy(vae).cuda()
        with vae.fast("bf16"):
            assert vae.fast_mode == "bf16"
            assert 1e-5 < error(vae.reconstruct(x.cuda()).sample, truth) < 0.1
    with pytest.raises(ValueError, match='mode must be "bf16" on cuda:0, got "F4"'):
        vae.fast()


def test_generators_sample_where_the_transformer_is_and_decode_where_the_vae_is():
    generator, prompts = load_generator(), ["red disc left", "blue bar up"]
    z = generator.sample(prompts, 2)
    generator.transformer.cuda()
    assert error(generator.sample(prompts, 2), z) < 1e-4
    clips = generator.decode(z)
    generator.codec.vae.cuda()
    assert all(abs(a.astype(int) - b).max() <= 1 for a, b in zip(clips, generator.decode(z), strict=True))
