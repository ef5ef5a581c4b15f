"""Everything the probes say of one model, as `vae-lab probe` prints it: leaks, fields, chunks, seams."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..families import LAB_CLASSES, decode, encode, maps_of
from ..shapes import MICRO_FRAME_SIZE, chunk_lengths
from ..streaming import StreamingEncoder
from ..temporal_vae import TemporalVAE
from ..video.clips import synthetic_clip
from ..video.frames import to_tensor
from ..video_vae import VideoVAE
from .attribution import LeakAttribution
from .causality import Leaks, attribute, leaks
from .chunks import ChunkInvariance, chunk_invariance
from .dependency import FutureLeak
from .receptive_fields import ReceptiveField, receptive_field
from .seams import SeamProfile, StaticVideo, seam_profile, static_video_test

CHUNKS = 3  # of the clip for chunks and seams: with two, one border would decide
FIELD_CELLS = 3  # latent cells of a side, where the field in time is looked for: space hardly matters to it
ROUNDING = 1e-5  # of the largest value: chunks that differ by less agree, in float32
DEFAULT_RATIO = 8  # pixels a latent cell, of models that do not tell


class ProbeReport(NamedTuple):
    """What `probe` returns. What could not be measured is None, and `notes` says why."""

    leaks: Leaks | None
    attribution: tuple[LeakAttribution, LeakAttribution] | None
    """Of the encoder and of the decoder."""
    fields: tuple[ReceptiveField, ReceptiveField] | None
    """Of a latent of the encoder, in frames; of a frame of the decoder, in latents. A VideoVAE's are those of its
    temporal half without chunks."""
    chunks: ChunkInvariance | None
    """Latents of the clip in one piece, and of its chunks encoded alone; of a model that streams, also in pieces."""
    seams: SeamProfile | None
    """Of a moving clip's reconstruction, at the borders of its chunks."""
    static: StaticVideo | None
    """Of the reconstruction of a clip that stands still."""
    notes: dict[str, str]

    def describe(self) -> dict[str, str]:
        """Name -> text of one or several lines, in the order in which they are printed."""
        text = {}
        for place, half in enumerate(("encoder", "decoder")):
            if self.leaks is not None:
                text[half] = _verdict(getattr(self.leaks, half), self.attribution[place])
        for place, half in enumerate(("latent sees", "frame sees")):
            if self.fields is not None:
                text[half] = f"{self.fields[place].time!r} {('frames', 'latents')[place]}"
        for name in ("chunks", "seams", "static"):
            if (value := getattr(self, name)) is not None:
                text[name] = repr(value)
        return text | {f"no {name}": why for name, why in self.notes.items()}


def _verdict(leak: FutureLeak, attribution: LeakAttribution) -> str:
    if not leak.leaks:
        return f"causal: {leak.forbidden_pairs} pairs that must not depend on each other, all exactly 0"
    share = leak.largest / leak.allowed if leak.allowed else float("inf")
    where = f"first through {attribution.first}" if attribution.first else "no module of its own lets it in"
    return (
        f"NOT causal: {leak.pairs} of {leak.forbidden_pairs} forbidden pairs move, by up to {leak.largest:.1e} "
        f"({share:.1%} of what is allowed)\n{where}"
    )


def probe(
    vae, num_frames: int = MICRO_FRAME_SIZE, size: int = 64, progress: Callable[[list], Iterator] = iter
) -> ProbeReport:
    """Measure causality, receptive field, chunks and seams of any video VAE that `load` reads.

    Args:
        num_frames: of a chunk: leaks are looked for in one, the rest in clips of three. A VideoVAE that chunks brings
          its own. Diffusers classes usually take 1 more than a multiple of their temporal ratio.
        size: height and width in pixels of the clip for chunks and seams.
        progress: wraps the list of measurements, as tqdm does.
    """
    own = vae.config.micro_frame_size if isinstance(vae, VideoVAE) else None
    chunk = own or num_frames
    if isinstance(vae, TemporalVAE):
        cells = FIELD_CELLS
    else:
        cells = 2 * getattr(vae, "spatial_compression_ratio", DEFAULT_RATIO)
    measurements = {
        "causality": lambda: _causality(vae, chunk, cells),
        "fields": lambda: _fields(vae, chunk, cells),
        "chunks": lambda: _chunks(vae, chunk, cells),
        "seams": lambda: _seams(vae, own, chunk, size),
    }
    found, notes = {}, {}
    for name in progress(list(measurements)):
        try:
            found |= measurements[name]()
        except ValueError as error:  # another family, another length: the rest can still be measured
            notes[name] = str(error)
    return ProbeReport(**{name: found.get(name) for name in ProbeReport._fields[:-1]}, notes=notes)


def _lengths(vae, chunk: int) -> list[int]:
    """Frames of the chunks of the long clip: of 17 the lab's 17, 17, 17, the others' 17, 16, 16, a length they keep."""
    return [chunk] + [chunk if isinstance(vae, LAB_CLASSES) else max(1, chunk - 1)] * (CHUNKS - 1)


def _causality(vae, chunk: int, cells: int) -> dict:
    maps = maps_of(vae, chunk, cells)
    return {"leaks": leaks(maps), "attribution": attribute(vae, maps)}


def _fields(vae, chunk: int, cells: int) -> dict:
    half = vae.temporal if isinstance(vae, VideoVAE) else vae
    maps = maps_of(
        half, CHUNKS * chunk if isinstance(half, TemporalVAE) else chunk, cells if half is vae else FIELD_CELLS
    )
    return {"fields": (receptive_field(maps.encode, maps.x), receptive_field(maps.decode, maps.z))}


def _chunks(vae, chunk: int, cells: int) -> dict:
    lengths = _lengths(vae, chunk)
    total = sum(lengths)
    whole = vae.with_micro_frame_size(None) if isinstance(vae, VideoVAE) else vae
    x = maps_of(whole, total, cells).x
    plans = [[total], lengths, chunk_lengths(total, chunk // 2 + 1)]

    def alone(x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        return torch.cat([encode(whole, piece) for piece in x.split(lengths, dim=2)], dim=2)

    run = partial(_streamed, whole) if _streams(whole) else alone
    return {"chunks": chunk_invariance(run, x, plans, ROUNDING)}


def _streams(vae) -> bool:
    return isinstance(vae, VideoVAE | TemporalVAE) and getattr(vae, "temporal", vae).config.norm == "frame_group"


def _streamed(vae, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
    stream = StreamingEncoder(vae, x.shape[2])
    return torch.cat([stream.encode(piece).latent_dist.mode() for piece in x.split(lengths, dim=2)], dim=2)


def _seams(vae, own: int | None, chunk: int, size: int) -> dict:
    if isinstance(vae, TemporalVAE):
        raise ValueError("a TemporalVAE takes 2D latents: probe a VideoVAE around it")
    lengths = _lengths(vae, chunk)
    starts = [sum(lengths[:number]) for number in range(CHUNKS)]
    x, still = (
        to_tensor(synthetic_clip(kind, sum(lengths), (size, size)).frames).to(vae.device, vae.dtype)
        for kind in ("texture", "static")
    )

    @torch.no_grad()
    def reconstruct(x: Tensor) -> Tensor:
        y = decode(vae, encode(vae, x), x.shape[2]).clamp(-1, 1)
        if y.shape != x.shape:
            raise ValueError(f"{type(vae).__name__} turned {x.shape[2]} frames into {y.shape[2]}: take another length")
        return y

    static = static_video_test(reconstruct, still[:, :, :1], x.shape[2], own)
    return {"seams": seam_profile(x, reconstruct(x), starts=starts), "static": static}
