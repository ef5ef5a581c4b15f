"""The questions of notebook 07: training. Right answers come from what the notebook measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import shapes
from ..gaussian import DiagonalGaussian
from .quiz import Question, Questions, agrees_with, choice, extremes

_LATENTS = shapes.latent_frames(17)


def _loss(x: Tensor, y: Tensor, mean: Tensor, std: Tensor, kl_weight: float) -> float:
    kl = DiagonalGaussian(torch.cat([mean, 2 * std.log()], dim=1)).kl().sum() / mean.numel()
    return float((y - x).square().mean() + 0.05 * (y - x).abs().mean() + kl_weight * kl)


def _loss_case(kl_weight: float, frames: int, latent_frames: int) -> tuple:
    generator = torch.Generator().manual_seed(frames)
    x, y = 3 * torch.randn(2, 2, 4, frames, 2, 3, generator=generator)
    mean, logvar = torch.randn(2, 2, 4, latent_frames, 2, 3, generator=generator)
    return x, y, mean, (logvar / 2).exp(), kl_weight


_LOSS_CASES = [_loss_case(weight, *frames) for weight in (0.0, 2.0) for frames in ((1, 1), (5, 2), (17, 5))]


def _least_visible_channel(cost: Sequence[float]) -> Question:
    """cost: for each latent channel, the error of the pixels when only this channel is disturbed."""
    least, most = extremes(cost)
    return Question(
        least,
        f"Channel {least}: an error of {cost[least]:.2g} in the pixels. In channel {most} the same error of latents "
        f"costs {cost[most] / cost[least]:.1f} times as much.",
        "In notebook 05, three channels hold the colours of whole cells, and one the detail in them.",
        [(least + 1, "Count from 0."), (most, "That is where it matters most.")],
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
    # mean squared distance of images' latents from their 2D latents, at the beginning and the end of a stage without
    # the identity loss
    "drift": lambda before, after: choice(
        "larger" if after > before else "smaller", ("larger", "smaller"),
        f"{before:.4f} before, {after:.4f} after.",
        "Does anything in the loss of stage 2 still keep these latents near the 2D latents?",
    ),
    "write the loss": agrees_with(
        _loss, _LOSS_CASES, "x of shape {0.shape}, y of shape {1.shape}, mean of shape {2.shape}, kl_weight={4}",
        lambda x, y, mean, std, kl_weight: (
            "The weight of the absolute error is 0.05, and that of the KL is 0 here." if not kl_weight else
            "The KL is the mean of (mean² + std² - 1 - ln std²) / 2 over the elements of mean."
        ),
    ),
    "least visible channel": _least_visible_channel,
    # mean posterior standard deviation, from the smallest weight of KL to the largest
    "sigma": lambda sigmas: choice(
        "up" if sigmas[-1] > sigmas[0] else "down", ("up", "down"),
        f"From {sigmas[0]:.3f} to {sigmas[-1]:.3f}: KL pulls the standard deviation towards 1.",
        "Towards which value does KL pull the standard deviation?",
    ),
}  # fmt: skip
