"""Models as two functions, and models made causal."""

import copy
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import SMALL_TEMPORAL, small_vae
from tests.helpers.families import cogvideox, hunyuan, wan
from vae_lab import TemporalVAE, VideoVAE, load, make_causal
from vae_lab.families import maps_of
from vae_lab.probes.causality import attribute, leaks
from vae_lab.probes.chunks import chunk_invariance
from vae_lab.shapes import frame_groups

# ---- models as two functions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small_vae, lambda: small_vae().temporal, cogvideox, hunyuan, wan])
def test_a_model_as_two_functions(make):
    vae = make()
    maps = maps_of(vae, num_frames=17, size=16)
    assert maps.z.shape[2] == len(maps.timeline.groups) == 5
    assert maps.encoder_last_seen == [0, 4, 8, 12, 16]
    assert maps.decoder_last_seen == [0] + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert maps.decode(maps.z).shape == maps.x.shape and maps.x.dtype == vae.dtype
    assert torch.equal(maps.x, maps_of(vae, num_frames=17, size=16).x)


def test_chunks_are_followed():
    assert maps_of(small_vae(micro_frame_size=9), 18, 8).encoder_last_seen == [0, 4, 8, 9, 13, 17]
    assert maps_of(small_vae().spatial, 3, 8).encoder_last_seen == [0, 1, 2]


@pytest.mark.parametrize("num_frames", [1, 2, 5, 9])
def test_groups_of_short_clips_are_the_models_own(num_frames):
    assert maps_of(small_vae().temporal, num_frames, 4).timeline.groups == frame_groups(num_frames)
    if num_frames != 2:
        assert maps_of(wan(), num_frames).timeline.groups == frame_groups(num_frames)


def test_a_ratio_that_is_not_told_has_to_follow_from_the_length():
    wrapped = wan()
    parts = dict(encode=wrapped.encode, decode=wrapped.decode, device=wrapped.device, dtype=wrapped.dtype)
    vae = SimpleNamespace(config={}, **parts)
    assert maps_of(vae, 17).timeline.groups == frame_groups(17)
    with pytest.raises(ValueError, match="made 3 latent frames of 9 frames, so it is unknown .*ratio unknown"):
        maps_of(vae, 9)


def test_lengths_that_a_model_does_not_keep_are_refused():
    with pytest.raises(ValueError, match="returns 13 of 16 frames; nearest lengths that it keeps: 13 and 17"):
        maps_of(wan(), num_frames=16)
    with pytest.raises(ValueError, match=r"height \(12\) must be a multiple of VideoVAE's spatial ratio \(8\)"):
        maps_of(small_vae(), size=12)


# ---- causality -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small_vae, lambda: small_vae().temporal, lambda: load("lab"), cogvideox])
def test_norms_made_per_frame_close_the_leak(make):
    vae = make()
    weights = {key: value.clone() for key, value in vae.state_dict().items()}
    found = make_causal(vae)
    assert found.before.encoder.leaks and found.before.decoder.leaks and found.before.any
    assert found.after.encoder.largest == found.after.decoder.largest == 0 and not found.after.any
    assert vae.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in vae.state_dict().items())
    assert f"{len(found.replaced)} norms made per-frame" in repr(found) and "exactly 0 after" in repr(found)
    table = found.table()
    assert (table["leak before"] > 0).all() and (table["pairs after"] == 0).all()


def test_a_stack_made_causal_is_one_that_was_built_so(tmp_path):
    vae = small_vae()
    built = small_vae(temporal=dict(norm="frame_group"))
    built.load_state_dict(vae.state_dict())
    norms = sum(isinstance(module, torch.nn.GroupNorm) for module in vae.temporal.modules())
    assert len(make_causal(vae).replaced) == norms  # and none of the 2D half, which sees frames one by one
    x = torch.rand(1, 3, 17, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(vae.encode(x).latent_dist.mode(), built.encode(x).latent_dist.mode())
    vae.save_pretrained(tmp_path)
    assert VideoVAE.from_pretrained(tmp_path).temporal.config.norm == load(tmp_path).config.temporal_config["norm"]
    assert load(tmp_path).temporal.config.norm == "frame_group"


@pytest.mark.parametrize("part", ["the temporal half", "a stack of the same halves"])
def test_a_stack_whose_half_was_made_causal_is_saved_so(part, tmp_path):
    vae = small_vae()
    make_causal(vae.temporal if part == "the temporal half" else vae.with_micro_frame_size(None))
    vae.save_pretrained(tmp_path)
    x = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(load(tmp_path).encode(x).latent_dist.mode(), vae.encode(x).latent_dist.mode())


def test_a_default_stack_notes_its_norm():
    vae = small_vae()
    vae.register_to_config(temporal_config=None)
    make_causal(vae)
    assert vae.config.temporal_config == {"norm": "frame_group"}


def test_training_mode_and_gradients_stay():
    vae = TemporalVAE(**SMALL_TEMPORAL | dict(temporal_downsample=(True, True))).train()
    make_causal(vae)
    assert all(module.training for module in vae.modules())
    assert vae.encoder.norm_out.weight.requires_grad


def test_cogvideox_does_not_depend_on_its_chunks_any_more():
    vae = cogvideox()

    def encode(x, lengths):
        vae.num_sample_frames_batch_size = lengths[-1]
        return vae.encode(x).latent_dist.mode()

    def decode(z, lengths):
        vae.num_latent_frames_batch_size = lengths[-1]
        return vae.decode(z).sample

    x = torch.rand(1, 3, 33, 16, 16, dtype=torch.double)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
    of_frames, of_latents = [(33,), (17, 16), (9, 8, 8, 8)], [(9,), (5, 4), (3, 2, 2, 2)]
    before = chunk_invariance(encode, x, of_frames), chunk_invariance(decode, z, of_latents)
    vae.num_sample_frames_batch_size, vae.num_latent_frames_batch_size = 8, 2
    make_causal(vae)
    after = chunk_invariance(encode, x, of_frames), chunk_invariance(decode, z, of_latents)
    assert min(plan.relative for found in before for plan in found.plans[1:]) > 1e-3
    assert max(plan.relative for found in after for plan in found.plans[1:]) < 1e-13


def test_models_without_such_norms_are_refused():
    for vae in (wan(), load("lab-frame-group"), small_vae().spatial):
        with pytest.raises(ValueError, match=rf"no GroupNorm of this {type(vae).__name__} takes its statistics over"):
            make_causal(vae)


def test_a_leak_that_norms_do_not_explain_stays_visible():
    vae = hunyuan()  # its attention looks at all positions of earlier frames, and its GroupNorm pools (B, C, positions)
    found = make_causal(copy.deepcopy(vae), num_frames=9)
    maps = maps_of(vae, 9)
    first = attribute(vae, maps)[0].first
    assert first.kind == "GroupNorm" and leaks(maps).encoder.leaks
    assert found.after.encoder.largest < found.before.encoder.largest
