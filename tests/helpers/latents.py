"""Latents of two clips, and a decoder with a known answer."""

import torch

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(1, 3, 4, 2, 5, generator=GENERATOR)
OTHER = torch.randn(1, 3, 4, 2, 5, generator=GENERATOR)


def enlarge(z):
    """A decoder with a known answer: channels are colours, every cell is 2 frames of 4x4 pixels, a tenth as large."""
    return z[:, :3].repeat_interleave(2, 2).repeat_interleave(4, 3).repeat_interleave(4, 4) / 10
