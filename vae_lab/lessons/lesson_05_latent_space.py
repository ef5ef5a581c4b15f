"""The questions of notebook 05: the latent space. Right answers come from formulas and from what it measured."""

from collections.abc import Mapping, Sequence
from math import exp

from torch.distributions import Normal, kl_divergence

from .. import shapes
from .quiz import Question, Questions, agrees_with, choice, extremes, same

_OWN_FRAMES = [shapes.frame_groups(17)[2][0], shapes.frame_groups(17)[2][-1]]


def _channel_of_least(values: Sequence[float], why: str, hint: str, mistake: str) -> Question:
    """Ask for the channel with the least value. why: format of that channel, its value, and the same of the most."""
    least, most = extremes(values)
    return Question(least, why.format(least, values[least], most, values[most]), hint, [(most, mistake)])


def _cheapest_movement(losses: Mapping[str, float]) -> Question:
    """losses: name of each movement -> dB that moving the latents instead of the clip costs."""
    most, least = max(losses, key=losses.__getitem__), min(losses, key=losses.__getitem__)
    return choice(
        least,
        tuple(losses),
        f"{least} costs {losses[least]:.1f} dB, {most} {losses[most]:.1f} dB.",
        "Which of them changes only where a cell is, and nothing of what lies inside it?",
    )


QUESTIONS: Questions = {
    # correlation of each channel with itself one latent frame later
    "channel that forgets fastest": lambda correlation: _channel_of_least(
        correlation,
        "Channel {}: its correlation with itself one latent frame later is {:.2f}. Channel {} has {:.2f}.",
        "Step through the latent frames: in which channel does a cell change most, compared with how much it varies?",
        "That channel changes least.",
    ),
    "std after the mistake": Question(
        9.0,
        "9: a std of 3 is multiplied by 3 instead of divided. A model that expects a std of 1 gets 9.",
        "To normalize is to subtract the mean and to divide by latents_std. What does denormalize do?",
        [(1.0, "That is the std after normalize, but denormalize was called by mistake."),
         (1 / 3, "That is the std if normalize is called twice."), (3.0, "That is the std of the raw latents.")],
    ),
    # difference of the frames when each channel is set to 0
    "cheapest channel": lambda rms: _channel_of_least(
        rms,
        "Channel {}: without it the frames change by an RMS of {:.2f}, without channel {} by {:.2f}.",
        "Its std does not tell you. Which channel differs from the others in the correlation matrix and over time?",
        "Losing that channel costs most.",
    ),
    # first and last frame that differ by a bit when a cell of latent frame 2 changes, in the lab's model
    "frames that a cell paints": lambda frames: Question(
        list(frames),
        "Exactly the frames that latent frame 2 stands for." if same(frames, _OWN_FRAMES) else
        f"Frames {frames[0]} to {frames[1]}. How much they differ is another question: the picture below has a "
        "logarithmic scale.",
        "The question is which frames differ at all, even by one bit. Which norm does this model have?",
        [(_OWN_FRAMES, "Those are the frames that it stands for. Convolutions carry it into later frames as well."),
         ([5, 16], "A causal decoder would do that. This norm pools over the chunk: see notebook 04.")],
    ),
    # the same in the model whose norms take each frame separately
    "frames painted without the leak": lambda frames: Question(
        list(frames),
        f"Frames {frames[0]} to {frames[1]}: from the first frame that latent frame 2 stands for, and none before it.",
        "Latent frame 2 stands for frames 5 to 8. Which frames may depend on it in a causal decoder?",
        [([0, 16], "That was the model whose norm pools over the chunk."),
         (_OWN_FRAMES, "Those are the frames that it stands for. What about later ones?")],
    ),
    "cheapest movement": _cheapest_movement,
    # RMS distance of each step from the cross-fade of the ends, and RMS distance between the ends
    "halfway between two clips": lambda crossfade, ends: choice(
        "fade" if max(crossfade) < ends / 4 else "morph", ("fade", "morph"),
        f"The steps are at most {max(crossfade):.3f} away from the cross-fade; the two clips are {ends:.3f} apart.",
        "Compare the two rows of the picture below.",
    ),
    "write kl": agrees_with(
        lambda mean, std: kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).item(),
        [(mean, std) for mean in (-2.0, -0.5, 0.0, 0.5, 1.0, 3.0) for std in (0.05, 0.5, 1.0, exp(0.5), 2.0, 4.0)],
        "mean={:.3g}, std={:.3g}",
        lambda mean, std: (
            "The two are the same here, so it is 0." if mean == 0 and std == 1 else
            "With std 1 only the mean is left: half of its square." if std == 1 else
            "In nats the logarithm is the natural one, ln(std**2) / 2 = ln(std)."
        ),
    ),
}  # fmt: skip
