"""Read image files, folders of them and animations as frames uint8 (H, W, 3), one after another, as browsers do."""

import itertools
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from ..utils.text import count, listed
from . import animations
from .colours import unusual_colours

# What Pillow reads safely and right. Others are left to FFmpeg.
PICTURES: tuple[str, ...] = (
    "PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS", "PSD", "QOI", "SGI",
    "SUN", "DDS", "XBM", "XPM", "PCX",
)  # fmt: skip
with suppress(ImportError):  # optional: without it, FFmpeg reads HEIC files, but not those in tiles
    from pillow_heif import register_heif_opener

    register_heif_opener()
    PICTURES += ("HEIF",)
MAGIC = re.compile(rb"\x89PNG\r|GIF8[79]a|\xff\xd8\xff|RIFF....WEBP|II\*\0|MM\0\*|....ftypavi[fs]", re.DOTALL)
TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
TGA_FOOTER = b"TRUEVISION-XFILE.\0"  # old TGA files lack it, and their header could be anything: the suffix decides
# Files in a folder that must be readable; others are frames too if their content is an image's.
IMAGE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".avif", ".avifs", ".bmp", ".tif",
    ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".cur", ".icns",
    ".psd", ".qoi", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".dds", ".xbm", ".xpm", ".pcx",
    *TGA_SUFFIXES, ".heic", ".heif", ".hif", ".jxl", ".exr", ".hdr", ".dpx",
)  # fmt: skip
SHORTEST, NO_DURATION = 10, 100  # milliseconds: browsers show a frame of at most SHORTEST for NO_DURATION
BACKGROUND = (255, 255, 255)  # behind transparent pixels
NAMED = 3  # files of a kind that are named in a note; the rest are counted


class Shown(NamedTuple):
    """A frame of a source and the time at which it is shown."""

    frame: np.ndarray  # uint8 (H, W, 3); zeros that take no memory if only sizes and times were asked for
    time: float | None = None  # seconds from the source's start; None if the source has no time for this frame
    fps: float | None = None  # frames per second, as far as the source has been read; None if it has no rate
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel over its height
    tick: float | None = None  # seconds to which times are rounded; None if `fps` is the mean by the times already


class Window(NamedTuple):
    """Which frames of a source are read, and how."""

    start: int
    num_frames: int | None  # None: to the end
    size: tuple[int, int] | None  # (H, W) that frames are fitted to
    notes: list[str]  # takes what is unusual about the source
    strict: bool  # refuse damaged frames, which are otherwise left out and noted
    pixels: bool  # False: only sizes and times


class BreaksOffError(ValueError):
    """A source that ends earlier than it promises, or cannot be decoded any further."""


def is_image(path: Path) -> bool:
    """Return whether the content of a file, whatever its name, is an image for Pillow, be it a damaged one."""
    with path.open("rb") as file:
        head = file.read(16)
    try:
        with _open(path) as image:
            return not (image.format == "JPEG" and path.suffix.lower() not in IMAGE_SUFFIXES and _is_motion_jpeg(path))
    except ValueError:
        return MAGIC.match(head) is not None


def _is_motion_jpeg(path: Path) -> bool:
    """Return whether a second JPEG image begins where the first one ends."""
    return b"\xff\xd9\xff\xd8\xff" in path.read_bytes()


def iter_folder(path: Path, window: Window, read_file: Callable[[Path, Window], Iterator[Shown]]) -> Iterator[Shown]:
    """Read the images in a folder as frames, in natural order (2 before 10).

    Files that begin with a dot are left out. Other files that are not images, and folders, are left out too and named
    in a note; one whose suffix is an image's must be readable.
    """
    files, others = list[Path](), list[Path]()
    for entry in path.iterdir():
        if not entry.name.startswith("."):
            is_frame = entry.is_file() and (entry.suffix.lower() in IMAGE_SUFFIXES or is_image(entry))
            (files if is_frame else others).append(entry)
    others.sort(key=_natural)
    if not files:
        raise ValueError(f"{path} is a folder without images" + (f", only {_named(others)}" if others else ""))
    if window.start >= len(files):
        raise ValueError(f"{path} has {len(files)} frames, so it has no frame {window.start}")
    if others:
        window.notes.append(f"left out of the folder, because they are not images: {_named(others)}")
    moving = []
    for file in itertools.islice(sorted(files, key=_natural)[window.start :], window.num_frames):
        first, *more = itertools.islice(read_file(file, window._replace(start=0, num_frames=None)), 2)
        moving += [file] * len(more)
        yield Shown(first.frame, pixel_aspect=first.pixel_aspect)
    if moving:
        window.notes.append(f"only the first frame or page is read of {_named(moving)}")


def _natural(path: Path) -> tuple:
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name  # "1" and "01" are equal numbers


def _named(paths: list[Path]) -> str:
    names = [path.name + "/" * path.is_dir() for path in paths[:NAMED]]
    return ", ".join(names) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")


def iter_image(path: Path, window: Window) -> Iterator[Shown]:
    """Read one image, the frames of an animated one, or the pages of a TIFF file."""
    start, num_frames, size, notes, strict, pixels = window
    number, end, missing = 0, 0.0, list[int]()
    with _open(path) as image:
        try:
            for picture, milliseconds in _frames(image, path):
                begin = end
                if milliseconds is not None:
                    end += (milliseconds if milliseconds > SHORTEST else NO_DURATION) / 1000
                if picture is None and strict:
                    raise EOFError("it is damaged")
                if picture is None:
                    missing.append(number + len(missing))
                    continue
                frame = None
                if number >= start:
                    frame = fit(to_rgb(picture), size) if pixels else blank(size or _shape(picture))
                if number == 0:  # asking for EXIF loads a PNG file, so only now
                    notes += [note for note in _remarks(image, path) if note not in notes]
                    aspect = _pixel_aspect(image)
                number += 1
                if frame is not None:
                    time, rate = (None, None) if milliseconds is None else (begin, (number + len(missing)) / end)
                    yield Shown(frame, time, rate, aspect)
                    if number - start == num_frames:
                        break
        except DAMAGED as error:
            if number == 0:
                raise
            raise BreaksOffError(f"{path} breaks off or is damaged after frame {number - 1}: {error}") from None
    if number == 0:
        raise ValueError(f"{path} is not a whole image: none of its frames can be decoded")
    if number <= start:
        raise ValueError(f"{path} has {number} frames, so it has no frame {start}")
    if missing:
        notes.append(f"{count(len(missing), 'frame')} could not be decoded: {listed(missing)}")


# Pillow's errors for damaged files, besides ValueError
DAMAGED = (
    OSError, SyntaxError, EOFError, LookupError, RuntimeError, TypeError, ArithmeticError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with path.open("rb") as file, _opened(file, path.suffix.lower()) as image:
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a whole image") from None
    except DAMAGED as error:
        raise ValueError(f"{path} is not a whole image: {error}") from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from None


def _opened(file: IO[bytes], suffix: str) -> Image.Image:
    file.seek(-min(len(TGA_FOOTER), file.seek(0, 2)), 2)
    is_tga = file.read() == TGA_FOOTER or suffix in TGA_SUFFIXES
    try:
        return Image.open(file, formats=(*PICTURES, *["TGA"] * is_tga))
    except ValueError as error:  # how some of Pillow's readers call a damaged file
        raise OSError(error) from None


def _frames(image: Any, path: Path) -> Iterator[tuple[Image.Image | None, float | None]]:
    """Yield each frame, None for a damaged one, and its milliseconds, None for still images and pages."""
    animation = None
    if image.format == "GIF":
        animation = animations.read_gif(path.read_bytes())
    elif image.format == "PNG" and image.is_animated:
        animation = animations.read_apng(path.read_bytes())
    if animation is not None:
        image.load()
        kept: dict = {key: image.info[key] for key in ("icc_profile", "gamma", "srgb", "exif") if key in image.info}
        for frame, milliseconds in animations.compose(animation, _decode):
            if frame is not None:
                frame.info = kept
            yield frame, milliseconds if len(animation.parts) > 1 else None
        if not animation.is_whole:
            raise EOFError("it ends within a frame")
    elif image.format in ("WEBP", "AVIF") and image.n_frames > 1:
        end = 0
        for t in range(image.n_frames):
            image.seek(t)
            image.load()  # before this, the time of the frame is unknown
            begin, end = end, image.info["timestamp"] + image.info["duration"]
            yield image, end - begin
    elif image.format == "TIFF":
        only_previews = True
        for page in itertools.count():
            error = None
            try:
                image.seek(page)
            except EOFError:
                break
            except SyntaxError as problem:  # Pillow has no mode for masks, for example
                error = problem
            if image.tag_v2.get(254, 0) & 5 or image.tag_v2.get(255) == 2:  # a reduced image or a mask
                continue
            if error:
                raise error
            only_previews = False
            yield image, None
        if only_previews:
            raise ValueError(f"{path} holds only previews, as a camera's raw files do; convert it first")
    else:  # other images of such a file are previews, layers, sizes or another eye's view
        yield image, None


def _decode(data: bytes) -> Image.Image | None:
    try:
        with Image.open(BytesIO(data), formats=("GIF", "PNG")) as image:
            return _eight_bits(image).convert("RGBA")
    except (*DAMAGED, ValueError):
        return None


def blank(shape: tuple[int, int]) -> np.ndarray:
    """Return a black frame (H, W, 3) that takes one byte of memory."""
    return np.broadcast_to(np.uint8(0), (*shape, 3))


TURNS = {  # EXIF's orientation: how the image is turned upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*DAMAGED, ValueError):  # a damaged tag is no tag
        return 1


def _pixel_aspect(image: Image.Image) -> Fraction:
    """Width of a pixel over its height, by the tagged resolution, which counts pixels per length."""
    tags = image.info.get("dpi") or image.info.get("aspect") or image.info.get("jfif_density") or (1, 1)
    x, y = map(float, tags)
    if not (x > 0 and 1 / 4 <= y / x <= 4):  # no resolution, or nonsense
        return Fraction(1)
    aspect = Fraction(y / x).limit_denominator(100)
    return 1 / aspect if _orientation(image) >= 5 else aspect


def _shape(image: Image.Image) -> tuple[int, int]:
    """(H, W) of an image as it is shown. Pillow has turned the size of a TIFF file already."""
    turned = _orientation(image) >= 5 and image.format != "TIFF"
    return image.size if turned else image.size[::-1]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB in sRGB, upright, with transparent pixels on BACKGROUND.

    16 bits are rounded to 8. Colours of an embedded profile are converted to sRGB, as browsers do.
    """
    narrow = _eight_bits(image)
    turn = TURNS.get(_orientation(image))  # after loading, which turns a TIFF file
    image = _in_srgb(narrow, image.info)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


# Pillow keeps the upper byte of 16-bit colours. Read in the other byte order, that is the lower one.
OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def _eight_bits(image: Any) -> Image.Image:
    """Round an image of 16 bits to 8; other images are only loaded."""
    if image.mode == "F":
        raise ValueError("images of floating-point values have no agreed range; save them as 8 or 16 bit")
    step = {("L;2",): 85, ("L;4",): 17}.get(tuple(tile.args for tile in getattr(image, "tile", [])), 1)
    values, most = _sixteen_bits(image), 65535
    if values is None and image.mode.startswith("I"):  # 16 bit, or 32 bit with values of 16
        values = np.asarray(image).astype(np.int64)[..., None]
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"image values must be within 16 bit, got {values.min()} to {values.max()}")
        if image.format == "TIFF" and image.mode.startswith("I;16"):
            most = 2 ** min(16, *image.tag_v2.get(258, (16,))) - 1
            values = most - values if image.tag_v2.get(262) == 0 else values  # 0: white is 0
    if values is None:
        image.load()
        if step > 1 and "transparency" in image.info:  # Pillow widens 2 or 4 bits to 8, but not the transparent level
            image.info["transparency"] *= step
        return image
    narrow = ((values * 255 + most // 2) // most).astype(np.uint8)
    if (key := image.info.get("transparency")) is not None:  # the colour that is transparent
        alpha = np.uint8(255) * (values != np.array(key)).any(-1, keepdims=True)
        narrow = np.concatenate([np.broadcast_to(narrow, (*alpha.shape[:2], 3)), alpha], axis=-1)
    return Image.fromarray(narrow.squeeze(-1) if narrow.shape[-1] == 1 else narrow)


def _sixteen_bits(image: Any) -> np.ndarray | None:
    """Return the values, int64 (H, W, C), of an image with 16-bit colours; None for other images."""
    if image.format == "TIFF" and image.tag_v2.get(284) == 2 and max(image.tag_v2.get(258, (8,))) == 16:
        return _planes(image)
    tiles = getattr(image, "tile", [])  # how Pillow will decode the file
    arguments = {tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles}
    name, _, order = str(arguments.pop()).partition(";") if len(arguments) == 1 else ("", "", "")
    if name not in ("RGB", "RGBX", "RGBA", "LA") or order not in OTHER_ORDER:
        return None
    raw = "RGBA" if name == "LA" else f"{name};{OTHER_ORDER[order]}"  # four bytes are two grey levels and two alphas
    source, page, format_ = image.fp, image.tell(), image.format
    upper = np.asarray(image).astype(np.int64)
    source.seek(0)
    with Image.open(source, formats=(format_,)) as again:
        again.seek(page)
        again.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in again.tile
        ]
        lower = np.asarray(again).astype(np.int64)
    if name == "LA":
        return (lower[..., 0::2] * 256 + lower[..., 1::2])[..., [0, 0, 0, 1]]
    return upper * 256 + lower


def _planes(image: Any) -> np.ndarray:
    """Return the values of a TIFF page with a plane of 16 bits for each channel, which Pillow reads wrongly."""
    image.fp.seek(0)
    file = bytearray(image.fp.read())
    struct.pack_into("<I" if file[:2] == b"II" else ">I", file, 4, image.tag_v2.offset)  # as if it were the only page
    try:
        frame = av.CodecContext.create("tiff", "r").decode(av.Packet(bytes(file)))[0]
    except av.error.FFmpegError as error:
        raise OSError(error.strerror) from None
    return frame.to_ndarray().astype(np.int64)


def _in_srgb(image: Image.Image, info: dict) -> Image.Image:
    """Convert an image with a colour profile or a gamma to sRGB. A profile for images of another kind is ignored."""
    profile, gamma = info.get("icc_profile"), info.get("gamma")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if profile:
        mode, transform = _to_srgb(profile)
        own = "CMYK" if image.mode == "CMYK" else "L" if image.mode in ("1", "L", "LA") else "RGB"
        if transform is None or (own, mode) not in (("CMYK", "CMYK"), ("L", "L"), ("L", "RGB"), ("RGB", "RGB")):
            return image
        image = transform.apply(image.convert(mode))
    elif gamma and "srgb" not in info and abs(gamma * SRGB_GAMMA - 1) > SAME_GAMMA:
        light = np.linspace(0, 1, 256) ** (1 / gamma)
        levels = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
        image = image.convert("RGB").point(np.rint(255 * levels).astype(int).tolist() * 3)
    else:
        return image
    if alpha is not None:
        image.putalpha(alpha)
    return image


@lru_cache(8)
def _to_srgb(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return an image mode and its transform to sRGB; "" for a damaged profile, None for one that is sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        axes = np.meshgrid(*[steps] * len(mode), indexing="ij")
        colours = np.stack(axes, axis=-1).reshape(1, -1, len(mode)).squeeze(-1 if mode == "L" else ())
        shown = np.asarray(ImageCms.applyTransform(Image.fromarray(colours, mode), transform)).astype(int)
    except (ImageCms.PyCMSError, *DAMAGED, ValueError):
        return "", None
    is_srgb = mode != "CMYK" and np.abs(shown - colours.reshape(1, -1, len(mode))).max() <= SAME_COLOUR
    return mode, None if is_srgb else transform


SAME_COLOUR = 2  # levels: profiles of sRGB differ by no more, and their pixels are read as they lie
SRGB_GAMMA, SAME_GAMMA = 2.2, 0.05  # a tagged gamma this near (relatively) to sRGB's means sRGB


def _remarks(image: Image.Image, path: Path) -> Iterator[str]:
    """What is unusual about an image and read as it lies."""
    if (aspect := _pixel_aspect(image)) != 1:
        yield f"pixels are {aspect.numerator}:{aspect.denominator} (width to height)"
    if profile := image.info.get("icc_profile"):
        if not _to_srgb(profile)[0]:
            yield "its colour profile cannot be used: values are read as they lie"
    elif image.format in ("PNG", "AVIF"):
        with path.open("rb") as file:
            tags = re.search(rb"cICP(.)(.)|colrnclx.(.).(.)", file.read(4096), re.DOTALL)
        primaries, transfer = (group[0] for group in tags.groups() if group) if tags else (1, 13)
        yield from unusual_colours(transfer, primaries)


def fit(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """Scale an image, anti-aliased, until it covers `size` (H, W), and crop it to the middle. None: leave its size."""
    if size is not None and (image.height, image.width) != size:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image)
