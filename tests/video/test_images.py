import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from tests.helpers.video import CLIP, LONG
from vae_lab import read_video, write_video
from vae_lab.video.reading import scan_video


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
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    for name, frame, extra in (("1.png", LONG.frames[0], {}), ("2.png", LONG.frames[0].swapaxes(0, 1), {"exif": exif})):
        Image.fromarray(np.ascontiguousarray(frame)).save(tmp_path / name, **extra)
    assert scan_video(tmp_path).num_frames == 2
    Image.fromarray(LONG.frames[0, :20]).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match="frame 2 is 20x32 .height x width., the ones before 24x32; give a size"):
        scan_video(tmp_path)
