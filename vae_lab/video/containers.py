"""Tell from a container's own sizes whether a file is cut off inside its pictures.

What follows the pictures does not count: a file with a torn index or with other data behind it has all of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FRAGMENT = (b"moov", b"moof", b"sidx", b"styp", b"prft", b"emsg")  # boxes of an mp4 file that come before pictures
EBML_HEADER, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675


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
            return _is_cut_off_matroska(file, end)
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


def _is_cut_off_matroska(file: BinaryIO, end: int) -> bool:
    """Walk over the children of the segment. A cut between clusters shows in the size of the segment."""
    offset, limit, last = 0, 0, SEGMENT
    while offset < (limit or end):
        file.seek(offset)
        kind, size, start = _element(file)
        if size is None:  # unknown, as in a live recording
            return False
        if kind is None or (not limit and kind not in (EBML_HEADER, SEGMENT)):
            break
        if kind == SEGMENT:
            limit, offset = start + size, start
        else:
            last, offset = kind, start + size
    return last in (SEGMENT, CLUSTER) and max(limit, offset) > end


def _element(file: BinaryIO) -> tuple[int | None, int | None, int]:
    """Read an EBML element's ID and size; the size is None if it is unknown. Return also where its content begins."""
    numbers: list[int | None] = []
    for keeps_marker in (True, False):
        first = file.read(1)
        length = 9 - first[0].bit_length() if first and first[0] else 9
        rest = file.read(length - 1)
        if length > 8 or len(rest) < length - 1:
            return None, 0, 0
        value = int.from_bytes(first + rest, "big")
        payload = value & ~(1 << 7 * length)
        unknown = payload == (1 << 7 * length) - 1
        numbers.append(value if keeps_marker else None if unknown else payload)
    return numbers[0], numbers[1], file.tell()
