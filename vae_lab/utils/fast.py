"""Fast mode: the large convolutions of a model in less time, with more rounding.

with torch.no_grad(), vae.fast("F4"):
    y = vae.decode(z).sample
"""

import platform
import warnings
from collections.abc import Mapping
from contextvars import Token
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from diffusers.models import resnet
from torch import Tensor, nn

from .checks import check_one_of
from .convolutions import Conv2d, Conv3d, Shortcut, onednn_takes, plain, shortcuts
from .upsampling import Upsample2D
from .winograd import kernel_at_points, winograd
from .wrapping import unwrapped


class Mode(NamedTuple):
    """One way to be fast."""

    title: str
    error: float
    """The largest difference from float64 of the halves' outputs, as a fraction of the largest value."""
    m: int | None
    """Outputs of a tile along each axis; None: not Winograd's."""
    narrowest: int
    """Convolutions with fewer input or output channels are computed as usual: they would gain nothing."""


MODES: Mapping[str, Mode] = {
    "F4": Mode("Winograd's F(4, 3)", 1e-5, 4, 128),
    "F2": Mode("Winograd's F(2, 3)", 3e-6 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 5e-6, 2, 128),
    "bf16": Mode("bfloat16", 3e-2, None, 16),
}
"""Modes, by the name that `fast` takes. Errors are those of tests and of `python -m benchmarks.models`.

F2 was seen with 4.0e-6 on a processor with AVX2 and without AVX-512, presumably because oneDNN adds products up in
another order there."""


class Fast:
    """A model's fast mode, to be entered with `with`, as often as needed: `Autoencoder.fast` makes it.

    Transformed weights are kept from one use to the next, and freed with this object. They take 4 (F4), 1.8 (F2) or 0.5
    (bf16) times the memory of the weights themselves, and are made again if the weights change.

    A model on a CUDA device has "bf16" alone.

    Raises ValueError for a model in training mode, one that is compiled, one whose weights are not float32 on a CPU or
    on one CUDA device, for F4 and F2 on a CUDA device, and for bf16 on a processor or a device that has no instructions
    for it. Without oneDNN on an x86 processor, nothing is faster: a warning says so, and `mode` is None.
    """

    def __init__(self, vae: nn.Module, mode: str = "F4"):
        check_one_of("mode", mode, MODES)
        if mode not in getattr(vae, "fast_modes", ()):
            name = type(vae).__name__
            raise ValueError(f"vae must be a SpatialVAE, a TemporalVAE or a VideoVAE for fast mode, got a {name}")
        device = _checked_device(vae)
        if device.type == "cuda":
            if mode != "bf16":
                raise ValueError(
                    f'mode must be "bf16" on {device}, got "{mode}": only CPUs have Winograd\'s method here'
                )
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise ValueError(f'mode "bf16" needs a device that multiplies bfloat16, which {device} does not')
        elif mode == "bf16" and not has_bf16():
            raise ValueError(
                'mode must be "F4" or "F2" on this processor, got "bf16": without AVX-512 BF16 or AMX it would be '
                "slower than float32"
            )
        self.mode: str | None = mode
        if device.type == "cpu" and not has_onednn():
            warnings.warn(
                "fast mode needs oneDNN on an x86 processor, which this torch or machine does not have: results and "
                "times are those without it",
                stacklevel=3,
            )
            self.mode = None
        self._layers: dict[nn.Module, Shortcut] = {}
        for module in vae.modules():
            if type(module) is nn.Conv2d:  # those of diffusers' AutoencoderKL; outside fast mode it is the same class
                module.__class__ = Conv2d
            elif type(module) is resnet.ResnetBlock2D:
                module.__class__ = _ResnetBlock2D
        upsampling = {module.conv for module in vae.modules() if isinstance(module, Upsample2D)}
        for module in vae.modules():
            if isinstance(module, Conv2d | Conv3d) and module.padding_mode == "zeros" and module.padding != "same":
                self._layers[module] = _Layer(module, self.mode, module in upsampling)
        self._tokens: list[Token] = []

    def __enter__(self) -> "Fast":
        self._tokens.append(shortcuts.set({**shortcuts.get(), **self._layers}))
        return self

    def __exit__(self, *_: Any) -> None:
        shortcuts.reset(self._tokens.pop())


def mode_of(vae: object) -> str | None:
    """Return the name of the fast mode in which a model runs now; None: as usual."""
    layers = shortcuts.get()
    if not layers or not isinstance(vae, nn.Module):
        return None
    modes = {layer.mode for module in vae.modules() if isinstance(layer := layers.get(module), _Layer)}
    return "+".join(sorted(filter(None, modes))) or None


def has_onednn() -> bool:
    """Whether oneDNN's operators can be called, on a processor of the kind on which fast mode was measured."""
    return platform.machine().lower() in ("x86_64", "amd64") and bool(
        torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    )


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def _checked_device(vae: nn.Module) -> torch.device:
    if unwrapped(vae) is not vae or any("_orig_mod" in module._modules for module in vae.modules()):
        raise ValueError("vae must not be compiled or wrapped in fast mode: compilers know only torch's convolution")
    if vae.training:
        raise ValueError("vae must be in eval mode for fast mode, got one in training mode: call vae.eval() first")
    device = next(vae.parameters()).device
    for name, weight in vae.named_parameters():
        if weight.dtype != torch.float32 or weight.device != device or device.type not in ("cpu", "cuda"):
            raise ValueError(
                "vae must have float32 weights on a CPU or on one CUDA device in fast mode, got "
                f"{weight.dtype} on {weight.device}: {name}"
            )
    return device


class _ResnetBlock2D(resnet.ResnetBlock2D):
    """diffusers' block, which in fast mode computes in place and does not divide by 1."""

    def forward(self, x: Tensor, temb: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        usual = torch.compiler.is_compiling() or self.conv1 not in shortcuts.get() or torch.is_grad_enabled()
        if usual or not (
            temb is None
            and self.upsample is None
            and self.downsample is None
            and isinstance(self.nonlinearity, nn.SiLU)
            and self.output_scale_factor == 1
        ):
            return super().forward(x, temb, *args, **kwargs)
        y = self.conv1(F.silu(self.norm1(x), inplace=True))
        y = self.conv2(F.silu(self.norm2(y), inplace=True))
        return y.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Layer:
    """What a convolution does in fast mode: a shortcut."""

    def __init__(self, conv: Conv2d | Conv3d, mode: str | None, upsampling: bool):
        self.conv, self.mode = conv, mode
        self.gains = mode is not None and _gains(conv, mode)
        if mode == "F2" and upsampling:
            self.gains = False  # Upsample2D computes exactly with hardly more products
        self._made_of: tuple | None = None
        self._made: Any = None

    def __call__(self, x: Tensor, front: int) -> Tensor | None:
        conv = self.conv
        if conv.training:
            raise ValueError("vae must be in eval mode for fast mode, got one in training mode: call vae.eval() first")
        if torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad):
            raise ValueError("fast mode computes no gradients: use torch.no_grad(), or leave fast mode")
        takes = plain if x.is_cuda else onednn_takes
        if self.mode is None or not takes(x, conv.weight):
            return None
        if isinstance(conv, Conv3d) and conv.output_frames(x.shape[2], front) < 1:
            return None  # to be refused as usual
        if not self.gains:
            return self._direct(x, conv.weight, conv.bias, front)
        if MODES[self.mode].m is None:
            bias = None if conv.bias is None else conv.bias.bfloat16()
            return self._direct(x.bfloat16(), self._weight(), bias, front).float()
        padding = int(conv.padding[-2]), int(conv.padding[-1])
        if isinstance(conv, Conv2d):  # frames are computed as those of a clip, by a kernel of one frame
            return winograd(x.transpose(0, 1), self._weight(), conv.bias, padding).transpose(0, 1)
        time = dict(front=front + int(conv.padding[0]), behind=int(conv.padding[0]), stride=conv.stride[0])
        clips = [winograd(clip, self._weight(), conv.bias, padding, **time) for clip in x]
        return torch.stack(clips) if len(clips) > 1 else clips[0].unsqueeze(0)

    def _direct(self, x: Tensor, weight: Tensor, bias: Tensor | None, front: int) -> Tensor:
        conv, padding = self.conv, list(map(int, self.conv.padding))
        if x.is_cuda:
            return conv._conv_forward(F.pad(x, (0, 0, 0, 0, front, 0)) if front else x, weight, bias)
        length = slice(None)
        if isinstance(conv, Conv3d):
            length, padding[0] = slice(conv.output_frames(x.shape[2], front)), padding[0] + front
        return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, conv.groups)[:, :, length]

    def _weight(self) -> Any:
        """The weight as this mode needs it, made of what the weight is now."""
        weight = self.conv.weight.detach()
        rows = weight.reshape(len(weight), -1)
        rows = rows.view(torch.int64) if rows.shape[1] % 2 == 0 else rows.view(torch.int32)
        made_of = (weight.data_ptr(), None if weight.is_inference() else weight._version, rows.sum(1))
        if self._made_of is None or made_of[:2] != self._made_of[:2] or not torch.equal(made_of[2], self._made_of[2]):
            self._made = None  # first, so that the old one is freed
            m = MODES[cast(str, self.mode)].m
            self._made = weight.bfloat16() if m is None else kernel_at_points(weight, m)
            self._made_of = made_of
        return self._made


def _gains(conv: Conv2d | Conv3d, mode: str) -> bool:
    narrowest = MODES[mode].narrowest
    if mode == "F2" and (isinstance(conv, Conv2d) or conv.kernel_size[0] == 1):
        narrowest *= 2  # with fewer products to save, transforms cost as much as they save
    if min(conv.in_channels, conv.out_channels) < narrowest:
        return False
    return mode == "bf16" or (
        conv.groups == 1
        and conv.kernel_size[-2:] == (3, 3)
        and conv.stride[-2:] == (1, 1)
        and set(conv.dilation) == {1}
        and (conv.stride[0] == 1 or conv.kernel_size[0] > 1)
    )
