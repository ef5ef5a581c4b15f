"""What notebook 08 asks: ablations."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from scipy.special import stdtrit

from .. import shapes
from ..ablation.config import TrialConfig, changed
from ..ablation.metrics import METRICS, SAME, UNDECIDED
from ..ablation.results import paired_difference, verdict
from ..utils import text
from .quiz import OPEN, Check, Question, Questions, Verdict, agrees_with, choice

_T3 = float(stdtrit(2, 0.975))
_RATIO_8 = shapes.latent_frames(34) / shapes.latent_frames(34, 8)


def _false_alarms(variants: int) -> Check:
    """variants: how many are compared with a base, by one metric each."""
    return Question(
        variants / 20,
        f"{variants} times one in twenty is {variants / 20:.2g}. That at least one is found has a chance of "
        f"{1 - 0.95**variants:.0%} (if they were independent).",
        "Each interval of 95 % misses the truth once in twenty. Here the truth is 0.",
        [(0, "Chance alone makes an interval of 95 % miss 0 once in twenty."),
         (variants, "That would be all of them."), (0.05, "That is for one variant.")],
    ).check  # fmt: skip


def _against_base(metric: str, hint: str, cause: str) -> Callable[[float, float], Check]:
    """Of (low, high) of a measured difference; cause: how it may come about, whatever was measured."""
    more, less = METRICS[metric].directions

    def ask(low: float, high: float) -> Check:
        right = verdict(metric, low, high)
        found = f"The interval of the difference is {low:+.3g} to {high:+.3g}: {right}. {cause}"
        return choice(right, (more, less, UNDECIDED, SAME), found, f"The table says something else. {hint}")

    return ask


def _write_interval() -> Check:
    def expected(differences: list[float]) -> tuple[float, float]:
        found = paired_difference(pd.Series(differences), pd.Series([0.0] * len(differences)))
        return found["low"], found["high"]

    cases = [
        ([scale * (seed * seed % 7 - shift) for seed in range(1, n + 1)],)
        for n in (2, 3, 5, 10) for shift in (0, 2) for scale in (1.0, -0.5)
    ]  # fmt: skip

    def hint(differences: list[float]) -> str:
        n = len(differences)
        return (
            f"t is that of {text.count(n - 1, 'degree')} of freedom, {stdtrit(n - 1, 0.975):.2f}; the standard error "
            f"is std, with n - 1, divided by the root of {n}."
        )

    return agrees_with(expected, cases, hint, "{}")


def _own_variant(base: TrialConfig) -> Check:
    """base: what the reader's variants are of. An answer is a table of variants, as `run_ablation` takes it."""

    def check(variants: Any) -> Verdict:
        if variants is ...:
            return Verdict(None, OPEN)
        if not isinstance(variants, dict) or not variants:
            return Verdict(False, 'The answer is a table of tables, as {"wider": {"model": {"base_channels": 24}}}.')
        fields = []
        for name, difference in variants.items():
            try:
                other = changed(base, difference).to_dict()
            except Exception as error:  # the reader's table may be anything
                return Verdict(False, f"{name!r}: {error}")
            own = [field for field, value in base.to_dict().items() if other[field] != value]
            if not own or "seed" in own:
                return Verdict(False, f"{name!r} must change a field of the base, and not the seed.")
            fields.append(f"{name} changes {', '.join(own)}")
        return Verdict(True, f"It can be run: {'; '.join(fields)}.")

    return check


QUESTIONS: Questions = {
    "standard errors of 3 seeds": Question(
        _T3,
        f"{_T3:.2f}: Student's t with 2 degrees of freedom, more than twice the 1.96 of a known standard deviation.",
        "The standard deviation is itself an estimate, from 3 differences: ask scipy.stats.t.ppf(0.975, df) for the "
        "right df.",
        [(1.96, "That is so where the standard deviation is known. Here 3 differences estimate it."),
         (float(stdtrit(3, 0.975)), "That has 3 degrees of freedom. One is used up by the mean."),
         (float(stdtrit(2, 0.95)), "That leaves 5 % on one side. An interval has two."), (2, "The rule of thumb is for "
          "many seeds.")],
    ),
    "false alarms": _false_alarms,
    "write interval": _write_interval,
    "replicate near the start": _against_base(
        "time_error", "It is asked for the first group of four frames in each chunk.",
        "Zeros are a frame that no clip has; the first frame again is what a still clip would have had.",
    ),
    "leak of frame_group": Question(
        0.0,
        "0, to the bit: convolutions that look back only, and norms that look at one frame, let nothing through.",
        "Which two kinds of layer look at other frames? What does each of them see in this variant?",
        [(1, "That would be as much from later frames as from those that a latent may see.")],
    ),
    "compute of early halving": _against_base(
        "training_gflop", "On how many frames do the levels behind a halving work?",
        "The levels behind the first halving have half as many frames to work on.",
    ),
    "compression of 8x": Question(
        _RATIO_8,
        f"{_RATIO_8:.2f}: two chunks of 17 have {shapes.latent_frames(34)} latents with 4x and "
        f"{shapes.latent_frames(34, 8)} with 8x, since 17 / 8 is rounded up to 3.",
        "How many latents has a chunk of 17 frames with 4x, and how many with 8x?",
        [(2, "That would be so in one piece. A chunk has 17 frames, and 17 / 8 is rounded up."),
         (8, "That is the ratio of the variant. How does it compare with the base?")],
    ),
    "latents in chunks of 5": Question(
        shapes.latent_frames(34, micro_frame_size=5),
        f"{shapes.latent_frames(34, micro_frame_size=5)}: six chunks of 5 have 2 each, and the rest of 4 has 1.",
        "Which chunks are 34 frames divided into? Each rounds up for itself.",
        [(shapes.latent_frames(34), "That is so in chunks of 17."),
         (shapes.latent_frames(34, micro_frame_size=None), "That is so in one piece."),
         (14, "The last chunk has 4 frames, which make one latent.")],
    ),
    "another factor in use": _against_base(
        "time_error", "What the temporal half is given is then 1.4 times as large as what it has seen in training.",
        "The convolutions are nearly linear, so most of a factor passes through; what is not linear was fitted to "
        "another scale.",
    ),
    "images with the identity loss": _against_base(
        "image_psnr", "What the loss asks for is near what an interpolation begins with.",
        "An image's latent is its 2D latent at the start already, so there is little for the loss to hold.",
    ),
    "PSNR with much KL": _against_base(
        "psnr", "The KL loss wants the noise as large as the signal.",
        "Noise that is large against the signal has to be undone by a decoder that cannot know it.",
    ),
    "3D from the pixels": _against_base(
        "psnr", "Both get as much compute. One mixes space and time from the first layer on and pays for it in steps.",
        "A step of the 3D model costs more, so it gets fewer of them.",
    ),
    "own variant": _own_variant,
}  # fmt: skip
