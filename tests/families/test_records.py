"""Every record against the class: the numbers are measured on its tiny model, not copied from it."""

import copy
import inspect
from functools import cache
from pathlib import Path

import pytest
import torch

from vae_lab.families import (
    FAMILIES,
    codec_of,
    family_named,
    latent_size,
    nearest_legal_frames,
    tiny_model,
)
from vae_lab.families.sizes import describe_family

NAMES = list(FAMILIES)
NOT_ONE_CELL = ("allegro", "ltx 2", "mochi", "svd", "kvae", "minimax-h3", "hunyuanimage")  # fail on a single one
EXACT = 1e-6  # of the largest value: above the rounding of norms in float32 (LTX), far below any dependence


@cache
def tiny(name):
    """The family's tiny model in float64."""
    return tiny_model(name).double()


def pixels(name):
    return 128 if name == "allegro" else 2 * FAMILIES[name].spatial_ratio


def clip(name, num_frames, still=False):
    generator = torch.Generator().manual_seed(1)
    frames = 1 if still else num_frames
    x = torch.rand(1, 3, frames, pixels(name), pixels(name), generator=generator, dtype=torch.float64) * 2 - 1
    return x.expand(-1, -1, num_frames, -1, -1).clone()


def legal(name, at_least):
    return FAMILIES[name].nearest_legal(at_least)[-1]


def lengths(name):
    """What the class itself makes of clips of 1 to 40 frames: (latent frames, decoded frames), None where it fails."""
    found, fresh, codec = [], tiny_model(name), None
    side = pixels(name) if name in NOT_ONE_CELL else FAMILIES[name].spatial_ratio
    for num_frames in range(1, 41):
        latents = back = None
        codec = codec or codec_of(copy.deepcopy(fresh))
        try:
            shape = (1, 3, num_frames, side, side)
            if name in ("allegro", "hunyuanimage"):  # shapes are quicker
                z = codec.encoded_shape(shape)
                latents = z[2]
                back = codec.decoded_shape(z, num_frames)[2]
            else:
                z = codec.encode(torch.zeros(shape))
                latents = z.shape[2]
                back = codec.decode(z, num_frames).shape[2]
        except Exception:  # classes raise anything, and some stay broken after a length that they refuse
            codec = None
        found.append((latents, back))
    return found


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_lengths(name):
    family = FAMILIES[name]
    for num_frames, found in enumerate(lengths(name), start=1):
        expected = family.latent_frames(num_frames), family.decoded_frames(num_frames)
        assert found == expected, f"{family.name} at {num_frames} frames"


@torch.no_grad()
def test_empty_frames_of_allegro():
    codec = codec_of(tiny("allegro"))
    for num_frames in (20, 28):
        decoded = codec.decode(codec.encode(clip("allegro", num_frames)), num_frames)
        empty = [not frame.any() for frame in decoded[0].unbind(1)]
        kept = num_frames - FAMILIES["allegro"].law.blank(num_frames)
        assert empty == [False] * kept + [True] * (num_frames - kept)


@torch.no_grad()
def test_tiles_of_allegro():
    """Of three tiles: what the first and the last frame, and the first and the last latent, reach and do not reach."""
    family, codec, x = FAMILIES["allegro"], codec_of(tiny_model("allegro")), clip("allegro", 56).float()
    timeline, z = family.timeline(56), codec.encode(x)
    y = codec.decode(z, 56)
    for at in (0, -1):
        for f, clean, out, seen in (
            (codec.encode, x, z, family.encoder_sees.of_latents(timeline)),
            (lambda z: codec.decode(z, 56), z, y, family.decoder_sees.of_frames(timeline)),
        ):
            moved = clean.clone()
            moved[:, :, at] += 1
            changed = (f(moved) - out).abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
            assert changed == [n for n, frames in enumerate(seen) if range(clean.shape[2])[at] in frames]


def difference(a, b):
    """For each frame or latent frame, the largest difference, relative to the largest value."""
    return ((a - b).abs().amax((0, 1, 3, 4)) / b.abs().max()).tolist()


def check_seen(f, x, expected):
    """Compare the range of input frames that reach an output frame of f, by its gradient, with the expected one.

    Of a run of output frames with the same range, the first and the last are computed.
    """
    x = x.clone().requires_grad_()
    y = f(x)
    assert y.shape[2] == len(expected)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    for frame, frames in enumerate(expected):
        if 0 < frame < len(expected) - 1 and expected[frame - 1] == frames == expected[frame + 1]:
            continue
        (gradient,) = torch.autograd.grad((y * weights)[:, :, frame].sum(), x, retain_graph=True)
        reached = gradient.abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
        assert reached == list(frames), f"output frame {frame}"


def example(name, num_frames=None):
    """(Codec, timeline of a clip of several segments or chunks, its noise, its latents)."""
    lengths = {"open-sora 1.2": 35, "vae_lab": 35, "minimax-h3": 56, "kvae": 33, "kandinsky 6 sr": 33, "vidtok": 32}
    family, codec = FAMILIES[name], codec_of(tiny(name))
    length = num_frames or lengths.get(name) or legal(name, 2 * family.temporal_ratio + 1)
    timeline = family.timeline(length)
    x = clip(name, timeline.num_frames)
    with torch.no_grad():
        return codec, timeline, x, codec.encode(x)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # MiniMax-H3 in float64
@pytest.mark.parametrize(
    ("name", "num_frames"),
    [(name, None) for name in NAMES]
    + [("cogvideox", 24), ("cogvideox", 25), ("hunyuanvideo", 17), ("hunyuanvideo", 21), ("hunyuanvideo", 41)],
)
def test_what_sees_what(name, num_frames):
    family, (codec, timeline, x, z) = FAMILIES[name], example(name, num_frames)
    check_seen(codec.encode, x, family.encoder_sees.of_latents(timeline))
    if name != "allegro":  # minutes
        check_seen(lambda z: codec.decode(z, timeline.num_frames), z, family.decoder_sees.of_frames(timeline))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("name", [name for name in NAMES if FAMILIES[name].nearest_legal(9)[-1] not in (1, 24)])
@torch.no_grad()
def test_pieces(name):
    """What is exact in pieces: the start of a clip, if it saw nothing later; the rest, if it saw nothing earlier.

    Not of pictures, and not of Allegro's 24 frames, which have no pieces of a legal length.
    """
    family, (codec, timeline, x, z) = FAMILIES[name], example(name)
    groups, total = timeline.groups, timeline.num_frames
    encoder, decoder = family.encoder_sees.of_latents(timeline), family.decoder_sees.of_frames(timeline)
    cut = next(n for n in range(total // 2, 0, -1) if family.is_legal(n) and n in {group.stop for group in groups})
    latents = [group.stop for group in groups].index(cut) + 1
    same = [value <= EXACT for value in difference(codec.encode(x[:, :, :cut]), z[:, :, :latents])]
    assert same == [frames.stop <= cut for frames in encoder[:latents]]
    y = codec.decode(z, total)
    same = [value <= EXACT for value in difference(codec.decode(z[:, :, :latents], cut), y[:, :, :cut])]
    assert same == [seen.stop <= latents for seen in decoder[:cut]]
    if family.is_legal(total - cut) and len(groups) - latents == family.latent_frames(total - cut):
        same = [value <= EXACT for value in difference(codec.encode(x[:, :, cut:]), z[:, :, latents:])]
        assert same == [frames.start >= cut for frames in encoder[latents:]]


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


@pytest.mark.parametrize("name", ["open-sora 1.2", "vae_lab"])
@torch.no_grad()
def test_an_image_has_the_first_latent_of_clips_that_pad_as_it_does(name):
    """In clips of 13 frames the first latent stands for 3 zeros and a frame, in those of 14 to 16 for more frames."""
    codec, x = codec_of(tiny(name)), clip(name, 18)
    alone = codec.encode(x[:, :, :1])
    lengths = [n for n in range(13, 19) if difference(alone, codec.encode(x[:, :, :n])[:, :, :1])[0] <= EXACT]
    assert lengths == ([13, 17, 18] if name == "vae_lab" else [])
    text = describe_family(name)["image first"]
    assert text.startswith("yes, but not in clips of 2, 3, 4, … frames" if name == "vae_lab" else "no (")


@pytest.mark.parametrize("name", NAMES)
def test_facts_of_the_class(name):
    family, vae = FAMILIES[name], tiny(name)
    codec = codec_of(vae)
    assert codec.family is family
    if family.cls.startswith("diffusers."):
        file, line = family.source.split(":")
        assert (Path(inspect.getsourcefile(type(vae))).name, inspect.getsourcelines(type(vae))[1]) == (file, int(line))
    with torch.device("meta"):
        vae = type(vae)(**family.released)
    numbers = {name: parameter.numel() / 1e6 for name, parameter in vae.named_parameters()}
    halves = [sum(n for name, n in numbers.items() if half in name.split(".")) for half in ("encoder", "decoder")]
    assert [*halves, sum(numbers.values())] == pytest.approx(family.parameters, abs=0.006)
    assert (codec.spatial_ratio, codec.temporal_ratio) == (family.spatial_ratio, family.temporal_ratio)


def test_questions_without_a_model():
    assert latent_size("Mochi", 49, 480, 720) == (9, 60, 90)
    assert nearest_legal_frames("minimax-h3", 17) == (22,)
    with pytest.raises(ValueError, match=r"family must be one of the known ones, such as wan 2\.\d.*; got 'wan2.1'"):
        family_named("wan2.1")
    with pytest.raises(ValueError, match="EasyAnimate fails on 16 frames; nearest lengths that it keeps: 13 and 17"):
        latent_size("easyanimate", 16, 64, 64)
    assert "returns 8 frames for 5; nearest lengths that it keeps: 1 and 8" in family_named("cogvideox").fate(5)


def test_tiny_models_are_the_same_each_time_and_hide_nothing():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    models = [tiny_model("MiniMax-H3") for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(a, b) and a.any()
    assert not models[0].training
