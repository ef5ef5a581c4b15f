"""Convolutions that compute the same as torch's, on CPUs in less time, and that `fast` can make faster still."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

SHORT, WIDE = 10, 256  # frames and channels: convolutions of no more and no fewer gain from leaving zero frames out


class Shortcut(Protocol):
    """What takes the place of a convolution's own forward."""

    gains: bool
    """Whether the convolution is computed in another way, rather than called in another way."""

    def __call__(self, x: Tensor, front: int) -> Tensor | None:
        """Convolve x after `front` zero frames; None: as usual."""


shortcuts: ContextVar[Mapping[nn.Module, Shortcut]] = ContextVar("shortcuts", default=MappingProxyType({}))
"""Those of each convolution. They are set by `fast`, and for what is called within it alone, so that neither other
threads nor copies of a model are affected."""


class Conv2d(nn.Conv2d):
    """A Conv2d that `fast` can make faster, and that can double height and width first."""

    def forward(self, x: Tensor, doubled: bool = False) -> Tensor:
        """Convolve (B, C, H, W). doubled: every pixel is repeated 2x2 times first; the kernel must be 3x3, padded by 1.

        Three neighbours in the doubled picture are two pixels of x. So weights that meet the same pixel are added up,
        and each of the four pixels that take a pixel's place gets a kernel of 2x2: 16 products instead of 36.
        """
        if doubled:
            # in this order, because compilers do not know shortcuts
            if onednn_takes(x, self.weight) and not getattr(shortcuts.get().get(self), "gains", False):
                return self._convolve_doubled(x.contiguous())  # with channels last, oneDNN would round more
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        y = _by_shortcut(self, x)
        return super().forward(x) if y is None else y

    def _convolve_doubled(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        y = x.new_empty(batch, self.out_channels, 2 * height, 2 * width)
        for down, rows in enumerate(_halves(self.weight, dim=2)):
            for right, kernel in enumerate(_halves(rows, dim=3)):
                windows = torch.mkldnn_convolution(x, kernel, self.bias, (1, 1), (1, 1), (1, 1), 1)
                y[:, :, down::2, right::2] = windows[:, :, down : down + height, right : right + width]
        return y


def _halves(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two weights along an axis for the first of a pixel's two copies, and those for the second."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)


class Conv3d(nn.Conv3d):
    """A Conv3d that can pad time with zeros in front alone, and that is quick on CPUs for small clips too.

    torch leaves a float32 convolution of one clip with B * C * T * H up to 20,480 to its own kernel, with which the
    lab's temporal half takes three to seven times as long as with oneDNN's (`python -m benchmarks.models`).
    """

    def forward(self, x: Tensor, front: int = 0) -> Tensor:
        """Convolve x after `front` zero frames."""
        if (y := _by_shortcut(self, x, front)) is not None:
            return y
        time, height, width = map(int, self.padding)
        length = self.output_frames(x.shape[2], front)
        if onednn_takes(x, self.weight) and length > 0:
            if front and self._leaves_zeros_out(x, front):
                windows = [(x[:, :, :t], self.weight[:, :, -t:]) for t in range(1, front + 1)]
                windows.append((x, self.weight))
                return torch.cat([self._onednn(*window, (0, height, width)) for window in windows], dim=2)
            # Padding inside the operator needs no copy of x, but is equal at both ends: the frames behind are cut off
            return self._onednn(x, self.weight, (time + front, height, width))[:, :, :length]
        return super().forward(F.pad(x, (0, 0, 0, 0, front, 0)) if front else x)

    def _leaves_zeros_out(self, x: Tensor, front: int) -> bool:
        """Whether the first outputs, of parts of the kernel, are worth calls of their own: a frame's work is saved."""
        time, reach = (self.padding[0], self.stride[0], self.dilation[0]), self.kernel_size[0]
        narrow = min(self.in_channels, self.out_channels) < WIDE
        return time == (0, 1, 1) and front == reach - 1 and reach <= x.shape[2] <= SHORT and not narrow

    def _onednn(self, x: Tensor, weight: Tensor, padding: tuple[int, int, int]) -> Tensor:
        return torch.mkldnn_convolution(x, weight, self.bias, padding, self.stride, self.dilation, self.groups)

    def output_frames(self, num_frames: int, front: int = 0) -> int:
        """Return the number of frames that `forward` makes of num_frames; less than 1: the kernel is longer."""
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        return (num_frames + front + 2 * int(self.padding[0]) - reach) // self.stride[0] + 1


def _by_shortcut(conv: Conv2d | Conv3d, x: Tensor, front: int = 0) -> Tensor | None:
    if torch.compiler.is_compiling():
        return None
    shortcut = shortcuts.get().get(conv)
    return None if shortcut is None else shortcut(x, front)


def onednn_takes(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's operator can be called: for what is `plain`, on a CPU."""
    backend = torch.backends.mkldnn
    # `plain` first: it is False for compilers, which cannot trace is_available
    return plain(x, weight) and x.device.type == "cpu" and backend.is_available() and bool(backend.enabled)


def plain(x: Tensor, weight: Tensor) -> bool:
    """Whether x and the weight are float32 on a CPU or one CUDA device, and nothing but autograd follows x.

    Compilers, autocast, forward-mode derivatives and what counts operations know only torch's convolution.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device == weight.device
        and x.device.type in ("cpu", "cuda")
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad.unpack_dual(x).tangent is None
    )
