"""Video maps, which the probes measure: any function from a tensor (B, C, T, H, W) to another, (B, C', L, h, w).

An encoder is `lambda x: vae.encode(x).latent_dist.mode()`, a decoder `lambda z: vae.decode(z, num_frames).sample`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..utils.checks import check_above, check_video, torch_seed

VideoMap = Callable[[Tensor], Tensor]
AXES = {"time": "frame", "height": "row", "width": "column"}
"""Dimensions 2, 3 and 4 of a clip, and what a sample along each is called."""
SHOWN = 6  # lines in the repr of a result
REPEATABLE = "use the posterior's mode or a seeded generator, and eval() for dropout"  # advice in errors


def apply_map(f: VideoMap, x: Tensor) -> Tensor:
    """Return f(x) after validating x and the result: both must be finite tensors with five axes.

    f is given a copy, so an f that works in place changes neither x nor an earlier result.
    """
    if not callable(f):
        raise ValueError(f"f must be a function (B, C, T, H, W) -> (B, C', L, h, w), got {type(f).__name__}")
    check_video("x", x)
    y = f(x.clone())
    check_video("f(x)", y)
    return y


def repeatable_output(f: VideoMap, x: Tensor) -> Tensor:
    """Return f(x), computed twice without gradients; refuse an f whose two results are not the same to the bit."""
    with torch.no_grad():
        first, second = apply_map(f, x), apply_map(f, x)
    if not torch.equal(first, second):
        if first.shape != second.shape:
            how = f"shapes {tuple(first.shape)} and {tuple(second.shape)}"
        else:
            how = f"a difference of {(first - second).abs().max().item():.1e}"
        raise ValueError(f"f must give the same output twice for the same x, got {how}: {REPEATABLE}")
    return first


def change_frames(x: Tensor, frames: slice, size: float, seed: int) -> Tensor:
    """Return a copy of x whose frames in `frames` all have the same Gaussian noise of standard deviation `size` added.

    size: in the units of x, above 0. The noise depends on the seed and the shape only.
    """
    check_above("size", size, 0)
    generator = torch.Generator().manual_seed(torch_seed(seed))
    noise = torch.randn(x[:, :, :1].shape, generator=generator, dtype=torch.float64)
    changed = x.detach().clone()
    changed[:, :, frames] += (size * noise).to(x)
    if torch.equal(changed[:, :, frames], x[:, :, frames]):
        raise ValueError(f"size ({size}) is too small to change x, which is {x.dtype}")
    return changed


def largest_by_frame(x: Tensor) -> Tensor:
    """Return the largest absolute value in each frame, (B, C, T, H, W) -> (T,)."""
    return x.abs().amax(dim=(0, 1, 3, 4))


def elided(lines: Sequence[str]) -> list[str]:
    """Return the lines of a repr; if they are more than SHOWN, the first and the last ones around "  ...".

    >>> elided("abc"), elided("abcdefgh")
    (['a', 'b', 'c'], ['a', 'b', 'c', '  ...', 'f', 'g', 'h'])
    """
    half = SHOWN // 2
    return list(lines) if len(lines) <= SHOWN else [*lines[:half], "  ...", *lines[-half:]]
