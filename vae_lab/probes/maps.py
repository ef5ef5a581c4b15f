"""A video map is any function from a tensor (B, C, T, H, W) to another, (B, C', L, h, w). What all probes ask of one.

An encoder is `lambda x: vae.encode(x).latent_dist.mode()`, a decoder `lambda z: vae.decode(z, num_frames).sample`.
"""

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor

from ..utils.checks import check_video

VideoMap = Callable[[Tensor], Tensor]
SHOWN = 6  # rows in the repr of a result


def apply_map(f: VideoMap, x: Tensor) -> Tensor:
    """f(x), after x and before the result have been looked at; both must be finite tensors of five axes.

    f is given a copy, so that one that works in place changes neither x nor what an earlier call returned.
    """
    if not callable(f):
        raise ValueError(f"f must be a function (B, C, T, H, W) -> (B, C', L, h, w), got {type(f).__name__}")
    check_video("x", x)
    y = f(x.clone())
    check_video("f(x)", y)
    return y


def repeatable_output(f: VideoMap, x: Tensor) -> Tensor:
    """f(x) without a graph, computed twice; refuses an f whose two results are not the same to the bit."""
    with torch.no_grad():
        first, second = apply_map(f, x), apply_map(f, x)
    if not torch.equal(first, second):
        how = (
            f"shapes {tuple(first.shape)} and {tuple(second.shape)}"
            if first.shape != second.shape
            else f"a difference of {(first - second).abs().max().item():.1e}"
        )
        raise ValueError(
            f"f must give the same output twice for the same x, got {how}: use the posterior's mode or a seeded "
            f"generator, and eval() for dropout"
        )
    return first


def change_frames(x: Tensor, frames: slice, size: float, seed: int) -> Tensor:
    """A copy of x with the same noise added to each of its frames in `frames`: Gaussian of standard deviation `size`.

    size: in the units of x, above 0. The noise depends on the seed, the shape and nothing else.
    """
    if not (isfinite(size) and size > 0):
        raise ValueError(f"size must be a finite number above 0, got {size}")
    noise = torch.randn(x[:, :, :1].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    changed = x.detach().clone()
    changed[:, :, frames] += (size * noise).to(x)
    if torch.equal(changed[:, :, frames], x[:, :, frames]):
        raise ValueError(f"size ({size}) is too small to change x, which is {x.dtype}")
    return changed


def largest_by_frame(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (T,): the largest absolute value in each frame."""
    return x.abs().amax(dim=(0, 1, 3, 4))


def shown_indices(number: int) -> list[int | None]:
    """Indices of the rows that a repr prints, None where rows are left out.

    >>> shown_indices(3), shown_indices(20)
    ([0, 1, 2], [0, 1, 2, None, 17, 18, 19])
    """
    if number <= SHOWN:
        return list(range(number))
    return [*range(SHOWN // 2), None, *range(number - SHOWN // 2, number)]
