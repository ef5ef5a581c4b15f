"""Quality of a reconstruction, frame by frame. Always on tensors, never on files that a codec has changed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import MICRO_FRAME_SIZE, TEMPORAL_RATIO, chunk_lengths
from .utils.checks import check_video, positive_int

SSIM_WINDOW = 11  # Wang et al. 2004, "Image quality assessment": an 11x11 Gaussian window, sigma 1.5


def _check_pair(x: Tensor, y: Tensor, data_range: float) -> None:
    check_video("x", x)
    check_video("y", y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if not data_range > 0:
        raise ValueError(f"data_range must be above 0, got {data_range}")


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each frame, (B, C, T, H, W) twice -> (B, T) in dB; infinite where they are equal.

    data_range: the largest value less the smallest: 2.0 for pixels in [-1, 1]. 10 * log10(data_range**2 / MSE), the
    mean taken over the channels and pixels of one frame.
    """
    _check_pair(x, y, data_range)
    frames = range(x.shape[2])  # one after another: in double precision a whole clip would be large
    mse = torch.stack([(x[:, :, t].double() - y[:, :, t].double()).square().mean(dim=(1, 2, 3)) for t in frames], dim=1)
    return 10 * torch.log10(data_range**2 / mse)


def ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Structural similarity of each frame, (B, C, T, H, W) twice -> (B, T), 1.0 where they are equal.

    scikit-image's structural_similarity with the settings of Wang et al. 2004 (Gaussian window of 11x11 pixels, sigma
    1.5), each channel alone, averaged. Frames have at least 11x11 pixels. data_range as in `psnr`.
    """
    from skimage.metrics import structural_similarity

    _check_pair(x, y, data_range)
    if min(x.shape[3:]) < SSIM_WINDOW:
        raise ValueError(f"ssim needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {tuple(x.shape[3:])}")
    a, b = (v.detach().transpose(1, 2).double().cpu().numpy() for v in (x, y))  # (B, T, C, H, W)
    values = [
        [
            structural_similarity(
                frame_a, frame_b, data_range=data_range, channel_axis=0,
                gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )
            for frame_a, frame_b in zip(clip_a, clip_b, strict=True)
        ]
        for clip_a, clip_b in zip(a, b, strict=True)
    ]  # fmt: skip
    return torch.from_numpy(np.array(values))


def bicubic_round_trip(x: Tensor, factor: int = 8) -> Tensor:
    """Every frame `factor` times smaller (bicubic, anti-aliased) and back: the baseline a 2D VAE has to beat.

    (B, C, T, H, W) -> the same shape; H and W divide by `factor`.
    """
    check_video("x", x)
    for name, size in (("height", x.shape[3]), ("width", x.shape[4])):
        if size % factor:
            raise ValueError(f"{name} ({size}) must be a multiple of factor ({factor})")
    frames = x.transpose(1, 2).flatten(0, 1)
    small = F.interpolate(frames, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, frames.shape[2:], mode="bicubic").unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def linear_in_time(x: Tensor, ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE) -> Tensor:
    """Every `ratio`-th frame kept, from the first of each chunk on, and the others drawn between them, linearly.

    (B, C, T, H, W) -> the same shape. The baseline a temporal VAE has to beat: in chunks of 17 frames at ratio 4 it
    keeps as many frames as there are latents. What follows the last kept frame of a chunk is a copy of it.
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


DATA_RANGE = 2.0  # of pixels in [-1, 1]
