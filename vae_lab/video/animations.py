"""Frames of GIF and APNG files, composed as browsers do from the single pictures that Pillow decodes.

Pillow's own composition counts a hidden default image as a frame, blends half-transparent pixels differently and clears
to other colours than browsers. Formats: GIF89a specification, and "Animated PNG graphics" in the third edition of PNG.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CLEARED, RESTORED = 1, 2  # disposals of a part once its time is over, in the numbers of APNG; 0 leaves it


class Part(NamedTuple):
    """A picture of an animation as the file stores it: a part of the canvas that changes."""

    file: bytes  # a GIF or PNG file with only this picture; empty if the part has no pixels
    corner: tuple[int, int]  # column and row of the canvas at which it begins
    size: tuple[int, int]  # (W, H)
    milliseconds: float  # for how long it is shown, as the file says
    disposal: int
    over: bool  # True: blended over the canvas; False: it replaces these pixels, transparent ones too

    @property
    def end(self) -> tuple[int, int]:
        """Column and row of the canvas before which it ends."""
        return self.corner[0] + self.size[0], self.corner[1] + self.size[1]


class Animation(NamedTuple):
    """The parts of a GIF or APNG file."""

    size: tuple[int, int]  # (W, H) of the canvas
    parts: list[Part]
    is_whole: bool  # False if the file breaks off within a part, which is then left out


def compose(
    animation: Animation, decode: Callable[[bytes], Image.Image | None]
) -> Iterator[tuple[Image.Image | None, float]]:
    """Compose the frames on one canvas. Yield each, RGBA, and the milliseconds for which the file shows it.

    `decode` turns a part's file into an RGBA image. If it returns None, so is the frame, and the canvas stays.
    """
    canvas = Image.new("RGBA", animation.size)  # transparent, whatever background a GIF names
    for part in animation.parts:
        before = canvas.copy() if part.disposal == RESTORED else None
        image = decode(part.file) if part.file else Image.new("RGBA", (0, 0))
        if image is not None and part.over:
            (width, height), (x, y) = canvas.size, part.corner
            canvas.alpha_composite(image.crop((0, 0, max(0, width - x), max(0, height - y))), part.corner)
        elif image is not None:
            canvas.paste(image, part.corner)
        yield None if image is None else canvas.copy(), part.milliseconds
        if part.disposal == CLEARED:
            canvas.paste((0, 0, 0, 0), (*part.corner, *part.end))
        elif before is not None:
            canvas = before


def read_gif(data: bytes) -> Animation:
    """Read the parts of a GIF file."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + _table_bytes(flags)
    table = data[13:place]
    parts: list[Part] = []
    disposal, milliseconds, transparent = 0, 0, b""
    try:
        while data[place : place + 1] in (b"!", b","):
            if data[place : place + 2] == b"!\xf9":  # graphic control: for the next picture
                control, delay, index = struct.unpack_from("<BHB", data, place + 3)
                disposal, milliseconds = {2: CLEARED, 3: RESTORED, 4: RESTORED}.get(control >> 2 & 7, 0), 10 * delay
                transparent = b"!\xf9\x04\x01\0\0" + bytes([index, 0]) if control & 1 else b""
            if data[place : place + 1] == b"!":
                place = _after_blocks(data, place + 2)
                continue
            *corner, w, h, local = struct.unpack_from("<HHHHB", data, place + 1)
            end = _after_blocks(data, place + 11 + _table_bytes(local))
            screen = struct.pack("<HHBBB", w, h, flags, 0, 0) + table
            picture = b",\0\0\0\0" + data[place + 5 : end]
            file = b"GIF89a" + screen + transparent + picture + b";" if w and h else b""
            parts.append(Part(file, tuple(corner), (w, h), milliseconds, disposal, True))
            disposal, milliseconds, transparent, place = 0, 0, b"", end
        is_whole = True
    except (IndexError, struct.error):
        is_whole = False
    if parts:  # some files have a screen smaller than their first picture, or none
        right, bottom = parts[0].end
        width, height = max(width, right), max(height, bottom)
    return Animation((width, height), parts, is_whole)


def _table_bytes(flags: int) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _after_blocks(data: bytes, place: int) -> int:
    """Skip blocks, each behind a byte that counts its bytes, and the 0 that ends them."""
    while data[place]:
        place += 1 + data[place]
    return place + 1


def read_apng(data: bytes) -> Animation | None:
    """Read the parts of a PNG file; None if it is a still image. A default image without a control is not shown."""
    header, shared, is_animated, has_default, is_whole = b"", b"", False, False, True
    controls: list[bytes] = []
    pixels: list[bytes] = []
    try:
        for kind, body in _chunks(data):
            if kind == b"IHDR":
                header = body
            elif kind == b"acTL" and not has_default:
                is_animated = True
            elif kind == b"fcTL":
                controls.append(body)
                pixels.append(b"")
            elif kind in (b"IDAT", b"fdAT"):
                has_default = True
                if controls:
                    pixels[-1] += _chunk(b"IDAT", body if kind == b"IDAT" else body[4:])
            elif kind in (b"PLTE", b"tRNS") and not has_default:
                shared += _chunk(kind, body)
    except struct.error:
        is_whole = False
    parts = []
    for control, idat in zip(controls, pixels, strict=True):
        w, h, x, y, delay, denominator, disposal, blend = struct.unpack_from(">IIIIHHBB", control, 4)
        file = PNG_SIGNATURE + _chunk(b"IHDR", struct.pack(">II", w, h) + header[8:]) + shared + idat
        milliseconds = 1000 * delay / (denominator or 100)
        parts.append(Part(file + _chunk(b"IEND", b""), (x, y), (w, h), milliseconds, disposal, blend == 1))
    if not is_animated or is_whole and not parts:
        return None
    return Animation(struct.unpack_from(">II", header), parts, is_whole)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG file, (kind, content); struct.error if it breaks off."""
    place, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        struct.unpack_from(">I", data, place + 8 + length)  # its checksum: Pillow compares the decoded pixels' own
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
