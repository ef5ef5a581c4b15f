"""The questions of notebook 01: padding. Right answers and many known mistakes come from `shapes`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .. import shapes
from ..causal_conv import CausalConv3d
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with, is_close, shape_of

PADDING = {"time": (2, 0), "height": (1, 1), "width": (3, 3)}  # (in front, behind) for time=2, height=1, width=3


def _padding_of(pad: Callable) -> dict[str, tuple[int, int]] | None:
    """Count the zeros that `pad` puts in front of and behind each axis; None if it does anything else."""
    x = torch.ones(1, 1, 4, 5, 6)
    padded = pad(x)
    if not isinstance(padded, torch.Tensor) or padded.dtype != x.dtype or padded.device != x.device:
        return None
    ones = (padded == 1).nonzero()  # (N, number of axes)
    if padded.ndim != 5 or len(ones) != x.numel() or padded.count_nonzero() != x.numel():
        return None
    first, last = ones.amin(dim=0), ones.amax(dim=0)
    if tuple(last - first + 1) != x.shape:
        return None
    return {axis: (int(first[i]), int(padded.shape[i] - 1 - last[i])) for i, axis in enumerate(PADDING, start=2)}


def _judge_order(call: Callable) -> Verdict:
    """Try the reader's pad(x, time, height, width) and name the axes that are padded wrongly."""
    padding = _padding_of(lambda x: call("pad(x, time=2, height=1, width=3)", x, 2, 1, 3))
    if padding is None:
        return Verdict(False, "The result must be the clip itself with zeros around it.")
    wrong = "; ".join(
        "{}: {} in front and {} behind, but it should be {} and {}".format(axis, *padding[axis], *PADDING[axis])
        for axis in PADDING
        if padding[axis] != PADDING[axis]
    )
    if not wrong:
        return Verdict(True, "Time is padded only in front, height and width equally on both sides.")
    message = f"With time=2, height=1, width=3 the wrong axes are {wrong}. F.pad reads the last axis first."
    return Verdict(False, message)


def reversed_pad(x: torch.Tensor, time: int, height: int, width: int) -> torch.Tensor:
    """A planted bug, as found in public copies of a video VAE: F.pad's pairs are written in the order of the axes."""
    return F.pad(x, (time, 0, height, height, width, width))


CONVOLUTIONS = [  # (kernel_size, stride, dilation, frames)
    ((3, 3, 3), 1, 1, 6), ((3, 1, 1), 2, 1, 8), ((3, 1, 1), 2, 1, 7), ((3, 3, 5), 1, 2, 5), ((2, 3, 3), 2, 2, 9),
]  # fmt: skip


def _judge_convolution(call: Callable) -> Verdict:
    """Try the reader's causal_conv(x, weight, stride, dilation) against CausalConv3d."""
    for kernel_size, stride, dilation, frames in CONVOLUTIONS:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, 2, frames, 6, 7, generator=generator)
        with torch.random.fork_rng(devices=[]):  # its random weights are replaced
            conv = CausalConv3d(2, 3, kernel_size, (stride, 1, 1), (dilation, 1, 1), bias=False)
        with torch.no_grad():
            conv.conv.weight.copy_(torch.randn(conv.conv.weight.shape, generator=generator))
            right = conv(x)
        words = f"kernel {kernel_size}, stride {stride}, dilation {dilation}, {frames} frames"
        result = call(words, x, conv.conv.weight.detach().clone(), stride, dilation)
        if shape_of(result) != shape_of(right):
            wrong = f"{words}: the result is {shape_of(result)}, but it should be {shape_of(right)}."
            return Verdict(False, f"{wrong} How much padding?")
        if not is_close(result, right):
            return Verdict(
                False, f"{words}: the shape is right, the values are not. On which side, and what, do you pad?"
            )
    return Verdict(True, f"It does what CausalConv3d does in all {len(CONVOLUTIONS)} cases.")


QUESTIONS: Questions = {
    "outputs moved by the last frame": Question(
        [6, 7],
        "Outputs 6 and 7: output 6 is computed from frames 5, 6 and 7, so it sees one frame of the future.",
        "Output t is computed from frames t − 1, t and t + 1. Which of these windows hold frame 7?",
        [([7], "Output 6 has frame 7 in its window too: t + 1."), ([5, 6, 7], "Output 5 sees frames 4, 5 and 6."),
         (list(range(8)), "Each output sees three frames only.")],
    ),
    "ends of the windows": Question(
        [0, 2, 4, 6],
        "Frames 0, 2, 4 and 6: the first window ends on frame 0, and the stride moves each next one by two frames.",
        "With two frames of padding the first window ends on frame 0. How far does a stride of 2 move the next one?",
        [([1, 3, 5, 7], "We want these ends, but with two frames of padding the first window ends on frame 0."),
         ([0, 1, 2, 3], "That is stride 1."), ([0, 2, 4, 6, 8], "There is no frame 8.")],
    ),
    "lengths without 1 - s": Question(
        [1, 5, 9, 13, 17],
        "4k + 1: after a first group of one frame all groups have four. Other lengths lose their last frames.",
        "Without 1 − s the first group has one frame, and all others have four.",
        [([4, 8, 12, 16], "That is with 1 − s, where every group has four frames."),
         (list(range(1, 18, 2)), "Odd lengths fit one layer of stride 2. The second layer halves once more."),
         ([5, 9, 13, 17], "A single frame is a group too.")],
    ),
    "axes padded wrongly": Question(
        ["time", "width"],
        "Time and width are exchanged: width gets the two in front, and time gets one on each side. So output t sees "
        "frame t + 1, and the model is not causal.",
        "F.pad reads the last axis first: which pair does it give to width, and which to time?",
        [(["height"], "Height is in the middle, so its pair is right in both orders."),
         (["time", "height", "width"], "Height is in the middle: its pair is right in both orders."),
         (["width", "time"], "Write them in the order of the axes: time comes first."),
         (["time"], "Time is wrong. Which axis has the pair that time should have?")],
    ),
    "seen through three layers": Question(
        [shapes.stacked_reach([(3, 1, 1)] * 3), shapes.stacked_reach([(3, 2, 1)] * 3)],
        "7 and 15. With stride 1 every layer adds 2 frames: 1 + 2 + 2 + 2. After a stride of 2 a layer steps over two "
        "frames at a time, so with stride 2 the layers add 2, 4 and 8.",
        "One output of the last layer sees 3 of the layer before. How many frames do these see together?",
        [([9, 9], "Windows overlap: three windows of three frames, one frame apart, span 5 frames and not 9."),
         ([27, 27], "Windows overlap, so reaches add and do not multiply."),
         ([7, 7], "With stride 2 a later layer steps over two frames, and then over four.")],
    ),
    "write a causal convolution": FunctionQuestion(_judge_convolution),
    "padding of kernel 3": Question(
        shapes.time_padding(3),
        "Two: k − 1 = 2 frames, so that the window of output 0 ends on frame 0.",
        "If the window of output 0 ends on frame 0, how many cells in front of frame 0 does it cover?",
        [(1, "One on each side is symmetric padding: output 0 would see frame 1, which comes after it."),
         (3, "The kernel covers 3 cells, and one of them is frame 0 itself.")],
    ),
    "padding of kernel 3, stride 2": Question(
        shapes.time_padding(3, stride=2),
        "One frame less: each window now ends one frame later, on the last frame of its group.",
        "The window of output 0 covers three cells and must end on frame 1. How many of them lie in front of frame 0?",
        [(shapes.time_padding(3), "With 2 the first window ends on frame 0, and the last of 8 frames is in no window."),
         (3, "More padding in front moves the windows to earlier frames, and they must end later.")],
    ),
    "window of output 2": Question(
        [2 * 2 - shapes.time_padding(3, stride=2) + cell for cell in range(3)],
        "Frames 3, 4 and 5: window j begins at j·s − padding, and ends with its group (frames 4 and 5).",
        "Window j begins at frame j·s − padding and covers k frames.",
        [([4, 5, 6], "Those begin at j·s. The one frame of padding moves every window one frame towards the front."),
         ([2, 3, 4], "That is with two frames of padding: the (1 − s) is missing.")],
    ),
    "outputs of 17 frames": Question(
        shapes.conv_output_size(17, 3, 2, padding=shapes.time_padding(3, stride=2)),
        "Eight, and none of them sees frame 16, because 17 is not divisible by 2. This is why Open-Sora first pads a "
        "clip to a multiple of 4.",
        "Put T = 17, padding = 1, k = 3, s = 2, d = 1 into the formula, and round down.",
        [(9, "That rounds up. A ninth window would need a frame 17."),
         (8.5, "Half a window gives no output: round down.")],
    ),
    "kernel of 1, stride 2": Question(
        list(range(1, 8, 2)),
        "The padding is 0 + (1 − 2) = −1: one frame is cut off, and the windows fall on frames 1, 3, 5 and 7. Half of "
        "the frames are never seen. CausalConv3d refuses this; the original code does it silently.",
        "The padding d·(k − 1) + (1 − s) is negative here: what does F.pad do with −1?",
        [(list(range(0, 8, 2)), "That is without padding. The formula gives −1, which first cuts off frame 0."),
         (list(range(8)), "A stride of 2 gives half as many outputs, and with a kernel of 1 each sees one frame.")],
    ),
    "brightness of output 0": Question(
        1 / 3,
        "A third: two of the three frames that it averages are zeros. Output 1 is 2/3, and from output 2 on the value "
        "is 1. Zeros in front pull the first outputs towards zero.",
        "Output 0 averages two cells of padding and frame 0.",
        [(1, "It would be 1 if the cells in front were copies of frame 0 (replicate)."), (2 / 3, "That is output 1."),
         (0, "Frame 0 itself is in the window.")],
    ),
    "write time_padding": agrees_with(
        shapes.time_padding,
        [(k, s, d) for k in range(1, 8) for s in range(1, 4) for d in range(1, 4) if d * (k - 1) + 1 >= s],
        "kernel_size={}, stride={}, dilation={}",
        lambda k, s, d: (
            "It is right for stride 1: what does a stride change?" if s > 1 else
            "It is right without dilation: how far does a dilated kernel reach?" if d > 1 else
            "Try kernel 3 by hand first."
        ),
    ),
    "order of F.pad": FunctionQuestion(_judge_order),
}  # fmt: skip
