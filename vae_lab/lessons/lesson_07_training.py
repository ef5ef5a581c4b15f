"""What notebook 07 asks: training. Right answers come from what the notebook measured."""

from collections.abc import Callable, Mapping, Sequence

from .. import shapes
from .quiz import Check, Question

# ---- 07: training --------------------------------------------------------------------------------------------------


def _weight_of_kl() -> Check:
    latents = shapes.latent_frames(17)
    return Question(
        latents,
        f"{latents} times: the KL is summed over {latents} latent frames instead of 1, and not divided by them; the "
        "error is divided by its 17 frames.",
        "How many latent frames has a chunk of 17 frames? The KL is summed over all of them.",
        [(17, "The error is summed over 17 frames, but also divided by them. The KL is summed over latent frames."),
         (1, "That would be so if both were divided by their number of frames.")],
    ).check  # fmt: skip


def _identity(through: Mapping[str, float]) -> Check:
    """through: name of the run -> PSNR of images whose temporal latents went through the 2D decoder."""
    best = max(through, key=through.get)
    return Question(
        best,
        ", ".join(f"{name}: {value:.1f} dB" for name, value in through.items()) + ".",
        "One was asked to keep an image's temporal latent near its 2D latent, which is what that decoder knows.",
    ).check


def _drift(before: float, after: float) -> Check:
    """PSNR of images through the 2D decoder, after the stage with the identity loss and after one without."""
    return Question(
        "better" if after > before else "worse",
        f"{before:.1f} dB before, {after:.1f} dB after.",
        "Nothing in the loss asks for it any more.",
    ).check


def _expensive_channel(cost: Sequence[float]) -> Check:
    """cost: of each latent channel, the error of pixels when it alone is disturbed."""
    most = max(range(len(cost)), key=lambda channel: cost[channel])
    return Question(
        most,
        f"Channel {most}: an error of {cost[most]:.2g} in the pixels, {cost[most] / min(cost):.1f} times the cheapest.",
        "Compare the four numbers above.",
        [(most + 1, "Count from 0.")],
    ).check


def _sigma(sigmas: Sequence[float]) -> Check:
    """sigmas: mean posterior standard deviation, from the smallest weight of KL to the largest."""
    return Question(
        "up" if sigmas[-1] > sigmas[0] else "down",
        f"From {sigmas[0]:.3f} to {sigmas[-1]:.3f}: it is pulled towards 1.",
        "Towards which value does KL pull it?",
    ).check


QUESTIONS: dict[str, Question | Callable[..., Check]] = {
    "weight of kl": _weight_of_kl,
    "identity": _identity,
    "drift": _drift,
    "expensive channel": _expensive_channel,
    "sigma": _sigma,
}
