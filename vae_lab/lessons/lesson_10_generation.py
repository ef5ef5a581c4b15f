"""The questions and helpers of notebook 10: generation. Right answers are formulas' or what the notebook measured."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..families.codec import Codec
from ..figures.frames import picture_grid
from ..figures.style import new_figure, styled
from ..generation.prompted_clips import BACKGROUND, MARGIN, prompted_clip
from ..generation.prompts import Prompt
from ..generation.rectified_flow import sample
from ..generation.stdit import STDiT3
from ..metrics import rms
from ..utils.tables import Figure
from ..video.frames import to_tensor
from .quiz import Question, Questions, agrees_with, choice

BATCH = 16  # clips that the VAE encodes at a time
PIXELS_PER_CELL = 8
_LAB = 5, 16  # latent frames of the lab's clips, and tokens in each


def drawn_clips(prompts: Sequence[Prompt | str], num_frames: int = 17, seed: int = 0) -> Tensor:
    """Draw a clip of each prompt at a place of its own, (N, 3, num_frames, 64, 64) in [-1, 1]."""
    drawn = [prompted_clip(np.random.default_rng([seed, i]), p, num_frames) for i, p in enumerate(prompts)]
    return torch.cat([to_tensor(frames) for frames in drawn])


@torch.no_grad()
def raw_latents(codec: Codec, x: Tensor) -> Tensor:
    """Encode clips (N, 3, T, H, W), a few at a time: raw latents (N, C, L, h, w)."""
    return torch.cat([codec.encode(part) for part in x.split(BATCH)])


def similarity(a: Tensor, b: Tensor) -> float:
    """Return the correlation of two tensors of equal shape over all their numbers."""
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def grain(clips: Sequence[np.ndarray]) -> float:
    """Return how far the pixels at the left and right border, where no object ever is, are from grey: RMS, of 255."""
    width = int(MARGIN)
    borders = [np.concatenate([clip[:, :, :width], clip[:, :, -width:]], 2) for clip in clips]
    return float(rms(np.stack(borders) - 255 * BACKGROUND))


@styled
def sample_grid(images: Mapping[str, Sequence[np.ndarray]], prompts: Sequence[Prompt | str], every: int = 1) -> Figure:
    """Draw the first frame of every n-th sample, a row for each name in images, with the prompts above."""
    chosen = range(0, len(prompts), every)
    figure = new_figure(0.4 + 1.3 * len(images), 1.3 * len(chosen))
    rows = {name: [frames[i][0] for i in chosen] for name, frames in images.items()}
    picture_grid(figure, rows, [" ".join(str(prompts[i]).split()[:2]) for i in chosen])
    return figure


def transformer_flops(model: STDiT3, latent_size: tuple[int, int, int]) -> int:
    """Count the floating point operations of one call for a latent (L, h, w), without computing: on the meta device."""
    config = model.config
    x = torch.zeros(1, config.in_channels, *latent_size, device="meta")
    y = torch.zeros(1, config.model_max_length, config.caption_channels, device="meta")
    pixels = dict(zip(("height", "width"), (PIXELS_PER_CELL * side for side in latent_size[1:]), strict=True))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        deepcopy(model).to("meta")(x, torch.zeros(1, device="meta"), y, fps=24, **pixels)
    return counter.get_total_flops()


def without_temporal_blocks(model: STDiT3) -> STDiT3:
    """Return a copy whose temporal blocks change nothing, as those of a new model: their last layers are 0."""
    model = deepcopy(model)
    blocks: Any = model.temporal_blocks
    for block in blocks:
        for layer in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def _pairs(frames: int, places: int) -> float:
    """How many times as many pairs full attention has as factorised attention, in a pair of blocks."""
    tokens = frames * places
    return 2 * tokens**2 / (frames * places**2 + places * frames**2)


def _growing(z: Tensor, t: Tensor) -> Tensor:
    return -z * (0.5 + t.view(-1, 1, 1, 1, 1) / 1000)


_NOISE = torch.randn(2, 1, 1, 1, 2, generator=torch.Generator().manual_seed(0))

QUESTIONS: Questions = {
    "point at 250": Question(
        1.25,
        "1.25: 0.75 * 2 + 0.25 * (-1). At t = 250 a quarter of the way to the noise is behind us.",
        "A quarter of the way from 2 to -1.",
        [(-0.25, "That is a quarter of the way from the noise. t = 0 is the data."),
         (0.75, "That is a quarter of the way's length: from 2 it leads downwards.")],
    ),
    "one step from noise": choice(
        "the mean clip", ("one clip", "the mean clip", "noise"),
        "The mean of all clips with this prompt: of many possible answers, the mean has the least squared error.",
        "From pure noise many clips are possible. Which single answer has the least squared error against all of them?",
    ),
    # "noise", "middle" and "clip" -> how far the velocity is from the straight way there
    "where the flow bends": lambda bend: choice(
        max(bend, key=bend.get), tuple(bend),
        "Share of the velocity that leads away from the straight line: "
        + ", ".join(f"{name} {value:.2f}" for name, value in bend.items()) + ".",
        "Where does the model know least about the clip that will come out?",
    ),
    "error of Euler": Question(
        2,
        "2: Euler's method has order 1, so half the step makes half the error.",
        "A method of order p divides the error by 2 to the power of p. Which order has Euler's?",
        [(4, "That would be order 2, as Heun's method has."), (1, "Then more steps would be of no use.")],
    ),
    "write a walk": agrees_with(
        lambda model, noise, num_steps: sample(model, noise, num_steps),
        [(_growing, _NOISE, n) for n in (1, 2, 5, 10)],
        "a model of two clips, {2} steps",
        lambda model, noise, num_steps: (
            f"t goes from 1000 to 0 in {num_steps} equal steps; each adds model(z, t) * (t - t after the step) / 1000."
        ),
    ),
    "loss at timestep 0": Question(
        1,
        "1: x is then x0 itself, and says nothing about the noise, whose variance is 1.",
        "The target is x0 - noise. Which part can the model see at t = 0, and what is the variance of the other one?",
        [(0, "The model sees x0, but the target is x0 - noise."),
         (2, "Half of the target, x0, is in plain sight.")],
    ),
    "timesteps of large clips": choice(
        "towards noise", ("towards noise", "towards data"),
        "Towards noise: averaged over more cells, a thing is seen through more noise.",
        "A thing that covers more cells: is it easier or harder to see through noise?",
    ),
    # how latents were scaled -> share of samples with the right colour
    "the worst scale": lambda colours: choice(
        min(colours, key=colours.get), tuple(colours),
        f"Right colours: {', '.join(f'{name} {share:.0%}' for name, share in colours.items())}.",
        "Noise always has a standard deviation of 1. Which latents does it drown?",
    ),
    "exact condition": choice(
        "lab-frame-group", ("lab", "lab-frame-group"),
        "Its norms see one frame at a time, and its convolutions look back only: frame 0 never hears of later ones.",
        "Which of them lets no later frame into latent 0? (Notebook 04.)",
    ),
    "pairs of attention": Question(
        _pairs(*_LAB),
        f"{_pairs(*_LAB):.2f}: 2 * 80 * 80 against 5 * 16 * 16 + 16 * 5 * 5.",
        "Full: all 80 tokens with all 80, in both blocks. Factorised: 16 with 16 in a frame, then 5 with 5 at a place.",
        [(_pairs(*_LAB) / 2, "Both blocks of the pair attend to all tokens, so the full count is 2 * 80 * 80."),
         (5, "That is the full block against the spatial one. The temporal block counts too."),
         (1 / _pairs(*_LAB), "That is the other way round.")],
    ),
    "shuffled frames": choice(
        "shuffled as well", ("the same", "shuffled as well", "something else"),
        "Each frame is computed alone, so its result travels with it: the frames are a set, not a clip.",
        "If each frame is computed alone, what does the model know about its place?",
    ),
}  # fmt: skip
