"""What the lab's VAEs share: the interface that diffusers' pipelines and tools expect of a VAE."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from .checks import check_dtype, waiting_once
from .fast import MODES, Fast, mode_of
from .wrapping import PlainKeys

Method = TypeVar("Method", bound=Callable[..., Any])


def coding(method: Method) -> Method:
    """Decorate `encode` or `decode` with what diffusers' classes do in both.

    The hooks of offloading bring the weights back first. After `enable_slicing`, the clips of a batch are computed one
    by one. `return_dict=False` returns a tuple.
    """
    own = signature(method)
    first, number = list(own.parameters)[1], len(own.parameters) - 1

    @apply_forward_hook
    @waiting_once
    @wraps(method)
    def call(self: Any, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        if not args and first in kwargs:
            args = (kwargs.pop(first),)
        if len(args) == number + 1:  # diffusers' classes take return_dict without its name too
            args, return_dict = args[:number], args[number]
        given = args[0] if args and isinstance(args[0], Tensor) else None  # check_video says what it must be
        if given is not None and given.is_floating_point() and not torch.compiler.is_compiling():
            check_dtype(first, given, self.dtype)
        if self.use_slicing and given is not None and len(given) > 1:
            output = _joined([method(self, clip, *args[1:], **kwargs) for clip in given.split(1)])
        else:
            output = method(self, *args, **kwargs)
        return output if return_dict else output.to_tuple()

    flag = Parameter("return_dict", Parameter.POSITIONAL_OR_KEYWORD, default=True, annotation=bool)
    call.__signature__ = own.replace(parameters=[*own.parameters.values(), flag])
    return call


def _joined(outputs: Sequence[Any]) -> Any:
    """Join the outputs of the clips of a batch."""
    ((name, first),) = outputs[0].items()
    join = torch.cat if isinstance(first, Tensor) else type(first).cat
    return type(outputs[0])(**{name: join([output[name] for output in outputs], dim=0)})


class Autoencoder(PlainKeys, AutoencoderMixin):
    """A VAE of videos (B, C, T, H, W) with diffusers' interface. `encode` and `decode` are decorated with `coding`."""

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock", "ResnetBlock2D", "BasicTransformerBlock"]  # stay on one device
    _group_offload_block_modules = [
        "spatial", "autoencoder", "temporal", "encoder", "decoder", "quant_conv", "post_quant_conv",
    ]  # fmt: skip
    use_slicing = False
    fast_modes: tuple[str, ...] = tuple(MODES)
    """What `fast` takes for this class."""

    def fast(self, mode: str = "F4") -> Fast:
        """Compute large convolutions in less time and with more rounding, within `with vae.fast():`.

        mode: "F4", "F2" or "bf16" (`utils.fast.MODES`), with errors of up to 1e-5, 3e-6 (5e-6 without AVX-512)
          and 3e-2 of the largest value. On a CUDA device, "bf16" alone.
        Gradients are refused within it; other threads, copies of the model and compiled code compute as usual.
        `fast = vae.fast()` can be entered more than once, and then transforms weights only once.

        Raises ValueError as `Fast` does: for training mode, weights that are not float32 on a CPU or on one CUDA
        device, and bf16 without a processor or a device that has it.
        """
        return Fast(self, mode)

    @property
    def fast_mode(self) -> str | None:
        """The mode of `fast` in which the model runs now; None: as usual."""
        return mode_of(self)

    def enable_tiling(self, *_: Any, **__: Any) -> None:
        """Refuse: the 2D half alone has tiles."""
        stream = "its stream (vae_lab.families.codec_of(vae).stream) limits memory along time"
        raise ValueError(f"{type(self).__name__} has no tiles in space: {stream}")

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode a clip to the distribution of its latents, `.latent_dist`."""
        raise NotImplementedError

    def decode(self, z: Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Decode latents to a clip, `.sample`. num_frames: default: the shortest clip that has such latents."""
        raise NotImplementedError

    @waiting_once
    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> DecoderOutput:
        """Encode and decode, with diffusers' signature: `.sample`, or a tuple if not return_dict."""
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        output = self.decode(z, sample.shape[2])
        return output if return_dict else output.to_tuple()
