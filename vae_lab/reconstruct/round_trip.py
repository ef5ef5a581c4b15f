"""A clip through a video VAE and back, piece by piece, each measured on its tensors: what every `reconstruct` runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..metrics import DATA_RANGE
from ..shapes import chunk_lengths, frame_groups, padded_size
from ..spatial_vae import SpatialVAE
from ..streaming import StreamingDecoder, StreamingEncoder
from ..temporal_vae import TemporalVAE
from ..video.frames import to_frames, to_tensor
from ..video_vae import VideoVAE
from .summary import Quality

PIECE = 16  # frames at a time where the model has no chunks


class Piece(NamedTuple):
    """What became of some frames."""

    outputs: dict[str, np.ndarray]
    """"2D only" (of a model with a 2D half) and "full" -> frames uint8 (T, H, W, 3)."""
    quality: dict[str, Quality]


class RoundTrip:
    """A clip of num_frames on its way through a video VAE that takes pixels.

    `lengths` are the pieces that it has to be fed in. A VideoVAE with a micro_frame_size takes chunk after chunk; one
    without and with norm "frame_group" is streamed exactly, in pieces of whole groups, so that all that goes in comes
    out at once; a SpatialVAE takes some frames at a time. All others take the clip in one piece, and memory grows with
    it: norm "group" without chunks, since it looks at all frames, and diffusers' other classes, which do not stream.

    Height and width are padded by replication to what the model divides by, and cropped back.
    """

    def __init__(self, vae, num_frames: int, height: int, width: int, device: str | torch.device = "cpu"):
        ratio = _spatial_ratio(vae)
        self.vae, self.device = vae.to(device), device
        self.num_frames, self.height, self.width = num_frames, height, width
        self.padded_size = padded_size(height, ratio), padded_size(width, ratio)
        self.panels = ["2D only", "full"] if isinstance(vae, VideoVAE) else ["full"]
        """What comes out of a piece."""
        self.micro_frame_size, self.groups, self.lengths = None, [], [num_frames]
        self._streams = None
        if isinstance(vae, SpatialVAE):
            self.lengths = chunk_lengths(num_frames, PIECE)
        if isinstance(vae, VideoVAE):
            self.micro_frame_size = vae.config.micro_frame_size
            self.groups = frame_groups(num_frames, vae.temporal_compression_ratio, self.micro_frame_size)
            self._streams = _streams(vae, num_frames)
            if self.micro_frame_size is not None:
                self.lengths = chunk_lengths(num_frames, self.micro_frame_size)
            elif self._streams is not None:
                self.lengths = _whole_groups(self.groups)
        self._latent_frames, self._latent = 0, None

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, L, h, w) of all latents so far; asked for after the first piece."""
        channels, height, width = self._latent
        return channels, self._latent_frames, height, width

    @torch.no_grad()
    def feed(self, frames: np.ndarray) -> Piece:
        """The next piece, uint8 (T, H, W, 3)."""
        x = to_tensor(frames)
        right, bottom = self.padded_size[1] - self.width, self.padded_size[0] - self.height
        outputs, latent = self._run(F.pad(x, (0, right, 0, bottom, 0, 0), mode="replicate").to(self.device))
        self._latent_frames += latent[1]
        self._latent = latent[0], *latent[2:]
        outputs = {name: y[..., : self.height, : self.width].clamp(-1, 1).float().cpu() for name, y in outputs.items()}
        return Piece(
            {name: to_frames(y) for name, y in outputs.items()}, {name: _measure(x, y) for name, y in outputs.items()}
        )

    def _run(self, x: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...]]:
        """(name -> pixels, shape (C, L, h, w) of the latent)"""
        if self._streams is not None:
            encoder, decoder = self._streams
            spatial_latent = self.vae.spatial.encode(x).latent_dist.mode()
            latent = encoder.encode_spatial_latent(spatial_latent).latent_dist.mode()
            decoded = decoder.decode_spatial_latent(latent).sample
            spatial_only, sample = (self.vae.spatial.decode(z).sample for z in (spatial_latent, decoded))
            return {"2D only": spatial_only, "full": sample}, tuple(latent.shape[1:])
        if isinstance(self.vae, VideoVAE):
            result = self.vae.reconstruct(x)
            return {"2D only": result.spatial_only, "full": result.sample}, tuple(result.latent.shape[1:])
        latent, sample = _encode_and_decode(self.vae, x)
        return {"full": sample}, tuple(latent.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """Where the clip stands, between two pieces, in what torch.save takes."""
        streams = [stream.state_dict() for stream in self._streams or ()]
        return {"streams": streams, "latent_frames": self._latent_frames, "latent": self._latent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the pieces before `state_dict`, of the same model and clip."""
        for stream, its in zip(self._streams or (), state["streams"], strict=True):
            stream.load_state_dict(its)
        self._latent_frames, self._latent = state["latent_frames"], state["latent"]


def _streams(vae: VideoVAE, num_frames: int) -> tuple[StreamingEncoder, StreamingDecoder] | None:
    chunked = vae.config.micro_frame_size is not None
    try:
        return StreamingEncoder(vae, num_frames, chunked), StreamingDecoder(vae, num_frames, chunked)
    except ValueError:  # a model that cannot be streamed
        return None


def _whole_groups(groups: list[range]) -> list[int]:
    """Lengths of pieces of whole groups, of about PIECE frames."""
    number = -(-PIECE // len(groups[-1]))
    parts = [groups[i : i + number] for i in range(0, len(groups), number)]
    return [part[-1].stop - part[0].start for part in parts]


def _spatial_ratio(vae) -> int:
    if isinstance(vae, TemporalVAE):
        raise ValueError("a TemporalVAE takes 2D latents, not pixels: reconstruct with a VideoVAE around it")
    ratio = getattr(vae, "spatial_compression_ratio", None)
    if ratio is None:
        raise ValueError(f"{type(vae).__name__} is no video VAE that can be reconstructed with")
    return ratio


def _encode_and_decode(vae, x: Tensor) -> tuple[Tensor, Tensor]:
    """Encode and decode with any video VAE of diffusers' interface, in one piece."""
    if isinstance(vae, SpatialVAE):
        latent = vae.encode(x).latent_dist.mode()
        return latent, vae.decode(latent, x.shape[2]).sample
    try:
        latent = vae.encode(x).latent_dist.mode()
        sample = vae.decode(latent).sample
    except Exception as error:  # other families fail in ways of their own on sizes they do not take
        raise ValueError(
            f"{type(vae).__name__} failed on {x.shape[2]} frames of {x.shape[3]}x{x.shape[4]}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if sample.shape != x.shape:
        raise ValueError(
            f"{type(vae).__name__} turned {x.shape[2]} frames of {x.shape[3]}x{x.shape[4]} into {sample.shape[2]} of "
            f"{sample.shape[3]}x{sample.shape[4]}; choose a length that it keeps with --frames (often a multiple of "
            f"its temporal ratio, plus 1)"
        )
    return latent, sample


def _measure(x: Tensor, y: Tensor) -> Quality:
    big_enough = min(x.shape[3:]) >= metrics.SSIM_WINDOW
    ssim = metrics.ssim(x, y, DATA_RANGE)[0].numpy() if big_enough else None
    return Quality(metrics.psnr(x, y, DATA_RANGE)[0].numpy(), ssim)
