"""The trained weights of data/, on what they were not trained on."""

import json

import numpy as np
import pytest
import torch

from tests.helpers import ROOT, script
from vae_lab import latents, load, psnr, read_video, synthetic_clip, to_tensor
from vae_lab.__main__ import main
from vae_lab.checkpoints.bundled import LAB_WEIGHTS, lab_weights
from vae_lab.families import codec_of
from vae_lab.generation import all_prompts, load_generator, score
from vae_lab.video.clips import HELD_OUT_PHOTOS
from vae_lab.viewers import explore_latents

MEASURED = json.loads((ROOT / "data" / "lab" / "measured.json").read_text())
NORMS = {"lab": "group", "lab-frame-group": "frame_group"}


@pytest.fixture(scope="module")
def vaes():
    return {name: load(name) for name in NORMS}


def test_sets_that_share_one_2d_half_and_two_that_differ_in_their_temporal_norm(vaes):
    for name, vae in vaes.items():
        assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (8, 4)
        assert vae.temporal.config.norm == NORMS[name]
        assert vae.spatial.config.latent_channels == vae.temporal.config.latent_channels == 4
    one, other = (vae.temporal.config | dict(norm=None) for vae in vaes.values())
    assert one == other
    shared, *others = (vae.spatial.state_dict() for vae in (*vaes.values(), load("lab-8")))
    assert all(torch.equal(shared[key], weights[key]) for key in shared for weights in others)


def test_they_are_small():
    assert sum(file.stat().st_size for name in LAB_WEIGHTS for file in lab_weights(name).iterdir()) < 40e6


def test_measured_quality():
    """What the weights must reach; that the numbers are theirs, the next test shows."""
    rows = {name: row["psnr"] for name, row in MEASURED.items()}
    above = {name: row["2D"] - row["bicubic"] for name, row in rows.items()}
    assert min(above.values()) > 0 and np.mean([above[name] for name in HELD_OUT_PHOTOS]) > 4.7
    for key, most in (("lab-8", 0.3), ("lab", 1.3), ("lab-frame-group", 1.3)):
        assert all(row[key] > row["line"] - 0.05 for row in rows.values())  # nothing moves far in "real"
        assert np.mean([rows[name]["2D"] - rows[name][key] for name in HELD_OUT_PHOTOS]) < most
    assert max(abs(row["lab-frame-group"] - row["lab"]) for row in rows.values()) < 0.1
    for name, gain in (("fast", 2.4), ("shapes", 4.5), ("made", 1.8), ("approach", 3.3)):  # motion comes back
        assert rows[name]["lab-8"] > rows[name]["line"] + gain


def test_measured_numbers_are_these_weights():
    measure_lab = script("measure_lab")
    found = measure_lab.measure("chelsea", {name: load(name) for name in measure_lab.WEIGHTS})
    for metric, tolerance in (("psnr", 0.05), ("ssim", 0.002)):  # dB; other machines round otherwise
        assert found[metric] == pytest.approx(MEASURED["chelsea"][metric], abs=tolerance)


def test_model_card_numbers_are_those_of_the_measuring_command():
    card = (ROOT / "data" / "lab" / "README.md").read_text()
    assert script("measure_lab").table(MEASURED) in card


def test_seams_in_the_docs_are_those_of_the_measuring_command(vaes):
    measured = json.loads((ROOT / "data" / "lab" / "seams.json").read_text())
    measure_seams = script("measure_seams")
    assert measure_seams.table(measured) in (ROOT / "docs" / "causality.md").read_text()
    assert list(measured) == list(measure_seams.models())
    leaks = [row["leak"] for row in measured.values()]
    assert leaks[0] > 0 and leaks[1:] == [0, 0, 0]
    found = measure_seams.measure(vaes["lab-frame-group"].with_micro_frame_size(None))
    assert found == pytest.approx(measured["`lab-frame-group`, one piece"], rel=0.02)


@pytest.mark.parametrize("name", NORMS)
def test_normalised_latents_have_about_unit_scale(vaes, name):
    clips = [read_video(ROOT / "data" / f"{photo}.mp4", 0, 17).frames for photo in HELD_OUT_PHOTOS]
    with torch.no_grad():
        z = torch.cat([vaes[name].encode(to_tensor(clip)).latent_dist.mode() for clip in clips])
    n = vaes[name].normalize(z)
    assert n.std().item() == pytest.approx(1, abs=0.5)
    assert n.mean().abs().item() < 0.5


@pytest.fixture
def make_magvit(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return script("make_magvit")


def test_magvit_v2(make_magvit):
    vae = load("lab-magvit")
    x = to_tensor(read_video(ROOT / "data" / "coffee.mp4", 0, 9, size=(64, 64)).frames)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        assert psnr(x, vae.decode(z).sample.clamp(-1, 1), 2.0).mean() > 18
    assert z.shape == (1, 12, 3, 16, 16) and vae.bits_per_pixel == 12 / 64
    measured = json.loads((lab_weights("lab-magvit") / "measured.json").read_text())
    assert make_magvit.table(measured) in (lab_weights("lab-magvit") / "README.md").read_text()


def test_measured_numbers_of_magvit_v2(make_magvit):
    measured = json.loads((lab_weights("lab-magvit") / "measured.json").read_text())
    found, entropy, used = make_magvit.measure(load("lab-magvit"), ["chelsea"])
    assert found["chelsea"] == pytest.approx(measured["chelsea"], abs=0.05)
    assert 0 < entropy <= np.log2(used) < 12


def test_frame_group_does_not_see_later_groups_and_group_does(vaes):
    x = to_tensor(read_video(ROOT / "data" / "coffee.mp4", 0, 17, size=(64, 64)).frames)
    y = x.clone()
    y[:, :, 13:] = 0  # the last group
    same = {}
    for name, vae in vaes.items():
        with torch.no_grad():
            a, b = (vae.encode(clip).latent_dist.mode()[:, :, :-1] for clip in (x, y))
        same[name] = torch.equal(a, b)
    assert same == {"lab": False, "lab-frame-group": True}


def test_eight_channels_go_through_everything(tmp_path, capsys):
    """What the command line, the latents' report, edits and viewers do with latents of another depth than 4."""
    vae = load("lab-8")
    assert (vae.temporal.config.norm, vae.temporal.config.latent_channels) == ("frame_group", 8)
    x = to_tensor(read_video(ROOT / "data" / "shapes.mp4", 0, 18, size=(32, 32)).frames)
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
        z = posterior.mode()
        assert z.shape == (1, 8, 6, 4, 4) and vae.decode(z, 18).sample.shape == x.shape
        stream = codec_of(vae.with_micro_frame_size(None)).stream(18)
        pieces = [stream.encoder.encode(piece).latent_dist.mode() for piece in x.split(7, dim=2)]
        whole = vae.with_micro_frame_size(None).encode(x).latent_dist.mode()
        assert torch.allclose(torch.cat(pieces, dim=2), whole, atol=1e-4)
    report = latents.latent_report(z, posterior, vae.shift, vae.scale)
    assert len(report.moments.std) == 8 and "channel" in repr(report)
    effects = latents.channel_effects(lambda z: vae.decode(z, 18).sample, z)
    assert len(effects.rms) == 8
    viewer = explore_latents(z, x, posterior=posterior, vae=vae)
    viewer.precompute([{"operation": "zero", "channel": 7}])
    with pytest.raises(ValueError, match="channel"):
        latents.zero_channel(z, 8)
    assert main(["inspect", "lab-8"]) == 0 and "8 numbers" in capsys.readouterr().out
    out = str(tmp_path / "out")
    assert main(["reconstruct", str(ROOT / "data" / "cut.mp4"), out, "--frames", "5", "--size", "32x32"]) == 0
    assert "8 channels, in 1 chunk" in capsys.readouterr().out


def test_motion_comes_back_with_eight_channels():
    """Drawn shapes move up to 5 pixels a frame: eight channels keep most of what four fade away."""
    x = to_tensor(synthetic_clip("shapes", 17, (128, 128), seed=1000).frames)
    quality = {name: psnr(x, load(name).reconstruct(x).sample.clamp(-1, 1), 2.0).mean() for name in ("lab", "lab-8")}
    assert quality["lab-8"] > quality["lab"] + 2.5


def test_the_generators_say_what_they_reach():
    measured = {}
    for name in ("lab-generator-factorised", "lab-generator"):
        measured = json.loads((lab_weights(name) / "measured.json").read_text())
        assert script("make_generator").table(measured) in (lab_weights(name) / "README.md").read_text()
    reached = measured["8 steps"]
    assert reached["colour"] == 1 and all(reached[kind] >= 0.95 for kind in ("shape", "direction", "one object"))
    assert abs(reached["relative speed"] - 1) < 0.05


def test_the_generator_generates_what_is_asked():
    prompts = all_prompts()[::5]
    scores = score(prompts, load_generator().generate(prompts, 8, seed=1))
    assert scores.share("colour") == scores.share("one object") == 1
    assert scores.share("direction") >= 0.9 and scores.share("shape") >= 0.75
    assert scores.relative_speed == pytest.approx(1, abs=0.1)
