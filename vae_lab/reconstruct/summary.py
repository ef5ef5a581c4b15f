"""What is kept of a clip that went through a model: numbers for each frame, also in words and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import FRAME_METRICS, FrameMetric
from ..shapes import Timeline, compression_ratio
from ..utils.text import count
from ..video.frames import Clip


class Quality(dict[str, np.ndarray]):
    """The frames of a reconstruction, measured without padding: name in FRAME_METRICS -> (T,), unless not defined."""

    @property
    def psnr(self) -> np.ndarray:
        """(T,) in dB, infinite for frames that came back unchanged."""
        return self["psnr"]

    @classmethod
    def cat(cls, parts: Sequence["Quality"]) -> "Quality":
        """Join the quality of pieces along time."""
        return cls({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipSummary:
    """The numbers that are kept of a clip, however long it is."""

    model: str
    size: tuple[int, int, int]  # (T, H, W) of the clip
    fps: float
    first_frame: int = 0  # number of the clip's first frame in its source
    latent_shape: tuple[int, int, int, int]  # (C, L, h, w)
    padded_size: tuple[int, int]  # (H, W) that the model saw
    micro_frame_size: int | None  # frames in each independently encoded chunk; None: one chunk
    timeline: Timeline | None  # which frames each latent frame stands for; None if that cannot be told
    quality: dict[str, Quality]  # "full", and "2D only" for a model with a 2D half
    fast_mode: str | None = None  # the mode of `vae.fast()` in which the model ran; None: as usual
    notes: tuple[str, ...] = ()  # what is unusual about the source, as in `Clip`

    @property
    def chunk_starts(self) -> list[int]:
        """First frame of each chunk, counted from 0 in the clip."""
        return self.timeline.chunk_starts if self.timeline else [0]

    @property
    def compression(self) -> float:
        """Numbers in the clip for each number in its latent."""
        channels, *latent = self.latent_shape
        return compression_ratio(self.size, latent, latent_channels=channels)


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(ClipSummary):
    """A clip and what a model made of it. Frames are uint8 (T, H, W, 3)."""

    clip: Clip
    sample: np.ndarray
    spatial_only: np.ndarray | None  # None for a model without a 2D half


def describe(summary: ClipSummary) -> dict[str, str]:
    """Return name -> text: the facts that the command line prints and the page shows."""
    num_frames, height, width = summary.size
    facts = {"clip": f"{count(num_frames, 'frame')} of {height}x{width} (height x width), {summary.fps:.4g} per second"}
    if summary.first_frame:
        facts["clip"] += f", from frame {summary.first_frame}"
    if summary.padded_size != (height, width):
        padded = "x".join(map(str, summary.padded_size))
        facts["padding"] = f"right and bottom, by replication, to {padded}; cropped back"
    channels, latent_frames, h, w = summary.latent_shape
    facts["latent"] = f"{count(latent_frames, 'frame')} of {h}x{w}, {channels} channels"
    if summary.micro_frame_size is not None:
        chunks = count(len(summary.chunk_starts), "chunk")
        facts["latent"] += f", in {chunks} of up to {summary.micro_frame_size} frames"
    if summary.fast_mode is not None:
        facts["fast mode"] = f"{summary.fast_mode}: large convolutions are computed with more rounding"
    facts["compression"] = f"{summary.compression:.1f} numbers to 1"
    for panel, quality in summary.quality.items():
        texts = []
        for name, metric in FRAME_METRICS.items():
            if name in quality:
                values, worst = quality[name], metric.worst(quality[name])
                extreme = f"worst {values[worst]:.{metric.digits}f} at t = {summary.first_frame + worst}"
                texts.append(f"{metric.title} {metric.text(values.mean())} ({extreme})")
            else:
                texts.append(f"{metric.title} not defined under {metric.smallest_side}x{metric.smallest_side} pixels")
        facts[panel] = ", ".join(texts)
    return facts


def to_json(summary: ClipSummary) -> dict[str, Any]:
    """Return everything measured, for metrics.json.

    null stands for an infinite value (the PSNR of an unchanged frame) and for a metric that is not defined.
    """

    def statistics(metric: FrameMetric, values: np.ndarray | None) -> dict[str, Any] | None:
        if values is None:
            return None
        mean, *numbers = (float(value) if math.isfinite(value) else None for value in (values.mean(), *values))
        worst = metric.worst(values)
        return dict(mean=mean, worst=numbers[worst], worst_frame=summary.first_frame + worst, per_frame=numbers)

    frames, height, width = summary.size
    return {
        "model": summary.model,
        "clip": dict(frames=frames, height=height, width=width, fps=summary.fps, first_frame=summary.first_frame),
        "notes": list(summary.notes),
        "padded_to": dict(zip(("height", "width"), summary.padded_size, strict=True)),
        "latent_shape": dict(zip(("channels", "frames", "height", "width"), summary.latent_shape, strict=True)),
        "micro_frame_size": summary.micro_frame_size,
        "fast_mode": summary.fast_mode,
        "compression_ratio": summary.compression,
        "quality": {
            panel: {metric.key(name): statistics(metric, quality.get(name)) for name, metric in FRAME_METRICS.items()}
            for panel, quality in summary.quality.items()
        },
    }
