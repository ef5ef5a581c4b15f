"""Our classes in diffusers' tools: outputs, offloading, slicing, tiles, checkpointing, AutoModel, pipelines."""

import copy
import inspect
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import diffusers
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from tests.helpers import ROOT, small_vae
from vae_lab import DiagonalGaussian, load, photo_clip, to_tensor

MODELS = {
    "stack": lambda: small_vae(),
    "2D half": lambda: small_vae().spatial,
    "temporal half": lambda: small_vae().temporal,
}


@pytest.fixture(params=MODELS)
def vae(request):
    return MODELS[request.param]().eval()


@pytest.fixture
def x(vae):
    channels, size = (4, 4) if vae.spatial_compression_ratio == 1 else (3, 16)
    return torch.rand(2, channels, 18, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_tuples(vae, x):
    (posterior,), same = vae.encode(x, return_dict=False), vae.encode(x).latent_dist
    assert torch.equal(posterior.mode(), same.mode())
    z = posterior.mode()
    assert torch.equal(vae.decode(z, 18, return_dict=False)[0], vae.decode(z, 18).sample)
    assert torch.equal(vae(x, return_dict=False)[0], vae(sample=x).sample)
    assert (
        "return_dict"
        in inspect.signature(vae.encode).parameters.keys() & inspect.signature(vae.decode).parameters.keys()
    )


def test_return_dict_without_its_name(vae, x):
    """As diffusers' pipelines may pass it: the second argument of encode, and after num_frames."""
    z = vae.encode(x, False)[0].mode()
    assert torch.equal(vae.decode(z, 18, False)[0], vae.decode(z, 18).sample)
    with pytest.raises(ValueError, match=r"num_frames (must be an integer|\(False\) does not fit)"):
        vae.decode(z, False)
    vae.enable_slicing()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        vae.encode()


def test_another_dtype_is_refused(vae, x):
    with pytest.raises(ValueError, match=r"x must have the model's dtype, torch.float32, got torch.float16"):
        vae.encode(x.half())
    z = vae.encode(x).latent_dist.mode()
    with pytest.raises(ValueError, match=r"z must have the model's dtype, torch.float32, got torch.float64"):
        vae.decode(z.double(), 18)
    with torch.autocast("cpu", torch.bfloat16):
        assert vae.encode(x.bfloat16()).latent_dist.mode().isfinite().all()
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator, a list of them, or None, got 3"):
        vae(x, sample_posterior=True, generator=3)


def test_without_a_length_the_shortest_clip_comes_back(vae, x):
    z = vae.encode(x).latent_dist.mode()
    shortest = vae.decode(z).sample.shape[2]
    if z.shape[2] == 18:  # the 2D half
        assert shortest == 18
        return
    assert vae.latent_size((shortest, *x.shape[3:]))[0] == z.shape[2]
    with pytest.raises(ValueError, match="does not fit a latent"):
        vae.decode(z, shortest - 1)
    assert torch.equal(vae.decode(z).sample, vae.decode(z, shortest).sample)


def test_a_list_of_generators_draws_each_item_alone(vae, x):
    def seeded(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    posterior = vae.encode(x).latent_dist
    both = posterior.sample(seeded(1, 2))
    for n, seed in enumerate((1, 2)):
        alone = DiagonalGaussian(posterior.parameters[n : n + 1]).sample(*seeded(seed))
        torch.testing.assert_close(both[n : n + 1], alone)
    assert torch.equal(vae(x, sample_posterior=True, generator=seeded(1, 2)).sample, vae.decode(both, 18).sample)
    with pytest.raises(ValueError, match="generator must be one, or a list of 2"):
        posterior.sample(seeded(1, 2, 3))


def test_slices(vae, x, monkeypatch):
    x = x.double()
    vae.double()
    expected, batches, run = vae(x).sample, [], type(vae).encode
    vae.enable_slicing()
    module = {"VideoVAE": "temporal", "SpatialVAE": "autoencoder", "TemporalVAE": "encoder"}[type(vae).__name__]
    part = getattr(vae, module)
    encode = part.encode if hasattr(part, "encode") else part.forward
    monkeypatch.setattr(
        part, encode.__name__, lambda clip, *rest, **more: batches.append(len(clip)) or encode(clip, *rest, **more)
    )
    torch.testing.assert_close(vae(x).sample, expected)
    sliced, per_clip = max(batches), {"VideoVAE": 1, "SpatialVAE": 4, "TemporalVAE": 1}[type(vae).__name__]
    assert sliced == per_clip
    vae.disable_slicing()
    batches.clear()
    vae.encode(x)
    assert batches[0] == (4 if type(vae).__name__ == "SpatialVAE" else 2) and run is type(vae).encode


class CountingHook:
    """What accelerate's CpuOffload is to `apply_forward_hook`."""

    calls = 0

    def pre_forward(self, module, *args):
        self.calls += 1


def test_hooks_of_offloading_run_at_encode_and_decode(vae, x):
    vae._hf_hook = CountingHook()
    z = vae.encode(x).latent_dist.mode()
    assert vae._hf_hook.calls == 1
    vae.decode(z)
    assert vae._hf_hook.calls == 2


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_group_offloading_brings_the_weights_back(vae, x, level, tmp_path):
    expected, weights = vae(x).sample, [p.clone() for p in vae.parameters()]
    cpu, blocks = torch.device("cpu"), dict(num_blocks_per_group=1) if level == "block_level" else {}
    apply_group_offloading(vae, cpu, cpu, level, offload_to_disk_path=str(tmp_path), **blocks)
    for p, weight in zip(vae.parameters(), weights, strict=True):
        if p.data_ptr() != weight.data_ptr():
            p.data.fill_(torch.nan)  # on a disk, memory holds anything
    z = vae.encode(x).latent_dist.mode()
    assert torch.equal(vae.decode(z, 18).sample, expected)


def test_tiles_that_work():
    """No seam, and hardly more error, with the lab's weights. diffusers' own tiles of 32 pixels spoil the picture."""
    vae, x = load("lab").spatial, to_tensor(photo_clip("astronaut", 1, (256, 256)).frames)
    whole = vae(x).sample

    def seam() -> float:
        """The largest jump of the tiles' error from one column to the next, over the median jump."""
        jumps = (vae(x).sample - whole).diff(dim=-1).abs().mean((0, 1, 2, 3))
        return (jumps.max() / jumps.median()).item()

    def error() -> float:
        return ((vae(x).sample - x) ** 2).mean().item() / ((whole - x) ** 2).mean().item()

    vae.enable_tiling(128)
    assert seam() < 8 and error() < 1.05
    vae.autoencoder.tile_overlap_factor = 0.0
    assert seam() > 15
    vae.autoencoder.tile_overlap_factor = 0.25
    vae.enable_tiling(32)
    assert error() > 1.3


def test_tiles_are_those_of_the_2d_half():
    vae, x = small_vae(), torch.rand(1, 3, 1, 64, 64)
    whole = vae(x).sample
    vae.spatial.autoencoder.enable_tiling()  # its own door: 512 pixels here, 32 by diffusers' default
    assert vae.use_tiling and torch.equal(vae(x).sample, whole)
    vae.enable_tiling(32)
    assert not torch.equal(vae(x).sample, whole)
    vae.disable_tiling()
    assert not vae.spatial.use_tiling and torch.equal(vae(x).sample, whole)
    with pytest.raises(ValueError, match=r"tile_sample_min_size \(40\) must be a multiple of 32, 4 latent cells"):
        vae.enable_tiling(40)
    with pytest.raises(ValueError, match="TemporalVAE has no tiles in space: its stream"):
        vae.temporal.enable_tiling()


def test_gradient_checkpointing(vae, x):
    with torch.enable_grad():
        vae.double().train()
        gradients = []
        for change in (vae.disable_gradient_checkpointing, vae.enable_gradient_checkpointing):
            change()
            vae.zero_grad()
            saved = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):  # noqa: B023
                y = vae(x.double()).sample
            y.square().mean().backward()
            gradients.append(([p.grad.clone() for p in vae.parameters()], sum(saved)))
    (plain, kept), (again, fewer) = gradients
    torch.testing.assert_close(again, plain)
    assert fewer < 0.8 * kept


def test_auto_model(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    again = diffusers.AutoModel.from_pretrained(str(tmp_path))
    assert type(again) is type(vae)
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))


def test_half_precision_files_keep_shift_and_scale(tmp_path):
    vae = small_vae(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[3.85] * 4).bfloat16()
    vae.save_pretrained(tmp_path)
    again = diffusers.AutoModel.from_pretrained(str(tmp_path), dtype=torch.bfloat16)
    assert again.scale.flatten().tolist() == [pytest.approx(3.85, abs=1e-6)] * 4
    assert next(again.parameters()).dtype == torch.bfloat16


def test_posterior_agrees_with_diffusers_on_pictures():
    moments, others = torch.randn(2, 2, 8, 5, 6)
    ours, theirs = DiagonalGaussian(moments), DiagonalGaussianDistribution(moments)
    other, reference = DiagonalGaussian(others), DiagonalGaussianDistribution(others)
    sample = torch.randn(2, 4, 5, 6)
    assert torch.equal(ours.parameters, moments) and ours.deterministic is theirs.deterministic is False
    torch.testing.assert_close(ours.kl(other), theirs.kl(reference))
    torch.testing.assert_close(ours.nll(sample), theirs.nll(sample))
    torch.testing.assert_close(ours.nll(sample, dims=[1]), theirs.nll(sample, dims=[1]))


def test_posterior_of_a_video_sums_over_every_axis():
    ours, other = (DiagonalGaussian(torch.randn(2, 8, 3, 5, 6, dtype=torch.double)) for _ in range(2))
    normal, reference = (torch.distributions.Normal(each.mean, each.std) for each in (ours, other))
    sample = torch.randn(2, 4, 3, 5, 6, dtype=torch.double)
    expected = torch.distributions.kl_divergence(normal, reference).flatten(1).sum(1)
    torch.testing.assert_close(ours.kl(other), expected)
    torch.testing.assert_close(ours.nll(sample), -normal.log_prob(sample).flatten(1).sum(1))


def test_what_pipelines_read_is_beside_the_config_not_in_it(tmp_path):
    vae = small_vae()
    read = dict(
        block_out_channels=(8, 8, 8, 8), scaling_factor=1.0, scale_factor_spatial=8, scale_factor_temporal=4,
        temporal_compression_ratio=4, z_dim=4,
    )  # fmt: skip
    for model in (vae, copy.deepcopy(vae), vae.with_micro_frame_size(None), vae.with_statistics([0.0] * 4, [1.0] * 4)):
        assert {name: getattr(model.config, name) for name in read} == read
        assert not read.keys() & model.config.keys()
    vae.save_pretrained(tmp_path)
    assert not read.keys() & json.loads((tmp_path / "config.json").read_text()).keys()
    assert diffusers.AutoModel.from_pretrained(str(tmp_path)).config.z_dim == 4


def test_pipelines(tmp_path):
    """Each makes as many latents as an unchunked VAE needs. Wan's alone applies mean and std (docs/diffusers.md)."""
    folder = ROOT / ".pipelines"
    if not folder.exists() and find_spec("transformers") is None:
        pytest.skip("pipelines need transformers: `make test` installs it into .pipelines")
    path = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.pipelines"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    lengths = {"17 17": 17, "17 33": 30, "17 49": 43, "None 17": 17, "None 33": 33, "None 49": 49}
    assert results == {
        f"{pipeline} {case}": [frames, pipeline == "wan"]
        for pipeline in ("wan", "cogvideox", "hunyuan")
        for case, frames in lengths.items()
    }
