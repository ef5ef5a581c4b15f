"""Run all probes on one model and report what they find.

A new probe is one more row, here or in the caller's own code:

    PROBES["brightness"] = Probe(lambda subject: {"brightness": brightness(subject.codec.encode, subject.maps().x)})
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..families.codec import Codec, codec_of
from ..families.maps import Maps, maps_of
from ..shapes import MICRO_FRAME_SIZE, chunk_lengths, padded_size
from ..utils.checks import positive_int
from ..utils.text import count, first_line
from ..video.clips import synthetic_clip
from ..video.frames import to_tensor
from .attribution import LeakAttribution
from .causality import Leaks, attribute, leaks
from .chunks import ChunkInvariance, chunk_invariance
from .equivariance import LatentEquivariance, latent_equivariance
from .receptive_fields import ReceptiveField, receptive_field
from .seams import SeamProfile, StaticVideo, seam_profile, static_video_test

CHUNKS = 3  # in the long clip: with two, a single border would decide
FIELD_CELLS = 3  # latent cells along height and width for fields in time, which hardly depend on space
ROUNDING = 1e-5  # of the largest value: in float32, chunks that differ by less agree
SEEN_CELLS = 5  # least latent cells a side for movements, after which some must still lie inside
DEFAULT_RATIO = 8  # pixels per latent cell, of models that do not tell


class Subject(NamedTuple):
    """The model that a probe of PROBES measures, and the size of the clips to measure it with."""

    codec: Codec
    chunk: int  # frames in a chunk, which the model keeps
    size: int  # height and width, in pixels, of clips with content

    @property
    def lengths(self) -> list[int]:
        """Frames in each piece of the long clip: the model's chunks, or pieces of about `chunk` frames."""
        if not self.codec.chunk and (cut := same_latents(self.codec, self.chunk)):
            return cut.lengths
        chunk = self.codec.chunk or self.chunk
        kept = self.codec.kept_lengths(CHUNKS * chunk) or [CHUNKS * chunk]
        if kept[-1] == 1:
            raise ValueError(f"{self.codec.name} takes pictures: there is no clip to cut")
        return chunk_lengths(kept[-1], chunk)

    def maps(self, num_frames: int | None = None) -> Maps:
        """Encoder and decoder as functions, with noise of two latent cells a side; default length: one chunk."""
        ratio = self.codec.spatial_ratio or DEFAULT_RATIO
        cells = max(2 * ratio, self.codec.smallest_side) if self.codec.takes == "pixels" else FIELD_CELLS
        return maps_of(self.codec, num_frames or self.chunk, cells)


class Cut(NamedTuple):
    """A clip cut into pieces that have the latents of the whole clip."""

    lengths: list[int]  # frames in each piece
    lead: int  # frames before each piece but the first that are encoded with it: their latents are not the piece's

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Yield each piece: its first frame, its end, and the frames before it that are encoded with it."""
        stop = 0
        for length in self.lengths:
            start, stop = stop, stop + length
            yield start, stop, self.lead if start else 0

    def encode(self, encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Encode each piece alone, and return the latents of the clip x."""
        latents = [encode(x[:, :, start - lead : stop])[:, :, lead:] for start, stop, lead in self.pieces()]
        return torch.cat(latents, dim=2)


def same_latents(codec: Codec, length: int, total: int | None = None) -> Cut | None:
    """Cut a clip into pieces of about `length` frames whose latents stand for the same frames as the whole clip's.

    Most families give the first frame of a clip a latent of its own. Their pieces overlap by that frame: 17 frames,
    then 16 and the one before. total: of the clip; default: CHUNKS pieces. None if the model keeps no such lengths.
    """
    if codec.any_length:
        return Cut(chunk_lengths(total or CHUNKS * length, length), 0)
    for step, lead in ((length, 0), (length - 1, 0), (length - 1, 1)):
        if step:
            rest = total - length if total else (CHUNKS - 1) * step
            cut = Cut([length, *chunk_lengths(rest, step)], lead)
            if _fits(codec, cut):
                return cut
    return None


def _fits(codec: Codec, cut: Cut) -> bool:
    groups, total = [], sum(cut.lengths)
    try:
        for start, stop, lead in cut.pieces():
            own = codec.timeline(stop - start + lead).groups[lead:]
            groups += [range(group.start + start - lead, group.stop + start - lead) for group in own]
        kept = {length + cut.lead for length in cut.lengths[1:]} | {cut.lengths[0], total}
        unknown_law = not codec.family and any(length not in codec.kept_lengths(length) for length in kept)
        return groups == codec.timeline(total).groups and not unknown_law
    except ValueError:
        return False


class Probe(NamedTuple):
    """A row of PROBES. `measure` raises ValueError with the reason if this model cannot be measured.

    `describe` puts its results in words: title -> text of one or more lines. None: the repr of each, under its name.
    """

    measure: Callable[[Subject], dict[str, Any]]  # name -> result
    describe: Callable[[dict[str, Any]], dict[str, str]] | None = None


class ProbeReport(NamedTuple):
    """The result of `probe`. A result is None if it could not be measured; `notes` has the reason.

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
    equivariance: LatentEquivariance | None  # what moving the latents costs, against moving the clip
    results: dict[str, Any]  # everything measured, by name, including the results of rows that were added to PROBES
    texts: dict[str, str]  # title -> text about the results
    notes: dict[str, str]  # row of PROBES that could not measure this model -> the reason

    def describe(self) -> dict[str, str]:
        """Return title -> text of one or more lines, in the order in which they are printed."""
        return self.texts | {f"no {name}": reason for name, reason in self.notes.items()}


def probe(
    vae, num_frames: int | None = None, size: int = 64, progress: Callable[[Sequence[str]], Iterator[str]] = iter
) -> ProbeReport:
    """Run all PROBES on a video VAE that `load` reads, each on a fresh copy: one that fails does not disturb the next.

    Args:
        num_frames: frames in a chunk, unless the model has its own chunks. Leaks are measured in one chunk, chunks and
          seams in clips of about three. Default: the length nearest to 17 that the model keeps; the report says which.
        size: height and width, in pixels, of the clips for seams; at least what the model takes.
        progress: wraps the list of probes, as tqdm does.

    Raises ValueError if the model does not keep clips of num_frames.
    """
    codec = codec_of(vae)
    chunk, texts = _chunk(codec, None if num_frames is None else positive_int("num_frames", num_frames))
    subject = Subject(codec, chunk, positive_int("size", size))
    results: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for name in progress(list(PROBES)):
        try:
            measure, describe = PROBES[name]
            measured = measure(subject._replace(codec=codec.fresh()))
        except ValueError as error:  # the other probes may still work on this family or with this length
            notes[name] = str(error)
            continue
        except Exception as error:  # other libraries raise anything
            notes[name] = f"{codec.name} failed: {type(error).__name__}: {first_line(error)}"
            continue
        results |= measured
        texts |= describe(measured) if describe else {key: repr(value) for key, value in measured.items()}
    parts: dict[str, Any] = {name: results.get(name) for name in ProbeReport._fields[:-3]}  # without the dicts
    return ProbeReport(**parts, results=results, texts=texts, notes=notes)


def _chunk(codec: Codec, num_frames: int | None) -> tuple[int, dict[str, str]]:
    """Return the frames in a chunk, and a line of the report if the model does not keep the default."""
    if codec.any_length or num_frames:
        own = codec.chunk if codec.any_length else None
        chunk = own or num_frames or MICRO_FRAME_SIZE
        codec.check_length(chunk)
        return chunk, {}
    wanted = codec.chunk or MICRO_FRAME_SIZE
    kept = codec.kept_lengths(wanted) or [wanted]
    nearest = min(kept, key=lambda length: abs(length - wanted))
    text = f"{nearest}, the nearest to {wanted} that {codec.name} keeps"
    return nearest, {} if nearest == wanted else {"frames": text}


def _causality(subject: Subject) -> dict[str, Any]:
    if subject.chunk == 1:
        raise ValueError("one frame has no past and no future")
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
    whole = codec_of(subject.codec.with_chunk(None))
    subject = subject._replace(codec=whole)
    total, shorter = sum(subject.lengths), whole.kept_lengths(subject.chunk // 2 + 1)
    if not shorter:
        raise ValueError(f"it is unknown which lengths {whole.name} keeps, and so where a clip can be cut")
    cuts = same_latents(whole, subject.chunk), same_latents(whole, shorter[0], total)
    plans = {tuple(cut.lengths): cut for cut in cuts if cut}

    def encode(x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        stream = None
        if whole.any_length and not whole.frame_by_frame:  # the pieces of others are measured as calls of their own
            with suppress(ValueError):
                stream = whole.stream(total).encoder
        if stream is None:
            return plans[lengths].encode(whole.encode, x) if lengths in plans else whole.encode(x)
        return torch.cat([stream.encode(piece).latent_dist.mode() for piece in x.split(lengths, dim=2)], dim=2)

    if not plans:
        raise ValueError(
            f"{whole.name} keeps no lengths whose latents stand for the same frames as those of a long clip"
        )
    x = subject.maps(total).x  # which refuses a length that the model does not keep
    measured: dict[str, Any] = {"chunks": chunk_invariance(encode, x, [[total], *plans], ROUNDING)}
    return measured | ({"lead": 1} if any(cut.lead for cut in plans.values()) else {})


def _describe_chunks(results: dict[str, Any]) -> dict[str, str]:
    text = repr(results["chunks"])
    if "lead" in results:
        text += "\n  each piece but the first is encoded with the frame before it, whose latent is left out"
    return {"chunks": text}


def _side(subject: Subject) -> int:
    """Height and width of clips with content, which the model takes."""
    codec = subject.codec
    if codec.takes != "pixels":
        raise ValueError(f"a {codec.name} takes {codec.takes}: probe the whole model, which takes pixels")
    return max(padded_size(subject.size, codec.spatial_ratio or 1), codec.smallest_side)


def _seams(subject: Subject) -> dict[str, Any]:
    codec, lengths = subject.codec, subject.lengths
    total, size = sum(lengths), (_side(subject),) * 2
    moving, still = (
        to_tensor(synthetic_clip(kind, num_frames, size).frames).to(codec.device, codec.dtype)
        for kind, num_frames in (("texture", total), ("static", 1))
    )

    @torch.no_grad()
    def reconstruct(x: Tensor) -> Tensor:
        return codec.reconstruct(x).sample.clamp(-1, 1)

    profile = seam_profile(moving, reconstruct(moving), starts=[0, *accumulate(lengths[:-1])])
    return {"seams": profile, "static": static_video_test(reconstruct, still, total, codec.chunk, tolerance=ROUNDING)}


def _equivariance(subject: Subject) -> dict[str, Any]:
    codec, side = subject.codec, _side(subject)
    if codec.spatial_ratio is None:
        raise ValueError(f"it is unknown how many pixels a latent cell of {codec.name} has")
    side = max(side, SEEN_CELLS * codec.spatial_ratio)
    clip = to_tensor(synthetic_clip("texture", subject.chunk, (side, side)).frames).to(codec.device, codec.dtype)
    measured = latent_equivariance(
        codec.encode, lambda z: codec.decode(z, subject.chunk).clamp(-1, 1), clip, codec.spatial_ratio
    )
    return {"equivariance": measured}


PROBES: dict[str, Probe] = {
    "causality": Probe(_causality, _describe_causality),
    "fields": Probe(_fields, _describe_fields),
    "chunks": Probe(_chunks, _describe_chunks),
    "seams": Probe(_seams),
    "equivariance": Probe(_equivariance),
}
"""What `probe` runs: name -> how to measure a model, and how to describe the result."""
