"""The questions of notebook 08: ablations. Right answers come from statistics, `shapes` and what it measured."""

from functools import partial
from typing import Any

import pandas as pd
from scipy.special import stdtrit

from .. import shapes
from ..ablation.config import TrialConfig, changed
from ..ablation.metrics import METRICS, SAME, UNDECIDED
from ..ablation.results import paired_difference, verdict
from ..utils.text import count
from .quiz import OPEN, Question, Questions, Verdict, agrees_with, choice

_T3 = float(stdtrit(2, 0.975))
_RATIO_8 = shapes.latent_frames(34) / shapes.latent_frames(34, 8)


def _against_base(metric: str, hint: str, cause: str, low: float, high: float) -> Question:
    """Ask what (low, high) of a measured difference says; cause: how it may come about, whatever was measured."""
    right = verdict(metric, low, high)
    why = f"The interval of the difference is {low:+.3g} to {high:+.3g}: {right}. {cause}"
    return choice(right, (*METRICS[metric].directions, UNDECIDED, SAME), why, hint)


def _interval(differences: list[float]) -> tuple[float, float]:
    interval = paired_difference(pd.Series(differences), pd.Series([0.0] * len(differences)))
    return interval["low"], interval["high"]


def _check_variants(base: TrialConfig, variants: Any) -> Verdict:
    """variants: the reader's table of changes to `base`, as `run_ablation` takes it."""
    if variants is ...:
        return Verdict(None, OPEN)
    if not isinstance(variants, dict) or not variants:
        return Verdict(False, 'The answer is a dict of dicts, such as {"wider": {"model": {"base_channels": 24}}}.')
    changes = []
    for name, difference in variants.items():
        try:
            other = changed(base, difference).to_dict()
        except Exception as error:  # the reader's table may be anything
            return Verdict(False, f"{name!r}: {error}")
        fields = [field for field, value in base.to_dict().items() if other[field] != value]
        if not fields or "seed" in fields:
            return Verdict(False, f"{name!r} must change a field of the base other than the seed.")
        changes.append(f"{name} changes {', '.join(fields)}")
    return Verdict(True, f"It can be run: {'; '.join(changes)}.")


QUESTIONS: Questions = {
    "standard errors of 3 seeds": Question(
        _T3,
        f"{_T3:.2f}: Student's t with 2 degrees of freedom, more than twice the 1.96 for a known standard deviation.",
        "The standard deviation is itself an estimate, from 3 differences: ask scipy.stats.t.ppf(0.975, df) with the "
        "right df.",
        [(1.96, "That is right if the standard deviation is known. Here it is estimated from 3 differences."),
         (float(stdtrit(3, 0.975)), "That has 3 degrees of freedom. The mean uses up one."),
         (float(stdtrit(2, 0.95)), "That leaves 5 % on one side. An interval has two."),
         (2, "This rule of thumb is for many seeds.")],
    ),
    # how many variants are compared with a base, by one metric each
    "false alarms": lambda variants: Question(
        variants / 20,
        f"{variants} times one in twenty is {variants / 20:.2g}. The chance of at least one false alarm is "
        f"{1 - 0.95**variants:.0%} (if they are independent).",
        "Each 95 % interval misses the truth once in twenty times. Here the truth is 0.",
        [(0, "By chance alone, a 95 % interval misses 0 once in twenty times."),
         (variants, "That would be all of them."), (0.05, "That is for one variant.")],
    ),
    "write interval": agrees_with(
        _interval,
        [([scale * (seed * seed % 7 - shift) for seed in range(1, n + 1)],)
         for n in (2, 3, 5, 10) for shift in (0, 2) for scale in (1.0, -0.5)],
        "{}",
        lambda differences: (
            f"t has {count(len(differences) - 1, 'degree')} of freedom: {stdtrit(len(differences) - 1, 0.975):.2f}. "
            f"The standard error is std, computed with n - 1, divided by the square root of {len(differences)}."
        ),
    ),
    "replicate near the start": partial(
        _against_base, "time_error", "The question is about the first group of four frames in each chunk.",
        "No clip has frames of zeros; a copy of the first frame is what a still clip would have there.",
    ),
    "symmetric convolutions": partial(
        _against_base, "time_error", "Both start as the same interpolation, and have few steps to learn more.",
        "Knowing the next frames can help, but a model must first learn to use them.",
    ),
    "leak of frame_group": Question(
        0.0,
        "0, to the bit: convolutions that see only the past and norms that see one frame let nothing through.",
        "Which two kinds of layer use other frames? What does each of them see in this variant?",
        [(1, "Then later frames would have as much effect as those that a latent may see.")],
    ),
    "compute of early halving": partial(
        _against_base, "training_gflop", "How many frames do the levels after a halving work on?",
        "The levels after the first halving have half as many frames to work on.",
    ),
    "compression of 8x": Question(
        _RATIO_8,
        f"{_RATIO_8:.2f}: two chunks of 17 have {shapes.latent_frames(34)} latents with 4x and "
        f"{shapes.latent_frames(34, 8)} with 8x, since 17 / 8 is rounded up to 3.",
        "How many latents does a chunk of 17 frames have with 4x, and how many with 8x?",
        [(2, "That would be right if 8 divided every chunk. A chunk has 17 frames, and 17 / 8 is rounded up."),
         (1.8, "That is right in one piece. Here there are two chunks, and each is rounded up."),
         (8, "That is the ratio of the variant. How does it compare with the base?")],
    ),
    "latents in chunks of 5": Question(
        shapes.latent_frames(34, micro_frame_size=5),
        f"{shapes.latent_frames(34, micro_frame_size=5)}: six chunks of 5 have 2 each, and the rest of 4 has 1.",
        "Which chunks are 34 frames divided into? Each is rounded up separately.",
        [(shapes.latent_frames(34), "That is right in chunks of 17."),
         (shapes.latent_frames(34, micro_frame_size=None), "That is right in one piece."),
         (14, "The last chunk has 4 frames, which make one latent.")],
    ),
    "another factor in use": partial(
        _against_base, "time_error", "The input of the temporal half is then 1.4 times as large as it was in training.",
        "The convolutions are nearly linear, so most of a factor passes through; the nonlinear parts were fitted to "
        "another scale.",
    ),
    "images with the identity loss": partial(
        _against_base, "image_psnr", "The loss asks for something close to what an interpolation begins with.",
        "An image's latent is its 2D latent from the start, so there is little for the loss to preserve.",
    ),
    "PSNR with much KL": partial(
        _against_base, "psnr", "The KL loss pulls every posterior towards N(0, 1): noise without a signal.",
        "If the noise in training is large compared with the signal, the decoder learns to average over what it cannot "
        "tell apart.",
    ),
    "3D from the pixels": partial(
        _against_base, "psnr",
        "Both get the same compute. 3D mixes space and time from the first layer but gets fewer steps.",
        "A step of the 3D model costs more, so it gets fewer of them.",
    ),
    "own variant": lambda base: partial(_check_variants, base),
}  # fmt: skip
