import math

import torch

from tests.helpers.lessons import RIGHT, check_of
from vae_lab.lessons import question


def test_measured_answers_follow_the_measurement():
    assert question("channel that forgets fastest", [0.1, 0.9])(1).message == "Not 1. That channel changes least."
    assert question("cheapest channel", [0.4, 0.2, 0.3])(1).right is True
    assert question("cheapest movement", {"a": 0.5, "b": 0.1})("b").message.endswith("b costs 0.1 dB, a 0.5 dB.")
    assert question("halfway between two clips", [0.0, 0.3, 0.0], 0.6)("morph").right is True
    assert question("frames that a cell paints", [5, 8])([5, 8]).message == (
        "Exactly the frames that latent frame 2 stands for."
    )


def test_kl_in_bits_is_not_in_nats():
    check = check_of("write kl")
    in_bits = check(lambda mean, std: ((mean**2 + std**2 - 1) / 2 - math.log(std)) / math.log(2))
    assert in_bits.right is False and in_bits.message.startswith("mean=-2, std=0.05: your function gives ")
    assert (
        "With std 1 only the mean is left"
        in check(lambda mean, std: (mean**2 * (1 if std != 1 else 2) + std**2 - 1) / 2 - math.log(std)).message
    )


def test_a_preview_has_a_constant_and_the_least_error():
    check, right = check_of("write a preview"), RIGHT["write a preview"]
    assert check(lambda cells, colours: right(cells, colours).float()).right is True
    assert check(lambda cells, colours: right(cells, colours)[:4]).message == (
        "40 cells: the weights must be a tensor (5, 3), got shape (4, 3). Row 4 is the constant."
    )
    assert "got list" in check(lambda cells, colours: [1.0]).message
    no_constant = check(lambda cells, colours: torch.cat([torch.linalg.pinv(cells) @ colours, torch.zeros(1, 3)]))
    assert no_constant.right is False and "with the best ones 0.2" in no_constant.message
    half_of_the_cells = check(lambda cells, colours: right(cells[::2], colours[::2]))
    assert half_of_the_cells.right is False and "every cell used?" in half_of_the_cells.message
