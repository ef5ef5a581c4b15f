"""AVIF and HEIC pictures in tiles, which Pillow does not write."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
from PIL import Image


def tiled(frame: np.ndarray, rows: int, columns: int, kind: str = "avif", properties: tuple[bytes, ...] = ()) -> bytes:
    """An AVIF or HEIC file of equal tiles of a frame (H, W, 3). properties: boxes of the whole, such as irot."""
    height, width = frame.shape[0] // rows, frame.shape[1] // columns
    corners = [(y * height, x * width) for y in range(rows) for x in range(columns)]
    coded = [_coded(frame[y : y + height, x : x + width], kind) for y, x in corners]
    code, config = ("av01", b"av1C") if kind == "avif" else ("hvc1", b"hvcC")
    numbers = list(range(1, len(coded) + 1))  # of the tiles; the picture that they make has the next
    whole = len(coded) + 1
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, frame.shape[1], frame.shape[0])
    shared = [
        _box(config, coded[0][0]),
        _full(b"ispe", struct.pack(">II", width, height)),
        _full(b"ispe", struct.pack(">II", frame.shape[1], frame.shape[0])),
        _full(b"pixi", b"\3\x08\x08\x08"),
        *properties,
    ]
    of_tile, of_whole = bytes([3, 0x81, 2, 4]), bytes([2 + len(properties), 3, 4, *range(5, 5 + len(properties))])
    own = b"".join(struct.pack(">H", number) + of_tile for number in numbers) + struct.pack(">H", whole) + of_whole
    items = [(number, code) for number in numbers] + [(whole, "grid")]
    infos = [_full(b"infe", struct.pack(">HH", n, 0) + c.encode() + b"\0", 2, int(c != "grid")) for n, c in items]
    links = struct.pack(f">HH{len(numbers)}H", whole, len(numbers), *numbers)

    def meta(start: int) -> bytes:
        places = b""
        for number, (_, data) in zip(numbers, coded, strict=True):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(data))
            start += len(data)
        places += struct.pack(">HHHHII", whole, 1, 0, 1, 0, len(grid))
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full(b"pitm", struct.pack(">H", whole))
            + _full(b"iloc", b"\x44\0" + struct.pack(">H", whole) + places, 1)
            + _full(b"iinf", struct.pack(">H", whole) + b"".join(infos))
            + _full(b"iref", _box(b"dimg", links))
            + _box(b"iprp", _box(b"ipco", b"".join(shared)) + _full(b"ipma", struct.pack(">I", whole) + own))
            + _box(b"idat", grid),
        )

    brand = b"avif" if kind == "avif" else b"heic"
    head = _box(b"ftyp", brand + bytes(4) + brand + b"mif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", b"".join(data for _, data in coded))


def _coded(tile: np.ndarray, kind: str) -> tuple[bytes, bytes]:
    """The configuration and the data of one coded picture."""
    file = io.BytesIO()
    if kind == "avif":
        Image.fromarray(tile).save(file, "AVIF", quality=100, subsampling="4:4:4")
    else:
        with av.open(file, "w", format="mp4") as container:
            coding = "log-level=none:info=0:bframes=0:pools=none:frame-threads=1:crf=4"  # or x265's times are by chance
            stream = container.add_stream("libx265", rate=1, options={"x265-params": coding})
            stream.height, stream.width, stream.pix_fmt = *tile.shape[:2], "yuv444p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(tile), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        stream = container.streams.video[0]
        return stream.codec_context.extradata, bytes(next(container.demux(stream)))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)
