import torch

from tests.helpers.lessons import RIGHT, check_of
from vae_lab.lessons import question


def test_the_wrong_peak():
    assert check_of("write psnr")(lambda x, y: 10 * torch.log10(1 / (x - y).square().mean())).right is False


def test_functions_that_change_their_input():
    check, right = check_of("write psnr"), RIGHT["write psnr"]
    assert check(lambda x, y: right(x.clone(), y) + 0 * x.zero_().sum()).right is True
    assert check(lambda x, y: x.copy_(y + 0.2).sum() * 0 + 20).right is False


def test_measured_answers_follow_the_measurement():
    assert question("which half", {"2D only": 1.0, "full": 4.0})("temporal").right is True
    assert question("best place in a chunk", [2.0, 1.0, 3.0])(1).right is True
    assert question("best place in a chunk", [2.0, 3.0, 1.0, 2.0])(1).message == "Not 1. That is the worst one."
    assert question("step of channels", {4: 20.0, 8: 21.0, 16: 24.0})("8 to 16").right is True
    assert question("jump of a static clip", [0.9, 0.2, 0.1])(1).right is True


def test_a_clip_that_never_jumps():
    check = question("jump of a static clip", [0.0, 0.9, 0.0])
    assert "by 0.900 there, and by 0.000 between most frames" in check(2).message
