import torch

from tests.helpers.lessons import check_of
from vae_lab.lessons import reversed_pad
from vae_lab.shapes import time_padding


def test_messages():
    assert check_of("padding of kernel 3, stride 2")(2).message == (
        "Not 2. With 2 the first window ends on frame 0, and the last of 8 frames is in no window."
    )


def test_functions_are_told_the_first_case_that_differs():
    check = check_of("write time_padding")
    assert check(lambda k, s, d: d * (k - 1)).message == (
        "kernel_size=2, stride=2, dilation=1: your function gives 1, the library 0. It is right for stride 1: what "
        "does a stride change?"
    )
    assert check(lambda k, s, d: (k - 1) + (1 - s)).message.endswith("how far does a dilated kernel reach?")
    assert check(lambda k, s, d: 1 / 0).message.endswith("your function raised ZeroDivisionError: division by zero")
    assert check(lambda k, s, d: ...).right is None
    assert check(time_padding).message == "It agrees with the library in all 56 cases."


def test_the_planted_bug_is_named_by_its_axes():
    check = check_of("order of F.pad")
    assert check(reversed_pad).message == (
        "With time=2, height=1, width=3 the wrong axes are time: 3 in front and 3 behind, but it should be 2 and 0; "
        "width: 2 in front and 0 behind, but it should be 3 and 3. F.pad reads the last axis first."
    )

    def swapped(x, time, height, width):
        return torch.nn.functional.pad(x, (height, height, width, width, time, 0))

    def behind(x, time, height, width):
        return torch.nn.functional.pad(x, (width, width, height, height, 0, time))

    assert "axes are height: 3 in front and 3 behind, but it should be 1 and 1; width: 1" in check(swapped).message
    assert "axes are time: 0 in front and 2 behind, but it should be 2 and 0." in check(behind).message
    assert "pad(x, time=2, height=1, width=3): your function raised TypeError" in check(lambda x: x).message
    assert check(lambda x, time, height, width: ...).right is None


def test_only_zeros_are_padding():
    def replicate(x, time, height, width):
        return torch.nn.functional.pad(x, (width, width, height, height, time, 0), mode="replicate")

    for pad in (replicate, lambda *arguments: 5):
        assert check_of("order of F.pad")(pad).message == "The result must be the clip itself with zeros around it."


def test_a_convolution_is_told_what_is_wrong():
    def padded(front, behind=lambda reach, stride: 0):
        def convolution(x, weight, stride, dilation):
            kt, kh, kw = weight.shape[2:]
            reach = dilation * (kt - 1)
            time = (front(reach, stride), behind(reach, stride))
            x = torch.nn.functional.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2, *time))
            return torch.nn.functional.conv3d(x, weight, None, (stride, 1, 1), 0, (dilation, 1, 1))

        return convolution

    check = check_of("write a causal convolution")
    assert check(padded(lambda reach, stride: reach + 1 - stride)).right is True
    no_stride = check(padded(lambda reach, stride: reach)).message
    assert no_stride == (
        "kernel (3, 1, 1), stride 2, dilation 1, 8 frames: the shape is right, the values are not. On which side, and "
        "what, do you pad?"
    )
    symmetric = check(padded(lambda reach, stride: reach // 2, lambda reach, stride: reach - reach // 2)).message
    assert symmetric.startswith("kernel (3, 3, 3), stride 1, dilation 1, 6 frames: the shape is right")
    assert "the result is (1, 3, 4, 6, 7), but it should be (1, 3, 6, 6, 7)" in check(padded(lambda *_: 0)).message
