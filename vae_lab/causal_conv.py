"""The causal 3D convolution. Layout everywhere: (B, C, T, H, W)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .shapes import kernel_reach, same_padding, time_padding
from .utils.checks import check_one_of, positive_int
from .utils.convolutions import Conv3d

PAD_MODES = ("constant", "replicate", "reflect")


def _triple(name: str, value: int | Sequence[int]) -> tuple[int, int, int]:
    """Expand an int to (time, height, width), as torch.nn.Conv3d does with its arguments."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(values) != 3:
        raise ValueError(f"{name} must be an int or (time, height, width), got {value!r}")
    time, height, width = (positive_int(name, v) for v in values)
    return time, height, width


class CausalConv3d(nn.Module):
    """A Conv3d whose output frame t sees input frames up to the end of its own group of `stride` frames, and no later.

    All time padding is in front (`shapes.time_padding` frames). Height and width are padded equally on both sides:

        kernel 3, stride 1:  0 0 | 1 2 3 4   windows 001 012 123 234
        kernel 3, stride 2:    0 | 1 2 3 4   windows 012 234

    (B, in_channels, T, H, W) -> (B, out_channels, T // stride, ceil(H / stride), ceil(W / stride))

    Args:
        kernel_size, stride, dilation: an int or (time, height, width), with torch.nn.Conv3d's meaning. The kernel is
          odd in height and width, and reaches at least `stride` frames in time.
        pad_mode: "constant" (zeros, the released model), "replicate" or "reflect", in all three axes.
        time_pad_mode: the pad mode of the time axis; None: pad_mode.
        is_causal: False pads time equally on both sides, as torch.nn.Conv3d does, so that outputs see later frames. It
          is there for comparison, under the name that diffusers' LTX uses. The kernel is then odd in time too.

    The parameters are `conv.weight` and `conv.bias`: `conv` is an nn.Conv3d.
    Source: Open-Sora v1.2.0, `opensora/models/vae/vae_temporal.py`, class CausalConv3d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        pad_mode: str = "constant",
        bias: bool = True,
        time_pad_mode: str | None = None,
        is_causal: bool = True,
    ):
        super().__init__()
        self.pad_mode, self.is_causal = pad_mode, is_causal
        self.time_pad_mode = pad_mode if time_pad_mode is None else time_pad_mode
        for name in ("pad_mode", "time_pad_mode"):
            check_one_of(name, getattr(self, name), PAD_MODES)
        kernel_size = _triple("kernel_size", kernel_size)
        stride, dilation = _triple("stride", stride), _triple("dilation", dilation)
        if not is_causal and kernel_size[0] % 2 == 0:
            raise ValueError(f"kernel_size in time must be odd if is_causal is False, got {kernel_size[0]}")
        self.time_padding = time_padding(kernel_size[0], stride[0], dilation[0])
        self.height_padding = same_padding(kernel_size[1], dilation[1])
        self.width_padding = same_padding(kernel_size[2], dilation[2])
        # zeros around height and width are left to the convolution, which needs no padded copy of its input
        padding = (0, self.height_padding, self.width_padding) if pad_mode == "constant" else 0
        self.conv = Conv3d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a whole clip (B, in_channels, T, H, W)."""
        if self.is_causal and self.pad_mode == self.time_pad_mode == "constant":
            return self.conv(x, self.time_padding)
        if self.is_causal:
            return self.conv(self._pad(x, self.time_padding))
        both = same_padding(self.conv.kernel_size[0], self.conv.dilation[0])
        return self.conv(self._pad(x, both, both))

    def step(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve the next frames of a stream: (x, past) -> (y, past for the next call).

        x: (B, in_channels, T, H, W), T >= 1. past: None at the start of the stream, then the one that the last call
        returned: the input frames that later windows need. All y joined along time equal forward() of all x joined. A
        piece too short to complete a window gives a y of 0 frames.
        """
        if not self.is_causal:
            raise ValueError("step needs is_causal=True: padding on both sides needs later frames")
        if past is None:
            if self.time_pad_mode == "reflect" and self.time_padding:
                raise ValueError('step needs time_pad_mode "constant" or "replicate": "reflect" pads with later frames')
            past = F.pad(x[:, :, :1], (0, 0, 0, 0, self.time_padding, 0), mode=self.time_pad_mode)
            past = past[:, :, : self.time_padding]
        frames = torch.cat([past, x], dim=2)
        missing = kernel_reach(self.conv.kernel_size[0], self.conv.dilation[0]) - frames.shape[2]
        if missing > 0:  # a window with zeros in place of the missing frames has the right height and width
            return self.conv(self._pad(F.pad(frames, (0, 0, 0, 0, 0, missing)), 0))[:, :, :0], frames
        y = self.conv(self._pad(frames, 0))
        return y, frames[:, :, y.shape[2] * self.conv.stride[0] :]

    def _pad(self, x: Tensor, front: int, behind: int = 0) -> Tensor:
        height, width = self.height_padding, self.width_padding
        time = max(front, behind) if self.time_pad_mode == "reflect" else 0
        needed = (time, height, width) if self.pad_mode == "reflect" else (time, 0, 0)
        if any(padding and padding >= size for padding, size in zip(needed, x.shape[2:], strict=True)):
            name = "pad_mode" if self.pad_mode == "reflect" else "time_pad_mode"
            raise ValueError(
                f'{name} "reflect" needs more than (T, H, W) = {needed} samples to pad as many, '
                f"got {tuple(x.shape[2:])}"
            )
        if self.pad_mode != "constant":  # F.pad reads the last axis first
            x = F.pad(x, (width, width, height, height, 0, 0), mode=self.pad_mode)
        return F.pad(x, (0, 0, 0, 0, front, behind), mode=self.time_pad_mode)
