"""Clips that tests of videos and of reconstruction share, and how close two clips are."""

import numpy as np

from vae_lab import photo_clip

CLIP = photo_clip("coffee", 24, (48, 64), seed=3)
LONG = photo_clip("coffee", 100, (24, 32), seed=1)


def closeness(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of frames uint8."""
    assert a.shape == b.shape
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())
