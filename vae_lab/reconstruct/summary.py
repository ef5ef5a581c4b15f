"""What is known of a clip that went through a model: numbers a frame, in words and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .. import metrics
from ..shapes import chunk_lengths, compression_ratio
from ..utils.text import count
from ..video.frames import Clip


class Quality(NamedTuple):
    """One number a frame for each measure, over the frame's own pixels (not over padding)."""

    psnr: np.ndarray
    """(T,) in dB, infinite where a frame came back unchanged."""
    ssim: np.ndarray | None
    """(T,), or None for frames under 11x11 pixels, where it is not defined."""

    @classmethod
    def cat(cls, parts: Sequence["Quality"]) -> "Quality":
        """Of pieces, joined along time."""
        psnr, ssim = zip(*parts, strict=True)
        return cls(np.concatenate(psnr), None if ssim[0] is None else np.concatenate(ssim))


@dataclass(frozen=True, eq=False, kw_only=True)
class Summary:
    """A few numbers a frame: all that is kept of a long clip."""

    model: str
    size: tuple[int, int, int]
    """(T, H, W) of the clip."""
    fps: float
    latent_shape: tuple[int, int, int, int]
    """(C, L, h, w)"""
    padded_size: tuple[int, int]
    """(H, W) that the model saw."""
    micro_frame_size: int | None
    groups: list[range]
    """Frames of each latent frame; empty where the model's law is not known here."""
    quality: dict[str, Quality]
    """"2D only" (where there is a 2D half) and "full"."""

    @property
    def chunk_starts(self) -> list[int]:
        """First frame of each chunk, counted from 0 in the clip."""
        return [0, *accumulate(chunk_lengths(self.size[0], self.micro_frame_size))][:-1]

    @property
    def compression(self) -> float:
        """Numbers in the clip for each number in its latent."""
        channels, *latent = self.latent_shape
        return compression_ratio(self.size, latent, latent_channels=channels)


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(Summary):
    """A clip and what a model made of it. Frames are uint8 (T, H, W, 3)."""

    clip: Clip
    sample: np.ndarray
    spatial_only: np.ndarray | None
    """None for a model without a 2D half."""


def describe(summary: Summary, start: int = 0) -> dict[str, str]:
    """Name -> text: the facts that the command line prints and the page shows."""
    num_frames, height, width = summary.size
    facts = {"clip": f"{count(num_frames, 'frame')} of {height}x{width} (height x width), {summary.fps:.4g} per second"}
    if start:
        facts["clip"] += f", from frame {start}"
    if summary.padded_size != (height, width):
        facts["padding"] = (
            f"right and bottom, by replication, to {summary.padded_size[0]}x{summary.padded_size[1]}; cropped back"
        )
    channels, latent_frames, h, w = summary.latent_shape
    facts["latent"] = f"{count(latent_frames, 'frame')} of {h}x{w}, {channels} channels"
    if summary.micro_frame_size is not None:
        lengths = chunk_lengths(num_frames, summary.micro_frame_size)
        facts["latent"] += f", in {count(len(lengths), 'chunk')} of up to {summary.micro_frame_size} frames"
    facts["compression"] = f"{summary.compression:.1f} numbers to 1"
    for name, quality in summary.quality.items():
        facts[name] = f"PSNR {_mean_and_worst(quality.psnr, start, 2, ' dB')}, SSIM "
        undefined = f"not defined under {metrics.SSIM_WINDOW}x{metrics.SSIM_WINDOW} pixels"
        facts[name] += undefined if quality.ssim is None else _mean_and_worst(quality.ssim, start, 4, "")
    return facts


def _mean_and_worst(values: np.ndarray, start: int, digits: int, unit: str) -> str:
    worst = int(np.argmin(values))
    return f"{values.mean():.{digits}f}{unit} (worst {values[worst]:.{digits}f} at t = {start + worst})"


def to_json(summary: Summary, start: int = 0) -> dict:
    """Everything measured, for metrics.json: null is an infinite PSNR (an unchanged frame) or an undefined SSIM."""

    def statistics(values: np.ndarray | None) -> dict | None:
        if values is None:
            return None
        worst = int(np.argmin(values))
        numbers = [float(v) if math.isfinite(v) else None for v in values]
        mean = float(values.mean())
        return {
            "mean": mean if math.isfinite(mean) else None,
            "worst": numbers[worst],
            "worst_frame": start + worst,
            "per_frame": numbers,
        }

    num_frames, height, width = summary.size
    return {
        "model": summary.model,
        "clip": {"frames": num_frames, "height": height, "width": width, "fps": summary.fps, "first_frame": start},
        "padded_to": {"height": summary.padded_size[0], "width": summary.padded_size[1]},
        "latent_shape": dict(zip(("channels", "frames", "height", "width"), summary.latent_shape, strict=True)),
        "micro_frame_size": summary.micro_frame_size,
        "compression_ratio": summary.compression,
        "quality": {
            name: {"psnr_db": statistics(quality.psnr), "ssim": statistics(quality.ssim)}
            for name, quality in summary.quality.items()
        },
    }
