"""The trained weights of data/lab, on what they were not trained on."""

import json

import pytest
import torch

from tests.conftest import ROOT
from vae_lab import load, photo_clip, psnr, read_video, to_tensor
from vae_lab.clips import HELD_OUT_PHOTOS
from vae_lab.metrics import bicubic_round_trip


@pytest.fixture(scope="module")
def vae():
    return load("lab")


def test_architecture_and_size(vae):
    assert vae.spatial_compression_ratio == 8
    assert vae.temporal_compression_ratio == 4
    assert vae.temporal.config.norm == "group"
    assert vae.spatial.config.latent_channels == vae.temporal.config.latent_channels == 4
    assert sum(file.stat().st_size for file in (ROOT / "data" / "lab").iterdir()) < 20e6


@pytest.mark.parametrize("name", HELD_OUT_PHOTOS)
def test_held_out_photographs_come_back(vae, name):
    x = to_tensor(photo_clip(name, 17, (128, 128), start=(0.4, 0.3, 1.5), stop=(0.5, 0.4, 1.3)).frames)
    result = vae.reconstruct(x)
    mean = lambda y: psnr(x, y.clamp(-1, 1), 2.0).mean().item()  # noqa: E731
    assert mean(result.spatial_only) > mean(bicubic_round_trip(x))
    assert mean(result.sample) > 16  # recognisable


@pytest.mark.parametrize("name", HELD_OUT_PHOTOS)
@torch.no_grad()
def test_the_next_2d_half_is_far_above_bicubic(name):
    x = to_tensor(photo_clip(name, 2, (128, 128), start=(0.4, 0.3, 1.5), stop=(0.5, 0.4, 1.3)).frames)
    y = load(ROOT / "data" / "lab_2d")(x).sample
    gain = psnr(x, y.clamp(-1, 1), 2.0) - psnr(x, bicubic_round_trip(x).clamp(-1, 1), 2.0)
    assert gain.mean() > 3  # dB


def test_normalised_latents_have_about_unit_scale(vae):
    z = vae.reconstruct(to_tensor(read_video(ROOT / "data" / "chelsea.mp4", 0, 17).frames)).latent
    n = vae.normalize(z)
    assert n.std().item() == pytest.approx(1, abs=0.6)
    assert n.mean().abs().item() < 1


def test_model_card_numbers_are_those_of_the_measuring_command():
    measured = json.loads((ROOT / "data" / "lab" / "measured.json").read_text())
    card = (ROOT / "data" / "lab" / "README.md").read_text()
    for name, row in measured.items():
        assert f"| {name} | " + " | ".join(f"{row[key]:.2f}" for key in ("bicubic", "2D only", "full")) + " |" in card
