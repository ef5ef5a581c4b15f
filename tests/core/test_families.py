"""The one door for video VAEs: what a codec says of every kind of model, and classes of other libraries."""

import gc
import weakref
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers import small_vae
from tests.helpers.families import cogvideox, hunyuan, wan
from vae_lab import SpatialVAE, TemporalVAE, VideoVAE
from vae_lab.families import Codec, class_named, codec as codecs, codec_of, maps_of, register
from vae_lab.families.structure import structure_of
from vae_lab.shapes import Timeline, encoder_last_seen, frame_groups

X = torch.rand(1, 3, 18, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    return small_vae()


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(codecs, "_REGISTERED", dict(codecs._REGISTERED))


class Doubling(nn.Module):
    """A video "VAE" of no library: two frames a latent, no config; it has to be told how often to refine."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def squeeze(self, x):
        return x[:, :, ::2, ::4, ::4] * self.weight

    def unsqueeze(self, z, refinements):
        return z.repeat_interleave(2, 2).repeat_interleave(4, 3).repeat_interleave(4, 4) / self.weight + refinements


class Point:
    """A distribution without spread."""

    def __init__(self, mean):
        self.mean = mean

    def mode(self):
        return self.mean


class FirstAlone(Timeline):
    """The first frame is a latent frame, then `ratio` frames make one."""

    @property
    def groups(self):
        starts = [0, *range(1, self.num_frames, self.ratio)]
        return [range(start, stop) for start, stop in zip(starts, [*starts[1:], self.num_frames], strict=True)]


class DoublingCodec(Codec):
    temporal_ratio, spatial_ratio = 2, 4

    def posterior(self, x):
        return Point(self.vae.squeeze(x))

    def decode(self, z, num_frames):
        return self.vae.unsqueeze(z, refinements=0)[:, :, :num_frames]

    def mean_std(self, channels):
        return torch.zeros(channels), torch.full((channels,), 3.0)


# ---- the models that have families ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["spatial", "temporal", None])
def test_a_codec_gives_the_models_own_numbers(vae, part):
    model = vae if part is None else getattr(vae, part)
    codec = codec_of(model)
    x = X if codec.takes == "pixels" else vae.spatial.encode(X).latent_dist.mode()
    assert codec.in_channels == x.shape[1]
    z = codec.encode(x)
    assert torch.equal(z, model.encode(x).latent_dist.mode())
    y = codec.decode(z, 18)
    assert torch.equal(y, model.decode(z, 18).sample)
    latent, sample = codec.reconstruct(x)
    assert torch.equal(latent, z) and torch.equal(sample, y)
    assert codec.timeline(18, z.shape[2]).num_latents == z.shape[2]
    assert codec.decoded_shape(z.shape, 18) == tuple(x.shape)
    assert codec.any_length and codec.frame_by_frame == (part == "spatial")


def test_a_stack_tells_its_halves_and_works_with_them(vae):
    codec = codec_of(vae)
    assert (codec.takes, codec.spatial_ratio, codec.temporal_ratio, codec.chunk) == ("pixels", 8, 4, 17)
    halves = codec.halves
    assert halves.spatial is vae.spatial and halves.temporal is vae.temporal
    result = vae.reconstruct(X)
    assert torch.equal(halves.posterior(result.spatial_latent).mode(), result.latent)
    assert torch.equal(vae.spatial.decode(halves.decode(result.latent, 18)).sample, result.sample)
    assert codec_of(vae.spatial).halves is codec_of(vae.temporal).halves is codec_of(wan()).halves is None
    assert codec_of(vae.temporal).takes == "spatial latents" and codec_of(vae.temporal).spatial_ratio == 1


def test_timelines_follow_the_models_chunks(vae):
    assert codec_of(vae).timeline(35) == Timeline(35)
    assert codec_of(small_vae(micro_frame_size=9)).timeline(18, 6).groups == frame_groups(18, 4, 9)
    assert codec_of(vae.spatial).timeline(3).groups == [range(1), range(1, 2), range(2, 3)]
    assert codec_of(wan()).timeline(17, 5) == Timeline(17, 4, None)
    with pytest.raises(ValueError, match="VideoVAE made 5 latent frames of 18 frames"):
        codec_of(vae).timeline(18, 5)
    silent = SimpleNamespace(decode=None, config={}, device=torch.device("cpu"), dtype=torch.float32, vae=wan())
    silent.decode = silent.vae.decode
    assert codec_of(silent).timeline(17, 5).ratio == 4
    with pytest.raises(ValueError, match="the temporal ratio of SimpleNamespace is unknown: pass latent_frames"):
        codec_of(silent).timeline(17)
    with pytest.raises(ValueError, match=r"AutoencoderKLWan \(Wan 2.1\) returns 13 of 16 frames"):
        codec_of(wan()).timeline(16)


@pytest.mark.parametrize(("make", "spatial"), [(cogvideox, 8), (hunyuan, 8), (wan, 8)])
def test_diffusers_classes_need_no_entry_for_what_is_usual(make, spatial):
    codec = codec_of(make())
    assert (codec.spatial_ratio, codec.temporal_ratio, codec.chunk) == (spatial, 4, None)
    assert not codec.any_length and codec.device.type == "cpu" and codec.dtype == torch.float64
    if make is hunyuan:
        with pytest.raises(ValueError, match=f"{codec.name} cannot be streamed: it takes a clip in one piece"):
            codec.stream(17)
    else:
        assert codec.stream(17).encoder.length == 17


def test_streams_are_the_models_own(vae):
    streams = codec_of(vae).stream(18)
    assert streams.encoder.chunked and streams.decoder.num_frames == 18
    with pytest.raises(ValueError, match="norm 'group' takes its statistics over all frames"):
        codec_of(vae).stream(18, chunked=False)
    exact = codec_of(small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None))
    assert not exact.stream(18).encoder.chunked


def test_chunks_change_where_a_model_has_them(vae):
    assert codec_of(codec_of(vae).with_chunk(5)).chunk == 5
    model = wan()
    assert codec_of(model).with_chunk(None) is model
    with pytest.raises(ValueError, match="the chunk length of AutoencoderKLWan cannot be changed"):
        codec_of(model).with_chunk(8)


def test_a_calibrated_model_has_the_statistics_of_its_latents(vae):
    z = torch.randn(1, 4, 6, 2, 2, generator=torch.Generator().manual_seed(1)) * 3 + 1
    mean, std = codec_of(codec_of(vae).calibrated(z)).mean_std(4)
    torch.testing.assert_close(mean, z.mean((0, 2, 3, 4)))
    torch.testing.assert_close(std, z.std((0, 2, 3, 4)))
    spatial = codec_of(vae.spatial).calibrated(z)
    assert spatial.config.scaling_factor == pytest.approx(0.18215 / z.std().item())
    assert all(torch.equal(value, spatial.state_dict()[name]) for name, value in vae.spatial.state_dict().items())
    other = cogvideox()
    before = other.config.scaling_factor
    model = codec_of(other).calibrated(z)
    torch.testing.assert_close(codec_of(model).mean_std(4)[1], z.std().expand(4))
    assert other.config.scaling_factor == before and model.decoder is other.decoder  # nothing changes in place


@pytest.mark.parametrize("change", ["calibrated", "with_chunk"])
@pytest.mark.parametrize("training", [True, False])
def test_changed_models_keep_device_dtype_mode_and_buffers_and_make_no_weights(change, training, monkeypatch):
    vae = small_vae().half().to("meta").train(training)
    vae.shift = torch.full_like(vae.shift, 7, device="cpu")
    monkeypatch.setattr(nn.Module, "reset_parameters", lambda _: pytest.fail("a second model is made"), raising=False)
    monkeypatch.setattr(nn.Conv3d, "reset_parameters", lambda _: pytest.fail("a second model is made"))
    z = torch.randn(1, 4, 6, 2, 2, generator=torch.Generator().manual_seed(1))
    other = codec_of(vae).with_chunk(5) if change == "with_chunk" else codec_of(vae).calibrated(z)
    assert {t.dtype for t in other.parameters()} == {torch.half} and other.training is training
    assert {t.dtype for t in other.buffers()} == {torch.float32}
    assert other.temporal is vae.temporal and other.spatial is vae.spatial and other.scale.is_meta
    assert other.shift is vae.shift if change == "with_chunk" else other.shift.is_meta
    assert vae.config.micro_frame_size == 17 and vae.shift.flatten().tolist() == [7] * 4


def test_without_weights_all_frames_are_one_call_and_operations_are_as_many(monkeypatch):
    vae, x, calls = small_vae().to("meta"), torch.zeros(1, 3, 20, 16, 16, device="meta"), []
    encode = diffusers.AutoencoderKL.encode
    monkeypatch.setattr(diffusers.AutoencoderKL, "encode", lambda self, x: calls.append(len(x)) or encode(self, x))
    with torch.no_grad(), FlopCounterMode(display=False) as in_fours:
        shape = codec_of(vae).encode(x).shape
    with FlopCounterMode(display=False) as at_once:
        assert codec_of(vae).encoded_shape(x.shape) == shape
    assert calls == [4] * 5 + [20] and vae.spatial.config.micro_batch_size == 4
    assert at_once.get_total_flops() == in_fours.get_total_flops() > 0


def test_identity_follows_class_config_and_weights():
    vae, same = small_vae(), small_vae()
    same.load_state_dict(vae.state_dict())
    identity = codec_of(vae).identity()
    assert codec_of(same).identity() == identity != codec_of(vae.temporal).identity()
    assert codec_of(vae.with_micro_frame_size(5)).identity() != identity
    next(same.parameters()).data += 1
    assert codec_of(same).identity() != identity


@pytest.mark.parametrize("thing", [None, nn.Linear(1, 1), "lab"])
def test_what_is_no_video_vae_is_refused(thing):
    with pytest.raises(ValueError, match=f"vae must be a video VAE .*, got {type(thing).__name__}"):
        codec_of(thing)


def test_a_failure_names_the_model_and_the_clip(vae):
    with pytest.raises(ValueError, match=r"x must be a tensor of shape \(B, C, T, H, W\), got shape \(3, 18, 16, 16\)"):
        codec_of(vae).reconstruct(X[0])
    with pytest.raises(ValueError, match="height .12. must be a multiple of VideoVAE.s spatial ratio .8."):
        codec_of(vae).reconstruct(X[..., :12, :])
    with pytest.raises(ValueError, match="returns 13 of 16 frames; nearest lengths that it keeps: 13 and 17"):
        codec_of(wan()).reconstruct(X[:, :, :16].double())


# ---- registering ---------------------------------------------------------------------------------------------------


def test_a_class_of_no_library_works_once_it_is_registered(registry):
    with pytest.raises(ValueError, match="got Doubling"):
        codec_of(Doubling())
    register(Doubling)(DoublingCodec)
    maps = maps_of(Doubling(), num_frames=5)
    assert maps.z.shape == (1, 3, 3, 4, 4) and maps.decode(maps.z).shape == maps.x.shape
    assert codec_of(Doubling()).mean_std(3)[1].tolist() == [3, 3, 3]
    assert codec_of(Doubling()).decoded_shape((1, 3, 3, 4, 4), 5) == (1, 3, 5, 16, 16)
    assert class_named("Doubling") is Doubling


@pytest.fixture
def measured(monkeypatch):
    """The models whose shapes are measured in a test, which finds nothing known."""
    measure, models = Codec._measure, []
    monkeypatch.setattr(codecs, "_MEASURED_ALIKE", {})
    monkeypatch.setattr(Codec, "_measure", lambda codec, family: models.append(codec.vae) or measure(codec, family))
    return models


def test_a_class_without_a_config_is_measured_once(registry, measured):
    register(Doubling)(DoublingCodec)
    model = Doubling()
    assert codec_of(model).latent_channels == codec_of(model).fresh().latent_channels == 3 and measured == [model]


def test_models_that_are_alike_are_measured_once(measured):
    one, other = wan(), wan().train()
    assert codec_of(one).spatial_ratio == codec_of(other).spatial_ratio == 8 and measured == [one]


@pytest.mark.parametrize(
    "change",
    [
        lambda vae: vae.register_to_config(scale_factor_spatial=4),
        lambda vae: setattr(vae.quant_conv, "stride", (1, 2, 2)),
        lambda vae: setattr(vae.quant_conv, "weight", nn.Parameter(torch.ones(12, 8, 1, 1, 1))),
        lambda vae: vae.encoder.half(),
        lambda vae: setattr(vae, "post_quant_conv", nn.Identity()),
        lambda vae: setattr(vae, "encode", lambda x: type(vae).encode(vae, x[..., ::2])),
        lambda vae: setattr(vae, "_encode", lambda x: x),
        lambda vae: setattr(vae, "seen", torch.zeros(1)),
        lambda vae: setattr(vae, "__class__", type("Other", (type(vae),), {})),
        lambda vae: vae.encoder.register_forward_hook(lambda module, x, y: y[:, :, ::2]),
    ],
    ids=["config", "a number", "a shape", "a dtype", "a part", "encode", "_encode", "a tensor", "the class", "a hook"],
)
def test_models_that_differ_in_what_may_decide_shapes_are_measured_each(change, monkeypatch):
    models, measured = [wan(), wan(), wan()], []
    found = codecs._Measured(None, 8, 4, 4)
    monkeypatch.setattr(Codec, "_measure", lambda codec, family: measured.append(codec.vae) or found)
    monkeypatch.setattr(codecs, "_MEASURED_ALIKE", {})
    change(models[1])
    assert [codec_of(model).spatial_ratio for model in models] == [8] * 3 and measured == models[:2]


def test_code_that_is_replaced_is_measured_again(measured, monkeypatch):
    cls = diffusers.AutoencoderKLWan
    assert codec_of(wan()).family.name == "Wan 2.1"
    whole = cls._encode
    monkeypatch.setattr(cls, "_encode", lambda vae, x: whole(vae, x)[:, :, :1])
    with pytest.warns(match="is no Wan 2.1 as the lab knows it, .* makes"):
        assert codec_of(wan()).family is None


@pytest.mark.parametrize(
    ("spoil", "family"),
    [
        (lambda vae: vae.encoder.half(), False),
        (lambda vae: vae.decoder.half(), False),
        (lambda vae: vae.encoder.register_forward_hook(lambda module, x, y: y.numpy()), True),
        (lambda vae: setattr(vae, "_seen", next(vae.parameters()) * 2), True),
    ],
    ids=["half an encoder", "half a decoder", "a hook that reads values", "what cannot be copied"],
)
@pytest.mark.filterwarnings("ignore:.*so nothing is taken from that record")
def test_what_cannot_be_measured_of_one_model_is_measured_of_the_next(spoil, family, measured):
    spoiled = wan()
    spoil(spoiled)
    assert bool(codec_of(spoiled).family) == family
    assert codec_of(wan()).family.name == "Wan 2.1" and codec_of(wan()).latent_channels == 4


def test_each_model_of_which_a_record_is_wrong_warns():
    for _ in range(2):
        vae = wan()
        vae.quant_conv.stride = (2, 1, 1)
        with pytest.warns(match="is no Wan 2.1 as the lab knows it, .* makes"):
            assert codec_of(vae).family is None


def test_what_is_measured_keeps_no_model_and_no_class_alive(measured):
    vae = wan()
    vae.decode = torch.compile(vae.decode, backend="eager")
    other = wan()
    other.__class__ = type("Other", (type(other),), {})
    assert codec_of(vae).family and codec_of(other).family
    measured.clear()
    gone = weakref.ref(vae), weakref.ref(type(other))
    del vae, other
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_models_with_something_unknown_are_like_none():
    assert structure_of(wan()) == structure_of(wan())
    for name, value in {"seen": torch.zeros(1), "options": {}, "times": [torch.zeros(1)]}.items():
        vae = wan()
        setattr(vae, name, value)
        assert structure_of(vae) is None


def test_the_labs_own_classes_say_their_shapes_themselves_and_those_derived_are_measured(measured):
    vae = small_vae()
    for model, spatial, temporal, channels in ((vae, 8, 4, 4), (vae.spatial, 8, 1, 4), (vae.temporal, 1, 4, 4)):
        codec = codec_of(model)
        assert (codec.spatial_ratio, codec.temporal_ratio, codec.latent_channels) == (spatial, temporal, channels)
        assert not measured and Codec._measure(codec, codec.family) == codec._measured and measured.pop() is model
    for part in ("spatial", "temporal"):
        other = small_vae()
        half = getattr(other, part)
        half.__class__ = type("Derived", (type(half),), {})
        assert codec_of(other).spatial_ratio == 8 and measured.pop() is other


def test_a_family_may_have_a_law_of_frames_that_no_formula_knows(registry):
    @register(Doubling)
    class Lawful(DoublingCodec):
        temporal_ratio, law = 4, FirstAlone

    timeline = codec_of(Doubling()).timeline(8)
    assert timeline.groups == [range(1), range(1, 5), range(5, 8)]
    assert encoder_last_seen(timeline.groups) == [0, 4, 7] and timeline.chunks == [(3, 8)]


def test_subclasses_inherit_and_may_have_their_own_family(registry):
    class Finer(TemporalVAE):
        pass

    assert codec_of(Finer.from_config(small_vae().temporal.config)).takes == "spatial latents"
    register(Finer)(type("FinerCodec", (Codec,), {"takes": "pixels"}))
    assert codec_of(Finer.from_config(small_vae().temporal.config)).takes == "pixels"


def test_the_same_name_never_means_two_classes(registry):
    impostor = type("VideoVAE", (nn.Module,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="another class is named VideoVAE, in vae_lab.video_vae"):
        register(impostor)
    with pytest.raises(ValueError, match="another class is named AutoencoderKLWan, in diffusers"):
        register(type("AutoencoderKLWan", (nn.Module,), {"__module__": "elsewhere"}))
    with pytest.raises(ValueError, match="vae must be a video VAE"):
        codec_of(impostor())  # not mistaken for the lab's by its name


@pytest.mark.parametrize("use", [lambda: register(Doubling()), lambda: register(Doubling)(Doubling)])
def test_what_is_no_class_or_no_codec_cannot_be_registered(use, registry):
    with pytest.raises(ValueError, match="register needs the class of|register must decorate a subclass of Codec"):
        use()
    assert "Doubling" not in codecs._REGISTERED


def test_a_class_defined_again_replaces_itself(registry):
    again = type("Doubling", (nn.Module,), {"__module__": __name__, "__qualname__": "Doubling"})
    register(Doubling)(DoublingCodec)
    register(again)(Codec)
    assert class_named("Doubling") is again and codecs._REGISTERED["Doubling"] == (again, Codec)


def test_classes_are_found_by_name():
    assert class_named("SpatialVAE") is SpatialVAE
    assert class_named("AutoencoderKLWan") is diffusers.AutoencoderKLWan
    assert class_named("UNet2DModel") is class_named(None) is class_named("AutoencoderOfNobody") is None
