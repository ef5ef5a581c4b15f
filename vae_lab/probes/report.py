"""Run all probes on one model and report what they find.

A new probe is one more row, here or in the caller's own code:

    PROBES["brightness"] = Probe(lambda subject: {"brightness": brightness(subject.codec.encode, subject.maps().x)})
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..families.codec import Codec, codec_of
from ..families.maps import Maps, maps_of
from ..shapes import MICRO_FRAME_SIZE, chunk_lengths
from ..utils.checks import positive_int
from ..utils.text import count
from ..video.clips import synthetic_clip
from ..video.frames import to_tensor
from .attribution import LeakAttribution
from .causality import Leaks, attribute, leaks
from .chunks import ChunkInvariance, chunk_invariance
from .receptive_fields import ReceptiveField, receptive_field
from .seams import SeamProfile, StaticVideo, seam_profile, static_video_test

CHUNKS = 3  # in the long clip: with two, a single border would decide
FIELD_CELLS = 3  # latent cells along height and width for fields in time, which hardly depend on space
ROUNDING = 1e-5  # of the largest value: in float32, chunks that differ by less agree
DEFAULT_RATIO = 8  # pixels per latent cell, of models that do not tell


class Subject(NamedTuple):
    """The model that a probe of PROBES measures, and the size of the clips to measure it with."""

    codec: Codec
    chunk: int  # frames in a chunk
    size: int  # height and width, in pixels, of clips with content

    @property
    def lengths(self) -> list[int]:
        """Frames in each chunk of the long clip: 17, 17, 17 for models that keep every length, else 17, 16, 16."""
        return [self.chunk] + [self.chunk if self.codec.any_length else max(1, self.chunk - 1)] * (CHUNKS - 1)

    def maps(self, num_frames: int | None = None) -> Maps:
        """Encoder and decoder as functions, with noise of two latent cells a side; default length: one chunk."""
        ratio = self.codec.spatial_ratio or DEFAULT_RATIO
        cells = 2 * ratio if self.codec.takes == "pixels" else FIELD_CELLS
        return maps_of(self.codec.vae, num_frames or self.chunk, cells)


class Probe(NamedTuple):
    """A row of PROBES. `measure` raises ValueError with the reason if this model cannot be measured.

    `describe` puts its results in words: title -> text of one or more lines. None: the repr of each, under its name.
    """

    measure: Callable[[Subject], dict[str, Any]]  # name -> result
    describe: Callable[[dict[str, Any]], dict[str, str]] | None = None


class ProbeReport(NamedTuple):
    """What `probe` returns. A result is None if it could not be measured; `notes` has the reason.

    fields: what a latent of the encoder sees, in frames; what a frame of the decoder sees, in latents. If the model has
    halves, only the half that compresses time is measured, without chunks.
    chunks: latents of the clip in one piece, and of its chunks: encoded one by one, or streamed if the model streams.
    """

    leaks: Leaks | None
    attribution: tuple[LeakAttribution, LeakAttribution] | None  # the modules that leak: in the encoder, in the decoder
    fields: tuple[ReceptiveField, ReceptiveField] | None
    chunks: ChunkInvariance | None
    seams: SeamProfile | None  # errors in the reconstruction of a moving clip, at the borders of its chunks
    static: StaticVideo | None  # motion in the reconstruction of a clip in which nothing moves
    results: dict[str, Any]  # everything measured, by name, including the results of rows that were added to PROBES
    texts: dict[str, str]  # title -> text about the results
    notes: dict[str, str]  # row of PROBES that could not measure this model -> the reason

    def describe(self) -> dict[str, str]:
        """Return title -> text of one or more lines, in the order in which they are printed."""
        return self.texts | {f"no {name}": reason for name, reason in self.notes.items()}


def probe(
    vae, num_frames: int = MICRO_FRAME_SIZE, size: int = 64, progress: Callable[[Sequence[str]], Iterator[str]] = iter
) -> ProbeReport:
    """Run all PROBES on a video VAE that `load` reads.

    Args:
        num_frames: frames in a chunk, unless the model has its own chunks. Leaks are measured in one chunk, chunks and
          seams in clips of three. diffusers' classes usually take 1 more than a multiple of their temporal ratio.
        size: height and width, in pixels, of the clips for seams.
        progress: wraps the list of probes, as tqdm does.
    """
    codec, num_frames = codec_of(vae), positive_int("num_frames", num_frames)
    subject = Subject(codec, codec.chunk or num_frames, positive_int("size", size))
    results: dict[str, Any] = {}
    texts: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name in progress(list(PROBES)):
        try:
            measure, describe = PROBES[name]
            measured = measure(subject)
        except ValueError as error:  # the other probes may still work on this family or with this length
            notes[name] = str(error)
            continue
        results |= measured
        texts |= describe(measured) if describe else {key: repr(value) for key, value in measured.items()}
    parts: dict[str, Any] = {name: results.get(name) for name in ProbeReport._fields[:-3]}  # without the dicts
    return ProbeReport(**parts, results=results, texts=texts, notes=notes)


def _causality(subject: Subject) -> dict[str, Any]:
    maps = subject.maps()
    return {"leaks": leaks(maps), "attribution": attribute(subject.codec.vae, maps)}


def _describe_causality(results: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for half, leak, attribution in zip(Leaks._fields, results["leaks"], results["attribution"], strict=True):
        if not leak.leaks:
            pairs = count(leak.forbidden_pairs, "pair")
            texts[half] = f"causal: {pairs} that must not depend on each other, all exactly 0"
            continue
        share = leak.largest / leak.largest_allowed if leak.largest_allowed else float("inf")
        where = f"first through {attribution.first}" if attribution.first else "through no module of the model"
        texts[half] = (
            f"NOT causal: {leak.pairs} of {leak.forbidden_pairs} forbidden pairs move, by up to {leak.largest:.1e} "
            f"({share:.1%} of the largest permitted effect)\n{where}"
        )
    return texts


def _fields(subject: Subject) -> dict[str, Any]:
    if subject.codec.halves:
        subject = subject._replace(codec=codec_of(subject.codec.halves.temporal))
    # latents are small enough for a clip that is longer than the field
    maps = subject.maps(subject.chunk if subject.codec.takes == "pixels" else CHUNKS * subject.chunk)
    return {"fields": (receptive_field(maps.encode, maps.x), receptive_field(maps.decode, maps.z))}


def _describe_fields(results: dict[str, Any]) -> dict[str, str]:
    encoder, decoder = results["fields"]
    return {"latent sees": f"{encoder.time!r} frames", "frame sees": f"{decoder.time!r} latents"}


def _chunks(subject: Subject) -> dict[str, Any]:
    total = sum(subject.lengths)
    whole = codec_of(subject.codec.with_chunk(None))

    def encode(x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        try:
            stream = whole.stream(total).encoder
        except ValueError:
            latents = [whole.encode(piece) for piece in x.split(lengths, dim=2)]
        else:
            latents = [stream.encode(piece).latent_dist.mode() for piece in x.split(lengths, dim=2)]
        return torch.cat(latents, dim=2)

    x = subject._replace(codec=whole).maps(total).x  # which refuses a length that the model does not keep
    plans = [[total], subject.lengths, chunk_lengths(total, subject.chunk // 2 + 1)]
    return {"chunks": chunk_invariance(encode, x, plans, ROUNDING)}


def _seams(subject: Subject) -> dict[str, Any]:
    codec, lengths = subject.codec, subject.lengths
    if codec.takes != "pixels":
        raise ValueError(f"a {codec.name} takes {codec.takes}: probe the whole model, which takes pixels")
    total, size = sum(lengths), (subject.size, subject.size)
    moving, still = (
        to_tensor(synthetic_clip(kind, num_frames, size).frames).to(codec.device, codec.dtype)
        for kind, num_frames in (("texture", total), ("static", 1))
    )

    @torch.no_grad()
    def reconstruct(x: Tensor) -> Tensor:
        return codec.reconstruct(x).sample.clamp(-1, 1)

    profile = seam_profile(moving, reconstruct(moving), starts=[0, *accumulate(lengths[:-1])])
    return {"seams": profile, "static": static_video_test(reconstruct, still, total, codec.chunk)}


PROBES: dict[str, Probe] = {
    "causality": Probe(_causality, _describe_causality),
    "fields": Probe(_fields, _describe_fields),
    "chunks": Probe(_chunks),
    "seams": Probe(_seams),
}
"""What `probe` runs: name -> how to measure a model, and how to describe the result."""
