"""The questions of notebook 03: reconstruction. Right answers come from what the notebook measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..figures.style import FULL, SPATIAL_ONLY
from ..metrics import psnr
from .quiz import Check, FunctionQuestion, Question, Questions, Verdict, agrees_with, choice, index_of_least, same

_NOISE = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1  # two frames in [-1, 1]


def _which_half(squared_error: Mapping[str, float]) -> Question:
    """squared_error: SPATIAL_ONLY and FULL -> mean squared error."""
    share = squared_error[SPATIAL_ONLY] / squared_error[FULL]
    return choice(
        "2D" if share > 0.5 else "temporal",
        ("2D", "temporal"),
        f"The 2D half alone already makes {share:.0%} of the squared error.",
        f"Look at the two PSNRs: {SPATIAL_ONLY} already has {share:.0%} of the squared error.",
    )


def _padding_of_first_frame(quality: Mapping[int, float]) -> Question:
    """quality: frames of padding, 0 to 3 -> PSNR of frame 0 in dB, minus that of later frames."""
    worst = min(quality, key=quality.__getitem__)
    return Question(
        worst,
        f"With {worst} frames of padding, the PSNR of frame 0 is {quality[worst]:+.2f} dB relative to later frames; "
        f"with 3, {quality[3]:+.2f} dB.",
        "Chunks of 17 frames have 3 frames of padding, and most clips in training had 17.",
    )


def _mend(x: torch.Tensor, before: torch.Tensor, frame: int = 17) -> Check:
    """Ask for a function that reconstructs the clip x with a better `frame` than in `before`, and no worse others."""

    def quality(y: torch.Tensor) -> torch.Tensor:
        return psnr(x, y.clamp(-1, 1), data_range=2.0)[0]

    was = quality(before)

    def judge(call: Callable) -> Verdict:
        y = call("x", x)
        if not isinstance(y, torch.Tensor) or y.shape != x.shape or y.is_meta:
            got = tuple(getattr(y, "shape", ())) or type(y).__name__
            return Verdict(False, f"The result must be a tensor of shape {tuple(x.shape)}, as the clip; got {got}.")
        now = quality(y)
        lost, gained = was - now, (now - was)[frame].item()
        if gained < 3:
            hint = "Its chunk still gets too little padding, or its first frame shares a latent frame."
            return Verdict(False, f"Frame {frame} gains {gained:.1f} dB. {hint}")
        if lost.max() > 0.5:
            hint = "What did you put beside it?"
            return Verdict(
                False, f"Frame {frame} gains {gained:.1f} dB, but frame {lost.argmax()} loses {lost.max():.1f}. {hint}"
            )
        return Verdict(
            True,
            f"Frame {frame} rises from {was[frame]:.1f} to {now[frame]:.1f} dB; no frame loses more than "
            f"{max(0, lost.max()):.1f} dB.",
        )

    return FunctionQuestion(judge).check


def largest_jump(change: Sequence[float], starts: Sequence[int] = (0, 17)) -> Check:
    """Ask on which frame the reconstruction of a clip that stands still changes most.

    Equal chunks make equal jumps, so a change within 0.1 % of the largest is right too. change[t] is the mean absolute
    change from frame t to frame t + 1; `starts` are the first frames of the chunks.
    """
    largest = [t + 1 for t, value in enumerate(change) if value >= 0.999 * max(change)]
    usual = sorted(change)[len(change) // 2]

    def check(answer: Any) -> Verdict:
        frame = next((frame for frame in largest if same(answer, frame)), largest[0])
        what = "a chunk" if frame < starts[-1] else f"the last chunk, of {len(change) + 1 - frame} frames"
        return Question(
            frame,
            f"Frame {frame}{f' begins {what}' if frame in starts else ''}: the picture changes by "
            f"{change[frame - 1]:.3f} there, and by {usual:.3f} between most frames.",
            "The clip stands still, so look where the model starts again from nothing.",
            [(frame - 1, "Nearly: that is the last frame before the jump. Name the frame on which the jump shows."),
             *((start, f"It changes by {change[start - 1]:.3f} there, but there is a larger jump.")
               for start in starts[1:] if start <= len(change))],
        ).check(answer)  # fmt: skip

    return check


def _step_of_channels(psnr_by_channels: Mapping[int, float]) -> Question:
    """psnr_by_channels: 4, 8 and 16 latent channels -> PSNR in dB."""
    first, second = (psnr_by_channels[2 * c] - psnr_by_channels[c] for c in (4, 8))
    return choice(
        "4 to 8" if first > second else "8 to 16",
        ("4 to 8", "8 to 16"),
        f"From 4 to 8 channels PSNR rises by {first:.1f} dB, from 8 to 16 by {second:.1f} dB.",
        "One frame of a group fits into 4 channels, two fit into 8. How far can a shape move between kept frames?",
    )


QUESTIONS: Questions = {
    "write psnr": agrees_with(
        lambda x, y: psnr(x[None, :, None], y[None, :, None], data_range=2.0).item(),
        [tuple(_NOISE), (torch.zeros(3, 4, 5), torch.full((3, 4, 5), 0.1))],
        "two frames (3, 4, 5) with values in [-1, 1]",
        lambda x, y: (
            "The peak is the largest value minus the smallest, 2 here; the mean runs over all channels and pixels."
        ),
    ),
    # PSNR in dB of each frame of a clip in chunks of 17
    "worst frame of the clip": lambda psnr_by_frame: index_of_least(
        psnr_by_frame,
        "Frame {}: {:.2f} dB. The best, frame {}, has {:.2f} dB.",
        "Step through the frames and read the PSNR below the picture.",
        "That is the best one.",
        (0, f"Frame 0 has {psnr_by_frame[0]:.2f} dB. There is a worse one."),
    ),
    "which half": _which_half,
    # mean squared error of the frames at each place of a chunk, relative to the 2D half's
    "best place in a chunk": lambda error_by_place: index_of_least(
        error_by_place,
        "Place {} has {:.2f} times the error of 2D only; place {} has the most, {:.2f} times.",
        "How many frames share each latent frame?",
        "That is the worst one.",
        (len(error_by_place) - 1, "The last frame shares its latent frame with three others."),
    ),
    "padding and the first frame": _padding_of_first_frame,
    "mend a short chunk": _mend,
    "jump of a static clip": largest_jump,
    "step of channels": _step_of_channels,
}
