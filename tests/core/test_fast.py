"""Fast mode: the same results up to an error that is a number, for exactly those calls that ask for it."""

import copy
import threading
import warnings

import pytest
import torch

from tests.helpers import small_vae
from vae_lab import MagvitV2, SpatialVAE, StreamingDecoder, StreamingEncoder, TemporalVAE, VideoVAE, load
from vae_lab.utils import fast

# Warnings of torch's modules, at the first import
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TF32"),
    pytest.mark.skipif(not fast.has_onednn(), reason="needs oneDNN on an x86 processor"),
]
SPATIAL = dict(block_out_channels=(128, 256), layers_per_block=1)
TEMPORAL = dict(base_channels=128, num_res_blocks=1, channel_multipliers=(1, 2), temporal_downsample=(True,))
WINOGRAD = ["F4", "F2"]
bf16 = pytest.mark.skipif(not fast.has_bf16(), reason="needs a processor with bfloat16")


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    """Of the released widths, but of few layers."""
    torch.manual_seed(0)
    return VideoVAE(SPATIAL, TEMPORAL, micro_frame_size=2).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(1, 3, 3, 12, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def z() -> torch.Tensor:
    return torch.randn(1, 4, 2, 6, 7, generator=torch.Generator().manual_seed(1))


def outputs(vae, x, z) -> tuple[torch.Tensor, torch.Tensor]:
    return vae.encode(x).latent_dist.parameters, vae.decode(z, 3).sample


def error(found, reference) -> float:
    return max(float((y - r).abs().max() / r.abs().max()) for y, r in zip(found, reference, strict=True))


def same(found, reference) -> bool:
    return all(map(torch.equal, found, reference))


@pytest.mark.parametrize("mode", [*WINOGRAD, pytest.param("bf16", marks=bf16)])
def test_the_error_is_that_of_the_mode(vae, x, z, mode):
    """Against float64, two clips of sizes that no tile divides."""
    x, z = torch.cat([x, -x]), torch.cat([z, -z])
    reference = outputs(copy.deepcopy(vae).double(), x.double(), z.double())
    usual = outputs(vae, x, z)
    with vae.fast(mode):
        assert vae.fast_mode == vae.temporal.fast_mode == vae.spatial.fast_mode == mode
        found = outputs(vae, x, z)
    assert vae.fast_mode is None and same(outputs(vae, x, z), usual)
    assert not same(found, usual) and error(found, reference) < fast.MODES[mode].error
    assert found[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("half", "size"), [(TemporalVAE, (1, 4, 2, 5, 6)), (SpatialVAE, (1, 3, 1, 32, 40))], ids=["temporal", "2D"]
)
def test_the_error_holds_at_the_released_size(half, size):
    torch.manual_seed(0)
    vae, x = half().eval().requires_grad_(False), torch.rand(size) * 2 - 1
    latent = vae.encode(x).latent_dist.mode()
    found = {}
    for mode in WINOGRAD:
        with vae.fast(mode):
            found[mode] = vae.encode(x).latent_dist.parameters, vae.decode(latent).sample
    vae, x, latent = vae.double(), x.double(), latent.double()
    reference = vae.encode(x).latent_dist.parameters, vae.decode(latent).sample
    # the 2D half's norms round more than its convolutions, where its frames are channels-last, as in fast mode
    factor = 1 if half is TemporalVAE else 3
    for mode in WINOGRAD:
        assert error(found[mode], reference) < factor * fast.MODES[mode].error


@pytest.mark.parametrize("mode", WINOGRAD)
def test_large_convolutions_take_the_quick_way_and_others_do_not(vae, x, mode, monkeypatch):
    widths, winograd = [], fast.winograd

    def counted(x, kernel, *args, **kwargs):
        widths.append((len(x), kernel.shape[2], kernel.m))
        return winograd(x, kernel, *args, **kwargs)

    monkeypatch.setattr(fast, "winograd", counted)
    with vae.fast(mode):
        vae.encode(x)
    assert {m for _, _, m in widths} == {int(mode[1])}
    assert min(width for width, frames, _ in widths if frames == 3) == 128
    assert min(width for width, frames, _ in widths if frames == 1) == {"F4": 128, "F2": 256}[mode]


def test_modes_nest_and_exceptions_restore(vae, x, z):
    usual, f4, f2 = outputs(vae, x, z), vae.fast(), vae.fast("F2")
    with f4:
        first = outputs(vae, x, z)
        with pytest.raises(KeyError), f2:
            assert vae.fast_mode == "F2" and not same(outputs(vae, x, z), first)
            with vae.temporal.fast("F4"):
                assert vae.fast_mode == "F2+F4" and vae.spatial.fast_mode == "F2"
            raise KeyError
        assert vae.fast_mode == "F4" and same(outputs(vae, x, z), first)
    assert same(outputs(vae, x, z), usual)
    with f4:  # entered again
        assert same(outputs(vae, x, z), first)


def test_other_models_threads_and_copies_compute_as_usual(vae, x, z):
    usual, found, other = outputs(vae, x, z), [], copy.deepcopy(vae)
    with vae.fast():
        thread = threading.Thread(target=lambda: found.append(outputs(vae, x, z)))
        thread.start()
        thread.join()
        found += [outputs(other, x, z), outputs(copy.deepcopy(vae), x, z)]
        shared = vae.with_micro_frame_size(2)  # of the same modules, so not another model
        assert shared.fast_mode == "F4" and not same(outputs(shared, x, z), usual)
        with other.fast("F2"):
            assert (vae.fast_mode, other.fast_mode) == ("F4", "F2")
    assert all(same(one, usual) for one in found)


def edit_in_place(vae):
    vae.temporal.decoder.up_blocks[0].resnets[0].conv1.conv.weight[3, 2, 2, 1, 1] += 1


def edit_behind_autograd(vae):
    vae.temporal.decoder.up_blocks[0].resnets[0].conv1.conv.weight.data[3, 2, 2, 1, 1] += 1


def load_others(vae):
    vae.load_state_dict({name: weight * 1.5 for name, weight in vae.state_dict().items()})


def assign_others(vae):
    vae.load_state_dict({name: weight * 1.5 for name, weight in vae.state_dict().items()}, assign=True)


def there_and_back(vae):
    vae.half().float()


def replace_one(vae):
    conv = vae.spatial.autoencoder.decoder.mid_block.resnets[0].conv1
    conv.weight = torch.nn.Parameter(conv.weight.flip(0), requires_grad=False)


@pytest.mark.parametrize(
    "change", [edit_in_place, edit_behind_autograd, load_others, assign_others, there_and_back, replace_one]
)
@pytest.mark.parametrize("within", [True, False])
def test_changed_weights_are_never_used_as_they_were(vae, x, z, change, within):
    vae = copy.deepcopy(vae)
    quick = vae.fast()
    with quick:
        before = outputs(vae, x, z)
        if within:
            change(vae)
    if not within:
        change(vae)
    with quick:
        found = outputs(vae, x, z)
    assert not same(found, before)
    assert error(found, outputs(vae, x, z)) < 1e-5


def test_weights_are_transformed_once(vae, x, monkeypatch):
    made, transform = [], fast.kernel_at_points
    monkeypatch.setattr(fast, "kernel_at_points", lambda *arguments: made.append(1) or transform(*arguments))
    quick = vae.fast()
    for _ in range(2):
        with quick:
            vae.encode(x)
            number = len(made)
            vae.encode(x[..., :10, :8])
            assert len(made) == number > 0


def test_gradients_and_training_are_refused(vae, x):
    vae = copy.deepcopy(vae)
    with vae.fast():
        with pytest.raises(ValueError, match="fast mode computes no gradients: use torch.no_grad()"):
            vae.encode(x.clone().requires_grad_())
        vae.requires_grad_(True)
        with pytest.raises(ValueError, match="fast mode computes no gradients"):
            vae.decode(torch.zeros(1, 4, 1, 4, 4))
        with torch.no_grad():
            vae.encode(x)
        vae.temporal.train()
        with torch.no_grad(), pytest.raises(ValueError, match="must be in eval mode .* got one in training mode"):
            vae.encode(x)
    with pytest.raises(ValueError, match="must be in eval mode .* got one in training mode"):
        vae.train().fast()
    vae.encode(x[:1, :, :1]).latent_dist.parameters.sum().backward()  # outside, all is as usual
    assert vae.temporal.encoder.conv_in.conv.weight.grad is not None


def test_what_cannot_be_fast_is_refused(vae):
    with pytest.raises(ValueError, match="mode must be one of F4, F2, bf16, got 'F3'"):
        vae.fast("F3")
    with pytest.raises(
        ValueError, match="float32 weights on a CPU or on one CUDA device .* got torch.float64 on cpu: spatial"
    ):
        small_vae().double().fast()
    with pytest.raises(ValueError, match="float32 weights on a CPU or on one CUDA device .* got torch.float32 on meta"):
        small_vae().to("meta").fast()
    with pytest.raises(ValueError, match="must be a SpatialVAE, a TemporalVAE or a VideoVAE .* got a MagvitV2"):
        load("lab-magvit").fast()
    with pytest.raises(ValueError, match="must not be compiled or wrapped"):
        compiled = small_vae()
        compiled.temporal.encoder = torch.compile(compiled.temporal.encoder)
        compiled.fast()
    assert MagvitV2.fast_modes == ()


def test_bf16_is_refused_where_it_would_be_slower(vae, monkeypatch):
    monkeypatch.setattr(fast, "has_bf16", lambda: False)
    with pytest.raises(ValueError, match='mode must be "F4" or "F2" on this processor, got "bf16"'):
        vae.fast("bf16")


def test_without_onednn_results_are_the_usual_ones_and_a_warning_says_so(vae, x, z):
    with torch.backends.mkldnn.flags(enabled=False):
        usual = outputs(vae, x, z)
        with pytest.warns(UserWarning, match="fast mode needs oneDNN on an x86 processor"):
            quick = vae.fast()
        with warnings.catch_warnings(), quick:
            warnings.simplefilter("error")  # said once, not by each layer
            assert quick.mode is None and vae.fast_mode is None
            assert same(outputs(vae, x, z), usual)


def test_streams_are_fast_too(x):
    torch.manual_seed(0)
    vae = VideoVAE(SPATIAL, TEMPORAL | dict(norm="frame_group"), micro_frame_size=None).eval().requires_grad_(False)
    with vae.fast():
        whole = vae.encode(x).latent_dist.parameters
        encoder, decoder = StreamingEncoder(vae, 3), StreamingDecoder(vae, 3)
        latents = [encoder.encode(piece).latent_dist.parameters for piece in x.split([1, 2], dim=2)]
        frames = [decoder.decode(part[:, :4]).sample for part in latents]
    assert error([torch.cat(latents, 2)], [whole]) < 3e-5
    usual = vae.decode(whole[:, :4], 3).sample
    assert error([torch.cat(frames, 2)], [usual]) < 3e-5 and not torch.equal(torch.cat(frames, 2), usual)


def test_compilers_and_exports_within_fast_mode_see_the_usual_convolutions(vae, x):
    """Graphs, not what they compute: an export of the temporal half in fast mode is that without it."""
    half, latents = copy.deepcopy(vae.temporal), torch.randn(1, 4, 2, 6, 6)
    usual = half.encode(latents).latent_dist.parameters
    with half.fast():
        compiled = torch.compile(half.moments, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(latents), usual, rtol=1e-5, atol=1e-5)
        assert not torch.equal(half.moments(latents), usual)
        with torch.autocast("cpu", torch.bfloat16):
            assert half.moments(latents).dtype == torch.bfloat16


def test_the_labs_weights_are_fast_too():
    """Only its 2D half has layers of 128 channels."""
    vae = load("lab").requires_grad_(False)
    x = torch.rand(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    usual = vae.reconstruct(x).sample
    with vae.fast():
        assert 0 < error([vae.reconstruct(x).sample], [usual]) < 1e-5
