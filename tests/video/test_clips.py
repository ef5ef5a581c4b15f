import numpy as np
import pytest

from vae_lab import photo_clip, synthetic_clip
from vae_lab.video.clips import HELD_OUT_PHOTOS, PHOTOS, SYNTHETIC_KINDS, photo


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_the_same_arguments_give_the_same_bytes(kind):
    a, b = (synthetic_clip(kind, 9, (24, 40), seed=5) for _ in range(2))
    assert a.frames.shape == (9, 24, 40, 3)
    assert a.frames.dtype == np.uint8
    assert np.array_equal(a.frames, b.frames)
    if kind != "impulse":
        assert not np.array_equal(a.frames, synthetic_clip(kind, 9, (24, 40), seed=6).frames)


def test_static_does_not_move_and_the_others_do():
    for kind in SYNTHETIC_KINDS:
        frames = synthetic_clip(kind, 9).frames
        assert (frames == frames[0]).all() == (kind == "static")


def test_cut_and_impulse_are_where_they_are_asked_for():
    change = np.abs(np.diff(synthetic_clip("cut", 12, at=5).frames.astype(int), axis=0)).mean((1, 2, 3))
    assert change.argmax() == 4  # from frame 4 to frame 5
    assert change[4] > 2 * np.delete(change, 4).max()
    impulse = synthetic_clip("impulse", 9, (16, 20), at=3).frames
    expected = np.full_like(impulse, 127)
    expected[3, 8, 10] = 255
    assert np.array_equal(impulse, expected)
    assert (synthetic_clip("impulse", 9).frames[4] != 127).any()


def test_texture_moves_at_one_velocity():
    """Shifted back by its velocity (from the phase of the Fourier transform), every frame is frame 0."""
    frames = synthetic_clip("texture", 9, (64, 64), seed=2).frames.astype(float).mean(3)
    spectra = np.fft.fft2(frames)
    y, x = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
    random = np.random.default_rng(2)
    vy, vx = random.uniform(0.3, 1.5, 2) * random.choice([-1, 1], 2)
    for t in range(9):
        back = np.fft.ifft2(spectra[t] * np.exp(2j * np.pi * (y * vy + x * vx) * t)).real
        assert np.abs(back - frames[0]).max() < 2.5  # rounding to 8 bit, and overtones past the pixel grid


def test_photographs():
    for name in PHOTOS:
        image = photo(name)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 128
    assert set(HELD_OUT_PHOTOS) < set(PHOTOS)
    assert len(HELD_OUT_PHOTOS) >= 3


def test_photo_clip_starts_and_stops_where_it_is_told():
    image = photo("astronaut")  # 512 x 512
    clip = photo_clip("astronaut", 5, (128, 128), start=(0, 0, 4), stop=(1, 1, 4))
    assert np.array_equal(clip.frames[0], image[:128, :128])
    assert np.array_equal(clip.frames[-1], image[-128:, -128:])
    assert np.array_equal(clip.frames[2], image[192:320, 192:320])
    whole = photo_clip("astronaut", 1, (128, 128), start=(0, 0, 1)).frames[0]
    assert np.abs(whole.reshape(-1).mean() - image.mean()) < 1
    drawn = [photo_clip("coffee", 4, (32, 48), seed=s).frames for s in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_sub_pixel_moves_are_smooth():
    clip = photo_clip("coffee", 9, (64, 64), start=(0.4, 0.5, 3.0), stop=(0.41, 0.5, 3.0))
    steps = np.abs(np.diff(clip.frames.astype(float), axis=0)).mean((1, 2, 3))
    assert steps.min() > 0
    assert steps.max() < 2 * steps.min()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: synthetic_clip("noise"), "kind must be one of shapes, texture, static, cut, impulse, got 'noise'"),
        (lambda: synthetic_clip("cut", 5, at=5), "at must be a frame of the clip, 0 to 4, got 5"),
        (lambda: synthetic_clip("shapes", at=1), 'at belongs to the kinds "cut" and "impulse", not \'shapes\''),
        (lambda: synthetic_clip("shapes", 0), "num_frames must be at least 1, got 0"),
        (lambda: synthetic_clip("shapes", size=(8,)), r"size must be \(H, W\), got \(8,\)"),
        (lambda: photo_clip("lena"), "photo must be one of .* got 'lena'"),
        (lambda: photo_clip("coffee", start=(0, 0, 0.5)), r"start must be \(x, y, zoom\)"),
        (lambda: photo_clip("coffee", stop=(0, 1.5, 1)), r"stop must be \(x, y, zoom\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
