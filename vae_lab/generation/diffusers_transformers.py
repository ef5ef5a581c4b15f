"""Transformers of diffusers in the place of an STDiT3: the same call, so that one trainer and one sampler serve all."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_3d_rotary_pos_embed_allegro
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

from ..gaussian import at_least_float32
from ..utils.checks import check_known, check_one_of, check_video, plain, positive_int
from ..utils.wrapping import PlainKeys
from .rectified_flow import timesteps_of


class DiffusersTransformer(PlainKeys):
    """A transformer of diffusers that predicts the velocity x0 - noise, as `STDiT3` does, and is called as it is.

    diffusers' pipelines train theirs on other targets, so released weights of these classes are of no use here. They
    know neither the frame rate nor the size in pixels, which are taken and ignored, and cannot keep frames (x_mask).

    Args:
        class_name: a key of TRANSFORMERS.
        in_channels, latent_size: C and (L, h, w) of the latents.
        caption_channels, model_max_length: channels of the text's tokens, and their number.
        arguments: of the class, but for those that the sizes above decide.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        class_name: str,
        in_channels: int,
        latent_size: Sequence[int],
        caption_channels: int,
        model_max_length: int,
        arguments: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_one_of("class_name", class_name, TRANSFORMERS)
        if not isinstance(plain(latent_size), list | tuple) or len(latent_size) != 3:
            raise ValueError(f"latent_size must be (L, h, w), got {latent_size!r}")
        sizes = dict(in_channels=in_channels, caption_channels=caption_channels, model_max_length=model_max_length)
        for name, value in sizes.items():
            positive_int(name, value)
        for value in latent_size:
            positive_int("latent_size", value)
        self._kind = TRANSFORMERS[class_name]
        cls, arguments = getattr(diffusers, class_name), arguments or {}
        given = dict(in_channels=in_channels, out_channels=in_channels) | self._kind.sizes(self.config)
        check_known(f"arguments ({class_name})", arguments, [n for n in signature(cls).parameters if n not in given])
        arguments = {**self._kind.usual, **arguments}
        try:
            self.transformer = cls(**given, **arguments)
        except Exception as error:  # diffusers raises anything on arguments that do not fit each other
            raise ValueError(f"arguments {dict(arguments)} make no {class_name}: {error}") from error
        config = self.transformer.config
        patch = getattr(config, "patch_size_t", None) or 1, config.patch_size, config.patch_size
        if any(cells % size for cells, size in zip(latent_size, patch, strict=True)):
            raise ValueError(
                f"latent_size {tuple(latent_size)} must be a multiple of a {class_name}'s patches, {patch} (L, h, w)"
            )

    def null_caption(self, count: int = 1) -> Tensor:
        """Return the text that says nothing, which takes the place of dropped captions: (count, tokens, channels)."""
        weight = next(self.parameters())
        return weight.new_zeros(count, self.config.model_max_length, self.config.caption_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        y: Tensor,
        y_mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        *,
        fps: Any = None,
        height: Any = None,
        width: Any = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Return `.sample`, the velocity (B, C, L, h, w). Arguments are those of `STDiT3.forward`.

        Raises ValueError for latents of another size, another number of tokens, and for either mask.
        """
        config, batch = self.config, len(x)
        check_video("x", x, config.in_channels)
        if tuple(x.shape[2:]) != tuple(config.latent_size):
            raise ValueError(f"x must have latents of {tuple(config.latent_size)} (L, h, w), got {tuple(x.shape[2:])}")
        if x_mask is not None or y_mask is not None:
            name = "x_mask" if x_mask is not None else "y_mask"
            raise ValueError(f"{name} must be None: {config.class_name} attends to all frames and tokens alike")
        tokens = (batch, config.model_max_length, config.caption_channels)
        if not isinstance(y, Tensor) or y.shape != tokens:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"y must have shape {tokens}, got {got}")
        timestep = timesteps_of(timestep, batch, x.device)
        output = self._kind.call(self.transformer, x.to(self.dtype), timestep, y.to(self.dtype))
        sample = at_least_float32(output)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)


class Kind(NamedTuple):
    """How a class of diffusers is made for latents of a size, and called."""

    sizes: Callable[[Any], dict[str, Any]]
    """The config of a DiffusersTransformer -> the arguments that the sizes decide, beside the channels."""
    call: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    """(transformer, x (B, C, L, h, w), timestep (B,), y (B, N, channels)) -> velocity (B, C, L, h, w)."""
    usual: Mapping[str, Any]
    """Arguments that the class needs, or that released models of it have."""


def _latte_sizes(config: Any) -> dict[str, Any]:
    frames, height, width = config.latent_size
    if height != width:
        raise ValueError(f"latent_size of a LatteTransformer3DModel must be square, got {height}x{width}")
    return dict(sample_size=height, video_length=frames, caption_channels=config.caption_channels)


def _latte(transformer: Any, x: Tensor, timestep: Tensor, y: Tensor) -> Tensor:
    return transformer(x, timestep, y).sample


def _cogvideox_sizes(config: Any) -> dict[str, Any]:
    frames, height, width = config.latent_size
    text = dict(text_embed_dim=config.caption_channels, max_text_seq_length=config.model_max_length)
    clip = dict(temporal_compression_ratio=1, sample_frames=frames, sample_height=height, sample_width=width)
    return clip | text


def _cogvideox(transformer: Any, x: Tensor, timestep: Tensor, y: Tensor) -> Tensor:
    return transformer(x.transpose(1, 2), y, timestep).sample.transpose(1, 2)  # it has frames before channels


def _allegro_sizes(config: Any) -> dict[str, Any]:
    frames, height, width = config.latent_size
    clip = dict(sample_frames=frames, sample_height=height, sample_width=width)
    return clip | dict(caption_channels=config.caption_channels)


def _allegro(transformer: Any, x: Tensor, timestep: Tensor, y: Tensor) -> Tensor:
    """As AllegroPipeline calls it (`_prepare_rotary_positional_embeddings`): the caller makes the places of tokens."""
    config, (frames, height, width) = transformer.config, x.shape[2:]
    grid = height // config.patch_size, width // config.patch_size
    scales = config.interpolation_scale_t, config.interpolation_scale_h, config.interpolation_scale_w
    made = get_3d_rotary_pos_embed_allegro(
        config.attention_head_dim, ((0, 0), grid), grid, frames, scales, device=x.device
    )
    places = torch.cartesian_prod(*(axis.long() for axis in made[3:])).T.unsqueeze(1)  # (3, 1, tokens)
    return transformer(x, y, timestep, image_rotary_emb=(made[:3], tuple(places))).sample


TRANSFORMERS: Mapping[str, Kind] = {
    "LatteTransformer3DModel": Kind(
        _latte_sizes,
        _latte,
        dict(
            patch_size=2,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            attention_bias=True,
            norm_eps=1e-6,
            activation_fn="gelu-approximate",
        ),
    ),
    "CogVideoXTransformer3DModel": Kind(_cogvideox_sizes, _cogvideox, {}),
    "AllegroTransformer3DModel": Kind(_allegro_sizes, _allegro, {}),
}
"""Classes of diffusers that can be trained: name -> how to make and call them."""
