"""What notebook 06 asks: long videos. Right answers come from `shapes` and from what the notebook measured."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .. import shapes
from ..utils import text
from .quiz import OPEN, Check, Question, Questions, Verdict, function_check

_IN_CHUNKS, _WHOLE = shapes.latent_frames(68), shapes.latent_frames(68, micro_frame_size=None)


def _largest_jump(change: Sequence[float], starts: Sequence[int]) -> Check:
    """change[t]: mean absolute change from frame t to t + 1 of a still clip's reconstruction; starts: of its chunks."""
    most = int(np.argmax(change))
    jump, usual = most + 1, sorted(change)[len(change) // 2]
    where = f"Frame {jump}"
    if jump in starts:
        rest = len(change) + 1 - starts[-1]
        where += f" begins a chunk, the last one, of {rest} frames" if jump == starts[-1] else " begins a chunk"
    others = [start for start in starts[1:] if start != jump]
    return Question(
        jump,
        f"{where}: the picture changes by {change[most]:.3f}, between usual frames by {usual:.3f}.",
        "It stands still in the clip, so look where the model begins anew, and which of its chunks is unlike the rest.",
        [(most, f"Nearly: that is the last frame before the jump, which shows on frame {jump}."),
         *((start, f"There it changes by {change[start - 1]:.3f}, but there is a larger jump. Which chunk is unlike "
            "the rest?") for start in others if start != most)],
    ).check  # fmt: skip


def _as_they_come(num_frames: int, calls: int) -> list[int]:
    """Latents that each of the first calls gives, where every call gets one frame and there are no chunks."""
    last = shapes.encoder_last_seen(shapes.frame_groups(num_frames, micro_frame_size=None))
    return [int(t in last) for t in range(calls)]


def _write_step() -> Check:
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 2, 9, generator=random), torch.randn(3, 2, 4, generator=random)
    expected = F.conv1d(F.pad(x, (3, 0)), weight)
    start = torch.zeros(1, 2, 3)

    def judge(function: Callable) -> Verdict:
        for lengths in ([9], [5, 4], [1] * 9, [2, 3, 4]):
            past, outputs, fed = start, [], f"k=4, pieces of {' and '.join(map(str, dict.fromkeys(lengths)))}"
            for piece in x.split(lengths, dim=2):
                try:
                    result = function(piece.clone(), past.clone(), weight.clone())
                except Exception as error:  # the reader's code may fail in any way
                    return Verdict(False, f"{fed}: your function raised {type(error).__name__}: {error}")
                if result is ...:
                    return Verdict(None, OPEN)
                if not isinstance(result, tuple | list) or [type(r) for r in result] != [torch.Tensor] * 2:
                    return Verdict(False, "Return two tensors: the outputs for x, and the past for the next piece.")
                y, past = result
                if y.shape != (1, 3, piece.shape[2]):
                    said = f"{fed}: outputs of shape {tuple(y.shape)} for {text.count(piece.shape[2], 'frame')}"
                    return Verdict(False, f"{said}. There is one for each frame of x: put the past in front of x.")
                if past.shape != start.shape:
                    said = f"{fed}: a past of shape {tuple(past.shape)}, it must keep its k - 1 = 3 frames"
                    return Verdict(False, f"{said}. A piece may be shorter than that: cut from past and x together.")
                outputs.append(y)
            if not torch.allclose(torch.cat(outputs, dim=2), expected, atol=1e-5):
                return Verdict(False, f"{fed}: not what the whole clip gives. Which frames do the next windows need?")
        return Verdict(True, "Pieces of any size give what the whole clip gives, also pieces shorter than the past.")

    return function_check(judge)


QUESTIONS: Questions = {
    "latents too many": Question(
        _IN_CHUNKS - _WHOLE,
        f"{_IN_CHUNKS} in chunks, {_WHOLE} in one piece: every chunk of 17 rounds its 4.25 up to 5.",
        "68 frames are four chunks of 17. What does each round up to, and what is 68 / 4?",
        [(_IN_CHUNKS, "That is how many there are in chunks. And in one piece?"),
         (_WHOLE, "That is how many there are in one piece. And in chunks?"),
         (0, "4 divides 68, but not 17.")],
    ),
    "largest jump of a still": _largest_jump,
    "step of a fade": Question(
        1 / 5,
        "1/5: four faded frames lie between black and white, with 1/5, 2/5, 3/5 and 4/5 of white.",
        "How many steps lead over four frames in between?",
        [(1 / 4, "Four frames lie in between. How many steps lead from black over them to white?"),
         (1 / 3, "Neither the first nor the last of the four is a frame of one chunk alone."),
         (1, "That is the step without a fade."), (0, "It must get from black to white somehow.")],
    ),
    "write step": _write_step,
    "when latents come": Question(
        _as_they_come(18, 6),
        "18 frames get 2 frames of padding: with frames 0 and 1 the first group of four is complete, then with every "
        "fourth frame.",
        "How many frames of padding stand before frame 0, and how many frames complete the first group of four?",
        [(_as_they_come(17, 6), "That is so for 17 frames, with 3 frames of padding."),
         (_as_they_come(20, 6), "That would be so without padding, as for 20 frames."),
         ([0] * 6, "A latent is there as soon as its group is complete.")],
    ),
    "when latent 0 is final": Question(
        [51, shapes.frame_groups(51, micro_frame_size=None)[0].stop],
        "All 51, since the last frame moves the statistics of all; and 3: with one frame of padding they are the group "
        "of latent 0.",
        "Which frames do the statistics of GroupNorm run over? And which frames does latent 0 stand for, if 51 + 1 is "
        "divided by 4?",
        [([51, 4], "With 51 frames, one frame of padding belongs to the first group."),
         ([51, 1], "That is so for a chunk of 17, with 3 frames of padding. 51 frames get one."),
         ([17, 3], "There are no chunks here: everything is one piece."),
         ([3, 51], "The two are the other way round.")],
    ),
    "rows kept of a tile": Question(
        48 // shapes.SPATIAL_RATIO,
        "48 of 64 pixels are new with each tile: 6 latent rows. The last tile is kept to its end.",
        "How many pixels further on does the next tile begin, and how many latent rows is that?",
        [(64 // shapes.SPATIAL_RATIO, "That is the whole tile: every next one then lands 2 rows too far on."),
         (48, "That is in pixels."), (2, "Those are the rows that two tiles share.")],
    ),
}  # fmt: skip
