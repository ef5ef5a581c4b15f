"""What is known of each family of video VAEs, on plain integers and words (no torch): one record a family.

`table.py` holds the records; `tests/families` builds each family's tiny model and compares its record with what the
class does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..shapes import Timeline
from ..utils.checks import check_text, positive_int
from ..utils.text import count, nearest

LONGEST_SEARCH = 200  # frames: a kept length is looked for this far around, and a reach is told by a clip this long


@dataclass(frozen=True)
class Law:
    """How many latent frames a clip has, and how many frames these decode to."""

    formula: str
    """The number of latent frames of T frames, such as "(T - 1) // 4 + 1"."""
    latents: Callable[[int], int | None]
    """Frames -> latent frames; None if the class fails on such a clip."""
    decoded: Callable[[int], int | None] | None
    """Latent frames -> frames, or None if the class fails on them. No function: the decoder is told the length."""
    blank: Callable[[int], int] = lambda num_frames: 0
    """Frames -> how many of the decoded frames at the end are black, because no tile reaches them."""
    timeline: Callable[[int, int, int | None], Timeline] = Timeline
    """(frames, temporal ratio, chunk) -> which frames each latent frame stands for; default: a shorter group first."""


def first_alone(ratio: int, others: str = "dropped") -> Law:
    """The law of causal VAEs: the first frame has a latent frame of its own, and then each `ratio` frames share one.

    others: what happens if T - 1 is no multiple of the ratio. "dropped": the frames after the last whole group are.
    "padded": the last group is filled up. "refused": the class fails.
    """

    def latents(num_frames: int) -> int | None:
        groups, rest = divmod(num_frames - 1, ratio)
        return None if rest and others == "refused" else 1 + groups + (rest > 0 and others == "padded")

    formula = f"ceil((T - 1) / {ratio}) + 1" if others == "padded" else f"(T - 1) // {ratio} + 1"
    return Law(formula, latents, lambda latents: ratio * (latents - 1) + 1)


def each_alone() -> Law:
    """The law of VAEs that do not compress time."""
    return Law("T", lambda num_frames: num_frames, lambda latents: latents)


@dataclass(frozen=True)
class Reach:
    """Which frames of a clip a frame depends on, on its way into a latent or out of one."""

    text: str
    """In words, such as "the past"."""
    frames: Callable[[int, int], range]
    """(frame, number of frames) -> the frames that it depends on."""

    @property
    def whole(self) -> bool:
        """Whether every frame may depend on every other."""
        return (
            self.frames(0, LONGEST_SEARCH) == self.frames(LONGEST_SEARCH - 1, LONGEST_SEARCH) == range(LONGEST_SEARCH)
        )

    @property
    def causal(self) -> bool:
        """Whether no frame depends on a later one."""
        return all(self.frames(frame, LONGEST_SEARCH).stop <= frame + 1 for frame in range(LONGEST_SEARCH))

    def of_latents(self, timeline: Timeline) -> list[range]:
        """Return the frames that each latent frame of an encoder depends on."""
        seen = [[self.frames(frame, timeline.num_frames) for frame in group] for group in timeline.groups]
        return [range(min(r.start for r in ranges), max(r.stop for r in ranges)) for ranges in seen]

    def of_frames(self, timeline: Timeline) -> list[range]:
        """Return the latent frames that each frame of a decoder depends on."""
        seen = [self.frames(frame, timeline.num_frames) for frame in range(timeline.num_frames)]
        found = [
            [n for n, group in enumerate(timeline.groups) if group.start < r.stop and r.start < group.stop]
            for r in seen
        ]
        return [range(latents[0], latents[-1] + 1) for latents in found]


PAST = Reach("the past", lambda frame, num_frames: range(frame + 1))
CLIP = Reach("the whole clip", lambda frame, num_frames: range(num_frames))
BOTH = Reach("both sides, in short clips all of it", CLIP.frames)
ALONE = Reach("this frame alone", lambda frame, num_frames: range(frame, frame + 1))


def segments(first: int, others: int) -> Reach:
    """The reach of classes that compute on segments of frames, each of which sees the past and all of itself."""

    def frames(frame: int, num_frames: int) -> range:
        further = max(0, -(-(frame + 1 - first) // others))
        return range(min(num_frames, first + further * others))

    return Reach(f"the past and all of its segment ({first} frames, then {others})", frames)


def in_chunks(length: int, reach: Reach) -> Reach:
    """The reach inside chunks that are computed alone."""

    def frames(frame: int, num_frames: int) -> range:
        start = frame // length * length
        seen = reach.frames(frame - start, min(length, num_frames - start))
        return range(start + seen.start, start + seen.stop)

    return Reach(f"{reach.text.replace('the whole clip', 'all')} in its chunk of {length} frames", frames)


@dataclass(frozen=True)
class Family:
    """What is known of one family of video VAEs. Numbers and causality are of the class, with any weights."""

    name: str
    cls: str | type
    """The class, or its dotted path, such as "diffusers.AutoencoderKLWan", which is imported when it is needed."""
    law: Law
    temporal_ratio: int
    """Frames per latent frame."""
    spatial_ratio: int
    """Pixels per latent cell along height and along width."""
    latent_channels: int
    """Of the released model."""
    tiny: Mapping[str, Any]
    """Arguments of the class for a small model of this family, which needs no file."""
    source: str = ""
    """Where the class is defined: file:line in diffusers' folder models/autoencoders, or the lab's file."""
    matches: Callable[[Mapping[str, Any]], bool] = lambda config: True
    """Whether a config of the class is of this family, if several families share the class."""
    codec: str | type = ""
    """The Codec, or its dotted path, if the class is called in another way than diffusers' others."""
    chunk: int | None = None
    """Frames in each independently encoded chunk of the released model; None if there are no such chunks."""
    first_frame: str = ""
    """How the first frame is treated. Of this and what follows, what is left out is taken as unknown."""
    time_padding: str = ""
    """What the convolutions see before the first frame."""
    norm: str = ""
    encoder_sees: Reach | None = None
    """What a frame is mixed with on its way into a latent."""
    decoder_sees: Reach | None = None
    """What a frame is made of: of the latents of which frames."""
    still_exact: bool | None = None
    """Whether all latent frames of a picture that stands still are equal; None if it is unknown or not defined."""
    image_is_first_latent: bool | None = None
    """Whether the latent of an image is the first latent frame of any clip that begins with it, provided that this
    stands for the image alone (`timeline`); None if it is unknown or not defined."""
    scaling: str = ""
    """What a diffusion model of this family gets for raw latents z."""
    calling: str = ""
    """How calls differ from `encode(x).latent_dist` and `decode(z).sample` on (B, C, T, H, W)."""
    parameters: tuple[float, float, float] | None = None
    """Millions of parameters of the released model: encoder, decoder, all."""
    released: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class for a model of that size, where its defaults are not."""
    least_cells: int = 1
    """Latent cells along height and along width of the smallest frames that the class takes."""
    sizes: Callable[[int, int], bool] = lambda height, width: True
    """(height, width) -> whether the released model takes these multiples of `spatial_ratio`."""
    findings: tuple[str, ...] = ()
    """Defects of the class, by their heading in docs/diffusers_findings.md."""

    def __post_init__(self) -> None:
        check_text("name of a family", self.name)
        if self.name != self.name.strip() or self.name.lower() == "all":
            raise ValueError(f'name of a family must have no spaces around it and not be "all", got {self.name!r}')
        if not (isinstance(self.cls, type) or (isinstance(self.cls, str) and "." in self.cls)):
            raise ValueError(f"cls of {self.name} must be a class, or its dotted path, got {self.cls!r}")
        for field_name in ("temporal_ratio", "spatial_ratio", "latent_channels", "least_cells"):
            positive_int(f"{field_name} of {self.name}", getattr(self, field_name))

    @property
    def class_name(self) -> str:
        """The class's name, as a checkpoint's config gives it."""
        return self.cls.rpartition(".")[2] if isinstance(self.cls, str) else self.cls.__name__

    def latent_frames(self, num_frames: int) -> int | None:
        """Return the number of latent frames of a clip; None if the class fails on clips of that length.

        Raises ValueError if the law gives no number of frames.
        """
        latents = self.law.latents(positive_int("num_frames", num_frames))
        return latents and positive_int(f"law.latents({num_frames}) of {self.name}", latents)

    def decoded_frames(self, num_frames: int) -> int | None:
        """Return how many frames come back of a clip; None if the class fails on clips of that length."""
        latents = self.latent_frames(num_frames)
        if latents is None or self.law.decoded is None:
            return latents and num_frames
        back = self.law.decoded(latents)
        return back and positive_int(f"law.decoded({latents}) of {self.name}", back)

    def is_legal(self, num_frames: int) -> bool:
        """Return whether a clip of that length comes back whole."""
        num_frames = positive_int("num_frames", num_frames)  # small integer types of numpy would wrap
        return self.decoded_frames(num_frames) == num_frames and not self.law.blank(num_frames)

    def nearest_legal(self, num_frames: int) -> tuple[int, ...]:
        """Return the length if it is legal, else the longest legal one below and the shortest above."""
        num_frames = positive_int("num_frames", num_frames)
        if self.is_legal(num_frames):
            return (num_frames,)
        near, short = range(num_frames - 1, max(0, num_frames - LONGEST_SEARCH), -1), range(LONGEST_SEARCH, 0, -1)
        below = next((n for n in chain(near, short) if n < num_frames and self.is_legal(n)), None)
        above = next((n for n in range(num_frames + 1, num_frames + LONGEST_SEARCH) if self.is_legal(n)), None)
        return tuple(n for n in (below, above) if n is not None)

    def timeline(self, num_frames: int) -> Timeline:
        """Return which frames each latent frame stands for. Raises ValueError if the length is not legal."""
        if not self.is_legal(num_frames):
            raise ValueError(f"{self.name} {self.fate(num_frames)}")
        timeline = self.law.timeline(num_frames, self.temporal_ratio, self.chunk)
        if timeline.num_latents != (latents := self.latent_frames(num_frames)):
            made = f"law.timeline of {self.name} makes {count(timeline.num_latents, 'group')} of {num_frames} frames"
            raise ValueError(f"{made}, but law.latents says {latents}")
        return timeline

    def fate(self, num_frames: int) -> str:
        """Say what becomes of a clip of that length, such as "returns 8 frames for 5", and the nearest kept lengths."""
        num_frames = positive_int("num_frames", num_frames)
        if self.is_legal(num_frames):
            return f"keeps {count(num_frames, 'frame')}"
        frames = count(num_frames, "frame")
        latents, back = self.latent_frames(num_frames), self.decoded_frames(num_frames)
        if latents is None:
            what = f"fails on {frames}"
        elif back is None:
            what = f"encodes {frames} to {count(latents, 'latent frame')}, which it does not decode"
        elif back > num_frames:
            what = f"returns {count(back, 'frame')} for {num_frames}"
        else:
            what = f"returns {back} of {frames}"
        if back is not None and (blank := self.law.blank(num_frames)):
            what += f", {blank} of them black"
        kept = self.nearest_legal(num_frames)
        return f"{what}; {nearest(kept)}" if kept else f"{what}, and keeps no length near it"
