"""Every record against the class: the numbers are measured on its tiny model, not copied from it."""

import copy
from functools import cache

import pytest
import torch
from torch import nn

from vae_lab.families import FAMILIES, class_named, codec_of, family_named, latent_size, nearest_legal_frames

NAMES = list(FAMILIES)
EXACT = 1e-6  # of the largest value: above the rounding of norms in float32 (LTX), far below any dependence


@cache
def tiny(name):
    """The family's tiny model in float64. No parameter is zero: a dependence would stay hidden behind it."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    vae = class_named(family.class_name)(**family.tiny).eval().double()
    for parameter in vae.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return vae


def pixels(name):
    return 128 if name == "allegro" else 2 * max(32, FAMILIES[name].spatial_ratio)


def clip(name, num_frames, still=False):
    generator = torch.Generator().manual_seed(1)
    frames = 1 if still else num_frames
    x = torch.rand(1, 3, frames, pixels(name), pixels(name), generator=generator, dtype=torch.float64) * 2 - 1
    return x.expand(-1, -1, num_frames, -1, -1).clone()


def legal(name, at_least):
    return FAMILIES[name].nearest_legal(at_least)[-1]


def lengths(name, num_frames):
    """What the class itself makes of a clip: (latent frames, decoded frames), None where it fails."""
    latents = back = None
    codec = codec_of(copy.deepcopy(tiny(name)).float())  # some classes stay broken after a length that they refuse
    size = 128 if name == "allegro" else 2 * FAMILIES[name].spatial_ratio
    shape = (1, 3, num_frames, size, size)
    try:
        if name == "allegro":  # its tiles have 128 x 128 pixels: shapes without computation are quicker
            z = codec.encoded_shape(shape)
            return z[2], codec.decoded_shape(z, num_frames)[2]
        z = codec.encode(torch.zeros(shape))
        latents = z.shape[2]
        back = codec.decode(z, num_frames).shape[2]
    except Exception:  # classes raise anything
        pass
    return latents, back


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_lengths(name):
    family = FAMILIES[name]
    for num_frames in range(1, 41):
        expected = family.latent_frames(num_frames), family.decoded_frames(num_frames)
        assert lengths(name, num_frames) == expected, f"{family.name} at {num_frames} frames"


@torch.no_grad()
def test_empty_frames_of_allegro():
    codec = codec_of(tiny("allegro"))
    for num_frames in (20, 24, 36):
        decoded = codec.decode(codec.encode(clip("allegro", num_frames)), num_frames)
        empty = [not frame.any() for frame in decoded[0].unbind(1)]
        kept = num_frames - FAMILIES["allegro"].law.blank(num_frames)
        assert empty == [False] * kept + [True] * (num_frames - kept)


def difference(a, b):
    """For each frame or latent frame, the largest difference, relative to the largest value."""
    return ((a - b).abs().amax((0, 1, 3, 4)) / b.abs().max()).tolist()


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # MiniMax-H3 in float64
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_causality(name):
    family, codec = FAMILIES[name], codec_of(tiny(name))
    num_frames = legal(name, 2 * family.temporal_ratio + 1)
    if num_frames == 1:
        pytest.skip("pictures only")
    x, groups = clip(name, num_frames), family.timeline(num_frames).groups
    other = x.clone()
    other[:, :, -1] += 0.5
    z = codec.encode(x)
    moved = difference(codec.encode(other), z)
    assert all(value <= EXACT for value in moved[:-1]) == family.encoder_causal
    other = z.clone()
    other[:, :, -1] += 0.5
    moved = difference(codec.decode(other, num_frames), codec.decode(z, num_frames))
    assert all(value <= EXACT for value in moved[: groups[-1].start]) == family.decoder_causal


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_first_frame_and_still_picture(name):
    family, codec = FAMILIES[name], codec_of(tiny(name))
    num_frames = legal(name, 4 * family.temporal_ratio + 1)
    z = codec.encode(clip(name, num_frames, still=True))
    if family.still_exact is not None:
        assert (max(difference(z, z[:, :, :1])) <= EXACT) == family.still_exact
    if family.image_is_first_latent is not None:
        x = clip(name, num_frames)
        alone, first = codec.encode(x[:, :, :1]), codec.encode(x)[:, :, :1]
        assert (difference(alone, first)[0] <= EXACT) == family.image_is_first_latent


@pytest.mark.parametrize("name", NAMES)
def test_facts_of_the_class(name):
    family, vae = FAMILIES[name], tiny(name)
    codec = codec_of(vae)
    assert codec.family is family
    assert (codec.spatial_ratio, codec.temporal_ratio) == (family.spatial_ratio, family.temporal_ratio)


def test_questions_without_a_model():
    assert latent_size("Mochi", 49, 480, 720) == (9, 60, 90)
    assert nearest_legal_frames("minimax-h3", 17) == (22,)
    with pytest.raises(ValueError, match=r"family must be one of the known ones, such as wan 2\.\d.*; got 'wan2.1'"):
        family_named("wan2.1")
    with pytest.raises(ValueError, match="EasyAnimate fails on 16 frames; nearest lengths that it keeps: 13 and 17"):
        latent_size("easyanimate", 16, 64, 64)
    assert "returns 8 of 5 frames; nearest lengths that it keeps: 1 and 8" in family_named("cogvideox").fate(5)
