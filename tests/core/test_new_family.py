"""A newcomer's errand: a video VAE of another library with its own conventions, and one `register` for all of it."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from vae_lab import DiagonalGaussian, load, synthetic_clip, to_tensor, write_video
from vae_lab.__main__ import main
from vae_lab.ablation.config import TrialConfig
from vae_lab.ablation.trial import measure
from vae_lab.checkpoints import inspect
from vae_lab.families import (
    FAMILIES,
    Codec,
    Family,
    Law,
    Reach,
    add_family,
    codec as codecs,
    codec_of,
    maps_of,
    register,
    tiny_model,
)
from vae_lab.probes.report import probe
from vae_lab.reconstruct import reconstruct
from vae_lab.shapes import Timeline
from vae_lab.training.config import Stage
from vae_lab.viewers import explore_latents, explore_sizes

STRIDE = (2, 4, 4)
DECODER = "sharp"


class PatchVAE(ModelMixin, ConfigMixin):
    """Patches of 2x4x4 pixels <-> latents. It returns moments, and its decoder must be told a mode and a length."""

    @register_to_config
    def __init__(self, width: int = 6, sigma: float = 0.5):
        super().__init__()
        self.analysis = nn.Conv3d(3, 2 * width, STRIDE, STRIDE)
        self.synthesis = nn.ConvTranspose3d(width, 3, STRIDE, STRIDE)

    def encode(self, x):
        front = -x.shape[2] % STRIDE[0]
        return self.analysis(F.pad(x, (0, 0, 0, 0, front, 0)))

    def decode(self, z, mode, num_frames):
        assert mode == DECODER
        return self.synthesis(z)[:, :, -num_frames:]


@pytest.fixture
def vae(monkeypatch):
    monkeypatch.setattr(codecs, "_REGISTERED", dict(codecs._REGISTERED))

    @register(PatchVAE)
    class PatchCodec(Codec):
        temporal_ratio, spatial_ratio = STRIDE[:2]
        any_length = True

        def posterior(self, x):
            return DiagonalGaussian(self.vae.encode(x))

        def decode(self, z, num_frames):
            return self.vae.decode(z, DECODER, num_frames)

        def mean_std(self, channels):
            return torch.zeros(channels), torch.full((channels,), self.vae.config.sigma)

    torch.manual_seed(0)
    return PatchVAE().eval()


CLIP = synthetic_clip("shapes", 7, (30, 34))


def test_its_maps(vae):
    maps = maps_of(vae, num_frames=5)
    assert maps.z.shape == (1, 6, 3, 4, 4) and maps.timeline.groups == [range(1), range(1, 3), range(3, 5)]


def test_its_reconstruction(vae):
    report = reconstruct(vae, CLIP)
    assert report.latent_shape == (6, 4, 8, 9)  # padded to 32x36
    x = to_tensor(np.pad(CLIP.frames, ((0, 0), (0, 2), (0, 2), (0, 0)), mode="edge"))
    with torch.no_grad():
        y = codec_of(vae).reconstruct(x).sample[..., :30, :34]
    mse = (y.clamp(-1, 1) - x[..., :30, :34]).square().mean((0, 1, 3, 4))
    assert report.quality["full"].psnr == pytest.approx((10 * torch.log10(4 / mse)).numpy(), rel=1e-4)


def test_its_probe(vae):
    report = probe(vae, num_frames=4, size=16)
    text = report.describe()
    assert not report.notes, report.notes
    assert text["encoder"].startswith("causal: ") and text["decoder"].startswith("causal: ")
    assert report.seams.starts == (0, 4, 8)
    assert "4+4+4: the same to the bit" in repr(report.chunks)  # chunks of 3 are padded, so they have more latents


def test_its_latents_explored_and_edited(vae):
    x = to_tensor(CLIP.frames[:, :28, :32])
    with torch.no_grad():
        z = codec_of(vae).encode(x)
    viewer = explore_latents(z, x, vae=vae)
    assert viewer.data["groups"] == [[0, 1], [1, 3], [3, 5], [5, 7]]
    viewer.precompute([{"operation": "zero", "channel": 2}])


def test_its_trial(vae):
    stages = [Stage(name="one", steps=1, learning_rate=1e-3)]
    measured = measure(vae, TrialConfig(part="spatial", size=16, measured_size=16, measured_frames=5, stages=stages))
    assert measured.metrics["leak"] == 0 and measured.metrics["psnr"] > 0
    assert measured.metrics["compression"] == 5 * 16 * 16 * 3 / (6 * 3 * 4 * 4)


def test_its_checkpoint(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert type(again) is PatchVAE and codec_of(again).identity() == codec_of(vae).identity()
    info = inspect(tmp_path)
    assert (info.layout, info.class_name) == ("diffusers", "PatchVAE") and not info.differences
    assert info.parameters == {"analysis": 1164, "synthesis": 579}


def test_its_checkpoint_is_unknown_to_a_lab_that_has_not_registered_it(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    del codecs._REGISTERED["PatchVAE"]
    with pytest.raises(ValueError, match="no known layout .*'PatchVAE'.* vae_lab.families.register adds"):
        load(tmp_path)


# ---- the same by one record, for a class with diffusers' usual interface ---------------------------------------------


class PairVAE(ModelMixin, ConfigMixin):
    """Pairs of frames of 4x4 pixels <-> latents; a frame without a partner is lost."""

    @register_to_config
    def __init__(self, width: int = 5):
        super().__init__()
        self.analysis = nn.Conv3d(3, 2 * width, STRIDE, STRIDE)
        self.synthesis = nn.ConvTranspose3d(width, 3, STRIDE, STRIDE)

    def encode(self, x):
        return SimpleNamespace(latent_dist=DiagonalGaussian(self.analysis(x)))

    def decode(self, z):
        return SimpleNamespace(sample=self.synthesis(z))


@pytest.fixture
def pairs(monkeypatch, tmp_path):
    """The folder of a model of a family that one record makes known."""
    known = dict(FAMILIES)
    law = Law("T // 2", lambda num_frames: num_frames // 2 or None, lambda latents: 2 * latents)
    sees = Reach("its pair", lambda frame, num_frames: range(frame // 2 * 2, min(frame // 2 * 2 + 2, num_frames)))
    add_family(
        Family("Pairs", PairVAE, law, 2, 4, 5, {}, encoder_sees=sees, decoder_sees=sees, first_frame="as others")
    )
    torch.manual_seed(0)
    PairVAE().save_pretrained(tmp_path / "pairs")
    yield tmp_path / "pairs"
    FAMILIES.clear()
    FAMILIES.update(known)


def test_one_record_is_all_that_a_family_needs(pairs, tmp_path, capsys):
    def printed(*arguments):
        assert main(list(map(str, arguments))) == 0
        return capsys.readouterr().out

    text = printed("sizes", "7x30x32", "--family", "pairs")
    assert "latent       3 frames of 8x8, 5 channels\nframes back  6\n" in text
    assert "padded to 32x32, a multiple of 4\n" in text and "returns 6 of 7 frames; nearest lengths" in text
    assert re.search(r"^Pairs +3x8x8 +5 +6 ", printed("sizes", "7x30x32", "--family", "all"), re.M)
    assert "keys         as the architecture has them" in printed("inspect", pairs)

    write_video(tmp_path / "clip.mkv", CLIP.frames[:6], lossless=True)
    assert "3 frames of 8x9, 5 channels" in printed(
        "reconstruct", tmp_path / "clip.mkv", tmp_path / "out", "--model", pairs
    )
    write_video(tmp_path / "odd.mkv", CLIP.frames, lossless=True)
    assert main(["reconstruct", str(tmp_path / "odd.mkv"), str(tmp_path / "odd"), "--model", str(pairs)]) == 2
    message = "PairVAE (Pairs) returns 6 of 7 frames; nearest lengths that it keeps: 6 and 8\n"
    assert capsys.readouterr().err == f"vae-lab reconstruct: {message}" and not (tmp_path / "odd").exists()

    report = probe(load(pairs), size=16)
    assert report.texts["frames"] == "16, the nearest to 17 that PairVAE keeps" and not report.notes
    assert "16+16+16: " in report.texts["chunks"] and report.seams.starts == (0, 16, 32)

    vae, x = load(pairs), to_tensor(CLIP.frames[:6, :28, :32])
    with torch.no_grad():
        viewer = explore_latents(codec_of(vae).encode(x), x, vae=vae)
    assert viewer.data["groups"] == [[0, 2], [2, 4], [4, 6]]
    viewer.precompute([{"operation": "zero", "channel": 2}])
    assert explore_sizes(6, family="pairs").text.endswith("Pairs: latent 3x64x64")


# ---- records that cannot be true ------------------------------------------------------------------------------------


class EachAlone(Timeline):
    groups = property(lambda self: [range(frame, frame + 1) for frame in range(self.num_frames)])


def made_up(**changes):
    """A record of a class that is not made."""
    law = Law("T // 2", lambda num_frames: num_frames // 2 or None, lambda latents: 2 * latents)
    facts = dict(name="Made up", cls="elsewhere.MadeUp", law=law, temporal_ratio=2, spatial_ratio=4, latent_channels=3)
    return Family(**facts | dict(tiny={}) | changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: add_family("x"), "family must be a Family, got 'x'"),
        (lambda: made_up(name=None), "name of a family must be a non-empty string, got None"),
        (lambda: made_up(name=" x "), "name of a family must have no spaces around it and not be \"all\", got ' x '"),
        (lambda: made_up(name="All"), "and not be \"all\", got 'All'"),
        (lambda: made_up(cls="MadeUp"), "cls of Made up must be a class, or its dotted path, got 'MadeUp'"),
        (lambda: made_up(spatial_ratio=0), "spatial_ratio of Made up must be at least 1, got 0"),
        (lambda: made_up(law=Law("T / 2", lambda t: t / 2, None)).latent_frames(9), r"latents\(9\) of Made up must"),
        (lambda: made_up(law=Law("-T", lambda t: -t, None)).latent_frames(9), r"law.latents\(9\) of Made up must"),
        (
            lambda: made_up(law=Law("T", lambda t: t, lambda latents: -latents)).decoded_frames(9),
            r"law.decoded\(9\) of Made up must be at least 1, got -9",
        ),
        (
            lambda: made_up(law=Law("T // 2", lambda t: t // 2, None, timeline=EachAlone)).timeline(8),
            "law.timeline of Made up makes 8 groups of 8 frames, but law.latents says 4",
        ),
        (
            lambda: made_up(law=Law("0", lambda t: None, None)).timeline(8),
            "Made up fails on 8 frames, and keeps no length near it",
        ),
        (lambda: tiny_model(made_up()), "the class of Made up, elsewhere.MadeUp, cannot be imported"),
        (lambda: tiny_model(made_up(cls="no path.")), "the class of Made up, no path., cannot be imported"),
        (
            lambda: tiny_model(made_up(cls="diffusers.AutoencoderKLMochi", tiny={"layers": 1})),
            "tiny of Made up makes no AutoencoderKLMochi: .*layers",
        ),
        (
            lambda: add_family(made_up(cls="elsewhere.AutoencoderKLMochi")),
            "another class is named AutoencoderKLMochi: diffusers.AutoencoderKLMochi, of the family Mochi",
        ),
    ],
)
def test_records_that_cannot_be_true(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_two_families_of_one_class_must_be_told_apart():
    add_family(first := made_up(name="One"))
    try:
        with pytest.raises(ValueError, match="matches must tell Two from One, which is a family of the same class"):
            add_family(made_up(name="Two"))
        add_family(made_up(name="Two", matches=lambda config: False))
        assert add_family(first) is first  # again
    finally:
        for name in ("one", "two"):
            FAMILIES.pop(name, None)
