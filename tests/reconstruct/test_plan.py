"""What cannot lead to an end is refused before a model is loaded."""

import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT
from vae_lab import photo_clip, write_video
from vae_lab.__main__ import main
from vae_lab.reconstruct.plan import OUTPUTS, Plan
from vae_lab.reconstruct.segments import WorkFolder

CLIP = photo_clip("coffee", 6, (16, 24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    write_video(folder / "clip.mkv", CLIP.frames, lossless=True)
    write_video(folder / "images", CLIP.frames, lossless=True)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mkv", "out", "--size", "16x20000"], "size must be at most 16383 pixels high and wide"),
        (["clip.mkv", "out", "--device", "quantum"], "device 'quantum' is not available"),
        (["clip.mkv", "out", "--frames", "7"], "clip.mkv has 6 frames, but 0 to 6 were requested"),
        (["clip.mkv", "out", "--start", "6"], "clip.mkv has 6 frames, so it has no frame 6"),
        (["clip.mkv", "clip.mkv"], "out must be a folder"),
        (["images", "images"], "must not be source, the folder of images that is read"),
        (["images", "images/out"], "must not be inside source (images), the folder of images that is read"),
        (["images", "images/new/out"], "must not be inside source (images), the folder of images that is read"),
        (["images", "out/../images/out"], "must not be inside source (images), the folder of images that is read"),
        (["none.mkv", "out"], "no file or folder at none.mkv"),
    ],
)
def test_refused_before_a_model_is_loaded(folder, monkeypatch, capsys, arguments, message):
    def load(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("vae_lab.checkpoints.loading.load", load)
    monkeypatch.chdir(folder)
    assert main(["reconstruct", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mkv", "images"]
    assert len(list((folder / "images").iterdir())) == 6


def test_a_source_too_large_for_a_page_is_refused(tmp_path):
    write_video(tmp_path / "wide.png", np.zeros((1, 8, 16_384, 3), np.uint8))
    with pytest.raises(ValueError, match="frames must be at most 16383 pixels high and wide"):
        Plan(tmp_path / "wide.png", tmp_path / "out")


def test_a_folder_at_work_is_refused_before_a_model_is_loaded(folder, tmp_path):
    with WorkFolder(tmp_path / "out").locked(), pytest.raises(ValueError, match="another run is using"):
        Plan(folder / "clip.mkv", tmp_path / "out")


def test_arguments_that_are_refused(folder, tmp_path):
    for arguments, message in (
        (dict(gain=0), "gain must be above 0 and finite, got 0"),
        (dict(start=-1), "start must be a frame number of at least 0, got -1"),
        (dict(num_frames=0), "num_frames must be at least 1, got 0"),
        (dict(size=(16,)), r"size must be \(H, W\), got \(16,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Plan(folder / "clip.mkv", tmp_path / "out", **arguments)
    assert not any(tmp_path.iterdir())


def test_a_mistyped_device_is_refused_before_the_source_is_scanned(folder, tmp_path, monkeypatch):
    def scan(*_):
        raise AssertionError("the source was scanned")

    monkeypatch.setattr("vae_lab.reconstruct.plan.scan_video", scan)
    with pytest.raises(ValueError, match="device 'quantum' is not available"):
        Plan(folder / "clip.mkv", tmp_path / "out", device="quantum")


def test_a_plan_reads_its_window(folder, tmp_path):
    plan = Plan(folder / "clip.mkv", tmp_path / "out", start=1, num_frames=4, size=(8, 8))
    assert (plan.info.num_frames, plan.info.height, plan.info.width) == (4, 8, 8)
    rest = list(plan.frames(3))
    assert len(rest) == 1 and np.array_equal(rest[0], list(plan.frames())[3]) and not list(plan.frames(4))
    assert np.diff(plan.ticks(0, 4)) == pytest.approx(90_000 / 24, abs=100)  # Matroska rounds to milliseconds
    assert plan.ticks(2, 4) == plan.ticks(0, 4)[2:]
    assert not (tmp_path / "out").exists()


def test_images_beside_the_outputs_are_allowed(folder, tmp_path):
    (tmp_path / "out").mkdir()
    write_video(tmp_path / "out" / "images", CLIP.frames)
    assert Plan(tmp_path / "out" / "images", tmp_path / "out").info.num_frames == 6
    assert not any((tmp_path / "out" / name).exists() for name in OUTPUTS)


def test_a_bad_source_is_refused_without_torch(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from vae_lab.reconstruct.plan import Plan\n"
        "try: Plan(Path(sys.argv[1]), Path(sys.argv[2]), 9)\n"
        "except ValueError as error: print(error, 'torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, folder / "clip.mkv", tmp_path / "out"]
    printed = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert printed.endswith("has 6 frames, so it has no frame 9 False\n")
