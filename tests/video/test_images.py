import io
import os
import socket
import struct

import av
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.helpers.animations import chunk, png, shown_by_chromium
from tests.helpers.heif import tiled
from tests.helpers.video import CLIP, LONG
from vae_lab import photo_clip, read_video, synthetic_clip, write_video
from vae_lab.video import images
from vae_lab.video.frames import DEFAULT_FPS
from vae_lab.video.reading import iter_video, scan_video


def test_animation_with_a_frame_of_no_length(tmp_path):
    pictures = [Image.fromarray(frame) for frame in CLIP.frames[:3]]
    pictures[0].save(
        tmp_path / "clip.webp", save_all=True, append_images=pictures[1:], duration=[40, 0, 40], lossless=True
    )
    whole = read_video(tmp_path / "clip.webp")
    assert whole.times == pytest.approx([0, 0.04, 0.14])  # browsers show such a frame for 0.1 s
    assert read_video(tmp_path / "clip.webp", 1, 2).times == pytest.approx(whole.times[1:])


def test_folder_in_natural_order(tmp_path):
    for name, value in (("frame10.png", 30), ("frame2.png", 20), ("frame1.png", 10)):
        iio.imwrite(tmp_path / name, np.full((4, 6, 3), value, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    assert read_video(tmp_path).frames[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert read_video(tmp_path, 1, 1).frames[:, 0, 0, 0].tolist() == [20]
    iio.imwrite(tmp_path / "frame3.png", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="frame 2 is 5x6 .height x width., the ones before 4x6; give a size"):
        read_video(tmp_path)
    assert read_video(tmp_path, size=(4, 4)).frames.shape == (4, 4, 4, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((4, 4), 77, np.uint8), (77, 77, 77)),
        (np.full((4, 4), 257 * 77, np.uint16), (77, 77, 77)),
        (np.full((4, 4), 65535, np.uint16), (255, 255, 255)),
        (np.full((4, 4, 4), (200, 100, 0, 255), np.uint8), (200, 100, 0)),
        (np.full((4, 4, 4), (200, 100, 0, 0), np.uint8), (255, 255, 255)),
        (np.full((4, 4, 4), (200, 100, 0, 51), np.uint8), (244, 224, 204)),
        (np.full((4, 4, 2), (100, 0), np.uint8), (255, 255, 255)),
    ],
)
def test_grey_16_bit_and_alpha(tmp_path, image, expected):
    Image.fromarray(image).save(tmp_path / "image.png")
    clip = read_video(tmp_path / "image.png")
    assert clip.frames.shape == (1, 4, 4, 3)
    assert clip.frames[0, 0, 0].tolist() == list(expected)


def test_image_tags_are_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(CLIP.frames[0]).save(tmp_path / "image.png", exif=exif)
    assert np.array_equal(read_video(tmp_path / "image.png").frames[0], np.rot90(CLIP.frames[0], -1))


def test_images_that_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point values have no agreed range"):
        read_video(tmp_path / "float.tif")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="text.png is not an image that can be read"):
        read_video(tmp_path / "text.png")
    Image.fromarray(CLIP.frames[0]).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut.png is not a whole image"):
        read_video(tmp_path / "cut.png")
    write_video(tmp_path / "whole.gif", CLIP.frames)
    gif = (tmp_path / "whole.gif").read_bytes()
    for length in range(20, len(gif), len(gif) // 15):
        (tmp_path / "cut.gif").write_bytes(gif[:length])
        with pytest.raises(ValueError, match="cut.gif (is not|breaks off)"):
            read_video(tmp_path / "cut.gif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is a folder without images"):
        read_video(tmp_path / "empty")


def test_size_covers_and_crops_the_middle():
    frames = np.zeros((40, 80, 3), np.uint8)
    frames[:, 20:60] = 255  # the middle square
    from vae_lab.video.images import fit

    assert fit(Image.fromarray(frames), (20, 20)).shape == (20, 20, 3)
    assert fit(Image.fromarray(frames), (20, 20))[:, 2:-2].min() > 250


def test_turned_images_and_frames_of_other_sizes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    for name, frame, extra in (("1.png", LONG.frames[0], {}), ("2.png", LONG.frames[0].swapaxes(0, 1), {"exif": exif})):
        Image.fromarray(np.ascontiguousarray(frame)).save(tmp_path / name, **extra)
    assert scan_video(tmp_path).num_frames == 2
    Image.fromarray(LONG.frames[0, :20]).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match="frame 2 is 20x32 .height x width., the ones before 24x32; give a size"):
        scan_video(tmp_path)


RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 65536, (6, 8, 4)).astype(np.uint16)
PICTURE = np.stack([*np.mgrid[0:256:11, 0:256:7], np.full((24, 37), 90)], -1)[:, :32].astype(np.uint8)  # 24x32


def rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values.astype(float) / 257).astype(np.uint8)


def on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 65535
    return np.rint((rgba[..., :3] * alpha + 65535 * (1 - alpha)) / 257)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_16_bit_tiff_is_rounded(tmp_path, compression, order, planes):
    values = WIDE[..., :3] if planes == "contig" else np.moveaxis(WIDE[..., :3], -1, 0)
    layout = dict(photometric="rgb", planarconfig=planes, byteorder=order, compression=compression)
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(values), **layout)
    assert np.array_equal(read_video(tmp_path / "a.tif").frames[0], rounded(WIDE[..., :3]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_rounded(tmp_path, channels):
    (tmp_path / "a.png").write_bytes(png(WIDE[..., :channels], bits=16))
    grey = WIDE[..., [0, 0, 0, 1]] if channels == 2 else WIDE[..., [0, 0, 0]] if channels == 1 else WIDE
    frame = read_video(tmp_path / "a.png").frames[0]
    if channels in (1, 3):
        assert np.array_equal(frame, rounded(grey[..., :3]))
    else:
        assert np.abs(frame - on_white(grey)).max() <= 1


@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_transparent_colour_is_white(tmp_path, bits, channels):
    values = RNG.integers(0, 2**bits, (6, 8, channels))
    values[0, :3] = values[3, 3]
    key = chunk(b"tRNS", values[3, 3].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(png(values, key, bits))
    wanted = np.rint(255 * values / (2**bits - 1))
    wanted = np.where((values == values[3, 3]).all(-1, keepdims=True), 255, wanted)
    assert np.array_equal(read_video(tmp_path / "a.png").frames[0], np.broadcast_to(wanted, (6, 8, 3)))


def test_grey_tiff_of_any_depth(tmp_path):
    values = WIDE[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    assert np.array_equal(read_video(tmp_path / "a.tif").frames[0, ..., 0], rounded(65535 - values))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", byteorder=">")
    assert np.array_equal(read_video(tmp_path / "a.tif").frames[0, ..., 0], rounded(values))


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """As EXIF says where row 0 and column 0 of the stored image belong."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}.get(orientation, (1, 1))
    rows, columns = {6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (rows, columns))
    return image[::rows, ::columns]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_all_orientations(tmp_path, suffix, orientation):
    image, path = Image.fromarray(PICTURE), tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=100, lossless=True)
    upright = turned(PICTURE, orientation).astype(int)
    frame = read_video(path).frames[0]
    assert frame.shape == upright.shape
    assert np.abs(frame - upright).mean() < (2 if suffix in (".jpg", ".avif") else 1e-9)
    info = scan_video(path)
    assert (info.height, info.width) == upright.shape[:2]


def profile(**colorants: tuple[float, float, float]) -> bytes:
    """sRGB's profile with other colorants (XYZ): those of Display P3, for example."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12):
        name, offset, _ = struct.unpack_from(">4sII", data, at)
        if name.decode() in colorants:
            data[offset + 8 : offset + 20] = struct.pack(">3i", *(round(65536 * v) for v in colorants[name.decode()]))
    return bytes(data)


P3 = profile(
    rXYZ=(0.51512, 0.2412, -0.00105), gXYZ=(0.29198, 0.69225, 0.04189), bXYZ=(0.1571, 0.06657, 0.78407)
)  # ICC, D50
SWAPPED = profile(
    rXYZ=(0.14307, 0.06061, 0.7141), gXYZ=(0.38515, 0.71687, 0.09708), bXYZ=(0.43607, 0.22249, 0.01392)
)  # blue is red


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stills() -> dict[str, tuple[bytes, float]]:
    """Files by name, and by how many levels Chromium may differ on average."""
    rgb, alpha = Image.fromarray(PICTURE), Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1]]))
    cmyk = Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1] // 3]), "CMYK")
    jpeg = dict(quality=100, subsampling=0)
    return {
        "plain.png": (saved(rgb, "PNG"), 0),
        "sRGB.png": (saved(rgb, "PNG", icc_profile=profile()), 0),
        "P3.png": (saved(rgb, "PNG", icc_profile=P3), 0.5),
        "P3, alpha.png": (saved(alpha, "PNG", icc_profile=P3), 0.5),
        "P3, palette.png": (saved(rgb.quantize(16), "PNG", icc_profile=P3), 0.5),
        "P3.webp": (saved(rgb, "WEBP", lossless=True, icc_profile=P3), 0.5),
        "P3.jpeg": (saved(rgb, "JPEG", icc_profile=P3, **jpeg), 0.5),
        "swapped.png": (saved(rgb, "PNG", icc_profile=SWAPPED), 0.5),
        "swapped.jpeg": (saved(rgb, "JPEG", icc_profile=SWAPPED, **jpeg), 0.5),
        "grey with P3.png": (saved(rgb.convert("L"), "PNG", icc_profile=P3), 0.5),
        "damaged profile.png": (saved(rgb, "PNG", icc_profile=b"no profile" * 20), 0),
        "gamma 1.png": (png(PICTURE, chunk(b"gAMA", struct.pack(">I", 100_000))), 0.5),
        "gamma 1/1.8.png": (png(PICTURE, chunk(b"gAMA", struct.pack(">I", 55_556))), 0.5),
        "gamma 1/2.2.png": (png(PICTURE, chunk(b"gAMA", struct.pack(">I", 45_455))), 0),
        "gamma and sRGB.png": (
            png(PICTURE, chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"sRGB", b"\0")), 0,
        ),
        "CMYK.jpeg": (saved(cmyk, "JPEG", quality=100), 1),
        "grey.jpeg": (saved(rgb.convert("L"), "JPEG", quality=100), 0),
        "grey and alpha.png": (saved(alpha.convert("LA"), "PNG"), 0),
        "palette and alpha.png": (saved(alpha.quantize(16), "PNG"), 0.5),
        "16 bits.png": (png(WIDE[..., :3], bits=16), 0.5),
        "bitmap.bmp": (saved(rgb, "BMP"), 0),
    }  # fmt: skip


def test_stills_look_as_in_chromium(open_page, tmp_path):
    (tmp_path / "page.html").write_text("<p></p>")
    page = open_page(tmp_path / "page.html")
    for name, (data, tolerance) in stills().items():
        path = tmp_path / name.replace("/", " by ")
        path.write_bytes(data)
        frames, _ = shown_by_chromium(page, data, name.rpartition(".")[2])
        assert np.abs(read_video(path).frames - frames.astype(int)).mean() <= tolerance, name


def test_a_wide_gamut_is_converted(tmp_path):
    """Display P3's green is beyond sRGB; its white and greys are sRGB's."""
    colours = np.uint8([[[0, 255, 0], [255, 255, 255], [128, 128, 128], [200, 100, 50]]])
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=P3)
    green, white, grey, orange = read_video(tmp_path / "a.png").frames[0, 0].astype(int)
    assert green.tolist() == [0, 255, 0] and white.tolist() == [255, 255, 255]
    assert np.abs(grey - 128).max() <= 1
    linear = np.where(
        colours[0, 3] / 255 <= 0.04045, colours[0, 3] / 255 / 12.92, ((colours[0, 3] / 255 + 0.055) / 1.055) ** 2.4
    )
    matrix = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]  # P3 to sRGB, both with D65
    wanted = 255 * (1.055 * np.clip(matrix @ linear, 0, 1) ** (1 / 2.4) - 0.055)
    assert np.abs(orange - wanted).max() <= 1.5


def test_what_is_read_as_it_lies_is_noted(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "damaged.png", icc_profile=b"no profile" * 20)
    (tmp_path / "pq.png").write_bytes(png(PICTURE, chunk(b"cICP", bytes([9, 16, 0, 1]))))
    (tmp_path / "p3.png").write_bytes(png(PICTURE, chunk(b"cICP", bytes([12, 13, 0, 1]))))
    plain = saved(Image.fromarray(PICTURE), "AVIF")
    at = plain.index(b"colrnclx") + 8
    (tmp_path / "hlg.avif").write_bytes(plain[:at] + struct.pack(">HH", 9, 18) + plain[at + 4 :])
    for name, notes in (
        ("damaged.png", ["its colour profile cannot be used"]),
        ("pq.png", ["transfer function PQ (HDR)", "primaries BT.2020"]),
        ("hlg.avif", ["transfer function HLG (HDR)", "primaries BT.2020"]),
        ("p3.png", ["primaries Display P3"]),
    ):
        assert (
            read_video(tmp_path / name).notes
            == scan_video(tmp_path / name).notes
            == tuple(f"{note}: values are read as they lie" for note in notes)
        )
    (tmp_path / "plain.avif").write_bytes(plain)
    assert read_video(tmp_path / "plain.avif").notes == ()


def files_of_one_picture() -> dict[str, bytes]:
    rgb, first = Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1])
    tiff = io.BytesIO()
    with tifffile.TiffWriter(tiff) as writer:
        writer.write(PICTURE, photometric="rgb")
        writer.write(PICTURE[::2, ::2], photometric="rgb", subfiletype=1)
        writer.write(PICTURE[..., 0] > 99, photometric="minisblack", subfiletype=4)
    return {
        "avif": saved(rgb, "AVIF", quality=100, subsampling="4:4:4"),
        "tiles.avif": tiled(np.tile(PICTURE, (6, 4, 1)), 2, 2),
        "jp2": saved(rgb, "JPEG2000"),
        "tga": saved(rgb, "TGA"),
        "tga with RLE": saved(rgb, "TGA", compression="tga_rle"),
        "ppm": saved(rgb, "PPM"),
        "pcx": saved(rgb, "PCX"),
        "sgi": saved(rgb, "SGI"),
        "dds": saved(rgb, "DDS"),
        "ico": saved(rgb, "ICO", sizes=[(8, 6), (32, 24)]),
        "previews.tif": tiff.getvalue(),
        "mpo": saved(rgb, "MPO", save_all=True, append_images=[first], quality=100, subsampling=0),
        "jpeg": saved(rgb, "JPEG", quality=100, subsampling=0),
        "webp": saved(rgb, "WEBP", lossless=True),
        "bmp": saved(rgb, "BMP"),
    }


def test_one_picture_in_many_formats_and_under_any_name(tmp_path):
    for kind, data in files_of_one_picture().items():
        wanted = (np.tile(PICTURE, (6, 4, 1)) if kind == "tiles.avif" else PICTURE).astype(int)
        for name in (f"a.{kind}", f"{kind}.png", f"{kind}.mp4", f"{kind}.txt", "a"):
            (tmp_path / name).write_bytes(data)
            clip = read_video(tmp_path / name)
            assert clip.frames.shape == (1, *wanted.shape), (kind, name)
            assert np.abs(clip.frames[0] - wanted).mean() < (
                2 if kind in ("avif", "tiles.avif", "jpeg", "mpo") else 1e-9
            )
            assert clip.times is None and clip.fps == DEFAULT_FPS


def test_a_video_under_an_image_s_name(tmp_path):
    write_video(tmp_path / "clip.mp4", CLIP.frames)
    for name in ("clip.png", "clip.gif", "clip.avif", "clip"):
        (tmp_path / name).write_bytes((tmp_path / "clip.mp4").read_bytes())
        assert np.array_equal(read_video(tmp_path / name).frames, read_video(tmp_path / "clip.mp4").frames)
    for start in range(1, 256):  # MPEG's start codes are not the headers of pictures
        (tmp_path / "a.mpg").write_bytes(bytes([0, 0, 1, start, *range(1, 40)]))
        assert not images.is_image(tmp_path / "a.mpg")


def test_pages_are_frames_and_previews_are_not(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for t in range(3):
            writer.write(PICTURE + np.uint8(t), photometric="rgb")
            writer.write(PICTURE[::2, ::2], photometric="rgb", subfiletype=1)
    clip = read_video(tmp_path / "pages.tif")
    assert np.array_equal(clip.frames, [PICTURE + np.uint8(t) for t in range(3)])
    assert clip.times is None and clip.fps == DEFAULT_FPS  # pages have no times
    assert np.array_equal(read_video(tmp_path / "pages.tif", 1, 1).frames, clip.frames[1:2])
    with pytest.raises(ValueError, match="pages.tif has 3 frames, so it has no frame 3"):
        read_video(tmp_path / "pages.tif", 3)
    tifffile.imwrite(tmp_path / "raw.dng", PICTURE, photometric="rgb", subfiletype=1)
    with pytest.raises(ValueError, match="raw.dng holds only previews"):
        read_video(tmp_path / "raw.dng")


def test_a_folder_of_any_images(tmp_path):
    """Whatever is an image is a frame; what is not is named, or refused if its suffix is an image's."""
    picture = Image.fromarray(PICTURE)
    for number, suffix in enumerate((".png", ".avif", ".jp2", ".tga", ".ppm", ".jfif", ".ico", "", ".dat", ".apng")):
        kind = {".jp2": "JPEG2000", ".tga": "TGA", ".ppm": "PPM", ".ico": "ICO", ".avif": "AVIF", ".jfif": "JPEG"}
        picture.save(tmp_path / f"{number}{suffix}", kind.get(suffix, "PNG"), sizes=[(32, 24)])
    clip = read_video(tmp_path)
    assert len(clip) == scan_video(tmp_path).num_frames == 10
    assert np.abs(clip.frames - PICTURE.astype(int)).mean((1, 2, 3)).max() < 3
    assert clip.notes == ()
    for name in ("Thumbs.db", "a.txt", "list.json", ".hidden", ".b.png"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    write_video(tmp_path / "moving.gif", LONG.frames[:3, :24, :32])
    clip = read_video(tmp_path)
    assert len(clip) == 11
    assert (
        clip.notes
        == scan_video(tmp_path).notes
        == (
            "left out of the folder, because they are not images: Thumbs.db, a.txt, list.json and 2 more",
            "only the first frame or page is read of moving.gif",
        )
    )
    (tmp_path / "5b.heic").write_text("no image")
    with pytest.raises(ValueError, match="5b.heic is not an image that can be read"):
        read_video(tmp_path)


def test_equal_numbers_have_an_order(tmp_path):
    for name, value in (("1.png", 10), ("01.png", 0), ("2.png", 30), ("001.png", 20), ("a10.png", 50), ("a9.png", 40)):
        iio.imwrite(tmp_path / name, np.full((4, 6, 3), value, np.uint8))
    names = ["001.png", "01.png", "1.png", "2.png", "a9.png", "a10.png"]
    wanted = [iio.imread(tmp_path / name)[0, 0, 0] for name in names]
    assert read_video(tmp_path).frames[:, 0, 0, 0].tolist() == wanted


def test_pipes_sockets_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(tmp_path / "socket"))
    for path in (tmp_path / "pipe", tmp_path / "pipe.png", tmp_path / "socket", "/dev/zero", "/dev/null"):
        for read in (read_video, scan_video, lambda source: list(iter_video(source))):
            with pytest.raises(ValueError, match="is neither a file nor a folder but a pipe, a socket or a device"):
                read(path)
    listener.close()


def test_numbers_of_numpy_and_paths_of_other_kinds(tmp_path):
    write_video(tmp_path / "a.gif", LONG.frames[:5], np.float32(20))

    class Somewhere:
        def __fspath__(self):
            return str(tmp_path / "a.gif")

    plain = read_video(tmp_path / "a.gif", 1, 2, (16, 20))
    for number in (np.int64, np.uint8, np.int16):
        clip = read_video(Somewhere(), number(1), number(2), np.array([16, 20], number))
        assert np.array_equal(clip.frames, plain.frames)
        clip = photo_clip("coffee", number(2), np.array([16, 20], number), seed=number(3), start=np.float32([0, 0, 2]))
        assert np.array_equal(clip.frames, photo_clip("coffee", 2, (16, 20), seed=3, start=(0, 0, 2)).frames)
        made = synthetic_clip("cut", number(9), [number(16), number(20)], seed=number(3), at=number(4))
        assert np.array_equal(made.frames, synthetic_clip("cut", 9, (16, 20), seed=3, at=4).frames)


def test_a_heic_picture_in_tiles_is_refused_with_a_hint(tmp_path, monkeypatch):
    """One tile is not the picture. FFmpeg decodes tiles one by one; the package pillow-heif puts them together."""
    frame = np.tile(PICTURE, (6, 4, 1))[:128]
    if "HEIF" in images.PICTURES:
        monkeypatch.setattr(images, "PICTURES", tuple(kind for kind in images.PICTURES if kind != "HEIF"))
    for rows, columns in ((2, 2), (2, 1)):
        for name in ("a.heic", "a.heif", "a.png", "a.mp4", "a"):
            (tmp_path / name).write_bytes(tiled(frame, rows, columns, "heic"))
            with pytest.raises(ValueError, match="is a picture in tiles .HEIC.: run pip install 'vae_lab.heic.'"):
                read_video(tmp_path / name)
    (tmp_path / "folder").mkdir()
    Image.fromarray(frame).save(tmp_path / "folder" / "0.png")
    (tmp_path / "a.heic").rename(tmp_path / "folder" / "1.heic")
    with pytest.raises(ValueError, match="1.heic is not an image that can be read: it is a picture in tiles"):
        read_video(tmp_path / "folder")


def test_a_heic_picture_in_tiles_by_pillow_heif(tmp_path):
    pytest.importorskip("pillow_heif")
    frame = np.tile(PICTURE, (6, 4, 1))[:128]
    (tmp_path / "a.heic").write_bytes(tiled(frame, 2, 2, "heic"))
    assert np.abs(read_video(tmp_path / "a.heic").frames[0] - frame.astype(int)).mean() < 2


def test_streams_that_look_like_images_are_videos(tmp_path):
    """Motion JPEG is JPEG images in a row, and the first bytes of an AV1 stream could be those of a TGA file."""
    with av.open(tmp_path / "a.mjpeg", "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qscale": "1"})
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuvj444p"
        for t in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(PICTURE, 8 * t, 1), format="rgb24")))
        container.mux(stream.encode(None))
    for name in ("a.mjpeg", "a.mjpg", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.mjpeg").read_bytes())
        assert len(read_video(tmp_path / name)) == 4
    (tmp_path / "a.obu").write_bytes(bytes([18, 0, 10, *[1] * 13, 24, 0, *[7] * 400]))
    assert not images.is_image(tmp_path / "a.obu")
    (tmp_path / "old.tga").write_bytes(saved(Image.fromarray(PICTURE), "TGA")[:-26])  # no footer
    assert np.array_equal(read_video(tmp_path / "old.tga").frames[0], PICTURE)
