"""The plan of `vae-lab sizes --plan`: what it counts, what it expects, what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, small_vae
from vae_lab.__main__ import main
from vae_lab.reconstruct import cost
from vae_lab.reconstruct.cost import clip_cost

# A fresh process that does what the plan is for
DONE = """
import re, sys, torch
from vae_lab import load
vae, size = load("lab"), tuple(map(int, sys.argv[1].split("x")))
with torch.no_grad():
    x = torch.rand(1, 3, *size)
    y = vae.decode(vae.encode(x).latent_dist.mode(), size[0]).sample
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def test_parts_are_counted_up(monkeypatch):
    """A micro batch of 4 frames takes a second, a chunk of 2 latents takes another, and each 1,000 bytes."""
    monkeypatch.setattr(cost, "_tried", lambda call, before: call() and cost._Part(1.0, 1000))
    monkeypatch.setattr(cost, "_in_use", lambda name: 10_000_000)
    vae = small_vae(micro_frame_size=5)
    found = clip_cost(vae, (12, 16, 24))  # chunks of 5, 5 and 2 frames have 2, 2 and 1 latents
    assert (found.encode, found.decode) == (12 / 4 + 5 / 2,) * 2 and found.trial > 0
    clip = 3 * 12 * 16 * 24 * 4
    assert (found.before, found.peak) == (10_000_000, 10_000_000 + 3 * clip)
    whole = clip_cost(vae.with_micro_frame_size(None), (40, 8, 8))  # tried with 17 frames, 5 latents, of 10
    assert whole.encode == 40 / 4 + 10 / 5
    monkeypatch.setattr(cost, "TRIED_PIXELS", 16 * 24)
    large = clip_cost(vae, (12, 32, 48))  # tried at half the height and width
    assert large.encode == 4 * found.encode
    monkeypatch.setattr(cost, "_tried", lambda call, before: call() and cost._Part(1.0, 10**9))
    assert clip_cost(vae, (12, 32, 48)).peak == 10_000_000 + 2 * 4 * clip + 4 * 10**9


def test_without_linux_memory_is_not_told(monkeypatch):
    monkeypatch.setattr(cost, "PEAK_RESET", Path("nowhere"))
    found = clip_cost(small_vae(micro_frame_size=None), (3, 8, 8))
    assert found.peak is found.before is None and found.encode > 0 and found.decode > 0


@pytest.mark.skipif(not cost.PEAK_RESET.exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("size", ["2x384x512", "68x128x128"])
def test_memory_is_as_expected(size, tmp_path):
    """Within 20 %: mostly a micro batch of large frames, and mostly the clip itself."""
    plan = [sys.executable, "-m", "vae_lab", "sizes", size, "--plan", "lab"]
    printed = subprocess.run(plan, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    expected, without = map(float, re.search(r"memory +(\S+) GB at most, of which (\S+) GB", printed).groups())
    done = subprocess.run([sys.executable, "-c", DONE, size], capture_output=True, text=True, cwd=ROOT, check=True)
    peak = int(done.stdout) * 1024 / 1e9
    print(f"{size}: expected {expected:.2f} GB, of which {without:.2f} without the clip, found {peak:.2f} GB")
    assert expected == pytest.approx(peak, rel=0.2) and expected > without
    assert re.search(r"^encode +about \d+\.\d s\ndecode +about \d+\.\d s$", printed, re.M)


def test_what_cannot_be_planned_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="vae must be a VideoVAE for a plan, got a SpatialVAE"):
        clip_cost(small_vae().spatial, (5, 16, 16))
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        clip_cost(small_vae(), (0, 16, 16))
    with pytest.raises(ValueError, match="18.*multiple of 8"):
        clip_cost(small_vae(), (5, 18, 16))
    for options, message in (
        (["--family", "all", "--plan"], "--plan cannot be used with --family"),
        (["--chunk", "5", "--plan"], "--chunk cannot be used with --plan, whose model has its own"),
        (["--plan", str(tmp_path / "none")], "none"),
    ):
        assert main(["sizes", "5x16x16", *options]) == 2
        assert message in capsys.readouterr().err
