"""A clip through a video VAE and back, piece by piece, each piece measured on its tensors."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..families.codec import Streams, codec_of
from ..figures.style import FULL, SPATIAL_ONLY
from ..metrics import measure_frames
from ..shapes import Timeline, chunk_lengths, padded_size
from ..video.frames import to_frames, to_tensor
from .summary import Quality

PIECE = 16  # frames at a time for a model without chunks


@dataclass(frozen=True, eq=False)
class Piece:
    """Some frames of a clip after the round trip. Its numbers are computed when they are asked for, by any thread."""

    x: Tensor  # (1, 3, T, H, W) in [-1, 1], as y
    y: dict[str, Tensor]  # name in `RoundTrip.panels` -> pixels

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        """Panel -> frames uint8 (T, H, W, 3)."""
        return {name: to_frames(y) for name, y in self.y.items()}

    @cached_property
    def quality(self) -> dict[str, Quality]:
        """Panel -> quality of its frames, measured on the tensors."""
        return {name: Quality(measure_frames(self.x, y)) for name, y in self.y.items()}


class RoundTrip:
    """A clip of num_frames on its way through a video VAE that takes pixels.

    The clip must be fed in pieces of `lengths` frames. A model whose `Codec.stream` makes streams takes one chunk after
    another, or, without chunks, whole groups of frames, so that everything fed in comes out at once. A model that
    encodes each frame alone takes PIECE frames at a time. All others take the clip in one piece, and memory grows with
    it: norm "group" without chunks, which averages over all frames, and most of diffusers' classes.

    Height and width are padded by replication to multiples of the model's spatial ratio, and cropped back.

    Raises ValueError for a model that takes no pixels, or does not tell its spatial ratio; for a length that it does
    not keep, with the nearest ones that it does; and for frames that are smaller than a latent cell.
    """

    def __init__(self, vae, num_frames: int, height: int, width: int, device: str | torch.device = "cpu"):
        self.codec, self.device = codec_of(vae), device
        ratio, name = self.codec.spatial_ratio, self.codec.name
        if self.codec.takes != "pixels":
            raise ValueError(f"a {name} takes 2D latents, not pixels: reconstruct with a VideoVAE around it")
        if ratio is None:
            raise ValueError(f"{name} cannot be reconstructed with: it does not tell its spatial ratio")
        if min(height, width) < ratio:
            raise ValueError(f"frames of {height}x{width} are too small for {name}: one latent cell is {ratio}x{ratio}")
        self.codec.check_length(num_frames)
        if self.codec.offloaded:
            self.device = self.codec.device
        else:
            vae.to(device)
        self.num_frames, self.height, self.width = num_frames, height, width
        self.padded_size = padded_size(height, ratio), padded_size(width, ratio)
        self.panels = [SPATIAL_ONLY, FULL] if self.codec.halves else [FULL]
        """Names of the outputs of a piece."""
        self._streams: Streams | None = None
        self.lengths = [num_frames]
        if self.codec.frame_by_frame:
            self.lengths = chunk_lengths(num_frames, PIECE)
        else:
            with suppress(ValueError):  # a model that cannot be streamed
                streams = self.codec.stream(num_frames)
                lengths = _pieces(streams.lengths) or self._whole_groups()
                if streams.exact and (streams.lengths is None or len(lengths) > 1):
                    self.lengths, self._streams = lengths, streams
        self.latent_shape = (0, 0, 0, 0)
        """(C, L, h, w) of all latents so far."""

    def _whole_groups(self) -> list[int]:
        timeline = self.codec.timeline(self.num_frames)
        if self.codec.chunk is not None:
            return timeline.chunk_lengths
        groups = timeline.groups
        number = -(-PIECE // len(groups[-1]))  # of groups in a piece
        parts = [groups[i : i + number] for i in range(0, len(groups), number)]
        return [part[-1].stop - part[0].start for part in parts]

    @property
    def timeline(self) -> Timeline | None:
        """Which frames each latent frame stands for, known after the last piece; None if it cannot be told."""
        try:
            return self.codec.timeline(self.num_frames, self.latent_shape[1])
        except ValueError:
            return None

    @torch.no_grad()
    def feed(self, frames: np.ndarray) -> Piece:
        """Encode and decode the next piece, uint8 (T, H, W, 3)."""
        x = to_tensor(frames)
        right, bottom = self.padded_size[1] - self.width, self.padded_size[0] - self.height
        padded = F.pad(x, (0, right, 0, bottom, 0, 0), mode="replicate").to(self.device, self.codec.dtype)
        latent, *outputs = self._run(padded)
        channels, latent_frames, height, width = latent.shape[1:]
        self.latent_shape = channels, self.latent_shape[1] + latent_frames, height, width
        shown = [y[..., : self.height, : self.width].clamp(-1, 1).float().cpu() for y in outputs]
        return Piece(x, dict(zip(self.panels, shown, strict=True)))

    def _run(self, x: Tensor) -> tuple[Tensor, ...]:
        """The latents, and the pixels of every panel."""
        halves, streams, num_frames = self.codec.halves, self._streams, x.shape[2]
        if halves is None:
            if streams is None:
                return self.codec.reconstruct(x)
            latent = streams.encoder.encode(x).latent_dist.mode()
            sample = streams.decoder.decode(latent).sample
            if sample.shape != x.shape:
                shapes = f"{tuple(x.shape)} into {tuple(sample.shape)}"
                raise ValueError(f"the streams of {self.codec.name} turned whole groups of frames of shape {shapes}")
            return latent, sample
        spatial = codec_of(halves.spatial)
        spatial_latent = spatial.encode(x)
        if streams is None:
            latent = halves.posterior(spatial_latent).mode()
            decoded = halves.decode(latent, num_frames)
        else:
            latent = streams.encoder.encode_spatial_latent(spatial_latent).latent_dist.mode()
            decoded = streams.decoder.decode_spatial_latent(latent).sample
        return latent, spatial.decode(spatial_latent, num_frames), spatial.decode(decoded, num_frames)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two pieces, in types that torch.save takes."""
        streams = [stream.state_dict() for stream in (self._streams or ())[:2]]
        return {"streams": streams, "latent_shape": self.latent_shape}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the pieces before `state_dict`, of the same model and clip."""
        for stream, stream_state in zip((self._streams or ())[:2], state["streams"], strict=True):
            stream.load_state_dict(stream_state)
        self.latent_shape = state["latent_shape"]


def _pieces(lengths: Sequence[int] | None) -> list[int]:
    """Join short pieces to such of PIECE frames or more.

    >>> _pieces([1, *[4] * 7])
    [17, 12]
    """
    pieces: list[int] = []
    for length in lengths or ():
        if pieces and pieces[-1] < PIECE:
            pieces[-1] += length
        else:
            pieces.append(length)
    return pieces
