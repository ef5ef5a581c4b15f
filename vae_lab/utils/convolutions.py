"""A 3D convolution that computes the same as torch's, on CPUs in less time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad


class Conv3d(nn.Conv3d):
    """A Conv3d that pads time with zeros in front alone, and that oneDNN computes on CPUs whatever the size of a clip.

    torch leaves a float32 convolution of one clip with B * C * T * H up to 20,480 to a kernel that takes three to seven
    times as long (`make bench`).
    """

    def forward(self, x: Tensor, front: int = 0) -> Tensor:
        """Convolve x after `front` zero frames."""
        if not is_plain(x) or self.weight.dtype != x.dtype:
            return super().forward(F.pad(x, (0, 0, 0, 0, front, 0)) if front else x)
        # Zeros at both ends need no copy, and oneDNN skips the products with them
        padding, reach = (front, *self.padding[1:]), self.dilation[0] * (self.kernel_size[0] - 1)
        y = torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)
        length = (x.shape[2] + front - reach - 1) // self.stride[0] + 1
        return y[:, :, :length]


def is_plain(x: Tensor) -> bool:
    """Whether oneDNN's operator can take x: nothing but autograd follows what happens to it.

    Compilers, autocast, forward-mode derivatives and what counts operations know only torch's convolution.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) is Tensor
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad.unpack_dual(x).tangent is None
    )
