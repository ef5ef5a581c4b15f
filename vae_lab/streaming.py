"""Encode and decode videos of any length piece by piece: the result of the whole clip, in constant memory.

With norm "frame_group", the frames before a piece matter only to the causal convolutions, and each of those needs its
last few inputs. A stream keeps these. The model stays stateless, so many streams can run through one model. With norm
"group", statistics run over all frames, so such a model is given whole chunks, which are encoded alone anyway.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from .causal_conv import CausalConv3d
from .gaussian import DiagonalGaussian
from .shapes import front_padding, latent_chunks
from .temporal_vae import Convolve, TemporalVAE, at_once
from .utils.checks import check_dtype, check_video, positive_int
from .utils.text import count
from .utils.wrapping import plain_key, unwrapped
from .video_vae import VideoVAE

_PLAN = ("takes", "num_frames", "micro_frame_size", "chunked")  # equal in a stream and in one that resumes it


class _State(NamedTuple):
    """The position of a stream. It is never changed: each call that succeeds makes a new one."""

    position: int = 0  # inputs taken so far
    chunk: int = 0  # index of the current chunk, in which the waiting inputs begin
    done: int = 0  # inputs of the current chunk whose outputs are made
    shape: tuple[int, int, int] | None = None  # batch, height and width of the inputs, in latent cells
    waiting: Tensor | None = None  # inputs whose outputs are not made yet
    past: Mapping[str, Tensor] = {}  # the inputs that each convolution remembers from the current chunk


class _Stream:
    """The plan of chunks and the state that encoder and decoder have in common."""

    takes: str  # "frame" or "latent"

    def __init__(self, vae: VideoVAE | TemporalVAE, num_frames: int, chunked: bool = False):
        vae = unwrapped(vae)
        if not isinstance(vae, VideoVAE | TemporalVAE):
            raise ValueError(f"vae must be a VideoVAE or a TemporalVAE, got {type(vae).__name__}")
        self.vae, self.num_frames, self.chunked = vae, positive_int("num_frames", num_frames), bool(chunked)
        self.temporal: TemporalVAE = unwrapped(getattr(vae, "temporal", vae))
        self.micro_frame_size = vae.config.micro_frame_size if isinstance(vae, VideoVAE) else None
        _check_streamable(self.temporal, self.micro_frame_size, self.chunked)
        self.ratio = self.temporal.temporal_compression_ratio
        self.chunks = latent_chunks(self.num_frames, self.ratio, self.micro_frame_size)
        self._lengths = [frames if self.takes == "frame" else latents for latents, frames in self.chunks]
        self.length = sum(self._lengths)
        """Inputs of the whole stream: frames, or latents."""
        self._names = {m: plain_key(name) for name, m in self.temporal.named_modules() if isinstance(m, CausalConv3d)}
        self._state = _State()

    @property
    def position(self) -> int:
        """Inputs taken so far: frames, or latents."""
        return self._state.position

    def finish(self) -> None:
        """Check that the stream is complete; otherwise raise ValueError."""
        if self.position < self.length:
            raise ValueError(
                f"the stream ended after {count(self.position, self.takes)}, but num_frames={self.num_frames} "
                f"needs {self.length}"
            )

    def fork(self) -> Self:
        """Return an independent copy at the current position."""
        other = type(self)(self.vae, self.num_frames, self.chunked)
        other._state = self._state
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return the position in plain numbers and tensors, for torch.save. Later calls do not change it."""
        state = self._state._asdict() | {"past": dict(self._state.past)}
        return {name: getattr(self, name) for name in _PLAN} | state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at the position of `state_dict`, from a stream of the same model and with the same arguments.

        Raises ValueError if the state is another stream's or contradicts itself. Weights are not compared.
        """
        mine = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != mine.keys():
            raise ValueError(f"state must be from {type(self).__name__}.state_dict, with {', '.join(mine)}")
        for name in _PLAN:
            if state[name] != mine[name]:
                raise ValueError(f"state is of a stream with {name} {state[name]!r}, this one has {mine[name]!r}")
        convolutions = {name: conv for conv, name in self._names.items()}
        for name, past in state["past"].items():
            if name not in convolutions or past.shape[1] != convolutions[name].conv.in_channels:
                raise ValueError(f"state is of another model: it remembers {tuple(past.shape)} for {name!r}")
        resumed = _State(**{name: state[name] for name in _State._fields})
        waiting = 0 if resumed.waiting is None else resumed.waiting.shape[2]
        if resumed.position != sum(self._lengths[: resumed.chunk]) + resumed.done + waiting:
            raise ValueError(
                f"state contradicts itself: position {resumed.position} in chunk {resumed.chunk} after {resumed.done} "
                f"of it and {waiting} waiting"
            )
        if bool(resumed.past) != bool(resumed.done and not self.chunked):
            raise ValueError(f"state remembers {len(resumed.past)} convolutions after {resumed.done} inputs of a chunk")
        self._state = resumed

    def _check(self, name: str, x: Tensor, channels: int, cell: int = 1) -> None:
        """Refuse inputs that do not fit the model or the stream. cell: pixels per latent cell, if x is pixels."""
        check_video(name, x, channels)
        check_dtype(name, x, self.temporal.dtype)
        if x.device != self.temporal.device:
            raise ValueError(f"{name} must be on the model's device, {self.temporal.device}, got {x.device}")
        shape = (x.shape[0], *x.shape[3:])
        if self._state.shape is not None:
            batch, height, width = self._state.shape
            began = (batch, height * cell, width * cell)
            if shape != began:
                raise ValueError(
                    f"{name} must have the batch, height and width that the stream began with, {began}, got {shape}"
                )
        if self.position + x.shape[2] > self.length:
            raise ValueError(
                f"{name} has {count(x.shape[2], self.takes)}, but only {self.length - self.position} of the "
                f"{self.length} of this stream of num_frames={self.num_frames} are left"
            )

    def _feed(self, x: Tensor) -> list[Tensor]:
        """Take inputs and return the outputs that they complete."""
        position, chunk, done, _, waiting, past = self._state
        waiting = x if waiting is None else torch.cat([waiting, x], dim=2)
        outputs = []
        while waiting.shape[2]:
            left = self._lengths[chunk] - done
            taken = min(left, waiting.shape[2])
            taken = taken // left * left if self.chunked else self._whole(chunk, done, taken)
            if not taken:
                break
            later: dict[str, Tensor] = {}
            convolve = at_once if self.chunked else partial(self._step, past, later)
            outputs.append(self._run(waiting[:, :, :taken], chunk, done, convolve))
            waiting, past, done = waiting[:, :, taken:], later, done + taken
            if done == self._lengths[chunk]:
                chunk, done, past = chunk + 1, 0, {}
        waiting = waiting.clone() if waiting.shape[2] else None  # a slice would keep all of x
        self._state = _State(position + x.shape[2], chunk, done, (x.shape[0], *x.shape[3:]), waiting, past)
        return outputs

    def _step(self, past: Mapping[str, Tensor], later: dict[str, Tensor], conv: CausalConv3d, x: Tensor) -> Tensor:
        """Run a convolution after `past`, the inputs that each remembers, and note in `later` what it will need."""
        name = self._names[conv]
        y, remembered = conv.step(x, past.get(name))
        later[name] = remembered.clone()  # a slice would keep the whole piece alive
        return y

    def _whole(self, chunk: int, done: int, available: int) -> int:
        """How many of the next `available` inputs of a chunk complete outputs."""
        raise NotImplementedError

    def _run(self, x: Tensor, chunk: int, done: int, convolve: Convolve) -> Tensor:
        """The outputs of the next inputs of a chunk, after its first `done`."""
        raise NotImplementedError


def _check_streamable(temporal: TemporalVAE, micro_frame_size: int | None, chunked: bool) -> None:
    config = temporal.config
    time_mode = "pad_mode" if config.time_pad_mode is None else "time_pad_mode"
    if chunked:
        if micro_frame_size is None:
            raise ValueError("chunked needs a VideoVAE with a micro_frame_size, which says how long a chunk is")
    elif config.norm != "frame_group":
        raise ValueError(
            f"norm {config.norm!r} takes its statistics over all frames, so every latent depends on the last frame: "
            'stream it with chunked=True (chunks encoded alone, as released), or use norm "frame_group" '
            "(vae_lab.make_causal changes a model's norm to it)"
        )
    elif not config.is_causal:
        raise ValueError("is_causal=False needs later frames, so it cannot be streamed")
    elif config[time_mode] == "reflect":
        raise ValueError(f'{time_mode} "reflect" pads with later frames, so it cannot be streamed')


class StreamingEncoder(_Stream):
    """Encodes a clip of known length in pieces of any size; their latents, joined, equal those of `vae.encode`.

    With norm "frame_group" they are equal up to rounding, whatever the pieces. Unless `chunked`, a latent comes out as
    soon as its group of frames is complete. Memory depends on the sizes of a piece and of a chunk, not on `num_frames`.

    Args:
        vae: a VideoVAE, which takes pixels and keeps its micro_frame_size, or a TemporalVAE, which takes 2D latents.
        num_frames: length of the whole clip, needed at the start because front padding depends on it.
        chunked: encode each chunk of micro_frame_size frames alone, when it is complete, as released. Norm "group"
          needs this.

    Raises ValueError with the reason if the model cannot be streamed.
    """

    takes = "frame"

    @torch.no_grad()
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode the next frames (B, 3, T, H, W) in [-1, 1] to the posterior of the latents that they complete, if any.

        With a TemporalVAE, x is 2D latents (B, C, T, h, w). After any exception the position is unchanged.
        Raises ValueError if x does not fit the pieces before it or goes beyond num_frames.
        """
        if isinstance(self.vae, TemporalVAE):
            return self.encode_spatial_latent(x)
        spatial = self.vae.spatial
        self._check("x", x, spatial.config.in_channels, spatial.spatial_compression_ratio)
        return self.encode_spatial_latent(spatial.encode(x).latent_dist.mode())

    @torch.no_grad()
    def encode_spatial_latent(self, spatial_latent: Tensor) -> AutoencoderKLOutput:
        """Run the temporal half of `encode` on the next scaled 2D latents (B, C, T, h, w)."""
        self._check("spatial_latent", spatial_latent, self.temporal.config.in_channels)
        none = _no_frames(spatial_latent, 2 * self.temporal.config.latent_channels)
        moments = torch.cat([none, *self._feed(spatial_latent)], dim=2)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussian(moments))

    def _whole(self, chunk: int, done: int, available: int) -> int:
        padding = front_padding(self._lengths[chunk], self.ratio)
        groups = (padding + done + available) // self.ratio
        return max(0, groups * self.ratio - padding - done)

    def _run(self, x: Tensor, chunk: int, done: int, convolve: Convolve) -> Tensor:
        padding = 0 if done else front_padding(self._lengths[chunk], self.ratio)
        return self.temporal.moments(F.pad(x, (0, 0, 0, 0, padding, 0)), convolve)


class StreamingDecoder(_Stream):
    """Decodes the latents of a clip in pieces of any size; the frames, joined, equal those of `vae.decode`.

    With norm "frame_group" they are equal up to rounding. Unless `chunked`, each latent gives its frames at once.
    Arguments, errors and state are those of StreamingEncoder. With a TemporalVAE, 2D latents come out.
    """

    takes = "latent"

    @torch.no_grad()
    def decode(self, z: Tensor) -> DecoderOutput:
        """Decode the next raw latents (B, C, L, h, w) to `.sample`: the frames (B, 3, T, H, W) that they complete."""
        if isinstance(self.vae, TemporalVAE):
            return self.decode_spatial_latent(z)
        spatial = self.vae.spatial
        before = self._state
        spatial_latent = self.decode_spatial_latent(z).sample
        if not spatial_latent.shape[2]:
            return DecoderOutput(sample=_no_frames(z, spatial.config.out_channels, spatial.spatial_compression_ratio))
        try:
            return spatial.decode(spatial_latent)
        except BaseException:
            self._state = before
            raise

    @torch.no_grad()
    def decode_spatial_latent(self, z: Tensor) -> DecoderOutput:
        """Run the temporal half of `decode`: `.sample` is scaled 2D latents (B, C, T, h, w)."""
        self._check("z", z, self.temporal.config.latent_channels)
        return DecoderOutput(sample=torch.cat([_no_frames(z, self.temporal.config.in_channels), *self._feed(z)], dim=2))

    def _whole(self, chunk: int, done: int, available: int) -> int:
        return available

    def _run(self, x: Tensor, chunk: int, done: int, convolve: Convolve) -> Tensor:
        padding = 0 if done else front_padding(self.chunks[chunk][1], self.ratio)
        return self.temporal.frames(x, convolve)[:, :, padding:]


def _no_frames(x: Tensor, channels: int, cell: int = 1) -> Tensor:
    batch, _, _, height, width = x.shape
    return x.new_zeros(batch, channels, 0, height * cell, width * cell)
