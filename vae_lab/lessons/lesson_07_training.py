"""The questions of notebook 07: training. Right answers come from what the notebook measured."""

from collections.abc import Mapping, Sequence

from .. import shapes
from .quiz import Check, Question, Questions, choice, extremes

_LATENTS = shapes.latent_frames(17)


def _identity(through: Mapping[str, float]) -> Check:
    """through: name of the run -> PSNR of images whose temporal latents went through the 2D decoder."""
    return choice(
        max(through, key=lambda name: through[name]),
        list(through),
        ", ".join(f"{name}: {value:.1f} dB" for name, value in through.items()) + ".",
        "One run had to keep an image's temporal latent near its 2D latent, which is what the 2D decoder knows.",
    )


def _drift(before: float, after: float) -> Check:
    """PSNR of images through the 2D decoder, after the stage with the identity loss and after one without."""
    return choice(
        "better" if after > before else "worse",
        ("better", "worse"),
        f"{before:.1f} dB before, {after:.1f} dB after.",
        "Nothing in the loss asks for it any more.",
    )


def _expensive_channel(cost: Sequence[float]) -> Check:
    """cost: for each latent channel, the error of the pixels when only this channel is disturbed."""
    least, most = extremes(cost)
    return Question(
        most,
        f"Channel {most}: an error of {cost[most]:.2g} in the pixels, {cost[most] / cost[least]:.1f} times the least.",
        "Compare the four numbers above.",
        [(most + 1, "Count from 0.")],
    ).check


def _sigma(sigmas: Sequence[float]) -> Check:
    """sigmas: mean posterior standard deviation, from the smallest weight of KL to the largest."""
    return choice(
        "up" if sigmas[-1] > sigmas[0] else "down",
        ("up", "down"),
        f"From {sigmas[0]:.3f} to {sigmas[-1]:.3f}: KL pulls it towards 1.",
        "Towards which value does KL pull it?",
    )


QUESTIONS: Questions = {
    "weight of kl": Question(
        _LATENTS,
        f"{_LATENTS} times: the KL is summed over {_LATENTS} latent frames instead of 1 and not divided by their "
        "number, but the error is divided by its 17 frames.",
        "How many latent frames does a chunk of 17 frames have? The KL is summed over all of them.",
        [(17, "The error is summed over 17 frames, but also divided by 17. The KL is summed over latent frames."),
         (1, "That would be right if both were divided by their number of frames.")],
    ),
    "identity": _identity,
    "drift": _drift,
    "expensive channel": _expensive_channel,
    "sigma": _sigma,
}  # fmt: skip
