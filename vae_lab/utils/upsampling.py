"""The upsampler of diffusers' AutoencoderKL, by fewer than half of its multiplications."""

from typing import Any

import torch
from diffusers.models import upsampling
from torch import Tensor, nn

from .convolutions import Conv2d, onednn_takes, shortcuts


class Upsample2D(upsampling.Upsample2D):
    """Repeat every pixel 2x2 times, then convolve with a kernel of 3x3: (B, C, H, W) -> (B, C', 2 H, 2 W).

    Three neighbours in the large picture are two pixels of the small one. So weights that meet the same pixel are added
    up, and each of the four pixels that take a pixel's place gets a kernel of 2x2 for the small picture: 16 products
    instead of 36. Where oneDNN cannot be called, or hooks or `fast` wait for the convolution, it is called as usual.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Upsample (B, C, H, W), as diffusers' class does if there are other arguments."""
        if args or kwargs or not self._can_be_split(hidden_states):
            return super().forward(hidden_states, *args, **kwargs)
        x = hidden_states.contiguous()  # with channels last, oneDNN would round more
        batch, _, height, width = x.shape
        y = x.new_empty(batch, self.out_channels, 2 * height, 2 * width)
        for down, rows in enumerate(_halves(self.conv.weight, dim=2)):
            for right, kernel in enumerate(_halves(rows, dim=3)):
                windows = torch.mkldnn_convolution(x, kernel, self.conv.bias, (1, 1), (1, 1), (1, 1), 1)
                y[:, :, down::2, right::2] = windows[:, :, down : down + height, right : right + width]
        return y

    def _can_be_split(self, x: Tensor) -> bool:
        conv = self.conv
        return (
            onednn_takes(x, conv.weight)  # first: compilers do not know shortcuts
            and type(conv) in (nn.Conv2d, Conv2d)  # not one that a library has added to
            and not (conv._forward_pre_hooks or conv._forward_hooks)
            and not getattr(shortcuts.get().get(conv), "gains", False)
        )


def _halves(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two weights along an axis for the first of a pixel's two copies, and those for the second."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)
