"""Compiled, exported and wrapped models."""

import pytest
import torch
from torch import nn

from tests.core.test_half_precision import clip_of
from tests.helpers import SMALL_SPATIAL, SMALL_TEMPORAL, small_vae
from tests.helpers.families import hunyuan
from vae_lab import VideoVAE, load
from vae_lab.families import codec_of
from vae_lab.reconstruct import reconstruct
from vae_lab.utils import checks
from vae_lab.utils.checks import NotFiniteError

WHOLE = dict(backend="eager", fullgraph=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def fresh():
    """With torch's own convolutions alone: eager models call oneDNN's for small clips, which no compiler knows."""
    torch.compiler.reset()
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        yield


def two_levels(seed: int = 0, temporal: dict | None = None, **config) -> VideoVAE:
    """`small_vae` with halves of two levels, for compilers: each layer, chunk and call takes them long.

    4x4 pixels are 2x2 cells. 7 frames are two chunks and two calls of the 2D half, 4 and 3, and 4 latent frames.
    """
    torch.manual_seed(seed)
    spatial = SMALL_SPATIAL | dict(block_out_channels=(8, 8))
    temporal = SMALL_TEMPORAL | dict(channel_multipliers=(1, 2), temporal_downsample=(True,)) | (temporal or {})
    return VideoVAE(spatial, temporal, **dict(micro_frame_size=4) | config).eval()


CALLS = {
    "forward": lambda vae, x, z, wrap: wrap(vae)(x).sample,
    "encode": lambda vae, x, z, wrap: wrap(vae.encode)(x).latent_dist.mode(),
    "decode": lambda vae, x, z, wrap: wrap(vae.decode)(z, 7).sample,
    "reconstruct": lambda vae, x, z, wrap: wrap(vae.reconstruct)(x).sample,
    "normalize": lambda vae, x, z, wrap: wrap(vae.normalize)(z),
    "the 2D half": lambda vae, x, z, wrap: wrap(vae.spatial)(x).sample,
    "the temporal half": lambda vae, x, z, wrap: (
        wrap(vae.temporal.encode)(x[:, :1].expand(-1, 4, -1, -1, -1)).latent_dist.mean
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_one_graph_without_breaks_gives_the_same_bits(name):
    vae, x, z = two_levels(), torch.rand(1, 3, 7, 4, 4), torch.randn(1, 4, 4, 2, 2)
    found = CALLS[name](vae, x, z, lambda function: torch.compile(function, **WHOLE))
    assert torch.equal(found, CALLS[name](vae, x, z, lambda function: function))


@pytest.mark.parametrize("wrap", [lambda vae, x: torch.compile(vae, **WHOLE), lambda vae, x: export(vae, x)])
def test_with_onednn_only_rounding_differs(wrap):
    vae, x = two_levels(), torch.rand(1, 3, 7, 4, 4)
    with torch.backends.mkldnn.flags(enabled=True):
        found, expected = wrap(vae, x)(x).sample, vae(x).sample
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def export(vae, x):
    return torch.export.export(vae, (x,)).module()


@pytest.mark.parametrize("strict", [True, False])
def test_export(strict):
    vae, x = two_levels(), torch.rand(1, 3, 7, 4, 4)
    assert torch.equal(torch.export.export(vae, (x,), strict=strict).module()(x).sample, vae(x).sample)


@pytest.mark.parametrize(("dynamic", "lengths"), [(None, (3, 4, 5)), (True, (4, 5))])
def test_clips_of_several_sizes(dynamic, lengths):
    vae = two_levels()
    compiled = torch.compile(vae, dynamic=dynamic, **WHOLE)  # with None, sizes are symbols from the second one on
    for num_frames in lengths:  # 5 frames are two chunks
        x = torch.rand(1, 3, num_frames, *((6, 8) if num_frames == 5 else (4, 4)))
        assert torch.equal(compiled(x).sample, vae(x).sample)


def test_export_for_other_heights_and_widths_and_batches():
    dim = torch.export.Dim
    vae = two_levels()
    vae.spatial.register_to_config(micro_batch_size=None)
    shapes = {
        0: dim("batch", max=3),  # diffusers has another path from 64 frames on
        3: 2 * dim("height", max=64),
        4: 2 * dim("width", max=64),
    }
    exported = torch.export.export(vae, (torch.rand(2, 3, 7, 4, 4),), dynamic_shapes=(shapes,))
    x = torch.rand(3, 3, 7, 6, 8)
    torch.testing.assert_close(exported.module()(x).sample, vae(x).sample)
    exported = torch.export.export(vae, (x,), dynamic_shapes=({2: dim.AUTO},))
    assert torch.equal(exported.module()(x).sample, vae(x).sample)  # the number of frames is a constant


def test_inductor(monkeypatch):
    """Of the temporal half: C++ for each kernel takes long. Graphs of the whole are those of the tests above."""
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # others would be processes that import torch
    half, x = two_levels().temporal, torch.rand(1, 4, 4, 4, 4)
    torch.testing.assert_close(torch.compile(half, fullgraph=True)(x).sample, half(x).sample)


WRAPPERS = {
    "the whole": lambda vae: torch.compile(vae, backend="eager"),
    "twice": lambda vae: nn.DataParallel(torch.compile(vae, backend="eager")),
    "data parallel": nn.DataParallel,
    "the temporal half": lambda vae: compiled(vae, "temporal"),
    "the 2D half": lambda vae: compiled(vae, "spatial"),
    "a decoder": lambda vae: compiled(vae, "temporal.decoder"),
    "diffusers' part": lambda vae: compiled(vae, "spatial.autoencoder.encoder"),
}


def compiled(vae: nn.Module, name: str) -> nn.Module:
    parent, _, child = name.rpartition(".")
    setattr(vae.get_submodule(parent), child, torch.compile(vae.get_submodule(name), backend="eager"))
    return vae


@pytest.mark.parametrize("norm", ["group", "frame_group"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_models_are_taken_everywhere_and_save_plain_keys(name, norm, tmp_path):
    temporal = dict(norm=norm)
    plain, wrapped = two_levels(temporal=temporal), WRAPPERS[name](two_levels(temporal=temporal))
    expected, found = reconstruct(plain, clip_of()), reconstruct(wrapped, clip_of())
    assert (expected.sample == found.sample).all()
    assert codec_of(wrapped).identity() == codec_of(plain).identity()
    inside = codec_of(wrapped).vae
    assert inside.state_dict().keys() == plain.state_dict().keys()
    inside.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert codec_of(loaded).identity()[:0] == "" and loaded.state_dict().keys() == plain.state_dict().keys()
    other = WRAPPERS[name](two_levels(1, temporal=temporal))
    codec_of(other).vae.load_state_dict(plain.state_dict())
    assert codec_of(other).identity() == codec_of(plain).identity()


def test_keys_of_compiled_parts_that_were_saved_with_their_prefix_load():
    vae, other = small_vae(), small_vae(1)
    other.load_state_dict({key.replace("temporal.", "temporal._orig_mod."): v for key, v in vae.state_dict().items()})
    assert codec_of(other).identity() == codec_of(vae).identity()


def test_another_familys_compiled_model():
    vae = hunyuan().float()
    assert (reconstruct(vae, clip_of()).sample == reconstruct(torch.compile(vae, **WHOLE), clip_of()).sample).all()
    identity = codec_of(vae).identity()
    assert codec_of(compiled(vae, "decoder")).identity() == identity


@pytest.mark.parametrize("call", ["encode", "decode", "forward", "reconstruct"])
def test_a_clip_is_waited_for_once_however_many_chunks_it_has(call, monkeypatch):
    vae, z, waits = small_vae(), torch.randn(1, 4, 15, 2, 2), []
    refuse = checks._refuse_infinite
    monkeypatch.setattr(checks, "_refuse_infinite", lambda pending: (waits.append(len(pending)), refuse(pending)))
    vae.decode(z, 51) if call == "decode" else getattr(vae, call)(torch.rand(1, 3, 51, 16, 16))
    assert len(waits) == 1 and waits[0] >= 4


@pytest.mark.parametrize(("call", "name"), [("encode", "x"), ("decode", "z"), ("forward", "x"), ("reconstruct", "x")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinity_is_still_refused_by_the_name_of_the_argument(call, name, value):
    vae = small_vae()
    x = torch.zeros(1, 4, 15, 2, 2) if call == "decode" else torch.zeros(1, 3, 51, 16, 16)
    x[0, 0, -1] = value
    with pytest.raises(NotFiniteError, match=f"^{name} must be finite"):
        getattr(vae, call)(x, *[51] * (call == "decode"))
