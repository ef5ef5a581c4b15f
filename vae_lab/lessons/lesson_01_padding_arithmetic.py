"""The questions of notebook 01: padding. Right answers and many known mistakes come from `shapes`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .. import shapes
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with

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


QUESTIONS: Questions = {
    "padding of kernel 3": Question(
        shapes.time_padding(3),
        "Two: d·(k − 1) = 2 frames, so that the window of output 0 ends on frame 0.",
        "If the window of output 0 ends on frame 0, how many cells in front of frame 0 does it cover?",
        [(1, "One on each side is symmetric padding: output 0 would see frame 1, which comes after it."),
         (3, "The kernel covers 3 cells, and one of them is frame 0 itself.")],
    ),
    "padding of kernel 3, stride 2": Question(
        shapes.time_padding(3, stride=2),
        "One: d·(k − 1) + (1 − s) = 2 − 1. Each window now ends at the end of its group of 2 frames.",
        "Use d·(k − 1) + (1 − s).",
        [(shapes.time_padding(3), "That is d·(k − 1) without (1 − s): the first window would end on frame 0, and the "
          "last of 8 frames would be in no window."),
         (3, "The sign is the other way round: (1 − s) is −1 here.")],
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
