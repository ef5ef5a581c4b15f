"""The questions of notebook 05: the latent space. Right answers come from formulas and from what it measured."""

from collections.abc import Sequence
from math import exp

from torch.distributions import Normal, kl_divergence

from .. import shapes
from .quiz import Check, Question, Questions, agrees_with, choice, extremes

_GROUP = shapes.frame_groups(17)[2]
_OWN_FRAMES = [_GROUP.start, _GROUP.stop - 1]


def _forgets_fastest(correlation: Sequence[float]) -> Check:
    """correlation: of each channel with itself one latent frame later."""
    fastest, slowest = extremes(correlation)
    return Question(
        fastest,
        f"Channel {fastest}: its correlation with itself one latent frame later is {correlation[fastest]:.2f}. Channel "
        f"{slowest} has {correlation[slowest]:.2f}.",
        "Step through the latent frames: in which channel does a cell change most, compared with how much it varies?",
        [(slowest, "That channel changes least.")],
    ).check


def _cheapest_channel(rms: Sequence[float]) -> Check:
    """rms: difference of the frames when each channel is set to 0."""
    cheapest, costliest = extremes(rms)
    return Question(
        cheapest,
        f"Channel {cheapest}: without it the frames change by an RMS of {rms[cheapest]:.2f}, without channel "
        f"{costliest} by {rms[costliest]:.2f}.",
        "Its std does not tell you. Which channel differs from the others in the correlation matrix and over time?",
        [(costliest, "Losing that channel costs most.")],
    ).check


def _footprint(frames: Sequence[int]) -> Check:
    """frames: first and last frame that differ by a bit when a cell of latent frame 2 changes, in the lab's model."""
    frames = list(frames)
    return Question(
        frames,
        f"Frames {frames[0]} to {frames[1]}. How much they differ is another question: the picture below has a "
        "logarithmic scale."
        if frames != _OWN_FRAMES
        else "Exactly the frames that latent frame 2 stands for.",
        "The question is which frames differ at all, even by one bit. Which norm does this model have?",
        [(_OWN_FRAMES, "Those are the frames that it stands for. Convolutions carry it into later frames as well."),
         ([_GROUP.start, 16], "A causal decoder would do that. This norm pools over the chunk: see notebook 04.")],
    ).check  # fmt: skip


def _footprint_without_leak(frames: Sequence[int]) -> Check:
    """frames: the same in the model whose norms take each frame separately."""
    frames = list(frames)
    return Question(
        frames,
        f"Frames {frames[0]} to {frames[1]}: from the first frame that latent frame 2 stands for, and none before it.",
        "Latent frame 2 stands for frames 5 to 8. Which frames may depend on it in a causal decoder?",
        [([0, 16], "That was the model whose norm pools over the chunk."),
         (_OWN_FRAMES, "Those are the frames that it stands for. What about later ones?")],
    ).check  # fmt: skip


def _halfway(crossfade: Sequence[float], ends: float) -> Check:
    """crossfade: RMS distance of each step from the cross-fade of the ends; ends: RMS distance between the ends."""
    most = max(crossfade)
    return choice(
        "fade" if most < ends / 4 else "morph",
        ("fade", "morph"),
        f"The steps are at most {most:.3f} away from the cross-fade; the two clips are {ends:.3f} apart.",
        "Compare the two rows of the picture below.",
    )


def _write_kl() -> Check:
    cases = [(mean, std) for mean in (-2.0, -0.5, 0.0, 0.5, 1.0, 3.0) for std in (0.05, 0.5, 1.0, exp(0.5), 2.0, 4.0)]

    def expected(mean: float, std: float) -> float:
        return kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).item()

    def hint(mean: float, std: float) -> str:
        if mean == 0 and std == 1:
            return "The two are the same here, so it is 0."
        if std == 1:
            return "With std 1 only the mean is left: half of its square."
        return "In nats the logarithm is the natural one, ln(std**2) / 2 = ln(std)."

    return agrees_with(expected, cases, hint, "mean={:.3g}, std={:.3g}")


QUESTIONS: Questions = {
    "channel that forgets fastest": _forgets_fastest,
    "std after the mistake": Question(
        9.0,
        "9: a std of 3 is multiplied by 3 instead of divided. A model that expects a std of 1 gets 9.",
        "To normalize is to subtract the mean and to divide by latents_std. What does denormalize do?",
        [(1.0, "That is the std after normalize, but denormalize was called by mistake."),
         (1 / 3, "That is the std if normalize is called twice."), (3.0, "That is the std of the raw latents.")],
    ),
    "cheapest channel": _cheapest_channel,
    "frames that a cell paints": _footprint,
    "frames painted without the leak": _footprint_without_leak,
    "halfway between two clips": _halfway,
    "write kl": _write_kl,
}  # fmt: skip
