"""Models of half precision: everything takes them, and shift, scale, sums and statistics stay float32."""

import numpy as np
import pytest
import torch

from tests.helpers import small_vae
from tests.helpers.families import cogvideox, hunyuan, wan
from vae_lab import Clip, DiagonalGaussian, VideoVAE, load, make_causal
from vae_lab.families import codec_of, maps_of
from vae_lab.latents import channel_moments, interpolation, latent_report, zero_channel
from vae_lab.probes import attribute, leaks
from vae_lab.reconstruct import reconstruct, reconstruct_file
from vae_lab.video import write_video
from vae_lab.viewers import explore_latents

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
MEAN, STD = (-0.1003, 0.3401, 0.2702, 0.9806), (3.8501, 2.3203, 2.3307, 3.0609)  # 16 bits round all of them


def clip_of(num_frames: int = 9, side: int = 16) -> Clip:
    return Clip(np.random.default_rng(0).integers(0, 256, (num_frames, side, side, 3), np.uint8))


def casts(dtype: torch.dtype) -> dict:
    """Every way to a model of half precision."""
    letters = {torch.bfloat16: "bfloat16", torch.float16: "half"}
    return {
        "to": lambda vae, _: vae.to(dtype),
        "method": lambda vae, _: getattr(vae, letters[dtype])(),
        "inside another module": lambda vae, _: torch.nn.Sequential(vae).to(dtype)[0],
        "twice": lambda vae, _: vae.to(dtype).float().to(dtype),
        "of the halves": lambda vae, _: VideoVAE.of_halves(
            vae.spatial.to(dtype), vae.temporal.to(dtype), latents_mean=MEAN, latents_std=STD
        ),
        "other chunks": lambda vae, _: vae.to(dtype).with_micro_frame_size(None),
        "other statistics": lambda vae, _: vae.to(dtype).with_statistics(MEAN, STD),
        "loaded in it": lambda vae, folder: (vae.save_pretrained(folder), load(folder, dtype=dtype))[1],
        "saved in it": lambda vae, folder: (vae.to(dtype).save_pretrained(folder), load(folder, dtype=dtype))[1],
        "saved and read in full": lambda vae, folder: (vae.to(dtype).save_pretrained(folder), load(folder))[1],
        "by diffusers": lambda vae, folder: (
            vae.save_pretrained(folder),
            VideoVAE.from_pretrained(folder, torch_dtype=dtype),
        )[1],
        "a state": lambda vae, _: (lambda other: (other.load_state_dict(vae.to(dtype).state_dict()), other)[1])(
            small_vae(latents_mean=MEAN, latents_std=STD).to(dtype)
        ),
    }


@HALVES
@pytest.mark.parametrize("way", casts(torch.half))
def test_shift_and_scale_stay_float32_whatever_way_a_model_is_cast(way, dtype, tmp_path):
    exact = small_vae(latents_mean=MEAN, latents_std=STD)
    vae = casts(dtype)[way](small_vae(latents_mean=MEAN, latents_std=STD), tmp_path)
    assert vae.dtype == (torch.float32 if way == "saved and read in full" else dtype)
    assert torch.equal(vae.shift, exact.shift) and torch.equal(vae.scale, exact.scale)
    z = torch.randn(1, 4, 3, 2, 2).to(dtype)
    normalized = vae.normalize(z)
    assert normalized.dtype == dtype  # computed in float32 and rounded once
    assert torch.equal(normalized, ((z.float() - exact.shift) / exact.scale).to(dtype))
    assert torch.equal(vae.denormalize(z), (z.float() * exact.scale + exact.shift).to(dtype))
    with torch.no_grad():
        assert vae.decode(vae.denormalize(z).to(vae.dtype), 9).sample.isfinite().all()


def test_double_precision_stays_double_and_meta_stays_meta():
    assert small_vae().double().shift.dtype == torch.float64
    vae = small_vae().to("meta").half()
    assert vae.shift.is_meta and vae.shift.dtype == torch.float32
    assert vae.to_empty(device="cpu").shift.dtype == torch.float32


@HALVES
@pytest.mark.parametrize("make", [small_vae, lambda: small_vae().spatial, cogvideox, hunyuan, wan])
def test_a_clip_through_models_of_half_precision(make, dtype):
    """The numbers are float64, and near those of full precision."""
    vae = make().float()
    full = reconstruct(vae, clip_of()).quality["full"].psnr
    half = reconstruct(vae.to(dtype), clip_of()).quality["full"].psnr
    assert half.dtype == np.float64
    np.testing.assert_allclose(half, full, atol=0.3)


@HALVES
@pytest.mark.parametrize("norm", ["group", "frame_group"])
def test_files_and_streams(norm, dtype, tmp_path):
    vae = small_vae(temporal=dict(norm=norm)).to(dtype)
    write_video(tmp_path / "clip.mp4", clip_of(20).frames)
    summary = reconstruct_file(vae, tmp_path / "clip.mp4", tmp_path / "out")
    assert summary.quality["full"].psnr.shape == (20,)
    streams, x = codec_of(vae).stream(20), torch.rand(1, 3, 20, 16, 16).to(dtype)
    with torch.no_grad():
        z = streams.encoder.encode(x).latent_dist.mode()
        torch.testing.assert_close(z, vae.encode(x).latent_dist.mode())
        torch.testing.assert_close(streams.decoder.decode(z).sample, vae.decode(z, 20).sample)
    with pytest.raises(ValueError, match="must have the model's dtype"):
        codec_of(vae).stream(20).encoder.encode(x.double())


@HALVES
def test_probes_latents_and_edits(dtype):
    vae = small_vae().to(dtype)
    assert leaks(maps_of(vae, 5)).any
    assert len(attribute(vae, maps_of(vae, 9))) == 2
    with torch.no_grad():
        posterior = vae.encode(maps_of(vae, 9).x).latent_dist
    z = posterior.mode()
    np.testing.assert_allclose(channel_moments(z).mean, z.double().mean((0, 2, 3, 4)), atol=1e-12)
    assert str(latent_report(z, posterior))
    assert zero_channel(z, 1).dtype == dtype
    assert len(interpolation(lambda z: codec_of(vae).decode(z, 9), z, zero_channel(z, 1)).frames) == 5
    for latents in (z, z.float()):
        viewer = explore_latents(latents, vae=vae, num_frames=9)
        viewer.precompute([{"operation": "zero", "channel": 0}])
    make_causal(vae)


@HALVES
@pytest.mark.parametrize("make", [small_vae, lambda: small_vae().spatial, cogvideox, hunyuan])
def test_calibration_takes_its_statistics_in_float32(make, dtype):
    z = (torch.randn(1, 4, 64, 16, 16) * 3 + 0.77).to(dtype)
    config = codec_of(make().to(dtype)).calibrated(z).config
    if config.get("latents_std") is not None:
        np.testing.assert_allclose(config["latents_std"], z.double().std((0, 2, 3, 4)), rtol=1e-5)
        np.testing.assert_allclose(config["latents_mean"], z.double().mean((0, 2, 3, 4)), rtol=1e-5)
    else:
        before = make().config["scaling_factor"] if "micro_batch_size" in config else 1
        assert config["scaling_factor"] == pytest.approx(before / z.double().std().item(), rel=1e-5)


@HALVES
def test_the_divergence_of_a_video_is_summed_in_float32(dtype):
    moments = torch.randn(1, 8, 20, 32, 32).to(dtype) * 2
    found, exact = DiagonalGaussian(moments).kl(), DiagonalGaussian(moments.double()).kl()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
