"""What each family makes of a clip of a given size, in numbers and as text, without a model and without torch."""

from typing import NamedTuple

from ..shapes import compression_ratio, padded_size
from ..utils.checks import positive_int
from ..utils.text import count
from .records import Family
from .table import FAMILIES, family_named

SHOWN, LISTED = 100, 8  # frames up to which kept lengths are listed, and how many of them


class ClipSize(NamedTuple):
    """What a family makes of a clip: the result of `clip_size`."""

    family: Family
    clip: tuple[int, int, int]
    """(T, H, W)."""
    padded: tuple[int, int]
    """(H, W) padded to multiples of the spatial ratio, as `reconstruct` pads them."""
    latent: tuple[int, int, int] | None
    """(L, h, w); None if the family does not take such a clip."""
    frames_back: int | None
    """Frames that the latents decode to; None if it does not take such a clip."""
    notes: tuple[str, ...]
    """What to mind: sizes that it does not take, frames that are lost, and the nearest lengths that it keeps."""

    @property
    def compression(self) -> float | None:
        """Numbers in the clip for each number in its latent."""
        return self.latent and compression_ratio(self.clip, self.latent, latent_channels=self.family.latent_channels)


def clip_size(family: str | Family, num_frames: int, height: int, width: int) -> ClipSize:
    """Return what the released model of a family makes of a clip.

    >>> clip_size("cogvideox", 5, 480, 720)[3:]
    ((2, 60, 90), 8, ('returns 8 frames for 5; nearest lengths that it keeps: 1 and 8',))
    """
    record = family_named(family)
    clip = positive_int("num_frames", num_frames), positive_int("height", height), positive_int("width", width)
    num_frames, *size = clip
    tall, wide = (padded_size(side, record.spatial_ratio) for side in size)
    notes = []
    if [tall, wide] != size:
        notes.append(f"padded to {tall}x{wide}, a multiple of {record.spatial_ratio}")
    latents, back = record.latent_frames(num_frames), record.decoded_frames(num_frames)
    if not record.is_legal(num_frames):
        notes.append(record.fate(num_frames))
    takes = record.sizes(tall, wide)
    least = record.least_cells * record.spatial_ratio
    if min(size) < record.spatial_ratio or min(tall, wide) < least:
        takes, notes = False, [f"does not take frames of {height}x{width}: at least {least}x{least}"]
    elif not takes:
        rule, *_ = record.calling.split(";")
        notes.append(f"does not take {tall}x{wide}: {rule}")
    if latents is None or back is None or not takes:
        return ClipSize(record, clip, (tall, wide), None, None, tuple(notes))
    latent = latents, tall // record.spatial_ratio, wide // record.spatial_ratio
    return ClipSize(record, clip, (tall, wide), latent, back, tuple(notes))


def size_rows(num_frames: int, height: int, width: int) -> list[str]:
    """Return a table with a line for each family: latent size, channels, frames that come back, compression, notes."""
    layout = "{:<22}{:<12}{:>8}{:>6}{:>14}  {}"
    rows = [layout.format("family", "latent", "channels", "back", "numbers to 1", "notes")]
    for family in FAMILIES.values():
        size = clip_size(family, num_frames, height, width)
        numbers = ["-"] * 3
        if size.latent:
            numbers = ["x".join(map(str, size.latent)), str(size.frames_back), f"{size.compression:.1f}"]
        latent, back, compression = numbers
        row = layout.format(family.name, latent, family.latent_channels, back, compression, "; ".join(size.notes))
        rows.append(row.rstrip())
    return rows


def describe_family(family: str | Family) -> dict[str, str]:
    """Return title -> text: what is known of a family."""
    record = family_named(family)
    yes_no = {True: "yes", False: "no", None: "unknown or not defined"}
    facts = {
        "family": f"{record.name}, {record.class_name}",
        "law": f"latent frames of T frames: {record.law.formula}",
        "keeps": _kept(record),
        "chunks": f"{record.chunk} frames, each encoded alone" if record.chunk else "none",
        "first frame": record.first_frame,
        "before it": record.time_padding,
        "norm": record.norm,
        "encoder sees": record.encoder_sees and record.encoder_sees.text,
        "decoder sees": record.decoder_sees and record.decoder_sees.text,
        "still exact": f"{yes_no[record.still_exact]} (are all latents of a picture that stands still equal?)",
        "image first": f"{yes_no[record.image_is_first_latent]}{_where(record)} (is an image's latent a clip's first?)",
        "scaling": record.scaling,
        "calling": record.calling,
        "source": record.source,
        "findings": ", ".join(record.findings),
    }
    if record.parameters:
        encoder, decoder, total = record.parameters
        facts["parameters"] = f"{encoder:.2f} M in the encoder, {decoder:.2f} M in the decoder, {total:.2f} M in all"
    return {title: text for title, text in facts.items() if text}


def _kept(record: Family) -> str:
    """Say which lengths come back whole: the first ones, since no formula covers all families."""
    lengths = [num_frames for num_frames in range(1, SHOWN) if record.is_legal(num_frames)]
    if len(lengths) == SHOWN - 1:
        return "clips of every length"
    if lengths == [1]:
        return "single frames"
    return f"clips of {', '.join(map(str, lengths[:LISTED]))}{', …' * (len(lengths) > LISTED)} frames"


def _where(record: Family) -> str:
    """Say in which clips the first frame has no latent to itself, if there are such clips."""
    if not record.image_is_first_latent:
        return ""
    lengths = [n for n in range(1, SHOWN) if record.is_legal(n) and len(record.timeline(n).groups[0]) > 1]
    return f", but not in clips of {', '.join(map(str, lengths[:3]))}, … frames" if lengths else ""


def describe_size(size: ClipSize) -> dict[str, str]:
    """Return title -> text: the numbers of a ClipSize, and its notes."""
    num_frames, height, width = size.clip
    facts = {"clip": f"{count(num_frames, 'frame')} of {height}x{width} (height x width)"}
    if size.latent:
        frames, tall, wide = size.latent
        facts["latent"] = f"{count(frames, 'frame')} of {tall}x{wide}, {size.family.latent_channels} channels"
        facts["frames back"] = str(size.frames_back)
        facts["compression"] = f"{size.compression:.1f} numbers to 1"
    return facts | ({"note": "\n".join(size.notes)} if size.notes else {})
