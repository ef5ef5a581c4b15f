"""What codecs convert: pixels and latents, each as diffusers' own pipelines do."""

import __future__

import ast
import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import diffusers
import numpy as np
import pytest
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.torch_utils import randn_tensor

from tests.helpers import small_vae
from vae_lab import DiagonalGaussian, to_frames, to_tensor
from vae_lab.families import FAMILIES, codec_of, family_of, tiny_model
from vae_lab.probes import probe
from vae_lab.reconstruct import reconstruct
from vae_lab.reconstruct.round_trip import RoundTrip
from vae_lab.video.frames import Clip

DIFFUSERS = Path(diffusers.__file__).parent
ENCODED_BY = {"retrieve_latents": lambda output, generator=None, sample_mode="argmax": output.latent_dist.mode()}


def own_code(file: str, name: str, **names: Any) -> Callable:
    """A function of diffusers, out of its file: pipelines themselves need libraries that are not installed."""
    tree = ast.parse((DIFFUSERS / file).read_text())
    (function, *_) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    function.decorator_list = []
    module = ast.fix_missing_locations(ast.Module([function], []))
    names |= {"torch": torch}
    exec(compile(module, file, "exec", __future__.annotations.compiler_flag), names)
    return names[name]


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def normalized(codec, z):
    mean, std = codec.statistics(z.shape[1:])
    return (z - mean) / std


# ---- pixels --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_minimax_gets_the_pixels_of_its_pipeline():
    """`encode_vae_condition` takes uint8, samples, rounds to float16 and normalizes."""
    vae = tiny_model("MiniMax-H3")
    vae.register_to_config(latents_mean=[1.0, 2.0, 3.0, 4.0], latents_std=[0.5, 1.0, 2.0, 4.0])
    codec, frames = codec_of(vae), torch.randint(0, 256, (1, 3, 22, 32, 32), dtype=torch.uint8)
    encode = own_code("modular_pipelines/minimax_h3/encoders.py", "encode_vae_condition")
    expected = encode(vae, frames, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 3)
    posterior = codec.posterior(frames / 127.5 - 1)
    z = posterior.sample(generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(normalized(codec, z), expected, atol=5e-3, rtol=0)  # its float16
    file = "modular_pipelines/minimax_h3/modular_pipeline.py"
    assert [own_code(file, name)(None) for name in ("pixel_mean", "pixel_std")] == [codec.pixel_mean, codec.pixel_std]


@torch.no_grad()
def test_kandinsky_gets_the_pixels_of_its_pipeline():
    vae, x = tiny_model("Kandinsky 6 SR"), noise(1, 3, 5, 32, 32)
    codec, pipeline, file = codec_of(vae), SimpleNamespace(vae=vae), "pipelines/kandinsky6/pipeline_kandinsky6_sr.py"
    latents = own_code(file, "encode_video")(pipeline, x)
    assert torch.equal(codec.encode(x) * vae.config.scaling_factor, latents)
    y = codec.decode(latents / vae.config.scaling_factor, 5)
    assert torch.equal(y.clamp(-1, 1), own_code(file, "decode_latents")(pipeline, latents))


@pytest.mark.parametrize("name", ["MiniMax-H3", "Kandinsky 6 SR"])
def test_pixels_return_as_they_were(name):
    codec, x = codec_of(tiny_model(name)), noise(1, 3, 2, 4, 4)
    there = codec.into(x)
    torch.testing.assert_close(codec.back(there), x)
    assert (there - x).abs().max() > 1e-3
    assert (there.amin((0, 2, 3, 4)) != there.amax((0, 2, 3, 4))).all()


# ---- latents -------------------------------------------------------------------------------------------------------


def test_flux2_normalizes_patches():
    vae = tiny_model("Flux2")
    vae.bn.running_mean.copy_(torch.arange(16.0))
    vae.bn.running_var.copy_(torch.linspace(0.5, 3, 16))
    x, codec = noise(1, 3, 48, 32), codec_of(vae)
    file = "pipelines/flux2/pipeline_flux2.py"
    patchify = own_code(file, "_patchify_latents")
    with torch.no_grad():
        encode = own_code(file, "_encode_vae_image", **ENCODED_BY)
        expected = encode(SimpleNamespace(vae=vae, _patchify_latents=patchify), x, None)
        z = codec.encode(x.unsqueeze(2))
    torch.testing.assert_close(patchify(normalized(codec, z).squeeze(2)), expected, rtol=0, atol=0)
    mean, std = codec.mean_std(4)
    assert mean.tolist() == [1.5, 5.5, 9.5, 13.5]
    many = torch.randn(16, 100_000, generator=torch.Generator().manual_seed(0))
    of_cells = many * vae.bn.running_var.sqrt()[:, None] + vae.bn.running_mean[:, None]
    torch.testing.assert_close(std, of_cells.view(4, -1).std(1), rtol=0.01, atol=0)
    assert codec.statistics((4, 1, 5, 3))[0].shape == (4, 1, 5, 3)


@torch.no_grad()
def test_cosmos_normalizes_each_frame():
    vae = tiny_model("Cosmos 8x8x8")
    vae.register_to_config(latents_mean=torch.randn(64).tolist(), latents_std=(torch.rand(64) + 0.5).tolist())
    x, codec = noise(1, 3, 17, 16, 16), codec_of(vae)
    pipeline = SimpleNamespace(vae=vae, vae_scale_factor_temporal=8, vae_scale_factor_spatial=8)
    pipeline.scheduler = SimpleNamespace(config=SimpleNamespace(sigma_data=0.5, sigma_max=80.0))
    file = "pipelines/cosmos/pipeline_cosmos_video2world.py"
    prepare = own_code(file, "prepare_latents", randn_tensor=randn_tensor, **ENCODED_BY)
    _, expected, *_ = prepare(
        pipeline, x, 1, 4, 16, 16, 17, dtype=torch.float32, device="cpu", generator=torch.Generator()
    )
    z = codec.encode(x)
    torch.testing.assert_close(normalized(codec, z) * 0.5, expected)
    mean, std = codec.mean_std(4)
    torch.testing.assert_close(mean, torch.tensor(vae.config.latents_mean).view(4, 16).mean(1))
    assert std.shape == (4,)
    with pytest.raises(ValueError, match="AutoencoderKLCosmos has statistics for 16 latent frames, so not for 17"):
        codec.statistics((4, 17, 2, 2))


@pytest.mark.parametrize(("name", "pipeline"), [("LTX 0.9.5", "ltx"), ("LTX 2", "ltx2")])
def test_ltx_normalizes_channels(name, pipeline):
    vae = tiny_model(name)
    vae.register_to_config(scaling_factor=2.0)
    vae.latents_mean.copy_(torch.arange(4.0))
    vae.latents_std.copy_(torch.arange(1.0, 5.0))
    z = noise(1, 4, 3, 2, 2)
    normalize = own_code(f"pipelines/{pipeline}/pipeline_{pipeline}.py", "_normalize_latents")
    expected = normalize(z, vae.latents_mean, vae.latents_std, 2.0)
    torch.testing.assert_close(normalized(codec_of(vae), z), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_statistics_are_those_of_the_record(name):
    """None is on purpose: the record says "none" and why. Divisions by the factor would show, as no factor is 1."""
    family = FAMILIES[name]
    vae = tiny_model(name)
    codec, channels = codec_of(vae), 4
    if name == "dc-ae":
        vae.register_to_config(scaling_factor=0.41407)
    known, scaled = codec.mean_std(channels), codec.statistics((channels, 2, 4, 4))
    if family.scaling.startswith("none") and name != "taesd":
        assert known is None and scaled is None and len(family.scaling) > 10
        return
    mean, std = known
    assert mean.shape == std.shape == (channels,)
    torch.broadcast_shapes(scaled[0].shape, scaled[1].shape, (channels, 2, 4, 4))
    if "scaling_factor" in family.scaling:
        assert not mean.any() and vae.config.scaling_factor != 1
        torch.testing.assert_close(1 / std, torch.full((channels,), vae.config.scaling_factor))


def test_what_a_record_is_wrong_about_is_said():
    """It fails on the length, makes other latents, or decodes them to another size: see the attack on `_measure`."""
    for name, changes, reason in (
        ("wan 2.1", {"temperal_downsample": [True] * 3}, "makes|fails on them"),
        ("ltx 0.9.0 and 0.9.1", {"patch_size_t": 2}, "fails on them"),
        ("cogvideox", {"use_quant_conv": True, "use_post_quant_conv": True}, "fails on them"),
        ("cosmos 8x8x8", {"patch_size": 2}, "decodes them to shape"),
    ):
        family = FAMILIES[name]
        codec = codec_of(getattr(diffusers, family.class_name)(**{**family.tiny, **changes}).eval())
        with pytest.warns(match=f"is no {family.name} as the lab knows it, .*({reason})"):
            assert codec.family is None


@pytest.mark.parametrize("halved", [(False, False), (True, False), (True, True, True)])
def test_a_lab_model_of_another_ratio_is_no_family_and_no_mistake(halved, recwarn):
    temporal = dict(temporal_downsample=halved, channel_multipliers=(1,) * (len(halved) + 1))
    codec = codec_of(small_vae(temporal=temporal))
    assert codec.family is None and codec.temporal_ratio == 2 ** sum(halved) and not recwarn
    assert codec_of(small_vae()).family.name == "Open-Sora 1.2"


@pytest.mark.parametrize("name", ["hunyuanvideo", "cogvideox"])
@torch.no_grad()
def test_clips_of_four_channels(name):
    family = FAMILIES[name]
    vae = getattr(diffusers, family.class_name)(**{**family.tiny, "in_channels": 4, "out_channels": 4}).eval()
    codec, x = codec_of(vae), noise(1, 4, 9, 16, 16)
    assert codec.in_channels == 4 and torch.equal(codec.reconstruct(x).sample, vae(x).sample)
    with pytest.raises(ValueError, match="x must have 4 channels, got 3"):
        codec.reconstruct(x[:, :3])


@pytest.mark.parametrize("name", ["wan 2.1", "mochi", "vidtok causal"])
@torch.no_grad()
def test_models_whose_weights_accelerate_keeps_elsewhere(name, tmp_path):
    vae, expected = tiny_model(name), codec_of(tiny_model(name))
    accelerate.cpu_offload(vae, torch.device("cpu"))
    codec = codec_of(vae)
    length = FAMILIES[name].nearest_legal(9)[-1]
    x = noise(1, 3, length, 32, 32)
    assert codec.offloaded and codec.device.type == "cpu" and codec.identity() == expected.identity()
    assert torch.equal(codec.reconstruct(x).sample, expected.reconstruct(x).sample)
    clip = Clip(to_frames(x.clamp(-1, 1)), 24.0)
    assert np.array_equal(reconstruct(vae, clip).sample, reconstruct(expected.vae, clip).sample)
    assert probe(vae, length, 32).notes.keys() <= {"chunks"}


class Scheduled(diffusers.ModelMixin, diffusers.ConfigMixin):
    """A video VAE whose constructor reads numbers from a tensor, as schedules of drop rates do: it needs memory."""

    @register_to_config
    def __init__(self):
        super().__init__()
        first, last = torch.linspace(0, 0.1, 2).tolist()
        self.analysis = torch.nn.Sequential(torch.nn.Conv3d(3, 8, 1), torch.nn.Dropout(first))
        self.synthesis = torch.nn.Sequential(torch.nn.Conv3d(4, 3, 1), torch.nn.Dropout(last))

    def encode(self, x):
        return SimpleNamespace(latent_dist=DiagonalGaussian(self.analysis(x)))

    def decode(self, z):
        return SimpleNamespace(sample=self.synthesis(z))


@torch.no_grad()
def test_an_offloaded_model_that_cannot_be_made_without_memory():
    vae, x = Scheduled().eval(), noise(1, 3, 2, 4, 4)
    expected = codec_of(vae).reconstruct(x).sample
    accelerate.cpu_offload(vae, torch.device("cpu"))
    assert codec_of(vae).encoded_shape(x.shape) is None
    assert torch.equal(codec_of(vae).reconstruct(x).sample, expected)


@torch.no_grad()
def test_a_clip_is_searched_for_what_is_not_finite_once(monkeypatch):
    codec, x, seen, isfinite = codec_of(tiny_model("wan 2.1")), noise(1, 3, 5, 16, 16), [], torch.isfinite
    monkeypatch.setattr(torch, "isfinite", lambda x: seen.append(x.shape) or isfinite(x))
    codec.reconstruct(x)
    codec.stream(5).encoder.encode(x)
    assert seen == [x.shape] * 2


# ---- streams -------------------------------------------------------------------------------------------------------

EXACT = {"cogvideox": 25, "kandinsky 6 sr": 25, "minimax-h3": 39}  # frames: units of every kind
ROUNDED = {"magvit-v2": 13, "wan 2.1": 13, "wan 2.2": 13, "qwen-image": 13, "autoencoderkl": 5, "dc-ae": 2, "flux2": 2,
           "hunyuanimage": 2, "taesd": 5}  # fmt: skip
STREAMED = EXACT | ROUNDED


@torch.no_grad()
@pytest.mark.parametrize("name", STREAMED)
def test_streams_give_what_one_call_gives(name):
    vae, num_frames, side = tiny_model(name), STREAMED[name], 2 * FAMILIES[name].spatial_ratio
    codec, x = codec_of(vae), noise(1, 3, num_frames, side, side)
    z, tolerance = codec.encode(x), {"rtol": 0, "atol": 0} if name in EXACT else {"rtol": 1e-3, "atol": 1e-5}
    streams = codec.stream(num_frames)
    assert streams.exact == (name in EXACT)
    parts = [streams.encoder.encode(part).latent_dist.mode() for part in x.split(6, dim=2)]
    streams.encoder.finish()
    torch.testing.assert_close(torch.cat(parts, dim=2), z, **tolerance)
    frames = []
    for part in z.split(3, dim=2):
        frames.append(streams.decoder.decode(part).sample)
        resumed = codec.stream(num_frames)
        resumed.decoder.load_state_dict(copy.deepcopy(streams.decoder.state_dict()))
        streams = resumed
    streams.decoder.finish()
    torch.testing.assert_close(torch.cat(frames, dim=2), codec.decode(z, num_frames), **tolerance)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "lengths"),
    [("cogvideox", [17, 8]), ("kandinsky 6 sr", [17, 8]), ("minimax-h3", [39]), ("wan 2.1", [13])],
)
def test_reconstruct_takes_pieces_if_no_bit_changes(name, lengths, tmp_path):
    """Its state between pieces is written and read as by a run that resumes. MiniMax's frames come out a chunk late."""
    vae, num_frames, side = tiny_model(name), STREAMED[name], 2 * FAMILIES[name].spatial_ratio
    frames = (noise(num_frames, side, side, 3).numpy() * 127 + 127).astype(np.uint8)
    trip = RoundTrip(vae, num_frames, side, side)
    assert trip.lengths == lengths
    parts = []
    for part in np.split(frames, np.cumsum(trip.lengths)[:-1]):
        parts.append(trip.feed(part).outputs["full"])
        torch.save(trip.state_dict(), tmp_path / "state.pt")
        trip = RoundTrip(vae, num_frames, side, side)
        trip.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    whole = codec_of(vae).reconstruct(to_tensor(frames)).sample
    assert np.array_equal(np.concatenate(parts), to_frames(whole.clamp(-1, 1)))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in {*STREAMED, "open-sora 1.2", "vae_lab"}])
def test_other_families_say_why_not(name):
    codec = codec_of(tiny_model(name))
    (length, *_) = FAMILIES[name].nearest_legal(33)
    wholly = [reach.text for reach in (FAMILIES[name].encoder_sees, FAMILIES[name].decoder_sees) if reach.whole]
    reason = f"depends on {wholly[0]}" if wholly else "no way to continue an earlier call"
    with pytest.raises(ValueError, match=f"{codec.name} cannot be streamed: .*{reason}"):
        codec.stream(length)


def test_streams_refuse_what_does_not_fit():
    vae = tiny_model("Wan 2.1")
    codec = codec_of(vae)
    with pytest.raises(ValueError, match="returns 5 of 6 frames; nearest lengths that it keeps: 5 and 9"):
        codec.stream(6)
    with pytest.raises(ValueError, match="chunked must be False for AutoencoderKLWan, got True"):
        codec.stream(5, chunked=True)
    encoder, decoder, *_ = codec.stream(5)
    assert encoder.encode(noise(2, 3, 3, 16, 16)).latent_dist.mode().shape == (2, 4, 1, 2, 2)
    assert encoder.encode(noise(2, 3, 1, 16, 16)).latent_dist.mode().shape == (2, 4, 0, 2, 2)
    before = encoder.state_dict()
    with pytest.raises(ValueError, match="x has 2 frames, but only 1 of the 5 of num_frames=5 are left"):
        encoder.encode(noise(2, 3, 2, 16, 16))
    with pytest.raises(ValueError, match=r"x must have the shape that the stream began with, \(B, C, H, W\) \(2, 3"):
        encoder.encode(noise(1, 3, 1, 16, 16))
    with pytest.raises(ValueError, match="x must"):
        encoder.encode(noise(2, 4, 1, 16, 16))
    with pytest.raises(ValueError, match="x must have the model's dtype, torch.float32, got torch.float16"):
        encoder.encode(noise(2, 3, 1, 16, 16).half())
    assert encoder.state_dict() == before and encoder.position == 4
    with pytest.raises(ValueError, match="the stream ended after 4 frames, but num_frames=5 needs 5"):
        encoder.finish()
    with pytest.raises(ValueError, match="state is of a stream with takes 'frame', this one has 'latent frame'"):
        decoder.load_state_dict(before)
    with pytest.raises(ValueError, match="state must be from UnitDecoder.state_dict, with model, takes"):
        decoder.load_state_dict({})
    small = codec_of(tiny_model("CogVideoX")).stream(16)
    with pytest.raises(ValueError, match=r"height \(4\) must be a multiple of .* ratio \(8\)"):
        small.encoder.encode(noise(1, 3, 16, 4, 4))
    with pytest.raises(ValueError, match="AutoencoderKLCogVideoX failed on 2 latent frames of 0x0|z must"):
        small.decoder.decode(noise(1, 4, 2, 0, 0))
    vae.enable_tiling()
    with pytest.raises(ValueError, match=r"AutoencoderKLWan cannot be streamed in tiles: call vae.disable_tiling\(\)"):
        codec.stream(5)


# ---- lengths and batches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64])
def test_small_integers_of_numpy(kind):
    codec = codec_of(tiny_model("wan 2.1"))
    assert [*codec.kept_lengths(kind(120))] == [117, 121]
    with pytest.raises(ValueError, match="nearest lengths that it keeps: 117 and 121"):
        codec.check_length(kind(120))


@pytest.mark.parametrize("name", ["vae_lab", "autoencoderkl", "wan 2.1"])
@pytest.mark.parametrize("num_frames", [0, -1, True, 2.5, None, "5"])
def test_lengths_that_are_none(name, num_frames):
    codec = codec_of(tiny_model(name))
    for ask in (codec.check_length, codec.kept_lengths):
        with pytest.raises(ValueError, match="num_frames must be (an integer of )?at least 1, got"):
            ask(num_frames)


@pytest.mark.parametrize(
    ("name", "changes", "ratio"),
    [
        ("wan 2.1", {"temperal_downsample": [False, False, True]}, 2),  # its config tells 4
        ("cosmos 8x8x8", {"temporal_compression_ratio": 2}, 4),
        ("cosmos 8x8x8", {"temporal_compression_ratio": 16}, 16),
        ("ltx 2", {"decoder_causal": True}, 8),  # its attribute tells 16
    ],
)
@torch.no_grad()
def test_the_ratio_of_an_unknown_config_is_measured(name, changes, ratio):
    family = FAMILIES[name]
    vae = getattr(diffusers, family.class_name)(**{**family.tiny, **changes}).eval()
    codec = codec_of(vae)
    said = "is no .* as the lab knows it, so nothing is taken from that record: makes"
    with pytest.warns(match=said) if family_of(vae) else nullcontext():
        assert codec.family is None and codec.temporal_ratio == ratio
    latents = codec.encode(noise(1, 3, 17, 64, 64)).shape[2]
    assert latents == -(-17 // ratio) == codec.timeline(17).num_latents


@torch.no_grad()
def test_hunyuanvideo_15_takes_batches():
    codec, x = codec_of(tiny_model("hunyuanvideo 1.5")), noise(2, 3, 5, 32, 32)
    z, y = codec.reconstruct(x)
    for n in range(2):
        alone = codec.reconstruct(x[n : n + 1])
        assert torch.equal(z[n : n + 1], alone.latent) and torch.equal(y[n : n + 1], alone.sample)


@torch.no_grad()
def test_ltx_2_with_noisy_latents():
    """Its decoder is told the noise of its latents: none."""
    codec = codec_of(diffusers.AutoencoderKLLTX2Video(**{**FAMILIES["ltx 2"].tiny, "timestep_conditioning": True}))
    x = noise(1, 3, 9, 64, 64)
    assert codec.reconstruct(x).sample.shape == x.shape


def test_an_operation_that_torch_lacks():
    codec = codec_of(tiny_model("cosmos 8x8x8").half())
    with pytest.raises(ValueError, match=r"failed on 9 frames .* torch lacks an operation for torch.float16 on cpu"):
        codec.reconstruct(noise(1, 3, 9, 64, 64).half())


# ---- what streams refuse, and what they survive --------------------------------------------------------------------


def test_a_stream_takes_no_other_streams_state():
    x = noise(1, 3, 25, 32, 32)
    encoder = codec_of(tiny_model("cogvideox")).stream(25).encoder
    encoder.encode(x[:, :, :9])
    for name, message in [
        ("magvit-v2", "model 'AutoencoderKLCogVideoX'"),
        ("wan 2.1", "model 'AutoencoderKLCogVideoX'"),
    ]:
        with pytest.raises(ValueError, match=f"state is of a stream with {message}"):
            codec_of(tiny_model(name)).stream(25).encoder.load_state_dict(encoder.state_dict())
    good, other = encoder.state_dict(), codec_of(tiny_model("cogvideox")).stream(25).encoder
    for change, message in [
        ({"unit": "a"}, "unit of state must be an integer from 0 to 3, got 'a'"),
        ({"unit": -1}, "unit of state must be an integer from 0 to 3, got -1"),
        ({"unit": 99}, "unit of state must be an integer from 0 to 3, got 99"),
        ({"unit": 0}, "state contradicts itself: .* after 0 units"),
        ({"waiting": 3}, "what waits must be fewer than 8 of shape"),
        ({"waiting": x[..., :8]}, "what waits must be fewer than 8 of shape"),
        ({"lengths": [25]}, "state is of a stream with lengths"),
    ]:
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(good | change)
        assert other.position == 0
    other.load_state_dict(good)
    assert torch.equal(other.encode(x[:, :, 9:]).latent_dist.mode(), encoder.encode(x[:, :, 9:]).latent_dist.mode())


@pytest.mark.parametrize(
    ("name", "length"), [("autoencoderkl", 9), ("minimax-h3", 39), ("wan 2.1", 9), ("cogvideox", 17)]
)
def test_a_stream_keeps_its_shape(name, length):
    codec = codec_of(tiny_model(name))
    side, encoder = 2 * codec.spatial_ratio, codec.stream(length).encoder
    first = encoder._lengths[0]
    encoder.encode(noise(1, 3, first, side, side))
    for shape in [(2, 3, 1, side, side), (1, 3, 1, 2 * side, side)]:
        with pytest.raises(ValueError, match="x must have the shape that the stream began with"):
            encoder.encode(noise(*shape))
    with pytest.raises(ValueError, match=r"width \(33\) must be a multiple of"):
        codec.stream(length).encoder.encode(noise(1, 3, 1, side, 33))
    assert encoder.position == first


@pytest.mark.filterwarnings("ignore:.*so nothing is taken from that record")
def test_streams_of_configs_without_a_record():
    family = FAMILIES["cogvideox"]
    codec = codec_of(diffusers.AutoencoderKLCogVideoX(**{**family.tiny, "temporal_compression_ratio": 8}).eval())
    with pytest.raises(ValueError, match="does not keep 9 frames; nearest lengths that it keeps: 1 and 16"):
        codec.stream(9)
    config = {**FAMILIES["wan 2.1"].tiny, "temperal_downsample": [False, False, True]}
    codec, x = codec_of(diffusers.AutoencoderKLWan(**config).eval()), noise(1, 3, 9, 16, 16)
    with torch.no_grad():
        encoder, decoder, *_ = codec.stream(9)
        z = torch.cat([encoder.encode(piece).latent_dist.mode() for piece in x.split(2, dim=2)], dim=2)
        y = torch.cat([decoder.decode(piece).sample for piece in z.split(1, dim=2)], dim=2)
        torch.testing.assert_close(z, codec.encode(x), atol=2e-5, rtol=0)
        torch.testing.assert_close(y, codec.decode(z, 9), atol=2e-5, rtol=0)
    vae = diffusers.AutoencoderKLMiniMaxH3(**{**FAMILIES["minimax-h3"].tiny, "clip_length": 9})
    with pytest.raises(ValueError, match="cannot be streamed|does not keep"):
        codec_of(vae).stream(1)


@pytest.mark.parametrize("name", ["cogvideox", "kandinsky 6 sr", "minimax-h3"])
@torch.no_grad()
def test_streams_of_offloaded_models(name):
    """Group offloading hooks every layer. A piece that completes nothing has an empty posterior."""
    vae = tiny_model(name)
    length = FAMILIES[name].nearest_legal(33)[-1]
    side = 2 * FAMILIES[name].spatial_ratio
    x, whole = noise(1, 3, length, side, side), None
    whole = codec_of(vae).encode(x)
    vae.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    encoder, parts = codec_of(vae).stream(length).encoder, []
    for piece in x.split(3, dim=2):
        posterior = encoder.encode(piece).latent_dist
        assert posterior.std.shape == posterior.mode().shape
        parts.append(posterior.mode())
    assert not parts[0].shape[2] and torch.equal(torch.cat(parts, dim=2), whole)


@torch.no_grad()
def test_streams_under_autocast():
    codec, x = codec_of(tiny_model("vae_lab")), noise(1, 3, 9, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        z = codec.stream(9).encoder.encode(x).latent_dist.mode()
        torch.testing.assert_close(z.float(), codec.encode(x).float(), atol=0.05, rtol=0.05)


def test_channels_are_those_of_the_config():
    for name, changes, channels in [
        ("qwen-image", {"input_channels": 4}, 4), ("magvit-v2", {"in_channels": 1}, 1), ("wan 2.2", {}, 3),
    ]:  # fmt: skip
        family = FAMILIES[name]
        cls = type(tiny_model(name))
        assert codec_of(cls(**{**family.tiny, **changes})).in_channels == channels


def test_statistics_that_are_none():
    flux, cosmos, wan = (codec_of(tiny_model(name)) for name in ("flux2", "cosmos 8x8x8", "wan 2.1"))
    for codec in (flux, cosmos, wan):
        for shape in ((1, 4, 3, 4, 4), (4,), "4444", 4):
            with pytest.raises(ValueError, match=r"shape must be \(C, L, h, w\), without the batch"):
                codec.statistics(shape)
        with pytest.raises(ValueError, match="channels must be"):
            codec.mean_std(0)
    with pytest.raises(ValueError, match="channels must be the 4 of AutoencoderKLFlux2's latents, got 7"):
        flux.mean_std(7)
    assert codec_of(tiny_model("flux2").bfloat16()).mean_std(4)[1].dtype == torch.float32
    for name, changes, message in [
        ("wan 2.1", {"latents_std": [0.0] * 4}, "latents_std of the model must be finite and not 0"),
        ("wan 2.1", {"latents_mean": "abc"}, "latents_mean of the model must be numbers, got 'abc'"),
        ("wan 2.1", {"latents_std": [None] * 4}, "latents_std of the model must be numbers"),
        ("autoencoderkl", {"scaling_factor": 0}, "scaling_factor of the model must be finite and not 0"),
        ("flux2", {"batch_norm_eps": "x"}, "batch_norm_eps of the model must be numbers, got 'x'"),
    ]:
        vae = tiny_model(name)
        vae.register_to_config(**changes)
        with pytest.raises(ValueError, match=message):
            codec_of(vae).mean_std(4)
