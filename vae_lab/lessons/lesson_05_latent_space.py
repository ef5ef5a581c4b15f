"""What notebook 05 asks: the latent space. Right answers come from formulas and from what the notebook measured."""

from collections.abc import Sequence
from math import exp, log

from .. import shapes
from .quiz import Check, Question, Questions, agrees_with, choice, extreme_index

_GROUP = shapes.frame_groups(17)[2]


def _forgets_fastest(correlation: Sequence[float]) -> Check:
    """correlation: of each channel with itself one latent frame later."""
    return extreme_index(
        min,
        correlation,
        "Channel {i}: its correlation with itself one latent frame later is {value:.2f}, that of channel {other} "
        "{other_value:.2f}.",
        "Step through the latent frames: in which channel does the same cell change most, for what varies in it?",
        opposite="That is the one that keeps most.",
    )


def _cheapest_channel(rms: Sequence[float]) -> Check:
    """rms: difference of the frames where each channel is set to 0."""
    return extreme_index(
        min,
        rms,
        "Channel {i}: without it the frames change by an RMS of {value:.2f}, without channel {other} by "
        "{other_value:.2f}.",
        "Its std does not tell. Which channel is unlike the others in the matrix of correlations and over time?",
        opposite="That is the one whose loss costs most.",
    )


def _painted(frames: Sequence[int]) -> Check:
    """frames: first and last frame that differ by a bit when a cell of latent frame 2 changes, in the lab's model."""
    found = list(frames)
    return Question(
        found,
        f"Frames {found[0]} to {found[1]}. By how much is another question: the picture below has a logarithmic scale."
        if found != [_GROUP.start, _GROUP.stop - 1]
        else "Just the frames that latent frame 2 stands for.",
        "The question is what differs at all, by as little as one bit. Which norm does this model have?",
        [([_GROUP.start, _GROUP.stop - 1], "Those it stands for. Convolutions carry it into later frames as well."),
         ([_GROUP.start, 16], "That would be so if the decoder was causal. Its norm pools over the chunk: see 04.")],
    ).check  # fmt: skip


def _painted_without_leak(frames: Sequence[int]) -> Check:
    """frames: the same in the model whose norms look at one frame at a time."""
    found = list(frames)
    return Question(
        found,
        f"Frames {found[0]} to {found[1]}: from the first frame that latent frame 2 stands for, and no earlier one.",
        "Latent frame 2 stands for frames 5 to 8. Which frames may know of it in a causal decoder?",
        [([0, 16], "That was the model whose norm pools over the chunk."),
         ([_GROUP.start, _GROUP.stop - 1], "Those it stands for. What of the later ones?")],
    ).check  # fmt: skip


def _halfway(crossfade: Sequence[float], ends: float) -> Check:
    """crossfade: RMS distance of each step from the cross-fade of the ends; ends: RMS distance between the ends."""
    most = max(crossfade)
    return choice(
        "fade" if most < ends / 4 else "morph",
        ("fade", "morph"),
        f"On its way it is never further than {most:.3f} from the cross-fade; the two clips are {ends:.3f} apart.",
        "Compare the two rows of the picture below.",
    )


def kl_to_standard(mean: float, std: float) -> float:
    """KL divergence of N(mean, std**2) from N(0, 1), in nats: (mean**2 + std**2 - 1) / 2 - ln(std).

    >>> kl_to_standard(0.0, 1.0), kl_to_standard(2.0, 1.0)
    (0.0, 2.0)
    """
    return (mean**2 + std**2 - 1) / 2 - log(std)


def _write_kl() -> Check:
    cases = [(mean, std) for mean in (-2.0, -0.5, 0.0, 0.5, 1.0, 3.0) for std in (0.05, 0.5, 1.0, exp(0.5), 2.0, 4.0)]

    def hint(mean: float, std: float) -> str:
        if mean == 0 and std == 1:
            return "The two are the same there, so it is 0."
        if std == 1:
            return "With std 1 only the mean is left: its square, halved."
        return "In nats the logarithm is the natural one, ln(std**2) / 2 = ln(std)."

    return agrees_with(kl_to_standard, cases, hint, "mean={:.3g}, std={:.3g}")


QUESTIONS: Questions = {
    "channel that forgets fastest": _forgets_fastest,
    "std after the mistake": Question(
        9.0,
        "9: a std of 3 is multiplied by 3 where it should be divided. A model that expects a std of 1 gets nine.",
        "To normalise is to subtract the mean and to divide by latents_std. What does denormalize do?",
        [(1.0, "That is the std after normalize. By mistake denormalize was called."),
         (1 / 3, "That is normalize called twice."), (3.0, "That is the std of the raw latents.")],
    ),
    "cheapest channel": _cheapest_channel,
    "frames that a cell paints": _painted,
    "frames painted without the leak": _painted_without_leak,
    "halfway between two clips": _halfway,
    "write kl": _write_kl,
}  # fmt: skip
