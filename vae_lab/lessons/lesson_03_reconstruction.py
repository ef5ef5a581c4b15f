"""The questions of notebook 03: reconstruction. Right answers come from what the notebook measured."""

from collections.abc import Mapping, Sequence

import torch

from ..metrics import psnr
from .quiz import Check, Question, Questions, agrees_with, choice, extremes


def _which_half(squared_error: Mapping[str, float]) -> Check:
    """squared_error: "2D only" and "full" -> mean squared error."""
    share = squared_error["2D only"] / squared_error["full"]
    return choice(
        "2D" if share > 0.5 else "temporal",
        ("2D", "temporal"),
        f"The 2D half alone already makes {share:.0%} of the squared error.",
        f"Look at the two PSNRs: 2D only already has {share:.0%} of the squared error.",
    )


def _worst_in_chunk(psnr_by_place: Sequence[float]) -> Check:
    """psnr_by_place: mean PSNR of the frames at each place of a chunk."""
    worst, best = extremes(psnr_by_place)
    return Question(
        worst,
        f"Place {worst} has {psnr_by_place[worst]:.2f} dB; the best, place {best}, has {psnr_by_place[best]:.2f} dB.",
        "Which frame has nothing but padding in front of it?",
        [(best, "That is the best one."), (len(psnr_by_place) - 1, "The last frame has its whole chunk before it.")],
    ).check


def _biggest_jump(change: Sequence[float]) -> Check:
    """change[t]: mean absolute change from frame t to frame t + 1 of a static clip's reconstruction."""
    _, jump = extremes(change)
    usual = sorted(change)[len(change) // 2]
    return Question(
        jump + 1,
        f"Frame {jump + 1} begins a chunk: the picture changes by {change[jump]:.3f} there, and by {usual:.3f} between "
        "most frames, although nothing in the clip moves.",
        "Where does the model start encoding again from nothing?",
        [(jump, f"Nearly: that is the last frame before the jump, which shows on frame {jump + 1}."),
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
        return "The peak is the largest value minus the smallest, 2 here; the mean runs over all channels and pixels."

    return agrees_with(expected, cases, hint, "two frames (3, 4, 5) with values in [-1, 1]")


QUESTIONS: Questions = {
    "write psnr": _write_psnr,
    "which half": _which_half,
    "worst place in a chunk": _worst_in_chunk,
    "jump of a static clip": _biggest_jump,
}
