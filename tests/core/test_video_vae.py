import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.helpers import SMALL_SPATIAL, SMALL_TEMPORAL, small_vae
from vae_lab import TemporalVAE, VideoVAE

FIVE_CHANNELS = SMALL_TEMPORAL | dict(in_channels=5, temporal_downsample=(True, True))
TOLERANCE = 1e-5  # of a tensor's largest value


def error(found: torch.Tensor, golden: torch.Tensor) -> float:
    assert found.shape == golden.shape
    return ((found - golden).abs().max() / golden.abs().max()).item()


@pytest.mark.parametrize("frames", [1, 5, 16, 35])
def test_golden_values_of_the_reference(golden_vae, golden_cases, frames):
    """Computed with Open-Sora v1.2.0 itself; T = 5 has batch 2, T = 35 is three chunks (17, 17, 1)."""
    case = {name.split(".", 1)[1]: value for name, value in golden_cases.items() if name.startswith(f"T{frames}.")}
    with torch.no_grad():
        spatial_latent = golden_vae.spatial.encode(case["x"]).latent_dist.mode()
        posterior = golden_vae.temporal.encode(case["spatial_latent"]).latent_dist
        latent = golden_vae.normalize(golden_vae.encode(case["x"]).latent_dist.mode())
        found = {
            "spatial_latent": spatial_latent,
            "temporal_moments": posterior.moments,
            "temporal_recon": golden_vae.temporal.decode(posterior.mode(), frames).sample,
            "z": latent,
            "recon": golden_vae.decode(golden_vae.denormalize(case["z"]), frames).sample,
        }
    assert set(case) == {"x", *found}
    errors = {name: error(value, case[name]) for name, value in found.items()}
    assert max(errors.values()) < TOLERANCE, errors
    result = golden_vae.reconstruct(case["x"])
    assert error(result.sample, case["recon"]) < TOLERANCE
    assert error(result.spatial_latent, case["spatial_latent"]) < TOLERANCE
    assert error(golden_vae.normalize(result.latent), case["z"]) < TOLERANCE


def test_released_sizes():
    with torch.device("meta"):
        vae = VideoVAE()
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(vae.temporal) == 309_687_144
    assert count(vae.spatial) == 83_653_863
    assert vae.temporal.config.temporal_downsample == (False, True, True)
    assert vae.spatial.config.scaling_factor == 0.18215
    assert vae.config.micro_frame_size == 17
    assert vae.config.latents_mean == (-0.10, 0.34, 0.27, 0.98)
    assert vae.config.latents_std == (3.85, 2.32, 2.33, 3.06)
    with torch.device("meta"):
        z = vae.encode(torch.empty(1, 3, 18, 64, 64)).latent_dist.mode()
    assert z.shape == (1, 4, 6, 8, 8)


@settings(max_examples=30)
@given(
    frames=st.integers(1, 24), height=st.integers(1, 3), width=st.integers(1, 3), batch=st.integers(1, 2),
    flags=st.tuples(st.booleans(), st.booleans()), micro_frame_size=st.none() | st.integers(1, 10),
)  # fmt: skip
def test_predicted_sizes_are_the_real_ones(frames, height, width, batch, flags, micro_frame_size):
    vae = small_vae(temporal=dict(temporal_downsample=flags), micro_frame_size=micro_frame_size)
    x = torch.rand(batch, 3, frames, 8 * height, 8 * width) * 2 - 1
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        y = vae.decode(z, num_frames=frames).sample
    assert z.shape == (batch, 4, *vae.latent_size(x.shape[2:]))
    assert y.shape == x.shape


def test_chunks_are_encoded_and_decoded_alone():
    vae = small_vae(micro_frame_size=5)
    x = torch.rand(1, 3, 12, 8, 8) * 2 - 1
    result = vae.reconstruct(x)
    parts = [vae.reconstruct(part) for part in x.split([5, 5, 2], dim=2)]
    for whole, *pieces in zip(result, *parts, strict=True):
        torch.testing.assert_close(whole, torch.cat(pieces, dim=2), rtol=1e-4, atol=1e-5)


def test_reconstruct_is_the_two_halves():
    vae = small_vae()
    x = torch.rand(1, 3, 6, 8, 16) * 2 - 1
    result = vae.reconstruct(x)
    assert result._fields == ("sample", "spatial_only", "latent", "spatial_latent")
    with torch.no_grad():
        torch.testing.assert_close(result.spatial_only, vae.spatial(x).sample)
        torch.testing.assert_close(result.sample, vae(x).sample)
        torch.testing.assert_close(result.latent, vae.encode(x).latent_dist.mode())
    assert not result.sample.requires_grad


def test_a_stack_of_two_halves_is_made_of_these_very_modules():
    vae = small_vae()
    stack = VideoVAE.of_halves(vae.spatial, vae.temporal, micro_frame_size=9, latents_std=(1, 2, 3, 4))
    assert stack.spatial is vae.spatial and stack.temporal is vae.temporal
    again = VideoVAE.from_config(stack.config)  # its config tells the whole architecture
    again.load_state_dict(stack.state_dict())
    assert again.config.micro_frame_size == 9 and again.scale.flatten().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"temporal in_channels \(5\) must equal spatial latent_channels \(4\)"):
        VideoVAE.of_halves(vae.spatial, TemporalVAE(**FIVE_CHANNELS))


def test_other_chunks_of_the_same_modules():
    vae = small_vae(latents_mean=(1, 2, 3, 4), latents_std=(4, 3, 2, 1))
    other = vae.with_micro_frame_size(None)
    assert other.temporal is vae.temporal and other.spatial is vae.spatial and not other.training
    assert (other.config.micro_frame_size, vae.config.micro_frame_size) == (None, 17)
    assert vae.latent_size((51, 8, 8)) == (15, 1, 1) and other.latent_size((51, 8, 8)) == (13, 1, 1)
    z = torch.randn(1, 4, 2, 1, 1)
    assert torch.equal(other.normalize(z), vae.normalize(z))
    with pytest.raises(ValueError, match="micro_frame_size must be at least 1, got 0"):
        vae.with_micro_frame_size(0)


def test_normalize_and_back():
    vae = small_vae(latents_mean=(1, 2, 3, 4), latents_std=(2, 4, 5, 8))
    z = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(2, 4, 3, 2, 2)
    assert vae.normalize(z)[0, :, 0, 0, 0].tolist() == pytest.approx([-0.5, -0.25, -0.2, -0.125])
    torch.testing.assert_close(vae.denormalize(vae.normalize(z)), z)


def test_sampling_takes_a_generator_and_the_default_is_the_mode():
    vae = small_vae()
    x = torch.rand(1, 3, 3, 8, 8) * 2 - 1
    posterior = vae.encode(x).latent_dist
    seeded = [posterior.sample(torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.equal(seeded[0], seeded[2])
    assert torch.equal(vae(x).sample, vae(x).sample)
    drawn = vae(x, sample_posterior=True, generator=torch.Generator().manual_seed(0)).sample
    assert not torch.equal(drawn, vae(x).sample)


def test_save_and_load(tmp_path):
    vae = small_vae(micro_frame_size=None, latents_mean=(1, 2, 3, 4))
    vae.save_pretrained(tmp_path)
    again = VideoVAE.from_pretrained(tmp_path)
    assert again.config.micro_frame_size is None
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))
    x = torch.rand(1, 3, 5, 8, 8) * 2 - 1
    torch.testing.assert_close(again.reconstruct(x).sample, vae.reconstruct(x).sample)


@pytest.mark.parametrize(
    ("num_frames", "latents", "message"),
    [
        (18, 5, r"num_frames \(18\) does not fit a latent of 5 frames, which decodes to 17"),
        (16, 5, r"num_frames \(16\) does not fit a latent of 5 frames, which decodes to 17"),
        (22, 6, r"num_frames \(22\) does not fit a latent of 6 frames, which decodes to 18 to 21"),
    ],
)
def test_num_frames_must_fit(num_frames, latents, message):
    with pytest.raises(ValueError, match=message):
        small_vae().decode(torch.zeros(1, 4, latents, 1, 1), num_frames)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(1, 3, 5, 1, 1), "z must have 4 channels, got 3"),
        (torch.full((1, 4, 5, 1, 1), torch.inf), "z must be finite"),
        (torch.zeros(1, 4, 5, 1, 1, dtype=torch.long), "z must be floating point, got torch.int64"),
    ],
)
def test_bad_latents(z, message):
    with pytest.raises(ValueError, match=message):
        small_vae().decode(z, 17)


def test_bad_config():
    with pytest.raises(ValueError, match="micro_frame_size must be at least 1, got 0"):
        small_vae(micro_frame_size=0)
    with pytest.raises(ValueError, match="latents_std must have one number for each of 4 latent channels"):
        small_vae(latents_std=(1, 2))
    for mean in (0.5, None, [float("nan")] * 4, [float("inf")] * 4):
        with pytest.raises(ValueError, match="latents_mean must (have one number|be a finite number)"):
            small_vae(latents_mean=mean)
    with pytest.raises(ValueError, match="latents_std must be above 0 and finite, got inf"):
        small_vae(latents_std=(1, 2, 3, float("inf")))
    with pytest.raises(ValueError, match=r"temporal in_channels \(8\) must equal spatial latent_channels \(4\)"):
        VideoVAE(SMALL_SPATIAL, SMALL_TEMPORAL | dict(temporal_downsample=(True, True), in_channels=8))
