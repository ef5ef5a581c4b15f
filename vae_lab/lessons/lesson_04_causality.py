"""The questions of notebook 04: causality. Right answers come from `shapes` and from what the notebook measured."""

import random
from collections.abc import Callable, Sequence

import torch
from torch import nn

from .. import shapes
from ..causal_conv import CausalConv3d
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with, choice, is_close, shape_of

_GROUPS = shapes.frame_groups(17)
_LAST_SEEN = shapes.encoder_last_seen(_GROUPS)
_GROUPS_19 = shapes.frame_groups(19, micro_frame_size=None)


def plant_leak(vae: nn.Module, seed: int = 0) -> str:
    """Let one causal convolution in the encoder of a TemporalVAE see one step ahead, and return its path.

    The weights stay. Instead of two frames in front, it pads one on either side, as `torch.nn.Conv3d` does.
    """
    modules = {path: module for path, module in vae.named_modules() if isinstance(module, CausalConv3d)}
    inside = [path for path in modules if path.startswith("encoder.") and ".resnets." in path]
    path = random.Random(seed).choice([path for path in inside if modules[path].conv.kernel_size == (3, 3, 3)])
    causal = modules[path].conv
    planted = nn.Conv3d(causal.in_channels, causal.out_channels, 3, padding=1, bias=causal.bias is not None)
    planted.to(causal.weight).load_state_dict(causal.state_dict())
    vae.set_submodule(path, planted.train(causal.training))
    return path


def _layers(num_res_blocks: int = 4, downsample: Sequence[bool] = (False, True, True)) -> list[tuple[int, int, int]]:
    """(kernel_size, stride, dilation) of each convolution with a kernel in time along a TemporalVAE's encoder."""
    layers, resnets = [(3, 1, 1)], [(3, 1, 1)] * 2 * num_res_blocks
    for halve in (*downsample, False):
        layers += resnets + [(3, 2, 1)] * halve
    return layers + resnets


def _check_frame_norm(call: Callable) -> Verdict:
    """call(words, norm, x): the reader's function, which is to apply a torch.nn.GroupNorm to each frame alone."""
    generator = torch.Generator().manual_seed(0)
    cases = [(1, 2, 1), (2, 2, 3), (2, 4, 5)]  # batch, groups, frames
    for batch, groups, frames in cases:
        norm = nn.GroupNorm(groups, 4 * groups)
        norm.weight.data.copy_(torch.randn(4 * groups, generator=generator))
        x = torch.randn(batch, 4 * groups, frames, 3, 2, generator=generator)
        shown = f"x of shape {tuple(x.shape)}"
        y = call(shown, norm, x)
        right = torch.stack([norm(frame) for frame in x.unbind(2)], dim=2)
        if shape_of(y) != shape_of(x):
            return Verdict(False, f"{shown}: the result must have the shape of x, got {shape_of(y)}.")
        if not is_close(y, right, atol=1e-5):
            over_all = is_close(y, norm(x), atol=1e-5)
            asked = "Which axes do flatten and unflatten join and split?"
            hint = "That is the norm over all frames." if over_all else asked
            return Verdict(False, f"{shown}: the values are not those of each frame normalised alone. {hint}")
    return Verdict(True, f"Each frame is normalised alone, in all {len(cases)} cases.")


_FIELD = shapes.stacked_reach(_layers())


QUESTIONS: Questions = {
    # in a chunk of 19 frames
    "frames latent 2 may see": Question(
        list(range(_GROUPS_19[2].stop)),
        "Frames 0 to 10: everything up to the end of its own group, frames 7 to 10.",
        "Latent frame 2 stands for frames 7 to 10. What may it see before them, and what after?",
        [(list(_GROUPS_19[2]), "Those are the frames that it stands for. It may see the past as well."),
         (list(range(7)), "It may see up to the end of its *own* group, the one that it stands for."),
         (list(range(12)), "19 frames have one frame of zeros in front: the groups end at 2, 6, 10, ..."),
         (list(range(9)), "That is right for 17 frames. 19 have only one frame of zeros in front."),
         (list(range(19)), "That is the whole chunk, but frame 18 comes after the group of latent frame 2.")],
    ),
    # the latent frames of a chunk of 17 frames that move when its last frame changes
    "moved by the last frame": lambda moved: Question(
        list(moved),
        "All 5, even latent frame 0, which stands for frame 0 alone: it depends on a frame that comes 16 frames later."
        if len(moved) == len(_GROUPS) else f"The latent frames {list(moved)}.",
        "Compare the two latents, latent frame by latent frame.",
        [([4], "That is how a causal encoder behaves: only the latent frame that stands for the last frame moves."),
         ([], "The last frame is in the clip, so at least its own latent frame moves.")],
    ),
    "moved by frame 5": Question(
        [latent for latent, last in enumerate(_LAST_SEEN) if last >= 5],
        "Latent frame 2 stands for frame 5; 3 and 4 come later and see it in their past. 0 and 1 do not move by a "
        "single bit.",
        "Which latent frames may see frame 5? Those whose group ends at frame 5 or later.",
        [([2], "That one stands for frame 5. Later ones see it too: it is in their past."),
         (list(range(5)), "GroupNorm over the whole chunk would do that."),
         ([1, 2, 3, 4], "Latent frame 1 stands for frames 1 to 4, and may see nothing after them.")],
    ),
    # class of the first module whose past moved
    "which module": lambda offender: Question(
        offender,
        f"{offender}: it is the first module whose past outputs moved although the past of its input stood still.",
        'Answer "CausalConv3d", "GroupNorm" or "SiLU". Which of them uses more than one frame, and which uses frames '
        "that come later?",
        [("CausalConv3d", "Notebook 01 showed that its windows end with the frame's own group."),
         ("SiLU", "It acts on every number separately.")],
    ),
    "write frame norm": FunctionQuestion(_check_frame_norm),
    # path of the planted module
    "planted convolution": lambda path: Question(
        path,
        f"{path}: it has one frame of padding on either side, so it sees one frame ahead at its level.",
        "Ask attribute_leak: its first offender has a path.",
        [(path.rpartition(".")[0], "That is the block around it: which of its parts is it?"),
         (path.rpartition(".")[2], "Every block has one: which block?"),
         (path.removeprefix("encoder."), "Give the path in the whole model: it begins with encoder.")],
    ),
    # "as trained" and "norms swapped" -> mean PSNR
    "quality after the swap": lambda quality: choice(
        "worse" if quality["norms swapped"] < quality["as trained"] else "better", ("better", "worse"),
        f"{quality['as trained']:.2f} dB as trained, {quality['norms swapped']:.2f} dB with norms that the weights "
        "have never seen.",
        "Compare the two means.",
    ),
    "receptive field of the encoder": Question(
        _FIELD,
        f"{_FIELD} frames: 1 + 2 + 16 + 16 + 2 + 32 + 4 + 64 + 64.",
        "Go through the layers: each adds 2 times the product of the strides before it. Four levels and a mid block "
        "have 8 convolutions each, and time is halved after levels 1 and 2, counted from 0.",
        [(shapes.stacked_reach([(3, 1, 1)] * len(_layers())), "That is with stride 1 everywhere."),
         (shapes.stacked_reach(_layers(downsample=(True, True, False))), "That halves time after levels 0 "
          "and 1; the released flags are (False, True, True)."),
         (shapes.stacked_reach(_layers(2)), "Every residual block has two convolutions."),
         (_FIELD - 1, "Do not forget the 1 that the sum begins with."), (17, "That is a chunk.")],
    ),
    # the latent frames of 17 frames that move when the last frame changes
    "moved in cogvideox": lambda moved: Question(
        list(moved),
        f"Latent frames {list(moved)}: the whole second chunk, of 8 frames, and nothing in the first chunk, of 9.",
        "The norm pools over the frames of a chunk, and the second chunk has 8 frames, so 2 latent frames.",
        [([4], "A causal model would do that, but this one's GroupNorm pools over a chunk's frames."),
         ([0, 1, 2, 3, 4], "The first chunk is encoded before the model sees the second.")],
    ),
    "write last_seen": agrees_with(
        lambda latent, frames, ratio: shapes.encoder_last_seen(shapes.frame_groups(frames, ratio, None))[latent],
        [(latent, frames, ratio) for ratio in (1, 2, 4, 8) for frames in (1, 2, 3, 5, 8, 16, 17, 20)
         for latent in range(-(-frames // ratio))],
        "latent={}, num_frames={}, ratio={}",
        lambda latent, frames, ratio: (
            f"The frames of zeros in front ({shapes.front_padding(frames, ratio)}) do not count." if frames % ratio else
            "Every group has ratio frames here, and frames are counted from 0."
        ),
    ),
}  # fmt: skip
