"""The flow viewer as data; tests/browser/test_viewers.py shows it in a browser."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vae_lab import to_tensor
from vae_lab.viewers.flow import explore_flow

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.integers(0, 256, (3, 4, 6, 8, 3), np.uint8)  # three points, four frames of 6x8
ANSWERS = RANDOM.integers(0, 256, (3, 4, 6, 8, 3), np.uint8)
TIMES = [1000.0, 750.0, 0.0]


def decoded(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))


def test_both_panels_hold_the_exact_pixels_and_their_distance_from_the_result():
    viewer = explore_flow([*POINTS], [to_tensor(clip) for clip in ANSWERS], torch.tensor(TIMES).tolist())
    data = viewer.data
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["kind"], data["timesteps"], data["frames"]) == ("flow", TIMES, [0, 1, 2, 3])
    for panel, clips in zip(data["panels"], (POINTS, ANSWERS), strict=True):
        for i in range(3):
            assert np.array_equal(np.stack([decoded(image) for image in panel["images"][i]]), clips[i])
            distance = np.sqrt(((clips[i] - POINTS[-1].astype(float)) ** 2).mean())
            assert panel["values"][i] == pytest.approx(distance, abs=0.005)
    assert data["panels"][0]["values"][-1] == 0 and data["note"] == ""
    start = "Flow viewer: 3 points from t = 1000 to 0, 4 frames of 6x8 (height x width); RMS difference from the last "
    assert viewer.text.startswith(start + "point, in levels of 255: points 1")


def test_the_static_picture_has_a_row_for_each_point_and_answer():
    viewer = explore_flow([*POINTS], [*ANSWERS], TIMES)
    figure = viewer._figure()
    names = [axis.get_ylabel() for axis in figure.axes[::4]]
    assert names == ["t = 1000", "one step from 1000", "t = 750", "one step from 750", "t = 0"]
    assert [axis.get_title() for axis in figure.axes[:4]] == [f"frame {t}" for t in range(4)]
    shown = figure.axes[4].images[0].get_array()
    assert np.array_equal(shown, ANSWERS[0, 0])
    assert Image.open(io.BytesIO(viewer.picture())).width > 300


def test_it_stays_under_its_limit_and_says_what_it_left_out():
    noise = RANDOM.integers(0, 256, (2, 16, 112, 112, 3), np.uint8)
    viewer = explore_flow([*noise], [*noise], [1000, 0], max_bytes=2_500_000)
    assert len(json.dumps(viewer.data)) < 2_000_000
    assert viewer.data["frames"] == [0, 2, 4, 6, 8, 10, 12, 14] and viewer.data["fps"] == 6
    assert viewer.data["note"].startswith("Every 2nd of 16 frames is kept")
    assert np.array_equal(decoded(viewer.data["panels"][1]["images"][0][3]), noise[0, 6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(timesteps=[1000.0, 0.0]), "points must be one clip for each of 2 timesteps, got 3"),
        (dict(answers=[*ANSWERS[:2]]), "answers must be one clip for each of 3 timesteps, got 2"),
        (
            dict(answers=[*ANSWERS[:2], ANSWERS[2][:3]]),
            r"answers\[2\] must have the shape of points\[0\], got \(3, 6, 8",
        ),
        (dict(points=[*POINTS[:2], 1.0]), r"'points\[2\]' must be a tensor, frames uint8 .* got float"),
        (dict(timesteps=[0.0, 750.0, 1000.0]), r"timesteps must be at least two falling numbers, got \[0.0, 750.0"),
        (dict(timesteps=[1000.0]), "timesteps must be at least two falling numbers"),
        (dict(timesteps=[1000.0, 500.0, 500.0]), "timesteps must be at least two falling numbers"),
        (dict(timesteps=[1000.0, "x", 0.0]), "timesteps must be a finite number, got 'x'"),
        (dict(fps=0), "fps must be"),
        (dict(max_bytes=10), "max_bytes must be at least 1000000, got 10"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        explore_flow(**dict(points=[*POINTS], answers=[*ANSWERS], timesteps=TIMES) | changes)
