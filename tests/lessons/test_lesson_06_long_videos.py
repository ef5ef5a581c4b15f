from tests.helpers.lessons import RIGHT, check_of
from vae_lab.lessons import question


def test_a_step_is_tried_with_pieces_shorter_than_the_past():
    check, right = check_of("write step"), RIGHT["write step"]

    def last_of_the_piece(x, past, weight):
        return right(x, past, weight)[0], x[:, :, -3:]

    assert check(last_of_the_piece).message == (
        "k=4, pieces of 1: a past of shape (1, 2, 1), but it must keep its k - 1 = 3 frames. A piece may be shorter "
        "than that: cut from past and x together."
    )
    wrong = check(lambda x, past, w: (right(x, past, w)[0], past)).message
    assert "the outputs differ from those of the whole clip" in wrong
    assert "outputs of shape (1, 3, 6) for 9 frames" in check(lambda x, past, w: right(x, past[:, :, :0], w)).message
    assert check(lambda x, past, w: right(x, past, w)[0]).message.startswith("Return two tensors")
    assert check(lambda x, past, w: x / 0 + "").message.startswith("k=4, pieces of 9: your function raised TypeError")

    def in_double_precision(x, past, weight):
        y, past = right(x, past, weight)
        return y.double(), past

    assert check(in_double_precision).right is True
    assert check(lambda x, past, w: ...).right is None


def test_equal_jumps_are_equally_right():
    change = [0.1] * 53
    change[16], change[33], change[50] = 0.5, 0.5 + 1e-7, 0.49
    check = question("largest jump of a still", change, [0, 17, 34, 51])
    for frame in (17, 34):
        assert check(frame).message == (
            f"Frame {frame} begins a chunk: the picture changes by 0.500 there, and by 0.100 between most frames."
        )
    assert check(51).message == "Not 51. It changes by 0.490 there, but there is a larger jump."


def test_the_jump_of_a_still_tells_of_a_short_last_chunk():
    check = check_of("largest jump of a still")
    assert check(34).message.startswith("Frame 34 begins the last chunk, of 2 frames: the picture changes by 0.")
    assert check(17).message == "Not 17. It changes by 0.400 there, but there is a larger jump."
    assert check(33).message.startswith("Not 33. Nearly: that is the last frame before the jump")
    assert question("largest jump of a still", [0.9, 0.1], [0])(1).message.startswith("Frame 1: the picture")
