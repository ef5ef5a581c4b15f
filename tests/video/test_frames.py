import numpy as np
import pytest
import torch

from vae_lab import to_frames, to_tensor


def test_tensors_and_back_for_every_value():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 8, 8, 3)
    x = to_tensor(frames)
    assert x.shape == (1, 3, 4, 8, 8)
    assert (x.min(), x.max(), x.dtype) == (-1, 1, torch.float32)
    assert x[0, 0, 0, 0, 1].item() == pytest.approx(1 / 127.5 - 1)
    assert np.array_equal(to_frames(x), frames)
    louder = np.clip(np.rint(frames.astype(float) * 1.5 - 63.75), 0, 255)
    assert np.abs(to_frames(x * 1.5) - louder).max() <= 1  # clamped, not wrapped


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_to_tensor_refuses_other_arrays(frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, H, W, 3\), at least one, got"):
        to_tensor(frames)


@pytest.mark.parametrize("thing", [[[0, 1]], None, "clip.mp4"])
def test_what_is_no_array_is_refused_by_its_type(thing):
    with pytest.raises(ValueError, match=f"frames must be uint8 .*, got {type(thing).__name__}"):
        to_tensor(thing)
    with pytest.raises(ValueError, match=rf"x must be one clip of shape \(1, 3, T, H, W\), got {type(thing).__name__}"):
        to_frames(thing)


def test_to_frames_refuses_other_tensors():
    for x in (torch.zeros(2, 3, 1, 4, 4), torch.zeros(1, 4, 1, 4, 4), torch.zeros(3, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"x must be one clip of shape \(1, 3, T, H, W\), got"):
            to_frames(x)
    with pytest.raises(ValueError, match="x must be finite"):
        to_frames(torch.full((1, 3, 1, 2, 2), torch.nan))
