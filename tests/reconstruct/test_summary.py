import json

import numpy as np
import pytest

from tests.helpers import small_vae
from vae_lab import photo_clip, to_tensor, write_video
from vae_lab.__main__ import main
from vae_lab.metrics import FRAME_METRICS, FrameMetric
from vae_lab.reconstruct.plan import Plan
from vae_lab.reconstruct.run import reconstruct, run_plan
from vae_lab.reconstruct.summary import Quality, describe, to_json


def largest_error(x, y, data_range):
    return (x - y).abs().amax(dim=(1, 3, 4))


LARGEST = FrameMetric(
    function=largest_error, title="largest error", unit="levels", digits=3, higher_is_better=False, smallest_side=12
)


def test_a_new_metric_is_one_row(tmp_path, monkeypatch, capsys):
    """Printed, in metrics.json and on the page; not for frames that are too small; old segments without it are left."""
    small_vae().save_pretrained(tmp_path / "model")
    clip = photo_clip("coffee", 20, (16, 24))
    write_video(tmp_path / "in.mkv", clip.frames, lossless=True)
    monkeypatch.setitem(FRAME_METRICS, "largest_error", LARGEST)
    arguments = ["reconstruct", str(tmp_path / "in.mkv"), str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    assert main(arguments) == 0
    report = reconstruct(small_vae(), clip)
    values = largest_error(to_tensor(clip.frames), to_tensor(report.sample), 2.0)[0].numpy()
    worst = int(values.argmax())
    text = f"largest error {values.mean():.3f} levels (worst {values[worst]:.3f} at t = {worst})"
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if line.startswith("full ")).endswith(f", {text}")
    assert text in (tmp_path / "out" / "index.html").read_text("utf-8")
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["quality"]["full"]
    assert list(measured) == ["psnr_db", "ssim", "largest_error_levels"]
    found = measured["largest_error_levels"]
    assert found["per_frame"] == pytest.approx(values, abs=1 / 127) and len(found["per_frame"]) == 20
    assert found["mean"] == pytest.approx(values.mean(), abs=1 / 127)
    assert found["worst"] == max(found["per_frame"]) and found["per_frame"][found["worst_frame"]] == found["worst"]

    small = reconstruct(small_vae(), photo_clip("coffee", 2, (11, 16)))
    assert "SSIM 0." in describe(small)["full"] or "SSIM -0." in describe(small)["full"]
    assert describe(small)["full"].endswith("largest error not defined under 12x12 pixels")
    assert to_json(small)["quality"]["full"]["largest_error_levels"] is None


def test_frames_are_numbered_as_in_the_source(tmp_path):
    frames = photo_clip("coffee", 9, (16, 16)).frames
    write_video(tmp_path / "in.mkv", frames, lossless=True)
    summary = run_plan(Plan(tmp_path / "in.mkv", tmp_path / "out", start=4), small_vae())
    assert summary.first_frame == 4 and "from frame 4" in describe(summary)["clip"]
    worst = to_json(summary)["quality"]["full"]["psnr_db"]["worst_frame"]
    assert worst == 4 + int(np.argmin(summary.quality["full"].psnr))
    assert f"at t = {worst})" in describe(summary)["full"]


def test_an_unchanged_frame_has_an_infinite_psnr_and_null_in_json():
    report = reconstruct(small_vae(), photo_clip("coffee", 3, (16, 16)))
    report.quality["full"]["psnr"] = np.array([30.0, np.inf, 20.0])
    found = to_json(report)["quality"]["full"]["psnr_db"]
    assert found == {"mean": None, "worst": 20.0, "worst_frame": 2, "per_frame": [30.0, None, 20.0]}
    assert "PSNR inf dB (worst 20.00 at t = 2)" in describe(report)["full"]


def test_quality_of_pieces_is_joined_in_time():
    parts = [Quality(psnr=np.array([1.0, 2.0])), Quality(psnr=np.array([3.0]))]
    whole = Quality.cat(parts)
    assert whole.psnr.tolist() == [1, 2, 3] and "ssim" not in whole
