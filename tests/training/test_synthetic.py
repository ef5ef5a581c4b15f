import numpy as np
import pytest

from vae_lab import clips
from vae_lab.training import synthetic as content
from vae_lab.training.synthetic import TRAIN_PHOTOS, random_clip


def drawn(seed: int, num_frames: int = 5, size: int = 32) -> np.ndarray:
    return random_clip(np.random.default_rng(seed), num_frames, size)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    for seed in range(40):
        clip = drawn(seed, num_frames=1 + seed % 3)
        assert clip.shape == (1 + seed % 3, 32, 32, 3) and clip.dtype == np.uint8


def test_content_is_varied():
    all_clips = [drawn(seed) for seed in range(200)]
    moving = np.mean([(clip[1:] != clip[:-1]).any() for clip in all_clips])
    assert 0.5 < moving < 0.95  # some stand still
    pixels = np.stack([clip[0] for clip in all_clips]).astype(float)
    saturation = (pixels.max(-1) - pixels.min(-1)).mean(axis=(1, 2))
    assert (saturation > 120).mean() > 0.1 and (saturation < 30).mean() > 0.1  # saturated ones, and nearly grey ones
    flat = [(np.abs(np.diff(clip[0].astype(int), axis=0)) <= 2).all(-1).mean() for clip in all_clips]
    assert np.mean(np.array(flat) > 0.6) > 0.1  # flat as cartoons are
    assert pixels.reshape(200, -1).mean(1).std() > 30  # dark and bright ones


def test_waves_glide_as_one_and_are_smooth(monkeypatch):
    monkeypatch.setattr(content, "_path", lambda random, num_frames: np.arange(num_frames)[:, None] * [2, 1])  # x, y
    for seed in range(10):
        clip = content._waves_layer(np.random.default_rng(seed), 3, 32)
        assert clip.shape == (3, 32, 32, 3) and clip.min() >= 0 and clip.max() <= 1 and clip.std() > 0.01
        assert np.allclose(clip[1:, 1:, 2:], clip[:-1, :-1, :-2])


def test_held_out_photographs_are_never_used(monkeypatch):
    used = set()

    def photo(name):
        used.add(name)
        return clips.photo(name)

    monkeypatch.setattr(content, "photo", photo)
    for seed in range(300):
        drawn(seed, num_frames=1, size=16)
    assert used == set(TRAIN_PHOTOS)
    assert not used & set(clips.HELD_OUT_PHOTOS) and len(clips.HELD_OUT_PHOTOS) >= 3


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_frames must be .*at least 1"):
        drawn(0, num_frames=0)
    with pytest.raises(ValueError, match="size must be .*at least 1"):
        drawn(0, size=0)
