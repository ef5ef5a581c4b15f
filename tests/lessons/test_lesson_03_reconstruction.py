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


def test_a_clip_is_mended_as_far_as_it_was_measured():
    x = torch.zeros(1, 3, 18, 4, 4)
    before = x + 0.1  # 26.0 dB
    before[:, :, 17] = 0.5  # 12.0 dB
    check = question("mend a short chunk", x, before)
    assert check(lambda x: x + 0.1).message == ("Frame 17 rises from 12.0 to 26.0 dB; no frame loses more than 0.0 dB.")
    assert check(lambda x: x + 0.4).message.startswith("Frame 17 gains 1.9 dB. Its chunk still gets too little padding")
    worse = x + 0.1
    worse[:, :, 3] = 0.5
    assert "Frame 17 gains 14.0 dB, but frame 3 loses 14.0. What did you put" in check(lambda x: worse).message
    assert "must be a tensor of shape (1, 3, 18, 4, 4), as the clip; got (1, 3, 19, 4, 4)" in (
        check(lambda x: torch.zeros(1, 3, 19, 4, 4)).message
    )


def test_the_worst_frame_and_the_worst_padding_are_the_measured_ones():
    assert question("worst frame of the clip", [20.0, 24.0, 23.0])(0).right is True
    assert question("worst frame of the clip", [20.0, 24.0, 23.0])(1).message == "Not 1. That is the best one."
    assert question("padding and the first frame", {0: 0.0, 1: 0.0, 2: -1.0, 3: 0.5})(2).right is True
