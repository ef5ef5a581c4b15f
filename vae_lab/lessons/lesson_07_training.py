"""The questions of notebook 07: training. Right answers come from what the notebook measured."""

from collections.abc import Sequence

from .. import shapes
from .quiz import Question, Questions, choice, extremes

_LATENTS = shapes.latent_frames(17)


def _expensive_channel(cost: Sequence[float]) -> Question:
    """cost: for each latent channel, the error of the pixels when only this channel is disturbed."""
    least, most = extremes(cost)
    return Question(
        most,
        f"Channel {most}: an error of {cost[most]:.2g} in the pixels, {cost[most] / cost[least]:.1f} times the least.",
        "In notebook 05, three channels hold the colours of whole cells, and one the detail in them.",
        [(most + 1, "Count from 0.")],
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
    # name of the run -> PSNR of images whose temporal latents went through the 2D decoder
    "identity": lambda through: choice(
        max(through, key=through.get), list(through),
        ", ".join(f"{name}: {value:.1f} dB" for name, value in through.items()) + ".",
        "One run had to keep an image's temporal latent near its 2D latent, which is what the 2D decoder knows.",
    ),
    # PSNR of images through the 2D decoder, after the stage with the identity loss and after one without
    "drift": lambda before, after: choice(
        "better" if after > before else "worse", ("better", "worse"),
        f"{before:.1f} dB before, {after:.1f} dB after.",
        "Nothing in the loss asks for it any more.",
    ),
    "expensive channel": _expensive_channel,
    # mean posterior standard deviation, from the smallest weight of KL to the largest
    "sigma": lambda sigmas: choice(
        "up" if sigmas[-1] > sigmas[0] else "down", ("up", "down"),
        f"From {sigmas[0]:.3f} to {sigmas[-1]:.3f}: KL pulls it towards 1.",
        "Towards which value does KL pull it?",
    ),
}  # fmt: skip
