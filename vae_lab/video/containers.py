"""Walk over a container's own fields: is a file cut off inside its pictures, and which shape have its pixels?

What follows the pictures does not count: a file with a torn index or with other data behind it has all of them.
"""

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

FRAGMENT = (b"moov", b"moof", b"sidx", b"styp", b"prft", b"emsg")  # boxes of an mp4 file that come before pictures
EBML_HEADER, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
TRACKS, TRACK_NUMBER, BLOCK_GROUP, BLOCKS = 0x1654AE6B, 0xD7, 0xA0, (0xA1, 0xA3)
TRACK, TRACK_NAME, VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT, DISPLAY_UNIT = 0xAE, 0x536E, 0xE0, 0xB0, 0xBA, 0x54B2
ROOM_FOR_DISPLAY_SIZE = "x" * 11  # the title of a Matroska track, in whose place `write_display_size` writes
# An index of contents, information, cues, attachments, chapters, tags, padding, CRC
IN_SEGMENT = (EBML_HEADER, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF)
IN_CLUSTER = (*BLOCKS, 0xA7, 0xAB, 0xAF, 0xBF, 0xE7, 0xEC, 0x5854)  # blocks, time stamps, sizes, CRC and padding


def is_cut_off(path: Path, container, stream) -> bool:
    """Return whether an mp4, AVI, Matroska or WebM file ends before its last picture does. False for other formats.

    container, stream: as PyAV opened them, after they were read to the end.
    """
    end, name = path.stat().st_size, container.format.name
    with path.open("rb") as file:
        if "mp4" in name:
            missing = any(entry.pos + entry.size > end for entry in stream.index_entries)
            return missing or any(kind in FRAGMENT and stop > end for kind, stop in _boxes(file, end))
        if name == "avi":
            return any(kind == b"movi" and stop > end + 1 for kind, stop in _lists(file, end))
        if "matroska" in name:
            # A cut between clusters shows in the size of the segment.
            *_, (kind, _, stop, limit) = [(SEGMENT, 0, 0, 0), *_elements(file, end)]
            return kind in (SEGMENT, CLUSTER) and max(limit, stop) > end
    return False


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield (type, end) of the boxes of an mp4 or mov file, until something that is not a box."""
    offset = 0
    while offset + 8 <= end:
        file.seek(offset)
        size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(file.read(8), "big")
        if size < 8:  # 0: to the end of the file
            return
        yield kind, offset + size
        offset += size


def _lists(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield (type, end) of the lists in the RIFF chunks of an AVI file; a size that was never filled in ends them."""
    offset = 0
    while offset + 12 <= end:
        file.seek(offset)
        chunk, size, kind = file.read(4), int.from_bytes(file.read(4), "little"), file.read(4)
        if size in (0, 0xFFFFFFFF):
            return
        if chunk == b"LIST":
            yield kind, offset + 8 + size
        offset += 12 if chunk == b"RIFF" else 8 + size + size % 2


def has_lost_packets(path: Path, container) -> bool:
    """Return whether a Matroska or WebM file has something that does not belong there.

    FFmpeg passes over that without a word. In other containers, packets do not carry the container's own headers.
    """
    if "matroska" not in container.format.name:
        return False
    tracks, size = set(), path.stat().st_size
    with path.open("rb") as file:
        elements = list(_elements(file, size))
        for kind, start, stop, _ in elements:
            if kind == TRACKS:
                for child, first, last, _ in _elements(file, stop, start):
                    fields = _elements(file, last, first) if child == TRACK else ()  # there may be a check sum, too
                    tracks |= {_integer(file, *field[1:3]) for field in fields if field[0] == TRACK_NUMBER}
            elif kind == CLUSTER:
                end = start
                for child, first, end, _ in _elements(file, stop, start):
                    if child == BLOCK_GROUP:
                        child, first, *_ = next(_elements(file, end, first), (0, 0))
                    if child not in IN_CLUSTER or (child in BLOCKS and _number(file, first)[0] not in tracks):
                        return True
                if end != stop:
                    return True
            elif kind not in IN_SEGMENT:
                return True
    return any(stop < min(limit, size) for _, _, stop, limit in elements[-1:])


def write_display_size(path: Path, pixel_aspect: Fraction) -> None:
    """Write the shape of pixels into a new Matroska or WebM file whose only track has ROOM_FOR_DISPLAY_SIZE as title.

    FFmpeg's muxer takes the shape from a field of the stream that PyAV cannot set. The title gives way to DisplayWidth
    and DisplayHeight (RFC 9559, 5.1.4.1.28), so nothing else in the file moves. They are close to the frame's size.
    """
    with path.open("r+b") as file:
        end = path.stat().st_size
        tracks = next((start, stop) for kind, start, stop, _ in _elements(file, end) if kind == TRACKS)
        track = next((start, stop) for kind, start, stop, _ in _elements(file, tracks[1], tracks[0]) if kind == TRACK)
        fields = {kind: (start, stop) for kind, start, stop, _ in _elements(file, track[1], track[0])}
        (name, after_name), (start, stop) = fields[TRACK_NAME], fields[VIDEO]
        sizes = {kind: (first, last) for kind, first, last, _ in _elements(file, stop, start)}
        width, height = (_integer(file, *sizes[kind]) for kind in (PIXEL_WIDTH, PIXEL_HEIGHT))
        ratio = (width * pixel_aspect / height).limit_denominator(4 * height)
        scale = max(1, round(height / ratio.denominator))
        display = b"".join(
            kind + b"\x84" + (scale * side).to_bytes(4, "big")
            for kind, side in ((b"\x54\xb0", ratio.numerator), (b"\x54\xba", ratio.denominator))
        )
        if DISPLAY_UNIT in sizes:  # FFmpeg writes "unknown"
            file.seek(sizes[DISPLAY_UNIT][0])
            file.write(b"\0")  # pixels
        file.seek(after_name)
        between = file.read(start - 1 - after_name)  # up to the size of the video's fields, one byte
        video = file.read(1 + stop - start)
        file.seek(name - 3)
        file.write(between + bytes([video[0] + len(display)]) + video[1:] + display)
        file.seek(tracks[0])
        content = file.read(tracks[1] - tracks[0])
        if content.startswith(b"\xbf\x84"):  # a check sum of what follows it
            file.seek(tracks[0] + 2)
            file.write(zlib.crc32(content[6:]).to_bytes(4, "little"))


def _elements(file: BinaryIO, end: int, offset: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Yield (ID, first byte, end, end of the segment) of the children of the segment, or of those from `offset` on.

    Something that is not an element ends them, and so does one of unknown size, as in a live recording.
    """
    limit, at = (0, 0) if offset is None else (end, offset)
    while at < min(end, limit or end):
        file.seek(at)
        _, kind = _number(file)
        size, _ = _number(file)
        start = file.tell()  # of the content
        if kind is None or size is None or (not limit and kind not in (EBML_HEADER, SEGMENT)):
            return
        if kind == SEGMENT:
            limit, at = start + size, start
        else:
            at = start + size
            yield kind, start, at, limit


def _number(file: BinaryIO, at: int | None = None) -> tuple[int | None, int | None]:
    """Read an EBML number, without and with the bit that marks its length. None: it is none, or means "unknown"."""
    if at is not None:
        file.seek(at)
    first = file.read(1)
    length = 9 - first[0].bit_length() if first else 9
    rest = file.read(length - 1)
    if length > 8 or len(rest) < length - 1:
        return None, None
    marked, marker = int.from_bytes(first + rest, "big"), 1 << 7 * length
    return None if marked == 2 * marker - 1 else marked - marker, marked


def _integer(file: BinaryIO, start: int, stop: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(stop - start, 8)), "big")  # longer ones are not allowed: RFC 8794, 7.2
