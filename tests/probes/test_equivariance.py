"""Latents of moved clips against moved latents, on maps for which the answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import small_vae
from vae_lab import load, synthetic_clip, to_tensor
from vae_lab.probes.equivariance import MOVEMENTS, Movement, latent_equivariance, move
from vae_lab.probes.report import probe


def smooth(size: int = 32) -> torch.Tensor:
    return to_tensor(synthetic_clip("texture", 2, (size, size)).frames)


def area(x):
    return F.avg_pool3d(x, (1, 4, 4))


def cells(z):
    return F.interpolate(z, scale_factor=(1, 4, 4), mode="nearest")


def test_a_shift_moves_content_right_and_down_and_a_turn_is_clockwise():
    x = torch.arange(24.0).view(1, 1, 1, 4, 6)
    moved = move(x, Movement(right=1, down=0.5), ratio=2)
    assert torch.allclose(moved[..., 1:, 2:], x[..., :-1, :-2], atol=1e-4)
    square = torch.arange(16.0).view(1, 1, 1, 4, 4)
    assert torch.allclose(move(square, Movement(turn=90)), torch.rot90(square, -1, (3, 4)), atol=1e-4)
    assert torch.allclose(move(square, Movement()), square, atol=1e-5)


def test_a_clip_that_is_twice_as_large_shows_its_middle():
    ramp = torch.arange(16.0).expand(1, 1, 1, 16, 16)
    moved = move(ramp, Movement(scale=2))
    expected = (torch.arange(16.0) - 7.5) / 2 + 7.5
    assert torch.allclose(moved[0, 0, 0, 4:12, 4:12], expected[4:12].expand(8, 8), atol=0.1)


def test_a_turn_keeps_angles_in_frames_that_are_not_square():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    disc = torch.exp(-((x - 11.5) ** 2 + (y - 7.5) ** 2) / 8)[None, None, None]
    assert torch.allclose(move(disc, Movement(turn=30)), disc, atol=0.03)
    bar = torch.where(abs(x - 11.5) < 2, 1.0, 0.0)[None, None, None]
    assert not torch.allclose(move(bar, Movement(turn=30)), bar, atol=0.5)


def test_whole_cells_of_an_area_average_lose_nothing():
    result = latent_equivariance(area, cells, smooth(), 4, {"cell": Movement(right=1, down=-2)})
    assert result.movements["cell"].loss == pytest.approx(0, abs=1e-3)
    assert result.movements["cell"].apart > 100 and result.movements["cell"].through_pixels < 60


def test_half_a_cell_of_an_area_average_loses_something():
    assert latent_equivariance(area, cells, smooth(), 4, {"half": Movement(right=0.5)}).movements["half"].apart < 60


def test_a_map_that_knows_places_loses_what_the_place_adds():
    """Latents with a ramp on top: moved by a cell, the ramp is wrong by its slope everywhere, which no decoder sees."""
    ramp = 0.01 * torch.arange(32.0)
    result = latent_equivariance(lambda x: x + ramp, lambda z: z - ramp, smooth(), 1, {"one": Movement(right=1)})
    moved = result.movements["one"]
    assert moved.through_latents == pytest.approx(20 * math.log10(2 / 0.01), abs=0.01)
    assert moved.apart == pytest.approx(moved.through_latents, abs=0.01)
    assert moved.loss == moved.through_pixels - moved.through_latents > 60


def test_a_map_without_error_loses_nothing():
    result = latent_equivariance(lambda x: x, lambda z: z, smooth(), 1)
    assert list(result.movements) == list(MOVEMENTS)
    assert all(moved.loss == 0 and moved.apart == math.inf for moved in result.movements.values())
    table = result.table()
    assert list(table.columns) == ["through_pixels", "through_latents", "apart", "loss"]
    assert list(table.index) == list(MOVEMENTS)
    assert "  shift by a cell: +0.0 dB lost" in repr(result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(ratio=8), r"ratio must be the pixels per latent cell: clips of \(32, 32\) have latents of \(8, 8\)"),
        (dict(movements={}), "movements must name at least one Movement, got none"),
        (dict(movements={"far": Movement(right=9)}), "movement 'far' leaves nothing of the frame inside"),
        (dict(movements={"none": Movement(scale=0)}), "scale of movement 'none' must be above 0 and finite, got 0"),
        (dict(movements={"odd": Movement(turn=math.inf)}), "turn of movement 'odd' must be a finite number, got inf"),
        (dict(movements={"huge": Movement(turn=10**400)}), "turn of movement 'huge' must be a finite number, got 1000"),
        (dict(decode=lambda z: z), r"decode\(encode\(x\)\) must have the shape of x, \(1, 3, 2, 32, 32\), got"),
        (dict(data_range=0), "data_range must be above 0 and finite, got 0"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        latent_equivariance(**dict(encode=area, decode=cells, x=smooth(), ratio=4) | change)


def test_the_report_measures_whole_models_only():
    report = probe(small_vae(), num_frames=5, size=16)
    assert list(report.equivariance.movements) == list(MOVEMENTS)
    assert report.describe()["equivariance"] == repr(report.equivariance)
    assert "takes spatial latents" in probe(small_vae().temporal, num_frames=5).notes["equivariance"]


@pytest.mark.parametrize("name", ["lab", "lab-frame-group"])
def test_the_lab_weights_move_whole_cells_at_little_cost(name):
    """The 2D half was measured by hand to move by a cell at 0.1 dB; in time the other half does no worse."""
    vae = load(name).with_micro_frame_size(None)
    x = to_tensor(synthetic_clip("texture", 5, (64, 64)).frames)
    result = latent_equivariance(lambda x: vae.encode(x).latent_dist.mode(), lambda z: vae.decode(z, 5).sample, x, 8)
    print(result)
    assert -0.5 < result.movements["shift by a cell"].loss < 3
    assert result.movements["shift by a cell"].loss < result.movements["turn by 90 degrees"].loss
