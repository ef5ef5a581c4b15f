"""The scripts that made the clips and the weights in data/."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

from tests.helpers import ROOT, script, small_vae
from vae_lab import load, read_video


def test_the_clips_are_what_their_script_makes():
    for name, make in script("make_clips").CLIPS.items():
        stored, made = read_video(ROOT / "data" / name).frames, make().frames
        assert stored.shape == made.shape
        assert np.abs(stored.astype(int) - made).mean() < 5  # the file is lossy


def test_halves_of_finished_runs_become_the_sets(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    make_lab, train_lab = script("make_lab"), script("train_lab")
    spatial, trained = small_vae().spatial, {"lab": small_vae().temporal, "lab-frame-group": small_vae().temporal}
    run = SimpleNamespace(out=tmp_path / "spatial")
    run.out.mkdir()
    train_lab.save_spatial(run, spatial.state_dict(), 0.5)
    plain = {half: {k: v for k, v in vae.config.items() if k[0] != "_"}
             for half, vae in {"spatial": spatial, **trained}.items()}  # fmt: skip
    for name, half in trained.items():
        (tmp_path / name).mkdir()
        save_file(half.state_dict(), tmp_path / name / f"{name}.safetensors")
        statistics = {name: {"latents_mean": [0.0] * 4, "latents_std": [1.2345678, 1, 1, 1]}}
        meta = {"spatial": plain["spatial"], "halves": plain, "statistics": statistics}
        (tmp_path / name / "meta.json").write_text(json.dumps(meta))
    make_lab.main([str(run.out), *(str(tmp_path / name) for name in trained), "--data", str(tmp_path / "data")])
    printed = capsys.readouterr().out
    for name, folder in (("lab", "lab"), ("lab-frame-group", "lab_frame_group")):
        assert f"wrote {tmp_path / 'data' / folder}\n" in printed
        made = load(tmp_path / "data" / folder)
        assert made.config.latents_std == [1.2346, 1, 1, 1]
        assert made.spatial.config.micro_batch_size == 4 and made.spatial.config.scaling_factor == 0.5
        for half, source in (("spatial", spatial), ("temporal", trained[name])):
            stored = getattr(made, half).state_dict()
            assert all(torch.equal(stored[key], value.half().float()) for key, value in source.state_dict().items())


def test_losses_are_compared(monkeypatch, capsys):
    """The decoder's sensitivities and every loss, on few small clips."""
    try_losses = script("try_losses")
    for name, value in {"TRAINED": range(6), "HELD_OUT": range(6, 8), "FRAMES": 5, "SIZE": 16}.items():
        monkeypatch.setattr(try_losses, name, value)
    try_losses.main(["--steps", "2", "--seeds", "3"])
    lines = capsys.readouterr().out.splitlines()
    names = ["2D", "line", *(f"{name}, seed 3" for name in try_losses.LOSSES)]
    assert [line.partition(":")[0] for line in lines] == names
    assert "2D: 0.000, " in lines[0] and len({line.partition(":")[2] for line in lines}) == len(lines)


def test_a_number_weighs_what_it_does_to_pixels():
    """The square of J' v, on average over signs v, is the diagonal of J' J: known for a decoder that is a matrix."""
    try_losses = script("try_losses")
    spatial = SimpleNamespace(decode=lambda z: SimpleNamespace(sample=z * torch.tensor([[3.0], [0.5]])))
    found = [part.square() for part in try_losses.pulled_back(spatial, torch.zeros(2, 2, 4), 0)]
    assert all(torch.equal(part, torch.tensor([[[9.0] * 4, [0.25] * 4]])) for part in found)
