"""The questions of notebook 06: long videos. Right answers come from `shapes` and from what the notebook measured."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .. import shapes
from ..utils import text
from .lesson_03_reconstruction import largest_jump
from .quiz import FunctionQuestion, Question, Questions, Verdict

_IN_CHUNKS, _WHOLE = shapes.latent_frames(68), shapes.latent_frames(68, micro_frame_size=None)


def _latents_per_call(num_frames: int, calls: int) -> list[int]:
    """Count the latents that each of the first calls returns if each gets one frame and there are no chunks."""
    last = shapes.encoder_last_seen(shapes.frame_groups(num_frames, micro_frame_size=None))
    return [int(t in last) for t in range(calls)]


def _judge_step(call: Callable) -> Verdict:
    """Feed a clip to the reader's step(x, past, weight) in pieces, and compare with the whole clip."""
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 2, 9, generator=random), torch.randn(3, 2, 4, generator=random)
    expected = F.conv1d(F.pad(x, (3, 0)), weight)
    for lengths in ([9], [5, 4], [1] * 9, [2, 3, 4]):
        fed = f"k=4, pieces of {' and '.join(map(str, dict.fromkeys(lengths)))}"
        past, outputs = torch.zeros(1, 2, 3), []
        for piece in x.split(lengths, dim=2):
            result = call(fed, piece, past, weight)
            if not isinstance(result, tuple | list) or [type(r) for r in result] != [torch.Tensor] * 2:
                return Verdict(False, "Return two tensors: the outputs for x, and the past for the next piece.")
            y, past = result
            if y.shape != (1, 3, piece.shape[2]):
                message = f"{fed}: outputs of shape {tuple(y.shape)} for {text.count(piece.shape[2], 'frame')}"
                return Verdict(False, f"{message}. There is one for each frame of x: put the past in front of x.")
            if past.shape != (1, 2, 3):
                message = f"{fed}: a past of shape {tuple(past.shape)}, but it must keep its k - 1 = 3 frames"
                return Verdict(False, f"{message}. A piece may be shorter than that: cut from past and x together.")
            outputs.append(y)
        if not torch.allclose(torch.cat(outputs, dim=2).to(expected), expected, atol=1e-5):
            message = f"{fed}: the outputs differ from those of the whole clip."
            return Verdict(False, f"{message} Which frames do the next windows need?")
    return Verdict(True, "Pieces of any size give what the whole clip gives, even pieces shorter than the past.")


QUESTIONS: Questions = {
    "latents too many": Question(
        _IN_CHUNKS - _WHOLE,
        f"{_IN_CHUNKS} in chunks, {_WHOLE} in one piece: every chunk of 17 rounds its 4.25 up to 5.",
        "68 frames are four chunks of 17. What does each round up to, and what is 68 / 4?",
        [(_IN_CHUNKS, "That is how many there are in chunks. How many are there in one piece?"),
         (_WHOLE, "That is how many there are in one piece. How many are there in chunks?"),
         (0, "68 is divisible by 4, but 17 is not.")],
    ),
    "largest jump of a still": largest_jump,
    "length of the hidden chunks": Question(
        13,
        "13 frames: a still clip repeats after 13 frames, because equal chunks come back equal.",
        "For which clip are all full chunks the same input, and which frames of the result are then equal?",
        [(26, "It repeats after 26 frames too, but also after fewer."),
         (17, "That is the chunk of the released model. This one has another."),
         (4, "That is the rhythm of frame groups, and it is not exact.")],
    ),
    "step of a fade": Question(
        1 / 5,
        "1/5: four faded frames lie between black and white, with 1/5, 2/5, 3/5 and 4/5 of white.",
        "How many steps are there with four frames in between?",
        [(1 / 4, "Four frames lie between black and white. How many steps does that make?"),
         (1 / 3, "Neither the first nor the last of the four comes from one chunk alone."),
         (1, "That is the step without a fade."), (0, "It must get from black to white somehow.")],
    ),
    "write step": FunctionQuestion(_judge_step),
    "when latents come": Question(
        _latents_per_call(18, 6),
        "18 frames get 2 frames of padding: frames 0 and 1 complete the first group of four, and then every fourth "
        "frame completes one.",
        "How many frames of padding are there before frame 0, and how many frames complete the first group of four?",
        [(_latents_per_call(17, 6), "That is right for 17 frames, with 3 frames of padding."),
         (_latents_per_call(20, 6), "That would be right without padding, as for 20 frames."),
         ([0] * 6, "A latent comes as soon as its group is complete.")],
    ),
    "when latent 0 is final": Question(
        [51, shapes.frame_groups(51, micro_frame_size=None)[0].stop],
        "All 51, because the last frame changes the statistics of all; and 3, because the group of latent 0 is one "
        "frame of padding and frames 0 to 2.",
        "Over which frames does GroupNorm take its statistics? And which frames does latent 0 stand for, if one "
        "frame of zeros stands in front of the 51?",
        [([51, 4], "With 51 frames, one frame of padding belongs to the first group."),
         ([51, 1], "That is right for a chunk of 17, with 3 frames of padding. 51 frames get one."),
         ([17, 3], "There are no chunks here: everything is one piece."),
         ([3, 51], "The two are the other way round.")],
    ),
    "rows kept of a tile": Question(
        48 // shapes.SPATIAL_RATIO,
        "48 of 64 pixels are new with each tile: 6 latent rows. The last tile is kept to its end.",
        "How many pixels after a tile does the next one begin, and how many latent rows is that?",
        [(64 // shapes.SPATIAL_RATIO, "That is the whole tile: each tile then lands 2 rows further off."),
         (48, "That is in pixels."), (2, "Those are the rows that two tiles share.")],
    ),
}  # fmt: skip
