import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput

from tests.helpers import small_vae
from tests.helpers.families import cogvideox, wan
from vae_lab import DiagonalGaussian, synthetic_clip, write_video
from vae_lab.__main__ import main
from vae_lab.families import codec_of
from vae_lab.figures.frames import frame_curves
from vae_lab.probes import report as report_module
from vae_lab.probes.maps import apply_map
from vae_lab.probes.report import PROBES, Cut, Probe, Subject, probe, same_latents


def test_the_released_kind_of_model():
    report = probe(small_vae(), size=16)
    text = report.describe()
    titles = ["encoder", "decoder", "latent sees", "frame sees", "chunks", "seams", "static"]
    assert list(text)[: len(titles)] == titles  # then those of rows that were added
    assert text["encoder"].startswith("NOT causal: 40 of 40 forbidden pairs move, by up to ")
    assert "\nfirst through temporal.encoder.down_blocks.0.resnets.0.norm1 GroupNorm: " in text["encoder"]
    assert "temporal.decoder.mid_block.resnets.0.norm1 GroupNorm" in text["decoder"]
    assert "unbounded" in text["latent sees"]
    assert [plan.shape[2] for plan in report.chunks.plans] == [13, 15, 17] and not report.chunks.invariant
    assert report.seams.starts == report.static.starts == (0, 17, 34)


def test_the_causal_kind_streams_the_same_in_any_pieces():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    report = probe(vae, num_frames=9, size=16)
    text = report.describe()
    assert text["encoder"] == "causal: 12 pairs that must not depend on each other, all exactly 0"
    assert text["decoder"].startswith("causal: ")
    assert report.fields[0].time.graph < 100
    assert report.chunks.invariant and report.chunks.plans[1].lengths == (9, 9, 9)
    assert report.seams.starts == (0, 9, 18) and report.static.starts == (0,)


def test_a_temporal_vae_has_no_pixels_for_seams():
    report = probe(small_vae().temporal)
    assert report.seams is None and report.leaks.encoder.leaks
    assert report.describe()["no seams"] == (
        "a TemporalVAE takes spatial latents: probe the whole model, which takes pixels"
    )


def test_other_families():
    causal = probe(wan().float(), num_frames=9, size=16)
    assert causal.describe()["encoder"].startswith("causal: ")
    report = probe(cogvideox().float(), num_frames=9, size=16)
    assert report.describe()["encoder"].startswith("NOT causal: ") and report.seams is not None


def test_pieces_have_the_latents_of_the_whole_clip():
    """Pieces of 8 frames would lose 3 of them in silence, and their latents would stand for other frames."""
    encoder = probe(wan().float(), num_frames=5, size=16)
    assert [plan.lengths for plan in encoder.chunks.plans] == [(13,), (5, 4, 4)] and encoder.results["lead"] == 1
    assert encoder.describe()["chunks"].endswith("encoded with the frame before it, whose latent is left out")
    codec = codec_of(cogvideox().float())
    assert same_latents(codec, 17) == Cut([17, 16, 16], 0) and same_latents(codec, 9, 49) == Cut([9, *[8] * 5], 0)
    assert same_latents(codec, 12) is None  # 12 frames have 3 latents, which decode to 9
    x = torch.rand(1, 3, 13, 16, 16) * 2 - 1
    with torch.no_grad():
        by_hand = [wan().float().encode(x[:, :, i : i + 5]).latent_dist.mode()[:, :, i > 0 :] for i in (0, 4, 8)]
        cut = same_latents(codec_of(wan().float()), 5)
        assert torch.equal(cut.encode(codec_of(wan().float()).encode, x), torch.cat(by_hand, dim=2))


def test_a_length_that_the_model_does_not_keep():
    with pytest.raises(ValueError, match=r"returns 5 of 8 frames; nearest lengths that it keeps: 5 and 9"):
        probe(wan(), num_frames=8)


def test_each_measurement_stands_alone(monkeypatch):
    """One that breaks its model, as EasyAnimate's class is broken by a length that it refuses, breaks no other."""

    def spoil(subject):
        subject.codec.vae.encoder = None
        raise RuntimeError("torch.cat(): expected a non-empty list of Tensors\n(a second line)")

    vae = wan().float()
    monkeypatch.setattr(report_module, "PROBES", {"spoiled": Probe(spoil), "causality": PROBES["causality"]})
    report = probe(vae, num_frames=5, size=16)
    reason = "AutoencoderKLWan failed: RuntimeError: torch.cat(): expected a non-empty list of Tensors"
    assert report.notes == {"spoiled": reason} and report.leaks is not None
    copied = codec_of(vae).fresh().vae
    assert vae.encoder is not None and all(map(torch.Tensor.is_set_to, copied.parameters(), vae.parameters()))


class Opaque(ModelMixin, ConfigMixin):
    """A VAE without a record that cannot run without values, so that nobody knows which lengths it keeps."""

    @register_to_config
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def encode(self, x):
        assert x.isfinite().all().item()
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian(torch.cat([self.gain * x] * 2, dim=1)))

    def decode(self, z):
        return DecoderOutput(sample=z / self.gain)


def test_a_model_of_unknown_lengths_is_not_cut():
    notes = probe(Opaque(), num_frames=5, size=16).notes
    assert notes["chunks"] == "it is unknown which lengths Opaque keeps, and so where a clip can be cut"


def test_progress_sees_every_measurement_and_gradients_stay_as_they_were():
    seen = []
    probe(small_vae().temporal, num_frames=5, progress=lambda names: seen.extend(names) or names)
    assert seen == list(PROBES) and torch.is_grad_enabled()


def test_arguments_are_checked_even_if_the_model_has_its_own_chunks():
    vae = small_vae()
    for arguments, message in (
        (dict(num_frames=-5), "num_frames must be at least 1, got -5"),
        (dict(size=-3), "size must be at least 1, got -3"),
        (dict(size=16.5), "size must be an integer of at least 1, got 16.5"),
    ):
        with pytest.raises(ValueError, match=message):
            probe(vae, **arguments)


def test_a_model_that_is_none():
    with pytest.raises(ValueError, match="vae must be a video VAE .* got Linear"):
        probe(torch.nn.Linear(1, 1))


# ---- a new probe ---------------------------------------------------------------------------------------------------


class Brightness(NamedTuple):
    """The result of `brightness`."""

    shift: np.ndarray
    """(T,) mean of each frame of f(x), minus that of x."""

    def __repr__(self) -> str:
        return f"Brightness: {np.abs(self.shift).max():.2f} off at most"

    def plot(self):
        return frame_curves({"shift": self.shift}, "frame", "shift of the mean")


def brightness(f, x: torch.Tensor) -> Brightness:
    """A new probe: how much brighter or darker f makes each frame."""
    return Brightness((apply_map(f, x) - x).mean(dim=(0, 1, 3, 4)).numpy())


def _brightness(subject: Subject) -> dict[str, Brightness]:
    maps = subject.maps()
    if subject.codec.takes != "pixels":
        raise ValueError("latents have no brightness")
    with torch.no_grad():
        return {"brightness": brightness(lambda x: maps.decode(maps.encode(x)), maps.x)}


def test_a_new_probe_is_one_row_of_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report_module, "PROBES", {"chunks": PROBES["chunks"], "brightness": Probe(_brightness)})
    vae = small_vae()
    result = probe(vae)
    measured = result.results["brightness"]
    assert measured.shift.shape == (17,) and len(measured.plot().axes[0].lines) == 1
    assert list(result.describe()) == ["chunks", "brightness"] and result.describe()["brightness"] == repr(measured)
    assert result.chunks is result.results["chunks"] and result.leaks is result.seams is None
    assert probe(vae.temporal, 5).describe()["no brightness"] == "latents have no brightness"
    vae.save_pretrained(tmp_path / "vae")
    assert main(["probe", str(tmp_path / "vae")]) == 0
    assert capsys.readouterr().out.endswith(f"\nbrightness   {measured!r}\n")
    monkeypatch.setattr(report_module, "PROBES", {"brightness": Probe(_brightness)})
    vae.temporal.save_pretrained(tmp_path / "temporal")
    assert main(["probe", str(tmp_path / "temporal"), "--frames", "5"]) == 1  # nothing is measured
    assert "no brightness latents have no brightness\n" in capsys.readouterr().out


def test_a_row_may_say_its_results_in_words_of_its_own(monkeypatch):
    row = Probe(lambda subject: {"frames": subject.chunk}, lambda results: {"a chunk": f"{results['frames']} frames"})
    monkeypatch.setattr(report_module, "PROBES", {"length": row})
    result = probe(small_vae(micro_frame_size=None), num_frames=9)
    assert result.describe() == {"a chunk": "9 frames"} and result.results == {"frames": 9}


# ---- the command line ----------------------------------------------------------------------------------------------


def test_the_command_prints_the_report(tmp_path, capsys):
    small_vae(temporal=dict(norm="frame_group")).save_pretrained(tmp_path / "vae")
    assert main(["probe", str(tmp_path / "vae"), "--chunk", "none", "--frames", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"model        {tmp_path / 'vae'} (VideoVAE)\nencoder      causal: ")
    assert "chunks       ChunkInvariance: the plans agree" in printed and "5+5+5" in printed


def test_chunks_are_for_the_labs_stacks(tmp_path, capsys):
    wan().save_pretrained(tmp_path / "wan")
    assert main(["probe", str(tmp_path / "wan"), "--chunk", "9"]) == 2
    message = f"--chunk cannot be used with {tmp_path / 'wan'}: the chunk length of AutoencoderKLWan cannot be changed"
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["probe", "lab", "--chunk", "0"])
    assert "'0' must be a whole number of at least 1" in capsys.readouterr().err


def test_a_clip_is_reconstructed_in_other_chunks(tmp_path, capsys):
    small_vae().save_pretrained(tmp_path / "vae")
    write_video(tmp_path / "in.mp4", synthetic_clip("texture", 10, (16, 16)).frames)
    latents = []
    for chunk in ([], ["--chunk", "5"]):
        out = tmp_path / f"out{len(chunk)}"
        assert main(["reconstruct", str(tmp_path / "in.mp4"), str(out), "--model", str(tmp_path / "vae"), *chunk]) == 0
        latents.append(json.loads((out / "metrics.json").read_text())["latent_shape"]["frames"])
    assert latents == [3, 4]
