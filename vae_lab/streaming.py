"""Videos of any length, piece by piece: what the whole clip would give, in memory that does not grow with it.

A model of norm "frame_group" sees the frames before a piece only through its causal convolutions, and of these each
needs the last few of its inputs. A stream keeps these; the model itself stays stateless, so that any number of streams
can run through one model. A model of norm "group" cannot be streamed, since its statistics run over all frames: it is
given whole chunks, which are encoded alone anyway, as released.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from .utils.checks import check_video, positive_int
from .utils.text import count
from .video_vae import VideoVAE

_PLAN = ("takes", "num_frames", "micro_frame_size", "chunked")  # what two streams have in common if one goes on


class _Memory:
    """Calls convolutions on the next frames of a stream. `past` is only read; what is to be kept instead is in `next`.

    Both map a convolution's name to the input frames that its windows to come still need.
    """

    def __init__(self, names: Mapping[CausalConv3d, str], past: Mapping[str, Tensor]):
        self.names, self.past, self.next = names, past, {}

    def __call__(self, conv: CausalConv3d, x: Tensor) -> Tensor:
        name = self.names[conv]
        y, past = conv.step(x, self.past.get(name))
        self.next[name] = past.clone()  # a slice would keep the whole piece alive
        return y


class _State(NamedTuple):
    """Where a stream stands. Nothing in it is ever changed: a call that succeeds puts a new one in its place."""

    position: int = 0
    """Inputs taken so far."""
    chunk: int = 0
    """The chunk that what is waiting begins in."""
    done: int = 0
    """Inputs of that chunk which outputs have been made of."""
    shape: tuple[int, int, int] | None = None
    """Batch, height and width of what is fed, in latent cells."""
    waiting: Tensor | None = None
    """Inputs that no output has been made of yet."""
    past: Mapping[str, Tensor] = {}
    """What the convolutions remember of the chunk that they are in."""


class _Stream:
    """What an encoder and a decoder share: a plan of chunks, and the state."""

    takes: str  # "frame" or "latent"

    def __init__(self, vae: VideoVAE | TemporalVAE, num_frames: int, chunked: bool = False):
        if not isinstance(vae, VideoVAE | TemporalVAE):
            raise ValueError(f"vae must be a VideoVAE or a TemporalVAE, got {type(vae).__name__}")
        self.vae, self.num_frames, self.chunked = vae, positive_int("num_frames", num_frames), bool(chunked)
        self.temporal: TemporalVAE = getattr(vae, "temporal", vae)
        micro_frame_size = vae.config.micro_frame_size if isinstance(vae, VideoVAE) else None
        _check_streamable(self.temporal, micro_frame_size, self.chunked)
        self.micro_frame_size = micro_frame_size
        self.ratio = self.temporal.temporal_compression_ratio
        self.chunks = latent_chunks(self.num_frames, self.ratio, micro_frame_size)
        self._lengths = [frames if self.takes == "frame" else latents for latents, frames in self.chunks]  # inputs
        self.length = sum(self._lengths)
        """Inputs of the whole stream: num_frames, or the latents of as many."""
        self._names = {m: name for name, m in self.temporal.named_modules() if isinstance(m, CausalConv3d)}
        self._state = _State()

    @property
    def position(self) -> int:
        """Inputs taken so far: frames, or latents."""
        return self._state.position

    def finish(self) -> None:
        """Say that no more is to come. Raises ValueError where the stream is not complete."""
        if self.position < self.length:
            raise ValueError(
                f"the stream ended after {count(self.position, self.takes)}, but num_frames={self.num_frames} "
                f"needs {self.length}"
            )

    def fork(self) -> Self:
        """A second stream that stands where this one does; from here on they know nothing of each other."""
        other = type(self)(self.vae, self.num_frames, self.chunked)
        other._state = self._state
        return other

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, in plain numbers and tensors that torch.save takes. Later calls do not change it."""
        state = self._state._asdict() | {"past": dict(self._state.past)}
        return {**{name: getattr(self, name) for name in _PLAN}, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: of the same model (its weights are not compared) and the same plan."""
        own = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != own.keys():
            raise ValueError(f"state must be what {type(self).__name__}.state_dict gave, with {', '.join(own)}")
        for name in _PLAN:
            if state[name] != own[name]:
                raise ValueError(f"state is of a stream with {name} {state[name]!r}, this one has {own[name]!r}")
        convolutions = {name: conv for conv, name in self._names.items()}
        for name, past in state["past"].items():
            if name not in convolutions or past.shape[1] != convolutions[name].conv.in_channels:
                raise ValueError(f"state is of another model: it remembers {tuple(past.shape)} for {name!r}")
        found = _State(**{name: state[name] for name in _State._fields})
        waiting = 0 if found.waiting is None else found.waiting.shape[2]
        if found.position != sum(self._lengths[: found.chunk]) + found.done + waiting:
            raise ValueError(
                f"state contradicts itself: position {found.position} in chunk {found.chunk} after {found.done} of it "
                f"and {waiting} waiting"
            )
        if bool(found.past) != bool(found.done and not self.chunked):
            raise ValueError(f"state remembers {len(found.past)} convolutions after {found.done} inputs of a chunk")
        self._state = found

    # ---- the work --------------------------------------------------------------------------------------------------

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        before = self._state
        try:
            yield
        except BaseException:
            self._state = before
            raise

    def _check(self, name: str, x: Tensor, channels: int, cell: int = 1) -> None:
        """cell: pixels a latent cell, where x is pixels."""
        check_video(name, x, channels)
        if (x.dtype, x.device) != (self.temporal.dtype, self.temporal.device):
            raise ValueError(
                f"{name} must be of the model's type and on its device, {self.temporal.dtype} on "
                f"{self.temporal.device}, got {x.dtype} on {x.device}"
            )
        shape, began = (x.shape[0], *x.shape[3:]), self._state.shape
        if began is not None and shape != (began[0], *(side * cell for side in began[1:])):
            raise ValueError(
                f"{name} must have the batch, height and width that the stream began with, "
                f"{(began[0], *(side * cell for side in began[1:]))}, got {shape}"
            )
        if self.position + x.shape[2] > self.length:
            raise ValueError(
                f"{name} has {count(x.shape[2], self.takes)}, but of the {self.length} of a stream of num_frames="
                f"{self.num_frames} only {self.length - self.position} are left"
            )

    def _feed(self, x: Tensor) -> list[Tensor]:
        """Take x in, and return the outputs that it completes."""
        position, chunk, done, _, waiting, past = self._state
        waiting = x if waiting is None else torch.cat([waiting, x], dim=2)
        outputs = []
        while waiting.shape[2]:
            left = self._lengths[chunk] - done
            taken = min(left, waiting.shape[2])
            taken = taken // left * left if self.chunked else self._whole(chunk, done, taken)
            if not taken:
                break
            memory = _Memory(self._names, past)
            outputs.append(self._run(waiting[:, :, :taken], chunk, done, at_once if self.chunked else memory))
            waiting, past, done = waiting[:, :, taken:], memory.next, done + taken
            if done == self._lengths[chunk]:
                chunk, done, past = chunk + 1, 0, {}
        waiting = waiting.clone() if waiting.shape[2] else None  # a slice would keep all of x
        self._state = _State(position + x.shape[2], chunk, done, (x.shape[0], *x.shape[3:]), waiting, past)
        return outputs

    def _whole(self, chunk: int, done: int, available: int) -> int:
        """How many of a chunk's next inputs, at most `available`, outputs can be made of."""
        raise NotImplementedError

    def _run(self, x: Tensor, chunk: int, done: int, convolve: Convolve) -> Tensor:
        """The outputs of a chunk's next inputs, of which it has had `done` before."""
        raise NotImplementedError


def _check_streamable(temporal: TemporalVAE, micro_frame_size: int | None, chunked: bool) -> None:
    config = temporal.config
    if chunked and micro_frame_size is None:
        raise ValueError("chunked needs a VideoVAE with a micro_frame_size, which says how long a chunk is")
    if chunked:
        return
    if config.norm != "frame_group":
        raise ValueError(
            f"norm {config.norm!r} takes its statistics over all frames, so no latent is final before the last frame "
            'is there: stream it with chunked=True (chunks encoded alone, as released), or use norm "frame_group" '
            "(vae_lab.make_causal turns one into the other)"
        )
    if not config.is_causal:
        raise ValueError("is_causal=False looks at frames to come, so it cannot be streamed")
    if "reflect" in (config.pad_mode, config.time_pad_mode):
        raise ValueError('pad_mode "reflect" pads with frames to come, so it cannot be streamed')


class StreamingEncoder(_Stream):
    """Encodes a clip of known length, fed in pieces of any size: the latents of all pieces, joined, are `vae.encode`'s.

    Exact for norm "frame_group": to rounding, any pieces give what the whole clip gives. A latent comes out as soon as
    its group of frames is complete. Memory depends on the size of a piece, not on `num_frames`.

    Args:
        vae: a VideoVAE (fed pixels; its micro_frame_size is followed: None means one piece from beginning to end) or a
          TemporalVAE (fed 2D latents).
        num_frames: of the whole clip: front padding depends on it, so it must be known at the start.
        chunked: encode chunks of micro_frame_size when they are complete, as released. What norm "group" needs.

    Raises ValueError for a model that cannot be streamed, and says why.
    """

    takes = "frame"

    @torch.no_grad()
    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """The next frames (B, 3, T, H, W) in [-1, 1] -> posterior of the latents that they complete, maybe of none.

        Of a TemporalVAE x is (B, C, T, h, w), 2D latents. Raises ValueError where x does not fit what came before or
        goes beyond num_frames. After an exception, whatever it was, the stream stands where it stood.
        """
        if isinstance(self.vae, TemporalVAE):
            return self.encode_spatial_latent(x)
        spatial = self.vae.spatial
        self._check("x", x, spatial.config.in_channels, spatial.spatial_compression_ratio)
        return self.encode_spatial_latent(spatial.encode(x).latent_dist.mode())

    @torch.no_grad()
    def encode_spatial_latent(self, spatial_latent: Tensor) -> AutoencoderKLOutput:
        """The temporal half of `encode`: the next scaled 2D latents (B, C, T, h, w)."""
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
    """Decodes the latents of a clip of num_frames, fed in pieces of any size, into what `vae.decode` gives.

    Exact for norm "frame_group": every latent gives its frames at once. Arguments, errors and state as of
    StreamingEncoder; of a TemporalVAE 2D latents come out.
    """

    takes = "latent"

    @torch.no_grad()
    def decode(self, z: Tensor) -> DecoderOutput:
        """The next raw latents (B, C, L, h, w) -> `.sample` of (B, 3, T, H, W), their frames, maybe none (T = 0)."""
        if isinstance(self.vae, TemporalVAE):
            return self.decode_spatial_latent(z)
        spatial = self.vae.spatial
        with self._all_or_nothing():
            spatial_latent = self.decode_spatial_latent(z).sample
            if spatial_latent.shape[2]:
                return spatial.decode(spatial_latent)
        return DecoderOutput(sample=_no_frames(z, spatial.config.out_channels, spatial.spatial_compression_ratio))

    @torch.no_grad()
    def decode_spatial_latent(self, z: Tensor) -> DecoderOutput:
        """The temporal half of `decode`: `.sample` of scaled 2D latents (B, C, T, h, w)."""
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
