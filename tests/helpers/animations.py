"""GIF, PNG and WebP files made chunk by chunk, for what Pillow does not write, and how Chromium shows them."""

import base64
import io
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]  # of `gif`: red, green, blue, yellow


class Part(NamedTuple):
    """A picture of an animation: palette indices (H, W) for a GIF, else values (H, W, C)."""

    pixels: np.ndarray
    corner: tuple[int, int] = (0, 0)
    """x, y"""
    delay: int = 10
    """1/100 s in a GIF, milliseconds in a WebP, numerator in a PNG."""
    disposal: int = 0
    transparent: int | None = None
    """GIF: the index of transparent pixels."""
    palette: list | None = None
    """GIF: local colours."""
    over: bool = True
    """PNG and WebP: blended over what is there."""
    denominator: int = 100


def gif(
    size: tuple[int, int], parts: Iterable[Part], palette: list | None = PALETTE, background: int = 0, end: bytes = b";"
) -> bytes:
    """A GIF file; size: (W, H) of its screen."""
    data = (
        b"GIF89a" + struct.pack("<HHBBB", *size, _table_flags(palette), background, 0) + bytes(sum(palette or [], ()))
    )
    for part in parts:
        flags = part.disposal << 2 | (part.transparent is not None)
        data += b"!\xf9\x04" + struct.pack("<BHBB", flags, part.delay, part.transparent or 0, 0)
        height, width = part.pixels.shape
        data += b"," + struct.pack("<HHHHB", *part.corner, width, height, _table_flags(part.palette))
        data += bytes(sum(part.palette or [], ())) + b"\x08" + _blocks(_lzw(part.pixels.ravel()))
    return data + end


def _table_flags(palette: list | None) -> int:
    return 0 if palette is None else 128 | len(palette).bit_length() - 2


def _lzw(values: np.ndarray) -> bytes:
    """Values below 256 as codes of 9 bits, cleared before they would need 10."""
    codes = [code for t, value in enumerate(values.tolist()) for code in ([256] * (t % 200 == 0) + [value])] + [257]
    number = sum(code << 9 * t for t, code in enumerate(codes))
    return number.to_bytes((9 * len(codes) + 7) // 8, "little")


def _blocks(data: bytes) -> bytes:
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def png(
    pixels: np.ndarray, extra: bytes = b"", bits: int = 8, colour: int | None = None, parts: Iterable[Part] = ()
) -> bytes:
    """A PNG file of (H, W, C), or an APNG: its first part is `pixels` itself if that is one, else they are hidden.

    extra: chunks before the pixels. colour: the type; by default that of C channels.
    """
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    parts, number = list(parts), 0
    if parts:
        data += chunk(b"acTL", struct.pack(">II", len(parts), 0))
    data += extra
    hidden = not parts or parts[0].pixels is not pixels
    for part in ([Part(pixels)] if hidden else []) + parts:
        if not (hidden and part.pixels is pixels):
            h, w = part.pixels.shape[:2]
            timing = struct.pack(">HHBB", part.delay, part.denominator, part.disposal, part.over)
            data += chunk(b"fcTL", struct.pack(">IIIII", number, w, h, *part.corner) + timing)
            number += 1
        rows = part.pixels.astype(">u2" if bits == 16 else "u1").reshape(len(part.pixels), -1)
        if bits < 8:
            rows = np.packbits(np.unpackbits(rows[..., None], axis=-1)[..., 8 - bits :].reshape(len(rows), -1), axis=-1)
        scanlines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        if part.pixels is pixels:
            data += chunk(b"IDAT", scanlines)
        else:
            data += chunk(b"fdAT", struct.pack(">I", number) + scanlines)
            number += 1
    return data + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def webp(size: tuple[int, int], parts: Iterable[Part], background: int = 0xFF0000FF) -> bytes:
    """An animated WebP file of lossless parts with even corners."""
    data = b"WEBP" + _riff(b"VP8X", struct.pack("<I", 0x12) + _three(size[0] - 1) + _three(size[1] - 1))
    data += _riff(b"ANIM", struct.pack("<IH", background, 0))
    for part in parts:
        still = io.BytesIO()
        Image.fromarray(part.pixels).save(still, "WEBP", lossless=True, exact=True)
        at = still.getvalue().index(b"VP8L")
        length = struct.unpack_from("<I", still.getvalue(), at + 4)[0]
        height, width = part.pixels.shape[:2]
        numbers = (part.corner[0] // 2, part.corner[1] // 2, width - 1, height - 1, part.delay)
        flags = bytes([(not part.over) << 1 | part.disposal])
        body = b"".join(map(_three, numbers)) + flags + still.getvalue()[at : at + 8 + length + length % 2]
        data += _riff(b"ANMF", body)
    return _riff(b"RIFF", data)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


SHOW = """async ([data, type]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const decoder = new ImageDecoder({ data: bytes, type });
  await decoder.tracks.ready;
  await decoder.completed;
  const frames = [];
  for (let frameIndex = 0; frameIndex < decoder.tracks.selectedTrack.frameCount; frameIndex++) {
    const { image } = await decoder.decode({ frameIndex });
    const canvas = new OffscreenCanvas(image.displayWidth, image.displayHeight), context = canvas.getContext('2d');
    context.fillStyle = 'white'; context.fillRect(0, 0, canvas.width, canvas.height); context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    frames.push([canvas.height, canvas.width, btoa(String.fromCharCode(...pixels)), image.duration]);
  }
  return frames;
}"""


def shown_by_chromium(page, data: bytes, kind: str) -> tuple[np.ndarray, list[float]]:
    """Frames (T, H, W, 3) of a small file on white, and milliseconds from ImageDecoder. page: of a file."""
    frames = page.evaluate(SHOW, [base64.b64encode(data).decode(), f"image/{kind}"])
    arrays = [np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4)[..., :3] for h, w, data, _ in frames]
    return np.stack(arrays), [(duration or 0) / 1000 for *_, duration in frames]
