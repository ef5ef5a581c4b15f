"""Turn FFmpeg's decoded frames into upright RGB pictures: matrix, range and orientation as they are tagged."""

import math
import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

HD_HEIGHT = 720  # videos without colour tags are taken as BT.709 from this height on, else as BT.601, as browsers do
# A frame's matrix in H.273's numbers, which FFmpeg calls AVCOL_SPC_*, and the same matrix in swscale's, SWS_CS_*.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,  # BT.470BG
    6: Colorspace.ITU601,  # SMPTE 170M
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
YCGCO = 8
APPROXIMATED = {  # matrices that swscale does not know: name, and the one that is nearest
    10: ("BT.2020 with constant luminance", Colorspace.BT2020),
    11: ("SMPTE ST 2085", Colorspace.BT2020),
    12: ("derived from the primaries", Colorspace.ITU709),
    13: ("derived from the primaries, with constant luminance", Colorspace.BT2020),
    14: ("ICtCp", Colorspace.BT2020),
    15: ("IPT-C2", Colorspace.BT2020),
    16: ("YCgCo-Re", Colorspace.ITU709),
    17: ("YCgCo-Ro", Colorspace.ITU709),
}
# Without these flags swscale repeats chroma samples instead of interpolating them, and truncates. Its accurate code is
# fast for planar RGB only.
ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
MANY_PIXELS = 300_000  # of a frame: from here on, threads pay
# Bytes, just below glibc's limit of 32 MiB: once such a block was freed, glibc keeps smaller ones for reuse. Otherwise
# each frame goes back to the system, and the page faults of the next one take as long as its conversion.
KEPT = 31 << 20
NEAR = math.radians(1)  # FFmpeg's tolerance for an angle that counts as a multiple of 90 degrees


TRANSFERS = {8: "linear", 16: "PQ (HDR)", 18: "HLG (HDR)"}  # H.273, as PRIMARIES
PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}


def unusual_colours(transfer: int, primaries: int) -> Iterator[str]:
    """Say which of H.273's tags for colours, in its numbers, are not followed."""
    if transfer in TRANSFERS:
        yield f"transfer function {TRANSFERS[transfer]}: values are read as they lie"
    if primaries in PRIMARIES:
        yield f"primaries {PRIMARIES[primaries]}: values are read as they lie"


class Converter:
    """Converts frames of one stream. It keeps swscale's contexts, because making one takes longer than using it."""

    def __init__(self):
        self._steps = [VideoReformatter() for _ in range(3)]
        np.empty(KEPT, np.uint8)  # allocated and freed, without use of its pages

    def rgb(self, frame) -> np.ndarray:
        """Return a frame as it is stored, uint8 (H, W, 3)."""
        colorspace, threads = int(frame.colorspace), 1 if frame.width * frame.height < MANY_PIXELS else 0
        first, second, third = self._steps
        bits = frame.format.components[0].bits
        limited = frame.color_range == ColorRange.MPEG
        # Of grey, swscale ignores the tag of the range, and it truncates deep grey and deep RGB.
        if re.fullmatch(r"gray(\d\d?[bl]e)?", frame.format.name) and (bits > 8 or limited):
            return np.repeat(_levels(bits, limited)[frame.to_ndarray()][..., None], 3, axis=-1)
        if frame.format.is_rgb and 8 < bits <= 16:
            return _levels(16)[first.reformat(frame, format="rgb48le", threads=threads).to_ndarray()]
        if colorspace == YCGCO and not frame.format.is_rgb:
            return self._from_ycgco(frame)
        if colorspace in APPROXIMATED:
            matrix = APPROXIMATED[colorspace][1]
        else:
            matrix = MATRICES.get(colorspace, Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601)
        is_yuv = len(frame.format.components) >= 3 and not frame.format.is_rgb
        if is_yuv and frame.color_range == ColorRange.JPEG and bits > 8:
            # swscale takes 1023 of 10 bits for 1020: through its limited range it does not
            to: dict[str, Any] = dict(format="yuv444p16le", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG)
            frame = third.reformat(frame, src_colorspace=matrix, interpolation=ACCURATE, threads=threads, **to)
        planar = first.reformat(frame, format="gbrp", src_colorspace=matrix, interpolation=ACCURATE, threads=threads)
        return second.reformat(planar, format="rgb24", threads=threads).to_ndarray()

    def _from_ycgco(self, frame) -> np.ndarray:
        """H.273, equations 38 to 45; swscale has no such matrix, but it can bring chroma to full size."""
        same: dict[str, Any] = dict(
            src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709
        )  # no matrix is applied
        planes = self._steps[0].reformat(frame, format="yuv444p", interpolation=ACCURATE, **same).to_ndarray()
        full = frame.color_range == ColorRange.JPEG
        y, cg, co = planes.astype(np.float32) - np.array([0 if full else 16, 128, 128], np.float32)[:, None, None]
        y, cg, co = (y, cg, co) if full else (y * 255 / 219, cg * 255 / 224, co * 255 / 224)
        return np.stack([y - cg + co, y + cg, y - cg - co], -1).round().clip(0, 255).astype(np.uint8)


@cache
def _levels(bits: int, limited: bool = False) -> np.ndarray:
    """The level uint8 that is nearest to each value of `bits` bits, in full or limited range (H.273, equation 20)."""
    values = np.arange(1 << bits)
    levels = (values / (1 << bits - 8) - 16) * (255 / 219) if limited else values * (255 / ((1 << bits) - 1))
    return levels.round().clip(0, 255).astype(np.uint8)


def orientation(matrix: tuple[int, ...] | None) -> tuple[bool, bool, bool] | None:
    """Return how a frame is brought upright: (swap the axes, then mirror left-right, then mirror top-bottom).

    The display matrix maps (x, y) to (a x + c y, b x + d y). Angles within NEAR of a multiple of 90 degrees are taken
    as that multiple. None: the matrix turns by another angle, or is singular.
    """
    if matrix is None:
        return False, False, False
    a, b, _, c, d, *_ = matrix
    if swap := abs(b) + abs(c) > abs(a) + abs(d):
        a, b, c, d = c, d, a, b
    if not a or not d or max(abs(math.atan2(b, abs(a))), abs(math.atan2(c, abs(d)))) > NEAR:
        return None
    return swap, a < 0, d < 0


def display_matrix(frame) -> tuple[int, ...] | None:
    """Return a frame's display matrix, 16.16 and 2.30 fixed point; None if it has none."""
    container: Any = SideDataContainer  # `frame.side_data` would hold the frame until garbage is collected
    try:
        return struct.unpack("=9i", bytes(container(frame)[Type.DISPLAYMATRIX]))
    except KeyError:
        return None
    except ValueError:  # the frame has side data of a type that PyAV does not know
        turned = math.radians(-frame.rotation)
        a, b = (round(65536 * f(turned)) for f in (math.cos, math.sin))
        return a, b, 0, -b, a, 0, 0, 0, 1 << 30


def upright(array: np.ndarray, swap: bool, left_right: bool, top_bottom: bool) -> np.ndarray:
    """Return a frame (H, W, 3) with its axes swapped and mirrored as `orientation` says."""
    array = array.transpose(1, 0, 2) if swap else array
    return np.ascontiguousarray(array[:: -1 if top_bottom else 1, :: -1 if left_right else 1])
