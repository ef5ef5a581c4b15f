"""A clip as frames, uint8 (T, H, W, 3), and as a tensor (B, 3, T, H, W) in [-1, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ..utils.checks import check_video, positive_int

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_FPS = 24.0  # frames per second given to images, which have no rate


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a video and the times at which they are shown."""

    frames: np.ndarray  # uint8 (T, H, W, 3), RGB
    fps: float = DEFAULT_FPS  # frames per second: the mean by the frames' own times, if they have some
    times: np.ndarray | None = None  # float64 (T,): seconds from the file's first frame; None: frame t at t / fps
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel over its height, as displayed
    notes: tuple[str, ...] = ()  # what is unusual about the source, and was read as it lies or left out

    def __len__(self) -> int:
        return len(self.frames)


def check_frames(frames: np.ndarray) -> None:
    """Refuse anything but uint8 (T, H, W, 3) with at least one frame and one pixel."""
    shape, dtype = getattr(frames, "shape", None), getattr(frames, "dtype", None)
    if shape is None or len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != np.uint8:
        got = type(frames).__name__ if shape is None else f"{dtype} {shape}"
        raise ValueError(f"frames must be uint8 (T, H, W, 3), at least one, got {got}")


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """Return a size (H, W) as ints, and refuse everything else."""
    if np.shape(size) != (2,):
        raise ValueError(f"size must be (H, W), got {size!r}")
    return positive_int("size", size[0]), positive_int("size", size[1])


def to_tensor(frames: np.ndarray) -> "Tensor":
    """Turn frames uint8 (T, H, W, 3) into a float32 tensor (1, 3, T, H, W) in [-1, 1]: value / 127.5 - 1."""
    import torch

    check_frames(frames)
    return torch.tensor(np.ascontiguousarray(np.moveaxis(frames, 3, 0)[None])).float().div(127.5).sub(1)


def to_frames(x: "Tensor") -> np.ndarray:
    """Turn a tensor (1, 3, T, H, W) in [-1, 1] into frames uint8 (T, H, W, 3), rounded; values outside are clamped.

    The inverse of `to_tensor` for every uint8 value. Pass one clip of a batch: x[:1].
    """
    shape = getattr(x, "shape", None)
    if shape is None or len(shape) != 5 or shape[0] != 1 or shape[1] != 3:
        got = type(x).__name__ if shape is None else tuple(shape)
        raise ValueError(f"x must be one clip of shape (1, 3, T, H, W), got {got}")
    check_video("x", x)
    frames = x.detach()[0].float().add(1).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(frames.permute(1, 2, 3, 0).byte().cpu().numpy())
