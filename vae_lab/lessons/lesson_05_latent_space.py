"""The questions of notebook 05: the latent space. Right answers come from formulas and from what it measured."""

from collections.abc import Callable, Mapping
from math import exp

import torch
from torch.distributions import Normal, kl_divergence

from .. import shapes
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with, choice, index_of_least, same

_OWN_FRAMES = [shapes.frame_groups(17)[2][0], shapes.frame_groups(17)[2][-1]]


def _cheapest_movement(losses: Mapping[str, float]) -> Question:
    """losses: name of each movement -> dB that moving the latents instead of the clip costs."""
    most, least = max(losses, key=losses.__getitem__), min(losses, key=losses.__getitem__)
    return choice(
        least,
        tuple(losses),
        f"{least} costs {losses[least]:.1f} dB, {most} {losses[most]:.1f} dB.",
        "Which of them changes only where a cell is, and nothing of what lies inside it?",
    )


def _judge_preview(call: Callable) -> Verdict:
    """Let the reader's function fit colours of random cells, and compare its weights with the best ones."""
    random = torch.Generator().manual_seed(0)
    for num_cells in (40, 1280):
        cells = torch.randn(num_cells, 4, generator=random) * 2 + torch.tensor([1.0, 0.5, -1.0, 0.0])
        colours = cells @ torch.randn(4, 3, generator=random) + torch.tensor([0.5, 0.0, -0.5])
        colours += 0.3 * torch.randn(num_cells, 3, generator=random)
        ones = torch.cat([cells, torch.ones(num_cells, 1)], dim=1)
        best, fed = torch.linalg.lstsq(ones, colours).solution, f"{num_cells} cells"
        found = call(fed, cells, colours)
        if not isinstance(found, torch.Tensor) or found.shape != (5, 3):
            what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            return Verdict(False, f"{fed}: the weights must be a tensor (5, 3), got {what}. Row 4 is the constant.")
        if not torch.allclose(found.to(best), best, atol=1e-3):
            errors = [(ones @ weights.to(best) - colours).square().mean().sqrt().item() for weights in (found, best)]
            message = f"{fed}: with your weights the RMS error is {errors[0]:.3f}, with the best ones {errors[1]:.3f}."
            return Verdict(False, f"{message} Is the constant in row 4, and every cell used?")
    return Verdict(True, "The weights with the least squared error: 15 numbers that stand for a decoder.")


QUESTIONS: Questions = {
    # correlation of each channel with itself one latent frame later
    "channel that forgets fastest": lambda correlation: index_of_least(
        correlation,
        "Channel {}: its correlation with itself one latent frame later is {:.2f}. Channel {} has {:.2f}.",
        "Step through the latent frames: in which channel does a cell change most, compared with how much it varies?",
        "That channel changes least.",
    ),
    "denormalized by mistake": Question(
        [4.0, 9.0],
        "Mean 3 * 1 + 1 = 4 and std 3 * 3 = 9: it was multiplied by 3 and 1 was added. The model expects 0 and 1.",
        "To normalize is to subtract the mean and to divide by the std. What does denormalize do with a mean of 1?",
        [([0.0, 1.0], "That is what normalize gives, but denormalize was called by mistake."),
         ([1.0, 3.0], "Those are the raw latents."), ([1.0, 9.0], "The mean is multiplied too, and then 1 is added."),
         ([3.0, 9.0], "The std is right. To the mean, denormalize adds the stored mean as well."),
         ([9.0, 4.0], "The two are the other way round.")],
    ),
    # difference of the frames when each channel is set to 0
    "cheapest channel": lambda rms: index_of_least(
        rms,
        "Channel {}: without it the frames change by an RMS of {:.2f}, without channel {} by {:.2f}.",
        "A channel's std does not tell you. Which channel differs from the others in its correlations and over time?",
        "Losing that channel costs most.",
    ),
    # first and last frame that differ by a bit when a cell of latent frame 2 changes, in the lab's model
    "frames that a cell paints": lambda frames: Question(
        list(frames),
        "Exactly the frames that latent frame 2 stands for." if same(frames, _OWN_FRAMES) else
        f"Frames {frames[0]} to {frames[1]}. How much they differ is another question: the picture below has a "
        "logarithmic scale.",
        "The question is which frames differ at all, even by one bit. Which norm does this model have?",
        [(_OWN_FRAMES, "Those are the frames that it stands for. Convolutions carry the change into later frames too."),
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
    "write a preview": FunctionQuestion(_judge_preview),
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
            "The two distributions are the same here, so the KL is 0." if mean == 0 and std == 1 else
            "With std 1 only the mean is left: half of its square." if std == 1 else
            "In nats the logarithm is the natural one, ln(std**2) / 2 = ln(std)."
        ),
    ),
}  # fmt: skip
