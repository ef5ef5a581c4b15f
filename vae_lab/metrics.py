"""Quality of a reconstruction, frame by frame, on tensors: in a video file a codec has already changed the pixels.

A new metric of frames is one row of FRAME_METRICS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from .shapes import MICRO_FRAME_SIZE, TEMPORAL_RATIO, chunk_lengths
from .utils.checks import check_above, check_multiples, check_video, positive_int

DATA_RANGE = 2.0  # largest less smallest value of pixels in [-1, 1]
SSIM_WINDOW = 11  # Wang et al. 2004, "Image quality assessment": an 11x11 Gaussian window, sigma 1.5


def check_pair(x: Tensor, y: Tensor, data_range: float) -> None:
    """Refuse all but two clips (B, C, T, H, W) of the same shape, and a data range above 0."""
    check_video("x", x)
    check_video("y", y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    check_above("data_range", data_range, 0)


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB: (B, T), float64; infinite for equal frames.

    10 * log10(data_range**2 / MSE), with the mean over the channels and pixels of one frame of x and y (B, C, T, H, W).
    data_range: the largest possible value less the smallest: 2.0 for pixels in [-1, 1].
    """
    check_pair(x, y, data_range)
    frames = range(x.shape[2])  # one after another: in double precision a whole clip would be large
    mse = torch.stack([(x[:, :, t].double() - y[:, :, t].double()).square().mean(dim=(1, 2, 3)) for t in frames], dim=1)
    return 10 * torch.log10(data_range**2 / mse)


def ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Return the structural similarity of each frame: (B, T), float64; at most 1.0, which equal frames have.

    scikit-image's structural_similarity with the settings of Wang et al. 2004 (a Gaussian window of 11x11 pixels, sigma
    1.5), averaged over channels. x and y are (B, C, T, H, W), at least 11x11 pixels; data_range is as for `psnr`.
    """
    from skimage.metrics import structural_similarity

    check_pair(x, y, data_range)
    if min(x.shape[3:]) < SSIM_WINDOW:
        raise ValueError(f"ssim needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {tuple(x.shape[3:])}")
    settings = dict(data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    pairs = zip(*(v.detach().transpose(1, 2).flatten(0, 1) for v in (x, y)), strict=True)  # B * T of (C, H, W)
    values = [
        structural_similarity(*(frame.double().cpu().numpy() for frame in pair), channel_axis=0, **settings)
        for pair in pairs  # one after another, as for `psnr`
    ]
    return torch.tensor(values, dtype=torch.float64).unflatten(0, (x.shape[0], x.shape[2]))


@dataclass(frozen=True, kw_only=True)
class FrameMetric:
    """A metric that gives each frame of a reconstruction a number, and how that number is shown."""

    function: Callable[[Tensor, Tensor, float], Tensor]
    """(x, y, data_range) -> (B, T), for x and y (B, C, T, H, W)."""
    title: str
    unit: str = ""
    digits: int = 4
    """Digits after the decimal point in texts."""
    higher_is_better: bool = True
    smallest_side: int = 1
    """Pixels; the metric is not defined for frames with a shorter side."""

    def key(self, name: str) -> str:
        """The name under which metrics.json has this metric: with its unit, such as "psnr_db"."""
        return f"{name}_{self.unit.lower()}" if self.unit else name

    def text(self, value: float) -> str:
        """A value with its unit: "31.42 dB"."""
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    def worst(self, values: np.ndarray) -> int:
        """The index of the worst of the values."""
        return int(np.argmin(values) if self.higher_is_better else np.argmax(values))


FRAME_METRICS: dict[str, FrameMetric] = {
    "psnr": FrameMetric(function=psnr, title="PSNR", unit="dB", digits=2),
    "ssim": FrameMetric(function=ssim, title="SSIM", smallest_side=SSIM_WINDOW),
}
"""Name -> metric, in the order in which they are shown. `reconstruct` measures all that are defined for the size."""


def measure_frames(x: Tensor, y: Tensor, data_range: float = DATA_RANGE) -> dict[str, np.ndarray]:
    """Measure one clip x against y, (1, C, T, H, W) each, by all metrics defined for its size: name -> (T,)."""
    check_video("x", x)
    if len(x) != 1:
        raise ValueError(f"x must be one clip (1, C, T, H, W), got shape {tuple(x.shape)}")
    defined = {name: m for name, m in FRAME_METRICS.items() if min(x.shape[3:]) >= m.smallest_side}
    return {name: metric.function(x, y, data_range)[0].detach().cpu().numpy() for name, metric in defined.items()}


def rms(values: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the root mean square of an array, a CPU tensor or numbers over `axis`: float64, alone or an array."""
    return np.sqrt(np.mean(np.square(np.asarray(values, dtype=float)), axis=axis))


def psnr_of_rms(difference: ArrayLike, data_range: float = DATA_RANGE) -> Any:
    """Return the PSNR in dB of root mean square differences: 20 * log10(data_range / difference), infinite for 0."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(data_range / np.asarray(difference, dtype=float))


def bicubic_round_trip(x: Tensor, factor: int = 8) -> Tensor:
    """Shrink every frame by `factor` (bicubic, anti-aliased) and enlarge it again: the baseline for a 2D VAE.

    (B, C, T, H, W) -> the same shape. H and W must be multiples of `factor`.
    """
    check_video("x", x)
    factor = positive_int("factor", factor)
    check_multiples(x.shape[3:], factor, "factor")
    frames = x.transpose(1, 2).flatten(0, 1)
    small = F.interpolate(frames, (x.shape[3] // factor, x.shape[4] // factor), mode="bicubic", antialias=True)
    return F.interpolate(small, frames.shape[2:], mode="bicubic").unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def linear_in_time(x: Tensor, ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE) -> Tensor:
    """Keep every `ratio`-th frame of each chunk and interpolate the others: the baseline for a temporal VAE.

    (B, C, T, H, W) -> the same shape. The first frame of a chunk is kept; those after its last kept one are copies of
    it. In chunks of 17 frames at ratio 4, as many frames are kept as there are latent frames.
    """
    check_video("x", x)
    positive_int("ratio", ratio)
    pieces = []
    for chunk in x.split(chunk_lengths(x.shape[2], micro_frame_size), dim=2):
        before = [t // ratio * ratio for t in range(chunk.shape[2])]
        after = [t + ratio if t + ratio < chunk.shape[2] else t for t in before]
        share = torch.tensor([t % ratio / ratio for t in range(chunk.shape[2])], dtype=x.dtype, device=x.device)
        pieces.append(torch.lerp(chunk[:, :, before], chunk[:, :, after], share[:, None, None]))
    return torch.cat(pieces, dim=2)
