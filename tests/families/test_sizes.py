"""`vae-lab sizes --family`, and the same in Python."""

import subprocess
import sys

import numpy as np
import pytest

from vae_lab.__main__ import main
from vae_lab.families import FAMILIES, clip_size, latent_size


def printed(capsys, *arguments: str) -> str:
    assert main(["sizes", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    assert main(["sizes", *arguments]) == 2
    return capsys.readouterr().err


def test_a_table_of_all_families(capsys):
    head, *rows = printed(capsys, "49x480x720", "--family", "all").splitlines()
    assert head.split() == ["family", "latent", "channels", "back", "numbers", "to", "1", "notes"]
    assert len(rows) == len(FAMILIES)
    row = {family.name: rows[number].removeprefix(family.name) for number, family in enumerate(FAMILIES.values())}
    assert row["Wan 2.1"].split() == ["13x60x90", "16", "49", "45.2"]
    assert row["MiniMax-H3"].split()[:4] == ["12x30x45", "24", "39", "130.7"]
    assert row["MiniMax-H3"].endswith("  returns 39 of 49 frames; nearest lengths that it keeps: 39 and 56")
    assert row["LTX 2"].split()[:3] == ["7x15x23", "128", "49"]
    assert row["LTX 2"].endswith("  padded to 480x736, a multiple of 32")
    assert row["Allegro"].split()[:4] == ["-", "4", "-", "-"]
    assert "; does not take 480x720: tiles of 24x320x320 only: height 320 + 200k" in row["Allegro"]
    for family in FAMILIES.values():
        size = clip_size(family, 49, 480, 720)
        if family.is_legal(49) and not 480 % family.spatial_ratio and not 720 % family.spatial_ratio:
            assert size.latent == latent_size(family.name, 49, 480, 720) and size.frames_back == 49 and not size.notes


def test_frames_that_grow_are_warned_of(capsys):
    text = printed(capsys, "5x480x720", "--family", "CogVideoX")
    assert "frames back  8\n" in text
    assert "note         returns 8 frames for 5; nearest lengths that it keeps: 1 and 8\n" in text


@pytest.mark.parametrize("name", FAMILIES)
def test_all_that_is_known_of_a_family(name, capsys):
    family = FAMILIES[name]
    text = printed(capsys, "24x320x320", "--family", name.upper())
    assert f"family       {family.name}, {family.class_name}\n" in text
    facts = [family.law.formula, family.first_frame, family.time_padding, family.norm, family.encoder_sees.text]
    facts += [family.scaling, family.calling, family.source]
    if family.parameters:
        facts.append(f"{family.parameters[2]:.2f} M in all")
    assert [fact for fact in facts if fact not in text] == []
    assert ("note " in text) == (not family.is_legal(24))


def test_bad_arguments(capsys):
    assert refused(capsys, "5x64x64", "--family", "wan2.1") == (
        "vae-lab sizes: family must be one of the known ones, such as wan 2.1, wan 2.2; got 'wan2.1'\n"
    )
    for option in ("--chunk", "--temporal-ratio"):
        message = refused(capsys, "5x64x64", "--family", "wan 2.1", option, "4")
        assert message == f"vae-lab sizes: {option} cannot be used with --family, which has its own\n"
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        clip_size("wan 2.1", 0, 64, 64)


def test_no_torch_is_imported():
    code = (
        "import sys; from vae_lab.cli import main; main(['sizes', '49x480x720', '--family', 'all']); "
        "print({'torch', 'numpy', 'diffusers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("\nset()\n")


def test_frames_that_are_too_small():
    for name, side in (("wan 2.2", 4), ("ltx 2", 32), ("minimax-h3", 16)):
        least = FAMILIES[name].least_cells * FAMILIES[name].spatial_ratio
        size = clip_size(name, FAMILIES[name].nearest_legal(17)[-1], side, side)
        assert size.latent is None
        assert size.notes == (f"does not take frames of {side}x{side}: at least {least}x{least}",)
    with pytest.raises(ValueError, match=r"height \(32\) must be a multiple of 32 and at least 64 for LTX 2"):
        latent_size("ltx 2", 17, 32, 64)


def test_numbers_of_any_size():
    assert clip_size("open-sora 1.2", 10**15, 64, 64).latent == (5 * (10**15 // 17) + -(-(10**15 % 17) // 4), 8, 8)
    assert "nearest length that it keeps: 1" in clip_size("qwen-image 2.1", 10**15, 64, 64).notes[0]
    size = latent_size("wan 2.1", np.int64(17), np.uint8(248), np.uint8(64))
    assert size == (5, 31, 8) and {type(side) for side in size} == {int}
