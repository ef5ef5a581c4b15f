"""What notebook 03 asks: reconstruction. Right answers come from what the notebook measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..metrics import psnr
from .quiz import Check, Question, Questions, agrees_with, choice, extreme_index


def _which_half(squared_error: Mapping[str, float]) -> Check:
    """squared_error: "2D only" and "full" -> mean squared error."""
    share = squared_error["2D only"] / squared_error["full"]
    return choice(
        "2D" if share > 0.5 else "temporal",
        ("2D", "temporal"),
        f"Through the 2D half alone there is {share:.0%} of the squared error already.",
        f"Look at the two PSNRs: 2D only has {share:.0%} of the squared error already.",
    )


def _worst_in_chunk(psnr_by_place: Sequence[float]) -> Check:
    """psnr_by_place: mean PSNR of the frames at each place of a chunk."""
    return extreme_index(
        min,
        psnr_by_place,
        "Place {i}: {value:.2f} dB, {other_value:.2f} dB at place {other}, the best.",
        "Which frame has nothing but padding in front of it?",
        opposite="That is the best one.",
        mistakes=[(len(psnr_by_place) - 1, "The last frame has its whole chunk before it.")],
    )


def _biggest_jump(change: Sequence[float]) -> Check:
    """change[t]: mean absolute change from frame t to frame t + 1 of a static clip's reconstruction."""
    jump = int(np.argmax(change))
    usual = sorted(change)[len(change) // 2]
    return Question(
        jump + 1,
        f"Frame {jump + 1} begins a chunk: the picture changes by {change[jump]:.3f}, between usual frames by "
        f"{usual:.3f}, though nothing in the clip moves.",
        "Where does the model begin to encode anew?",
        [(jump, f"Nearly: that is the last frame before the jump, and the jump shows on frame {jump + 1}."),
         ((len(change) + 1) // 2, "Chunks have 17 frames.")],
    ).check  # fmt: skip


def _write_psnr() -> Check:
    random = torch.Generator().manual_seed(0)
    cases = [
        tuple(torch.rand(3, 4, 5, generator=random) * 2 - 1 for _ in range(2)),
        (torch.zeros(3, 4, 5), torch.full((3, 4, 5), 0.1)),
    ]

    def expected(x: torch.Tensor, y: torch.Tensor) -> float:
        return psnr(x[None, :, None], y[None, :, None], data_range=2.0).item()

    def hint(x: torch.Tensor, y: torch.Tensor) -> str:
        return "The peak is the largest value less the smallest, 2 here; the mean is over channels and pixels together."

    return agrees_with(expected, cases, hint, "two frames (3, 4, 5) with values in [-1, 1]")


QUESTIONS: Questions = {
    "write psnr": _write_psnr,
    "which half": _which_half,
    "worst place in a chunk": _worst_in_chunk,
    "jump of a static clip": _biggest_jump,
}
