"""The scripts that made the clips and the weights in data/."""

import numpy as np
import pytest
import torch

from tests.helpers import ROOT, script, small_vae
from vae_lab import load, read_video


@pytest.mark.slow
def test_the_clips_are_what_their_script_makes():
    for name, make in script("make_clips").CLIPS.items():
        stored, made = read_video(ROOT / "data" / name).frames, make().frames
        assert stored.shape == made.shape
        assert np.abs(stored.astype(int) - made).mean() < 5  # the file is lossy


def test_halves_of_finished_runs_become_the_sets(tmp_path, capsys):
    make_lab = script("make_lab")
    vae = small_vae(latents_std=(1.2345678, 1, 1, 1))
    spatial = small_vae().spatial
    spatial.register_to_config(micro_batch_size=None)  # as it was trained
    spatial.save_pretrained(tmp_path / "a" / "model")
    for run in ("b", "c", "d"):
        vae.save_pretrained(tmp_path / run / "model")
    data = ["--data", str(tmp_path)]
    make_lab.main(["--spatial", str(tmp_path / "a"), "--lab", str(tmp_path / "b"),
                   "--lab-frame-group", str(tmp_path / "c"), "--lab-8", str(tmp_path / "d"), *data])  # fmt: skip
    printed = capsys.readouterr().out
    for folder in ("lab", "lab_frame_group", "lab_8"):
        assert f"wrote {tmp_path / folder}\n" in printed
        made = load(tmp_path / folder)
        assert made.config.latents_std == [1.2346, 1, 1, 1]
        assert made.spatial.config.micro_batch_size == 4
        own = vae.spatial if folder == "lab_8" else spatial  # the other two share one
        for half, source in (("spatial", own), ("temporal", vae.temporal)):
            stored = getattr(made, half).state_dict()
            assert all(torch.equal(stored[key], value.half().float()) for key, value in source.state_dict().items())
    make_lab.main(["--lab", str(tmp_path / "c"), *data])  # what is not given stays as it is
    assert capsys.readouterr().out == f"wrote {tmp_path / 'lab'}\n"
    kept = load(tmp_path / "lab").spatial.state_dict()
    assert all(torch.equal(kept[key], value.half().float()) for key, value in spatial.state_dict().items())
