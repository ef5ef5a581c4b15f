import io

import numpy as np
import pytest
from PIL import Image

from vae_lab import photo_clip
from vae_lab.figures.frames import LABEL_HEIGHT, contact_sheet, error_map, side_by_side, training_picture
from vae_lab.figures.style import COLOURS

FRAMES = photo_clip("coffee", 7, (32, 48)).frames


def luminance(rgb) -> np.ndarray:
    return np.asarray(rgb, float) @ (0.2126, 0.7152, 0.0722)


def test_error_map_scale():
    x = np.full((1, 1, 5, 3), 100, np.uint8)
    y = x.copy()
    y[0, 0, :, :] = np.array([0, 1, 20, 37, 100])[:, None] + 100
    picture = error_map(x, y, gain=4)[0, 0]
    assert picture[0].tolist() == [0, 0, 0]
    assert picture[-1].tolist() == [255, 255, 255]  # 400, at the end of the scale
    assert (np.diff(luminance(picture)) > 0).all()
    assert np.array_equal(error_map(y, x, gain=4)[0, 0], picture)  # the size of the difference, not its sign
    vermilion = [int(COLOURS["error"][i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(error_map(x, x + 50, gain=3)[0, 0, 0].astype(int) - vermilion).max() <= 2


def test_side_by_side_keeps_pixels():
    canvas = side_by_side({"a": FRAMES, "b": 255 - FRAMES})
    factor = 4  # 48 wide, enlarged to at least 160
    assert canvas.shape == (7, LABEL_HEIGHT + 32 * factor, 2 * 48 * factor, 3)
    left = canvas[:, LABEL_HEIGHT::factor, : 48 * factor : factor]
    right = canvas[:, LABEL_HEIGHT + factor - 1 :: factor, 48 * factor + factor - 1 :: factor]
    assert np.array_equal(left, FRAMES)
    assert np.array_equal(right, 255 - FRAMES)
    assert (canvas[0, :LABEL_HEIGHT] < 128).any()  # there is a title
    assert side_by_side({"a": FRAMES[:, :31, :47]}).shape[1] % 2 == 0


def test_contact_sheet_shows_first_and_last_frame_and_captions():
    figure = contact_sheet(
        {"original": FRAMES, "full": FRAMES},
        {"full": [f"{t}.5 dB" for t in range(7)]},
        "title",
        columns=3,
        first_frame=10,
    )
    texts = [axis.get_title() for axis in figure.axes[:3]]
    assert texts == ["t = 10", "t = 13", "t = 16"]
    assert [axis.get_xlabel() for axis in figure.axes[3:]] == ["0.5 dB", "3.5 dB", "6.5 dB"]
    assert np.array_equal(figure.axes[2].images[0].get_array(), FRAMES[6])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert Image.open(buffer).size[0] > 300
    assert len(contact_sheet({"one": FRAMES[:1]}).axes) == 1


LOG = [
    {"step": 2, "stage": "a", "loss": 0.5},
    {"step": 4, "stage": "a", "loss": 0.3, "psnr": 20.0},
    {"step": 6, "stage": "b", "loss": 0.2},
    {"step": 8, "stage": "b", "loss": 0.1, "psnr": 24.0},
]


def test_training_picture_draws_the_log_and_the_clips():
    figure = training_picture(LOG, {"original": FRAMES, "by now": FRAMES[:4]}, columns=3)
    loss, psnr, *frames = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[2, 0.5], [4, 0.3], [6, 0.2], [8, 0.1]]
    assert psnr.lines[0].get_xydata().tolist() == [[4, 20], [8, 24]]
    assert loss.lines[1].get_xdata() == [4.5, 4.5]  # where stage b begins
    assert (loss.get_xlabel(), loss.get_ylabel(), psnr.get_ylabel()) == ("step", "loss", "PSNR in dB")
    assert [axis.get_xlabel() for axis in frames] == ["t = 0", "t = 3", "t = 6", "t = 0", "t = 2", "t = 3"]
    assert np.array_equal(frames[1].images[0].get_array(), FRAMES[3])
    assert len(training_picture(LOG[:1]).axes) == 2
    with pytest.raises(ValueError, match="log must have at least one row"):
        training_picture([])


def test_errors():
    with pytest.raises(ValueError, match="x and y must have the same shape"):
        error_map(FRAMES, FRAMES[:3])
    with pytest.raises(ValueError, match="panels must have the same shape"):
        side_by_side({"a": FRAMES, "b": FRAMES[:, :16]})
    with pytest.raises(ValueError, match="panels must have the same number of frames, got 3 and 7"):
        contact_sheet({"a": FRAMES, "b": FRAMES[:3]})


def test_side_by_side_of_pieces_is_that_of_the_whole():
    panels = {"original": FRAMES[:6], "full": 255 - FRAMES[:6]}
    pieces = [side_by_side({name: clip[i : i + 2] for name, clip in panels.items()}) for i in (0, 2, 4)]
    assert np.array_equal(np.concatenate(pieces), side_by_side(panels))
