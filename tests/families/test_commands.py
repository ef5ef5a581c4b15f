"""Every command on every family: it works, to the bit as the class itself, or refuses with a sentence that helps."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo

from vae_lab import Clip, load, synthetic_clip, to_frames, to_tensor, write_video
from vae_lab.__main__ import main
from vae_lab.families import FAMILIES, codec_of, tiny_model
from vae_lab.probes import report as report_module
from vae_lab.probes.report import PROBES, probe
from vae_lab.reconstruct import reconstruct
from vae_lab.reconstruct.round_trip import RoundTrip
from vae_lab.viewers import explore_latents

NAMES = list(FAMILIES)
by_name = pytest.mark.parametrize("name", NAMES)
ONE_BY_ONE = {name for name, family in FAMILIES.items() if family.calling == "pictures (B, C, H, W)"}
LAB = {name for name, family in FAMILIES.items() if family.class_name == "VideoVAE"}
# What `probe` leaves out, of a model that it can measure otherwise
PICTURES = "AutoencoderKLQwenImage21 takes pictures: there is no clip to cut"
LEFT_OUT = {
    "qwen-image 2.1": {"causality": "one frame has no past and no future", "chunks": PICTURES, "seams": PICTURES},
    "minimax-h3": {"chunks": "the chunk length of AutoencoderKLMiniMaxH3 cannot be changed"},
}
# Families that refuse 17 frames of 64x64
REFUSED = {
    "mochi": "AutoencoderKLMochi (Mochi) returns 13 of 17 frames; nearest lengths that it keeps: 13 and 19",
    "allegro": "AutoencoderKLAllegro (Allegro) returns 16 of 17 frames, 16 of them black; nearest length that it "
    "keeps: 24",
    "vidtok": "AutoencoderVidTok (VidTok) returns 16 of 17 frames; nearest lengths that it keeps: 16 and 32",
    "qwen-image 2.1": "AutoencoderKLQwenImage21 (Qwen-Image 2.1) fails on 17 frames; nearest length that it keeps: 1",
    "minimax-h3": "AutoencoderKLMiniMaxH3 (MiniMax-H3) encodes 17 frames to 2 latent frames, "
    "which it does not decode; nearest length that it keeps: 22",
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """The folder of a family's tiny model, which is saved when it is first asked for."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        path = root / name.replace(" ", "_")
        if not path.exists():
            tiny_model(name).save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def model(saved):
    """A family's tiny model as `load` reads it, which no test here changes."""
    return cache(lambda name: load(saved(name)))


def length(name: str) -> int:
    return FAMILIES[name].nearest_legal(FAMILIES[name].temporal_ratio + 1)[-1]


def side(name: str) -> int:
    return 128 if name == "allegro" else 2 * FAMILIES[name].spatial_ratio


def clip_of(name: str) -> Clip:
    return synthetic_clip("texture", length(name), (side(name), side(name)))


@torch.no_grad()
def by_hand(name: str, vae, x: torch.Tensor) -> torch.Tensor:
    """A clip through the class itself, called as its own library calls it."""
    frames = x[0].transpose(0, 1)
    if name in LAB:
        return vae.decode(vae.encode(x).latent_dist.mode(), x.shape[2]).sample
    if name.startswith("vidtok"):
        return vae(x, sample_posterior=False).sample
    if name in ONE_BY_ONE:
        output = vae.encode(frames)
        z = output.latent_dist.mode() if "latent_dist" in output else output[0]
        return vae.decode(z).sample.transpose(0, 1)[None]
    if name == "svd":
        z = vae.encode(frames).latent_dist.mode()
        return vae.decode(z, num_frames=len(frames)).sample.transpose(0, 1)[None]
    if name == "qwen-image 2.1":
        z = vae.encode(torch.cat([x, torch.ones_like(x[:, :1])], dim=1)).latent_dist.mode()
        return vae.decode(z).sample[:, :3]
    if name == "allegro":
        vae.enable_tiling()
        return vae.decode(vae.encode(x).latent_dist.mode()).sample.transpose(1, 2)
    if name == "minimax-h3":  # as its docstring asks for
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1, 1)
        z = vae.encode(((x + 1) / 2 - mean) / std).latent_dist.mode()
        return (vae.decode(z).sample * std + mean) * 2 - 1
    if name == "kandinsky 6 sr":  # as its pipeline computes
        z = vae.encode((x + 1) * (127.5 / 128) - 1).latent_dist.mode()
        return (vae.decode(z).sample + 1) * (128 / 127.5) - 1
    temb = {"temb": torch.zeros(1)} if vae.config.get("timestep_conditioning") else {}
    return vae.decode(vae.encode(x).latent_dist.mode(), **temb).sample


# ---- what works ----------------------------------------------------------------------------------------------------


@by_name
def test_reconstruct_gives_the_bits_of_the_class(name, model):
    """Sizes are padded to the family's cells, except for Allegro, whose tiles fill certain sizes only."""
    family, vae, full = FAMILIES[name], model(name), side(name)
    height, width = (full, full) if name == "allegro" else (family.spatial_ratio + 1, full - 1)
    clip = synthetic_clip("texture", length(name), (height, width))
    x = F.pad(to_tensor(clip.frames), (0, full - width, 0, full - height, 0, 0), mode="replicate")
    y = by_hand(name, vae, x)
    report = reconstruct(vae, clip)
    assert (report.sample == to_frames(y[..., :height, :width].clamp(-1, 1))).all()
    with torch.no_grad():
        assert torch.equal(codec_of(vae).reconstruct(x).sample, y) or name in LAB  # which cut the clip into chunks
    assert report.padded_size == (full, full)
    assert report.latent_shape[1] == family.latent_frames(length(name))
    assert report.timeline.groups == family.timeline(length(name)).groups


@by_name
def test_inspect(name, saved, capsys):
    assert main(["inspect", str(saved(name))]) == 0
    text = capsys.readouterr().out
    assert f", {FAMILIES[name].class_name}\n" in text and "keys         as the architecture has them\n" in text


@by_name
def test_explore_latents(name, model):
    vae, clip = model(name), clip_of(name)
    with torch.no_grad():
        z = codec_of(vae).encode(to_tensor(clip.frames))
    viewer = explore_latents(z, clip, vae=vae)
    groups = FAMILIES[name].timeline(length(name)).groups
    assert viewer.data["groups"] == [[group.start, group.stop] for group in groups]
    viewer.precompute([{"operation": "zero", "channel": 0}])
    assert len(viewer.data["changes"]["answers"]) == 1


@by_name
def test_probe(name, model, monkeypatch):
    if name == "allegro":  # whose fields take a minute
        rows = {row: PROBES[row] for row in PROBES if row not in ("fields", "causality")}
        monkeypatch.setattr(report_module, "PROBES", rows)
    num_frames = FAMILIES[name].nearest_legal(max(5, length(name)))[-1]
    report = probe(model(name), num_frames if num_frames > 1 else None, side(name))
    assert report.notes == LEFT_OUT.get(name, {})
    if report.leaks:
        causal = FAMILIES[name].encoder_sees.causal, FAMILIES[name].decoder_sees.causal
        assert not any(half.leaks and exact for half, exact in zip(report.leaks, causal, strict=True))


def test_most_families_work_with_every_command():
    """The tests above run all of them; of these two, `probe` leaves rows out."""
    assert len(NAMES) >= 30 and LEFT_OUT.keys() == {"qwen-image 2.1", "minimax-h3"}


@pytest.mark.parametrize(
    ("name", "frames"), [("minimax-h3", 22), ("vidtok", 16), ("mochi", 19), ("qwen-image 2.1", 1), ("wan 2.1", 17)]
)
def test_the_command_probes_the_nearest_length(name, frames, saved, capsys, monkeypatch):
    monkeypatch.setattr(report_module, "PROBES", {"causality": PROBES["causality"]})
    assert main(["probe", str(saved(name))]) == (frames == 1)  # of one frame nothing can be measured
    _, *lines = capsys.readouterr().out.splitlines()
    text = f"frames       {frames}, the nearest to 17 that {FAMILIES[name].class_name} keeps"
    assert (lines[0] == text) == (frames != 17)


@by_name
def test_reconstruct_from_file_to_file(name, saved, model, tmp_path, capsys):
    clip = clip_of(name)
    write_video(tmp_path / "clip.mkv", clip.frames, lossless=True)
    out = tmp_path / "out"
    assert main(["reconstruct", str(tmp_path / "clip.mkv"), str(out), "--model", str(saved(name))]) == 0
    quality = json.loads((out / "metrics.json").read_text())["quality"]["full"]["psnr_db"]["per_frame"]
    assert quality == pytest.approx(reconstruct(model(name), clip).quality["full"].psnr.tolist(), abs=1e-3)
    assert not capsys.readouterr().err


@by_name
def test_what_can_be_cut_is_streamed(name, model):
    num_frames = FAMILIES[name].nearest_legal(40)[-1]
    trip = RoundTrip(model(name), num_frames, 64, 64)
    expected = {"cogvideox": [16, 16, 8], "kandinsky 6 sr": [17, 16, 8]}.get(name, [num_frames])
    if name in LAB:
        expected = [17, 17, num_frames - 34]
    elif name in ONE_BY_ONE:
        expected = [16, 16, num_frames - 32]
    assert trip.lengths == expected


# ---- what is refused -----------------------------------------------------------------------------------------------


@by_name
def test_a_length_that_a_family_does_not_keep(name, model):
    vae, family = model(name), FAMILIES[name]
    refused = [t for t in range(1, 41) if name not in ONE_BY_ONE | {"svd"} | LAB and not family.is_legal(t)]
    for num_frames in refused[:1] + refused[-1:]:
        message = f"{family.class_name} ({family.name}) {family.fate(num_frames)}"
        near = f" that it keeps: {' and '.join(map(str, family.nearest_legal(num_frames)))}"
        assert message.endswith(near)
        for refuse in (
            lambda: reconstruct(vae, synthetic_clip("texture", num_frames, (64, 64))),  # noqa: B023
            lambda: probe(vae, num_frames),  # noqa: B023
            lambda: codec_of(vae).timeline(num_frames),  # noqa: B023
        ):
            with pytest.raises(ValueError) as error:
                refuse()
            assert str(error.value) == message


def test_which_families_take_17_frames_of_64x64(model):
    refused = {}
    for name in NAMES:
        try:
            RoundTrip(model(name), 17, 64, 64)
        except ValueError as error:
            refused[name] = str(error)
    assert refused == REFUSED


@by_name
def test_frames_that_are_too_small(name, model):
    vae, cell, class_name = model(name), FAMILIES[name].spatial_ratio, FAMILIES[name].class_name
    message = f"frames of {cell - 1}x80 are too small for {class_name}: one latent cell is {cell}x{cell}"
    with pytest.raises(ValueError) as error:
        reconstruct(vae, synthetic_clip("texture", length(name), (cell - 1, 80)))
    assert str(error.value) == message
    one_cell = synthetic_clip("texture", FAMILIES[name].nearest_legal(1)[-1], (cell, cell))
    try:
        reconstruct(vae, one_cell)
    except ValueError as refusal:
        frames = f"{len(one_cell)} frame{'s' * (len(one_cell) > 1)}"
        rule = f"height and width must be at least {2 * cell}, two latent cells"
        if name == "allegro":
            rule = "height must be 128 plus a multiple of 8, and width 128 plus a multiple of 48: nothing is encoded "
            rule += "beyond the last whole tile; got 8x8"
        assert str(refusal) == f"{class_name} failed on {frames} of {cell}x{cell}: {rule}"


def refusal(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


def test_bad_input_of_the_commands(saved, tmp_path, capsys):
    write_video(tmp_path / "clip.mkv", synthetic_clip("texture", 6, (32, 32)).frames, lossless=True)
    out = tmp_path / "out"
    for name, message in (
        ("wan 2.1", "returns 5 of 6 frames; nearest lengths that it keeps: 5 and 9"),
        ("qwen-image 2.1", "fails on 6 frames; nearest length that it keeps: 1"),
        ("allegro", "fails on 6 frames; nearest length that it keeps: 24"),
        (
            "minimax-h3",
            "encodes 6 frames to 2 latent frames, which it does not decode; nearest length that it keeps: 22",
        ),
    ):
        error = refusal(capsys, "reconstruct", tmp_path / "clip.mkv", out, "--model", saved(name))
        family = FAMILIES[name]
        assert error == f"vae-lab reconstruct: {family.class_name} ({family.name}) {message}\n" and not out.exists()
    error = refusal(capsys, "probe", saved("easyanimate"), "--frames", "6")
    assert error.endswith("(EasyAnimate) fails on 6 frames; nearest lengths that it keeps: 5 and 9\n")
    broken = tmp_path / "broken"
    broken.mkdir()
    config = json.loads((saved("mochi") / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "layers_per_block": 3}))
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(
        (saved("mochi") / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    for command in ("inspect", "probe"):
        assert f"the config of {broken} makes no model: TypeError: " in refusal(capsys, command, broken)
    for name, changes, reason in [
        ("dc-ae", {"encoder_block_out_channels": [7, 8, 9, 8, 8, 8]}, "AssertionError"),
        (
            "cosmos 8x8x8",
            {"temporal_compression_ratio": 0},
            "math domain error\nits temporal_compression_ratio is 0; with the default 8 it makes one\n",
        ),
        ("easyanimate", {"down_block_types": ["X"] * 4}, "Unknown up block type: X|Unknown down block type: X"),
    ]:
        config = json.loads((saved(name) / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps({**config, **changes}))
        error = refusal(capsys, "inspect", broken)
        assert re.search(f"the config of {broken} makes no model: ({reason})", error), error
    (broken / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderKLWann"}))
    assert "_class_name 'AutoencoderKLWann'" in (error := refusal(capsys, "inspect", broken))
    assert "close matches: AutoencoderKLWan," in error


def test_latents_of_another_family(model):
    wan, ltx = model("wan 2.1"), model("ltx 2")
    z = torch.randn(1, 16, 3, 4, 4)
    with pytest.raises(ValueError, match="AutoencoderKLWan fails on them: its latents have 4 channels, so"):
        explore_latents(z, vae=wan, num_frames=9)
    with pytest.raises(ValueError, match="num_frames must be as many as z decodes to, got 9: AutoencoderKLLTX2Video"):
        explore_latents(z[:, :4], vae=ltx, num_frames=9)
    for name, near in (("minimax-h3", "7 (22 frames)"), ("qwen-image 2.1", "1 (1 frame)"), ("vidtok", "4 (16 frames)")):
        reason = f" of latent frames that it decodes: {near}"
        with pytest.raises(ValueError, match=re.escape(reason)):
            explore_latents(z[:, :4, :2], vae=model(name), num_frames=FAMILIES[name].nearest_legal(17)[0])
    with pytest.raises(ValueError, match="lengths that fit are 9 and 13"):
        explore_latents(z[:, :4], vae=wan, num_frames=8)


def test_a_long_clip_in_one_piece_is_said(model, tmp_path, monkeypatch):
    from vae_lab.reconstruct import run

    monkeypatch.setattr(run, "SEGMENT_FRAMES", 4)
    write_video(tmp_path / "clip.mkv", synthetic_clip("texture", 5, (16, 16)).frames, lossless=True)
    with pytest.warns(UserWarning, match="Wan takes all 5 frames in one piece: memory grows with the clip"):
        run.reconstruct_file(model("wan 2.1"), tmp_path / "clip.mkv", tmp_path / "out")


def test_a_clip_is_refused_before_the_model_sees_it():
    """Magvit keeps frames of a clip that it fails on, and fails on the next one too."""
    vae = tiny_model("easyanimate")
    codec, x = codec_of(vae), torch.rand(1, 3, 5, 16, 16) * 2 - 1
    expected = codec.reconstruct(x).sample
    for wrong, message in (
        (x[:, :1], "x must have 3 channels, got 1"),
        (x.half(), "x must have the model's dtype, torch.float32, got torch.float16"),
        (x[..., :15], r"width \(15\) must be a multiple of AutoencoderKLMagvit's spatial ratio \(8\)"),
        (x[:, :, :4], "fails on 4 frames; nearest lengths that it keeps: 1 and 5"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.reconstruct(wrong)
        assert torch.equal(codec.reconstruct(x).sample, expected)


@torch.no_grad()
def test_noise_of_a_decoder_is_the_same_in_every_call():
    """LTX 0.9.1 as released: its tiny model in the table has no noise."""
    record = FAMILIES["ltx 0.9.0 and 0.9.1"]
    levels = len(record.tiny["decoder_block_out_channels"]) + 1
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(**record.tiny | dict(decoder_inject_noise=(True,) * levels)).eval()
    for name, parameter in vae.named_parameters():
        if "per_channel_scale" in name:
            torch.nn.init.ones_(parameter)
    z, codec = torch.randn(1, record.tiny["latent_channels"], 2, 2, 2), codec_of(vae)
    before = torch.get_rng_state()
    expected = codec.decode(z, 9)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(codec.decode(z, 9), expected)
    assert not torch.equal(vae.decode(z).sample, expected)  # the class itself draws
