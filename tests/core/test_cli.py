import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLMagvit

from tests.helpers import GOLDEN, ROOT, processes, small_vae
from tests.helpers.families import wan
from vae_lab import cli, load, photo_clip, psnr, read_video, to_tensor, write_video
from vae_lab.__main__ import main
from vae_lab.cli import build_parser
from vae_lab.reconstruct.plan import OUTPUTS
from vae_lab.reconstruct.run import reconstruct
from vae_lab.utils.fast import MODES, has_onednn

MODEL = ["--model", str(GOLDEN / "checkpoint"), "--spatial-config", str(GOLDEN / "spatial")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    write_video(path, photo_clip("coffee", 20, (20, 35), seed=1).frames, lossless=True)
    return path


def refused(capsys, *arguments) -> str:
    """The message of a run that must end with exit code 2, a short message and no traceback."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's own errors
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in captured.err
    assert captured.err.startswith(("vae-lab", "usage"))
    return captured.err


# ---- reconstruct ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "spins"), [(None, "5000"), ("PASSIVE", None)])
def test_how_threads_wait_is_said_before_torch_begins(policy, spins):
    """torch's OpenMP reads it once, when it is loaded. Whoever has chosen a policy keeps it."""
    code = """import os, sys
from vae_lab.__main__ import main
assert main(["reconstruct", "a.mp4", "out", "--fast", "F4", "--device", "cuda"]) == 2
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)"""
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == [str(spins), "False"], run.stderr


def test_reconstruct_writes_everything_and_measures_what_it_says(clip, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match="frames of 20x35 are stored as 20x36"):
        assert main(["reconstruct", str(clip), str(out), *MODEL]) == 0
    printed = capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == sorted(OUTPUTS)
    assert all(name in printed for name in OUTPUTS)
    assert "20 frames of 20x35 (height x width), 24 per second" in printed
    assert "right and bottom, by replication, to 24x40; cropped back" in printed
    assert "6 frames of 3x5, 4 channels, in 2 chunks of up to 17 frames" in printed

    measured = json.loads((out / "metrics.json").read_text())
    assert measured["latent_shape"] == {"channels": 4, "frames": 6, "height": 3, "width": 5}
    assert measured["compression_ratio"] == pytest.approx(3 * 20 * 20 * 35 / (4 * 6 * 3 * 5))
    vae = load(GOLDEN / "checkpoint", spatial_config=GOLDEN / "spatial")
    x = to_tensor(read_video(clip).frames)
    result = vae.reconstruct(torch.nn.functional.pad(x, (0, 5, 0, 4, 0, 0), mode="replicate"))
    for name, y in (("2D only", result.spatial_only), ("full", result.sample)):
        values = psnr(x, y[..., :20, :35].clamp(-1, 1), 2.0)[0].tolist()
        found = measured["quality"][name]["psnr_db"]
        assert found["per_frame"] == pytest.approx(values, abs=1e-3)
        assert found["mean"] == pytest.approx(np.mean(values), abs=1e-3)
        assert found["worst"] == pytest.approx(min(values), abs=1e-3)
        assert found["worst_frame"] == int(np.argmin(values))
        assert f"PSNR {np.mean(values):.2f} dB (worst {min(values):.2f} at t = {np.argmin(values)})" in printed
        assert len(measured["quality"][name]["ssim"]["per_frame"]) == 20
    assert len(read_video(out / "reconstruction.mp4")) == 20
    assert len(read_video(out / "side_by_side.mp4")) == 20


def test_window_size_and_second_run_into_the_same_folder(clip, tmp_path, capsys):
    for _ in range(2):
        assert (
            main(["reconstruct", str(clip), str(tmp_path), *MODEL, "--start", "3", "--frames", "5", "--size", "16x24"])
            == 0
        )
    assert "5 frames of 16x24 (height x width), 24 per second, from frame 3" in capsys.readouterr().out
    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert measured["clip"] == {"frames": 5, "height": 16, "width": 24, "fps": 24.0, "first_frame": 3}
    assert 3 <= measured["quality"]["full"]["psnr_db"]["worst_frame"] <= 7
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(OUTPUTS)


@pytest.mark.skipif(not has_onednn(), reason="needs oneDNN on an x86 processor")
def test_fast_mode_is_said_and_does_not_resume_other_work(clip, tmp_path, capsys):
    arguments = ["reconstruct", str(clip), str(tmp_path), "--frames", "3", "--size", "32x32"]
    found = {}
    for mode, option in {None: [], "F4": ["--fast"], "F2": ["--fast=F2"]}.items():
        assert main([*arguments, *option]) == 0
        printed, page = capsys.readouterr().out, (tmp_path / "index.html").read_text()
        found[mode] = json.loads((tmp_path / "metrics.json").read_text())
        assert found[mode].pop("fast_mode") == mode
        assert (
            (f"{mode}: large convolutions" in printed) == (f"{mode}: large convolutions" in page) == (mode is not None)
        )
    psnr = {mode: measured["quality"]["full"]["psnr_db"]["mean"] for mode, measured in found.items()}
    assert psnr["F4"] == pytest.approx(psnr[None], abs=1e-2) and psnr["F4"] != psnr[None]


def test_fast_modes_of_the_command_line_are_those_of_models(clip, tmp_path, capsys):
    assert build_parser().parse_args(["reconstruct", "a", "b", "--fast"]).fast == "F4"
    for mode in MODES:
        assert build_parser().parse_args(["reconstruct", "a", "b", "--fast", mode]).fast == mode
    arguments = ["reconstruct", str(clip), str(tmp_path), "--fast"]
    assert "--fast F4 needs --device cpu, got 'cuda'; --fast bf16 does not" in refused(
        capsys, *arguments, "--device", "cuda"
    )
    message = "--fast cannot be used with lab-magvit: vae must be a SpatialVAE, a TemporalVAE or a VideoVAE"
    assert message in refused(capsys, *arguments, "--model", "lab-magvit")
    assert "float32 weights on a CPU" in refused(capsys, *arguments, "--dtype", "float64")


def test_names_with_dollars_and_braces(clip, tmp_path, capsys):
    odd = tmp_path / "$x_{y$ {{data}} é.mkv"
    odd.write_bytes(clip.read_bytes())
    assert main(["reconstruct", str(odd), str(tmp_path / "out"), *MODEL, "--frames", "2", "--size", "16x16"]) == 0
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<h1>$x_{y$ {{data}} é.mkv through" in page


def test_small_frames_have_no_ssim(clip, tmp_path, capsys):
    assert main(["reconstruct", str(clip), str(tmp_path), *MODEL, "--frames", "2", "--size", "8x10"]) == 0
    assert "SSIM not defined under 11x11 pixels" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["quality"]["full"]["ssim"] is None


def test_other_models(clip, tmp_path, capsys):
    small_vae().spatial.save_pretrained(tmp_path / "spatial")
    wan().float().save_pretrained(tmp_path / "wan")
    arguments = ["reconstruct", str(clip), str(tmp_path / "out"), "--size", "16x16"]
    assert main([*arguments, "--model", str(tmp_path / "spatial"), "--frames", "5"]) == 0
    assert main([*arguments, "--model", str(tmp_path / "wan"), "--frames", "5"]) == 0
    assert "2D only" not in json.loads((tmp_path / "out" / "metrics.json").read_text())["quality"]
    message = refused(capsys, *arguments, "--model", tmp_path / "wan", "--frames", 8)
    assert "AutoencoderKLWan (Wan 2.1) returns 5 of 8 frames; nearest lengths that it keeps: 5 and 9\n" in message
    magvit = AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, spatial_group_norm=True,
        down_block_types=("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3),
        up_block_types=("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3),
    )  # fmt: skip
    magvit.save_pretrained(tmp_path / "magvit")
    message = refused(capsys, *arguments, "--model", tmp_path / "magvit", "--frames", 2)
    assert "AutoencoderKLMagvit (EasyAnimate) fails on 2 frames; nearest lengths that it keeps: 1 and 5\n" in message
    small_vae().temporal.save_pretrained(tmp_path / "temporal")
    assert "a TemporalVAE takes 2D latents, not pixels" in refused(capsys, *arguments, "--model", tmp_path / "temporal")


def test_chunks_bound_the_work_and_change_nothing():
    vae = small_vae(micro_frame_size=5)
    clip = photo_clip("coffee", 12, (16, 16))
    pieces = []
    report = reconstruct(vae, clip, progress=lambda parts: [pieces.append(len(part)) or part for part in parts])
    assert pieces == [5, 5, 2]
    whole = vae.reconstruct(to_tensor(clip.frames)).sample.clamp(-1, 1)
    assert report.quality["full"].psnr.tolist() == pytest.approx(
        psnr(to_tensor(clip.frames), whole, 2.0)[0].tolist(), abs=1e-3
    )
    assert [group.stop for group in report.timeline.groups] == [1, 5, 6, 10, 12]


def test_bad_input(clip, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "dot.png", np.zeros((1, 1, 1, 3), np.uint8))
    cases = [
        (["nothing.mp4", out], "no file or folder at nothing.mp4"),
        ([tmp_path / "text.mp4", out], "text.mp4 is not a video that FFmpeg can read"),
        ([tmp_path / "empty", out], "empty is a folder without images"),
        ([tmp_path / "dot.png", out], "frames of 1x1 are too small for VideoVAE: one latent cell is 8x8"),
        ([clip, out, "--frames", "21"], "has 20 frames, but 0 to 20 were requested"),
        ([clip, out, "--frames", "0"], "'0' must be a whole number of at least 1"),
        ([clip, out, "--size", "16"], "'16' must be height x width, each from 1 to 1000000, as in 256x256"),
        ([clip, out, "--size", "16x16x16"], "must be height x width"),
        ([clip, out, "--gain", "nan"], "gain must be above 0 and finite, got nan"),
        ([clip, out, "--gain", "much"], "invalid float value: 'much'"),
        ([clip, out, "--model", "nothing"], "no checkpoint at nothing"),
        ([clip, out, "--device", "quantum"], "device 'quantum' is not available"),
        ([clip, out, "--device", "meta"], "device 'meta' is not available"),
        ([clip, out / "p" / "q", "--model", "nothing"], "no checkpoint at nothing"),
        ([clip, clip], "out must be a folder"),
        ([clip, clip / "inside"], "cannot write to the folder"),
    ]  # fmt: skip
    for arguments, message in cases:
        assert message in refused(capsys, "reconstruct", *arguments)
        assert not out.exists()
    assert "vae-lab: error: the following arguments are required: COMMAND" in refused(capsys)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_stopping_leaves_nothing_half_written(tmp_path, number, code):
    source = tmp_path / "long.mkv"
    write_video(source, np.repeat(photo_clip("coffee", 34, (128, 128)).frames, 8, axis=0), lossless=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text("old")
    printed = tmp_path / "printed"
    lines = "import sys\nsys.stdout.reconfigure(line_buffering=True)"
    process = processes.start(["reconstruct", source, out, *MODEL], printed, before=lines)
    while process.is_alive() and not (out / ".reconstruct" / "run.json").exists():  # the model is loaded by then
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    errors = printed.read_text()
    killed = number == signal.SIGKILL
    assert ("interrupted, nothing was written" in errors) == (not killed)
    assert "Traceback" not in errors
    if killed:  # nobody could tidy up: the next run does
        assert (out / ".reconstruct").is_dir()
        shutil.rmtree(out / ".reconstruct")
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("metrics.json", "old")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["reconstruct", "inspect", "probe", "generate"])
def test_stopping_while_the_model_is_read_is_said(command, number, code, clip, tmp_path):
    arguments = {"reconstruct": [clip, tmp_path / "out", *MODEL], "generate": ["red disc left", tmp_path / "out"]}
    stop = processes.stop_in("vae_lab.checkpoints.loading", "read_headers", number)
    printed = tmp_path / "printed"
    process = processes.start([command, *arguments.get(command, ["lab"])], printed, before=stop)
    process.join(60)
    assert process.exitcode == code
    assert printed.read_text() == f"vae-lab {command}: interrupted, nothing was written\n"
    assert not (tmp_path / "out").exists()


# ---- sizes and inspect ---------------------------------------------------------------------------------------------


def test_sizes(capsys):
    assert main(["sizes", "51x256x330"]) == 0
    printed = capsys.readouterr().out
    assert "latent       15 frames of 32x42, 4 channels" in printed
    assert "padding      to 256x336, a multiple of 8 (the model refuses others)" in printed
    assert "chunk 2: frames 34-50 after 3 zero frames -> latents 10-14: 34 | 35-38 | 39-42 | 43-46 | 47-50" in printed
    assert main(["sizes", "51x256x256", "--chunk", "none"]) == 0
    assert "latent       13 frames of 32x32" in capsys.readouterr().out
    assert main(["sizes", "51x256x256", "--channels", "8"]) == 0
    printed = capsys.readouterr().out
    assert "latent       15 frames of 32x32, 8 channels\n" in printed and "compression  81.6 numbers to 1" in printed
    assert main(["sizes", "1000x8x8"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


@pytest.mark.parametrize(
    "size", ["51x256", "0x8x8", "axbxc", "51x256x256x3", "-1x8x8", "5.5x8x8", "9999999999x8x8", "1000001x8x8"]
)
def test_sizes_refuses(capsys, size):
    refused(capsys, "sizes", size)


def test_inspect(capsys):
    assert main(["inspect", *MODEL[1:]]) == 0
    printed = capsys.readouterr().out
    assert "layout       open_sora, VideoVAE\nfamily       Open-Sora 1.2\n" in printed
    assert "temporal_vae            99,560 numbers" in printed
    assert "as the architecture has them" in printed
    assert main(["inspect", str(GOLDEN / "checkpoint")]) == 1  # SDXL's architecture does not fit
    printed = capsys.readouterr().out
    assert "72 missing keys:" in printed
    assert "more" not in printed  # all are listed
    assert "no checkpoint at" in refused(capsys, "inspect", "nothing")


def test_arguments_of_load(tmp_path, capsys):
    vae = small_vae()
    vae.save_pretrained(tmp_path, variant="fp16")
    torch.save({"model": vae.state_dict(), "ema": vae.state_dict()}, tmp_path / "both.ckpt")
    assert "it has both.ckpt: name one" in refused(capsys, "inspect", tmp_path)
    assert 'entry="model" or entry="ema"' in refused(capsys, "inspect", tmp_path / "both.ckpt")
    for arguments in ([tmp_path, "--variant", "fp16"], [tmp_path / "both.ckpt", "--entry", "ema"]):
        arguments = [str(argument) for argument in arguments]
        assert main(["inspect", *arguments]) == 0
        printed = capsys.readouterr()
        assert ("note: not read from" in printed.err) == ("ema" in arguments)
        for command in (["probe", *arguments], ["reconstruct", "in.mp4", "out", "--model", *arguments]):
            args = build_parser().parse_args([*command, "--dtype", "bfloat16"])
            with warnings.catch_warnings(action="ignore"):
                loaded = cli._load(args, arguments[0])
            assert loaded.dtype == torch.bfloat16


@pytest.mark.parametrize("command", [[], ["reconstruct"], ["sizes"], ["inspect"]])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: vae-lab" in capsys.readouterr().out


def test_the_installed_command_runs():
    result = subprocess.run(
        [sys.executable, "-m", "vae_lab", "sizes", "17x8x8"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0
    installed = os.path.join(os.path.dirname(sys.executable), "vae-lab")
    assert subprocess.run([installed, "sizes", "17x8x8"], capture_output=True, text=True).stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["reconstruct", "-x.mp4", "out"], "-x.mp4"),
        (["reconstruct", "--clip.webm", "out"], "--clip.webm"),
        (["reconstruct", "in.mp4", "-h.mp4"], "-h.mp4"),
        (["train", "-recipe.toml", "out"], "-recipe.toml"),
        (["inspect", "-folder"], "-folder"),
    ],
)
def test_a_path_that_begins_with_a_dash_has_a_hint(arguments, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("-folder").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and f"write ./{path}" in capsys.readouterr().err


def test_options_and_numbers_have_no_such_hint(capsys):
    for arguments in (["sizes", "--chunk", "-1.5"], ["reconstruct", "--gain=-1.5"], ["sizes", "--nothing", "1x8x8"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "write ./" not in capsys.readouterr().err


def test_pipes_and_devices_are_refused_as_input(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    for source in (tmp_path / "pipe.mp4", tmp_path / "link.mp4", "/dev/zero", "/dev/null"):
        assert main(["reconstruct", str(source), str(tmp_path / "out")]) == 2
        assert "neither a file nor a folder but a pipe, a socket or a device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
