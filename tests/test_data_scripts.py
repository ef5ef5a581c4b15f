"""The scripts in data/ that made what lies there."""

import importlib.util
import json

import numpy as np
import torch

from tests.conftest import ROOT
from vae_lab import load, read_video
from vae_lab.clips import HELD_OUT_PHOTOS


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "data" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_clips_are_what_their_script_makes():
    for name, make in script("make_clips").CLIPS.items():
        stored, made = read_video(ROOT / "data" / name).frames, make().frames
        assert stored.shape == made.shape
        assert np.abs(stored.astype(int) - made).mean() < 5  # the file is lossy


def test_training_writes_weights_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    train = script("train_lab")
    assert not set(train.DRAWN_PHOTOS) & set(HELD_OUT_PHOTOS)
    for name, value in (("LATENT_STEPS", 2), ("PIXEL_STEPS", 1), ("CACHED_CLIPS", 8), ("MEASURED_CLIPS", 2)):
        monkeypatch.setattr(train, name, value)

    def weights(folder: str, *spatial_steps: int) -> dict[str, torch.Tensor]:
        work = tmp_path / f"work-{folder}"
        for steps in spatial_steps:  # the schedule is the same: the run is only stopped earlier
            monkeypatch.setattr(train, "SPATIAL_STEPS", steps)
            train.main(["--out", str(tmp_path / folder), "--work", str(work)])
        return load(tmp_path / folder).state_dict()

    once, again = weights("once", 2), weights("again", 2)
    assert all(torch.equal(once[key], again[key]) for key in once)  # seeded
    before = (tmp_path / "work-again" / "spatial.pt").stat().st_mtime_ns
    weights("again", 2)
    assert (tmp_path / "work-again" / "spatial.pt").stat().st_mtime_ns == before  # finished stages are not run again
    assert "wrote" in capsys.readouterr().out
    config = json.loads((tmp_path / "once" / "config.json").read_text())
    assert config["_class_name"] == "VideoVAE"
