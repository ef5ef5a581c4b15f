"""Streams of classes that compute a clip in units, one after another, and keep what the next unit needs.

The outputs of all pieces, joined, are those of one call. They are equal to the bit if `Units.exact`, because a stream
makes the same calls of the same modules. Otherwise a layer that sees each frame alone, such as Wan's quant_conv, gets
other numbers of frames than in one call, which changes its rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from ..utils.checks import check_dtype, check_video, integer_within
from ..utils.text import count, first_line


class Units(NamedTuple):
    """How a class computes one clip. `memory` is what a unit leaves to the next; None before the first.

    It must be what torch.save takes, and a unit must not change the one that it is given.
    """

    frames: Sequence[int]
    """Frames in each unit of the encoder."""
    latents: Sequence[int]
    """Latent frames in each unit of the decoder."""
    encode: Callable[[Tensor, Any], tuple[Any, Any]]
    """(pixels of a unit, memory) -> (posterior, memory)."""
    decode: Callable[[Tensor, Any], tuple[Tensor, Any]]
    """(latents of a unit, memory) -> (the frames that they complete, memory)."""
    exact: bool = True
    """Whether the outputs have the bits of one call."""


class UnitStream:
    """Takes the inputs of one clip in pieces of any size, and runs each unit as soon as it is complete."""

    takes: str  # "frame" or "latent frame"

    def __init__(self, codec: Any, num_frames: int, lengths: Sequence[int], run: Callable[[Tensor, Any], tuple]):
        self.codec, self.num_frames, self._lengths, self._run = codec, num_frames, list(lengths), run
        self.length = sum(self._lengths)
        """Inputs of the whole stream."""
        self._unit, self._memory = 0, None
        self._waiting: Tensor | None = None
        self._shape: tuple[int, ...] | None = None  # batch, channels, height and width of the inputs so far

    @property
    def position(self) -> int:
        """Inputs taken so far."""
        return sum(self._lengths[: self._unit]) + (0 if self._waiting is None else self._waiting.shape[2])

    def finish(self) -> None:
        """Check that the stream is complete; otherwise raise ValueError."""
        if self.position < self.length:
            ended = f"the stream ended after {count(self.position, self.takes)}"
            raise ValueError(f"{ended}, but num_frames={self.num_frames} needs {self.length}")

    def state_dict(self) -> dict[str, Any]:
        """Return the position in plain numbers and tensors, for torch.save. Later calls do not change it."""
        plan = {"model": self.codec.name, "takes": self.takes, "num_frames": self.num_frames, "lengths": self._lengths}
        return plan | {"unit": self._unit, "shape": self._shape, "waiting": self._waiting, "memory": self._memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at the position of `state_dict`, of the same model, whose weights are not compared.

        Raises ValueError if the state is another stream's or contradicts itself.
        """
        mine = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != mine.keys():
            raise ValueError(f"state must be from {type(self).__name__}.state_dict, with {', '.join(mine)}")
        for name in ("model", "takes", "num_frames", "lengths"):
            if state[name] != mine[name]:
                raise ValueError(f"state is of a stream with {name} {state[name]!r}, this one has {mine[name]!r}")
        unit = integer_within("unit of state", state["unit"], 0, len(self._lengths))
        shape, waiting, memory = state["shape"], state["waiting"], state["memory"]
        due = self._lengths[unit] if unit < len(self._lengths) else 1
        if (memory is not None and not unit) or (shape is None and unit):
            raise ValueError(f"state contradicts itself: shape {shape} and {type(memory).__name__} after {unit} units")
        if waiting is not None and not (
            isinstance(waiting, Tensor) and waiting.ndim == 5 and _frame(waiting) == shape and waiting.shape[2] < due
        ):
            raise ValueError(f"state contradicts itself: what waits must be fewer than {due} of shape {shape} each")
        self._unit, self._shape, self._waiting, self._memory = unit, shape, waiting, memory

    def _feed(self, name: str, x: Tensor) -> list[Any]:
        """Take inputs and return the outputs of the units that they complete. An exception changes nothing."""
        if self._shape not in (None, _frame(x)):
            began = f"(B, C, H, W) {self._shape}, got {_frame(x)}"
            raise ValueError(f"{name} must have the shape that the stream began with, {began}")
        if self.position + x.shape[2] > self.length:
            left = f"only {self.length - self.position} of the {self.length} of num_frames={self.num_frames} are left"
            raise ValueError(f"{name} has {count(x.shape[2], self.takes)}, but {left}")
        unit, memory, outputs, shape = self._unit, self._memory, [], _frame(x)
        if self._waiting is not None:
            x = torch.cat([self._waiting, x], dim=2)
        while unit < len(self._lengths) and x.shape[2] >= self._lengths[unit]:
            piece = x[:, :, : self._lengths[unit]]
            try:
                output, memory = self._run(piece, memory)
            except Exception as error:  # other libraries raise anything on sizes that they do not take
                frames, height, width = piece.shape[2:]
                what = f"{self.codec.name} failed on {count(frames, self.takes)} of {height}x{width}"
                reason = (self.takes == "frame" and self.codec.too_small(piece)) or first_line(error)
                raise ValueError(f"{what}: {reason}") from error
            outputs.append(output)
            x, unit = x[:, :, self._lengths[unit] :], unit + 1
        self._unit, self._memory, self._shape = unit, memory, shape
        self._waiting = x.clone() if x.shape[2] else None  # a slice would keep all of x
        return outputs


class UnitEncoder(UnitStream):
    """Encodes a clip of known length in pieces of any size."""

    takes = "frame"

    @torch.no_grad()
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode the next frames (B, 3, T, H, W) in [-1, 1] to the posterior of the latents that they complete."""
        self.codec.check_clip(x)
        before = self.state_dict()
        posteriors = self._feed("x", x)
        if not posteriors:
            like = self.codec.trial_posterior((*x.shape[:2], self._lengths[0], *x.shape[3:]))
            if like is None:
                self.load_state_dict(before)
                least = count(self._lengths[0], self.takes)
                raise ValueError(f"x must complete a unit of {self.codec.name}, of {least}: its latents are unknown")
            posteriors = [type(like)(x.new_zeros(like.parameters.shape)[:, :, :0])]
        parameters = torch.cat([posterior.parameters for posterior in posteriors], dim=2)
        return AutoencoderKLOutput(latent_dist=type(posteriors[0])(parameters))


class UnitDecoder(UnitStream):
    """Decodes the latents of a clip in pieces of any size."""

    takes = "latent frame"

    @torch.no_grad()
    def decode(self, z: Tensor) -> DecoderOutput:
        """Decode the next raw latents (B, C, L, h, w): `.sample` is the frames (B, 3, T, H, W) that they complete."""
        check_video("z", z, self.codec.latent_channels)
        check_dtype("z", z, self.codec.dtype)
        outputs = self._feed("z", z)
        ratio = self.codec.spatial_ratio or 1
        none = (len(z), self.codec.in_channels, 0, *(side * ratio for side in z.shape[3:]))
        return DecoderOutput(sample=torch.cat(outputs, dim=2) if outputs else z.new_zeros(none))


def _frame(x: Tensor) -> tuple[int, ...]:
    return tuple(x[:, :, 0].shape)
