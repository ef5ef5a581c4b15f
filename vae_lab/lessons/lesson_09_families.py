"""The questions and helpers of notebook 09: families. Answers come from the families' records and what it measured."""

import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from ..families.codec import Codec, codec_of, tiny_model
from ..families.table import FAMILIES, family_named
from ..figures.style import COLOURS, OTHER_COLOURS, new_figure, styled
from ..utils.tables import DataFrame, Figure
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with, choice

EQUAL = 1e-3  # of the largest value: more than float32 rounds, far less than what is not equal
_TRIED = ("cogvideox", "wan 2.1", "minimax-h3", "hunyuanvideo 1.5", "mochi")
_OPEN_SORA, _MINIMAX, _WAN = (FAMILIES[name] for name in ("open-sora 1.2", "minimax-h3", "wan 2.1"))
_FACTORS = 1.15258426, 0.7  # CogVideoX-2B and 5B: their config.json on the Hub


def nearest_kept(family: str, num_frames: int) -> int:
    """Return the length that comes back whole and is nearest to num_frames; the shorter one of two as near."""
    return min(family_named(family).nearest_legal(num_frames), key=lambda kept: abs(kept - num_frames))


def model_cost(model: nn.Module, *runs: tuple) -> tuple[float, float, float]:
    """Return millions of parameters, GFLOPs of all runs (function, *arguments), and the largest output in MB.

    The largest output is that of any module, in float32. On the meta device nothing is computed.
    """
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, y: Any) -> None:
        sizes.extend([y.numel()] if torch.is_tensor(y) else [])

    with register_module_forward_hook(note), FlopCounterMode(display=False) as counter, torch.no_grad():
        for run, *arguments in runs:
            run(*arguments)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters / 1e6, counter.get_total_flops() / 1e9, 4 * max(sizes) / 1e6


def seconds_of(run: Callable[[], Any], times: int = 2) -> float:
    """Return the seconds of the quickest of a few runs: the first one also prepares the kernels."""
    return min(timeit.repeat(run, repeat=times, number=1))


@styled
def cost_bars(panels: Mapping[str, Mapping[str, float]], height: float, own: int, digits: int = 0) -> Figure:
    """Draw bars side by side, a panel for each title: name -> value. The first `own` names are Open-Sora's halves."""
    figure = new_figure(height)
    names = list(next(iter(panels.values())))
    colours = [*(COLOURS["spatial"], COLOURS["output"])[-own:], *[OTHER_COLOURS[0]] * (len(names) - own)]
    for axis, (title, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        bars = axis.barh(range(len(values)), list(values.values()), color=colours)
        axis.bar_label(bars, [f"{value:.{digits}f}" for value in values.values()], padding=2, fontsize=8)
        axis.set(title=title, xlim=(0, 1.25 * max(values.values())), yticks=range(len(values)), yticklabels=values)
        if list(values) == names and axis is not figure.axes[0]:
            axis.set_yticklabels([])
        axis.grid(False)
        axis.invert_yaxis()
    return figure


def encoded(codec: Codec, x: Tensor) -> Tensor:
    """Return the mode of the latents of clips x; of MAGVIT-v2, the numbers before they become bits."""
    posterior = codec.posterior(x)
    return getattr(posterior, "raw", posterior.mode())


def noise_clip(family: str, num_frames: int) -> Tensor:
    """Return a clip of noise in [-1, 1], of the nearest length that the family keeps, two cells or 16 pixels wide."""
    side = 2 * max(8, family_named(family).spatial_ratio)
    return torch.rand(1, 3, nearest_kept(family, num_frames), side, side) * 2 - 1


def latent_steps(z: Tensor) -> Tensor:
    """Return how far each latent frame of z is from the one before, as a share of the largest value, (L - 1,)."""
    return (z[:, :, 1:] - z[:, :, :-1]).abs().amax(dim=(0, 1, 3, 4)) / z.abs().max()


def moved(f: Callable[[Tensor], Tensor], x: Tensor, at: int) -> list[int]:
    """Return the frames of f(x) that change, by whatever little, when frame `at` of x does."""
    other = x.clone()
    other[:, :, at] += 0.5
    return (f(other) != f(x)).any(dim=(0, 1, 3, 4)).nonzero().flatten().tolist()


def begins(a: Tensor, b: Tensor) -> bool:
    """Return whether clip or latent a is the beginning of b, but for rounding."""
    return bool((a - b[:, :, : a.shape[2]]).abs().max() < EQUAL * b.abs().max())


def league_row(family: str, codec: Codec, x: Tensor) -> dict[str, bool | None]:
    """Put the seven questions of the league table to a model with a clip x; None: the question cannot be put to it."""
    record, num_frames = family_named(family), x.shape[2]
    groups, short = record.timeline(num_frames).groups, nearest_kept(family, 17)
    early = max((n for n in range(9, short) if record.is_legal(n)), default=None)

    def into(x: Tensor) -> Tensor:
        return encoded(codec, x)

    def cut(length: int | None) -> bool | None:
        if length is None:
            return None
        start = into(x[:, :, :length])
        whole = codec.decode(z, num_frames)
        return begins(start, z) and begins(codec.decode(z[:, :, : start.shape[2]], length), whole)

    z, start = into(x), into(x[:, :, :short])
    latents = start.shape[2]
    first = moved(into, x[:, :, :short], -1)[0], moved(lambda z: codec.decode(z, short), start, -1)[0]
    image = begins(into(x[:, :, :1]), z) if record.latent_frames(1) else None
    still = bool(latent_steps(into(x[:, :, :1].repeat(1, 1, num_frames, 1, 1))).max() < EQUAL)
    last = moved(into, x, 0)[-1], moved(lambda z: codec.decode(z, num_frames), z, 0)[-1]
    whole = last[0] == len(groups) - 1 and last[1] >= groups[-1].start
    return {
        "encoder causal": first[0] == latents - 1, "decoder causal": first[1] >= groups[latents - 1].start,
        "still": still, "image": image, "cut at 17": cut(short), "cut before": cut(early), "one piece": whole,
    }  # fmt: skip


def league(codecs: Mapping[str, Codec], clips: Mapping[str, Tensor]) -> DataFrame:
    """Put the questions to each model, by the name of its family: a row for each, those with most "yes" first."""
    import pandas as pd

    rows = {family_named(name).name: league_row(name, codec, clips[name]) for name, codec in codecs.items()}
    table = pd.DataFrame(rows, dtype=object).T
    return table.loc[table.eq(True).sum(axis=1).sort_values(ascending=False, kind="stable").index]


def frames_back(family: str, num_frames: int) -> str:
    """Return how many frames come back of a clip, in a few letters: "-" if the class fails, "black" if all are."""
    record = family_named(family)
    back = record.decoded_frames(num_frames)
    if back is not None and record.law.blank(num_frames) >= back:
        return "black"
    return "-" if back is None else str(back)


def outputs_that_differ(layers: Iterable[tuple[int, int]]) -> int:
    """Return how many outputs of a stack of (kernel, stride) differ for a still clip with zeros in front."""
    differ = 0
    for kernel_size, stride in layers:
        differ = -(-(differ + kernel_size - stride) // stride)
    return differ


def _judge_still_test(call: Callable) -> Verdict:
    for name in _TRIED:
        record, codec = FAMILIES[name], codec_of(tiny_model(name))
        picture = noise_clip(name, 17)[:, :, :1]
        length = nearest_kept(name, 33)
        words = f"a small {record.name}, {length} frames"
        with torch.no_grad():
            result = call(words, lambda x, codec=codec: encoded(codec, x), picture, length)
        if not isinstance(result, bool):
            return Verdict(False, f"{words}: your function must return True or False; bool(...) makes one of a tensor.")
        if result != record.still_exact:
            how = "all equal but for rounding" if record.still_exact else "not equal: the padding is seen"
            return Verdict(False, f"{words}: your function says {result}, but the latents are {how}.")
    return Verdict(True, f"Right for all {len(_TRIED)} models: {', '.join(FAMILIES[name].name for name in _TRIED)}.")


_STACK: Sequence[tuple[int, int]] = ((3, 1), (3, 2), (3, 1))

QUESTIONS: Questions = {
    "a kernel with time": Question(
        3,
        "3: it has 27 weights instead of 9 for each pair of channels, and the number of outputs is the same.",
        "How many weights does each kernel have?",
        [(27, "That is the number of its weights. How many has the 3x3 kernel?"),
         (9, "That is the number of weights of the 3x3 kernel.")],
    ),
    "the half that computes more": choice(
        "2D", ("2D", "temporal"),
        "The 2D half does more than three quarters of the computing, with a fifth of the parameters: it begins and "
        "ends on pixels, and a frame has 64 times as many pixels as latent cells.",
        "At how many places does each half run?",
    ),
    "outputs that see padding": Question(
        3,
        "3: there are 5 frames of padding; the windows of outputs 0, 1 and 2 begin 5, 3 and 1 frames before frame 0.",
        "There are 7 - 2 frames of padding. How many windows begin in them, if each begins 2 frames later?",
        [(5, "That is how many frames of padding there are. A window begins at every second of them."),
         (2.5, "Round up: a window that begins in the padding counts."),
         (2, "The third window begins one frame before frame 0.")],
    ),
    "outputs of a stack": Question(
        outputs_that_differ(_STACK),
        "4: 2 after the first layer, ceil((2 + 1) / 2) = 2 after the second, and 2 + 2 = 4 after the third.",
        "Layer by layer: what differs already, plus this layer's padding of k - s; a stride divides it, rounded up.",
        [(2, "That is what one layer makes. The next layers see these two outputs, and zeros of their own."),
         (5, "The stride of 2 halves what came before it: 2 + 1 become 2."),
         (6, "That is three layers of stride 1. The second one has a stride of 2.")],
    ),
    "write the still test": FunctionQuestion(_judge_still_test),
    # the first latent that moves with the last frame
    "moved in hunyuanvideo": lambda latent: Question(
        latent,
        f"Latent {latent}: the norms take their statistics over all 17 frames, so nothing is final before the last.",
        "Over which frames do the norms take their statistics?",
        [(4, "That is what the convolutions alone would do. The norms see all frames.")],
    ),
    "std with the other factor": Question(
        _FACTORS[1] / _FACTORS[0],
        f"{_FACTORS[1] / _FACTORS[0]:.3f}: the latents are multiplied by 0.7 instead of 1.15258426.",
        "What is the standard deviation before the factor?",
        [(_FACTORS[0] / _FACTORS[1], "That is the other way round: it is the smaller factor that is used."),
         (_FACTORS[1], "That would be right if they had a standard deviation of 1 without a factor.")],
    ),
    "20 frames in wan": Question(
        _WAN.decoded_frames(20),
        "17: 19 // 4 + 1 = 5 latents, and 4 * 4 + 1 = 17 frames come back. The last 3 frames are dropped.",
        "How many whole groups of 4 follow the first frame? Each latent but the first gives 4 frames back.",
        [(20, "Its decoder is not told the length, and 20 is not 4k + 1."),
         (21, "The last group is not whole, so it is dropped, not filled up."), (5, "That is the number of latents.")],
    ),
    "latents of three chunks": Question(
        [_OPEN_SORA.latent_frames(51), _MINIMAX.latent_frames(51)],
        "15 and 12: both have 5 a chunk, but MiniMax-H3 drops the last 3 of the clip.",
        "Both have 5 for each chunk of 17. Which of them drops some at the end?",
        [([15, 15], "MiniMax-H3 drops the last 3 latents."),
         ([12, 15], "The two are the other way round."), ([13, 13], "That is 51 frames in one piece.")],
    ),
    "write the law of minimax-h3": agrees_with(
        lambda num_frames: _MINIMAX.latent_frames(num_frames),
        [(n,) for n in (1, 2, 17, 18, 22, 34, 35, 39, 51, 52, 85, 86)],
        "num_frames={}",
        lambda num_frames: (
            "A single frame is a picture: 1." if num_frames == 1 else
            "Each chunk of 17 frames, the last one filled up, has 5 latents; the last 3 of all are dropped."
        ),
    ),
    "bits per pixel": Question(
        12 / 64,
        "0.1875: 12 bits for 4 * 4 * 4 pixels. The first frame has cells of its own, but in a long clip they "
        "hardly count.",
        "How many pixels, over space and time, does a cell stand for?",
        [(12 / 16, "A cell stands for 4 frames too."), (12 / 256, "That is for cells of 8x8 pixels."),
         (64 / 12, "That is pixels per bit.")],
    ),
}  # fmt: skip
