"""The main job: a clip through a video VAE, and everything a person wants to see of it, written to a folder."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import metrics
from .figures import COLOURS, ERROR_GAIN, contact_sheet, error_map, side_by_side
from .pages import Curve, frame_player
from .shapes import chunk_lengths, compression_ratio, count, frame_groups, padded_size
from .spatial_vae import SpatialVAE
from .temporal_vae import TemporalVAE
from .video import Clip, to_frames, to_tensor, write_video
from .video_vae import VideoVAE

OUTPUTS = ("reconstruction.mp4", "side_by_side.mp4", "contact_sheet.png", "metrics.json", "index.html")
DATA_RANGE = 2.0  # of pixels in [-1, 1]


class Quality(NamedTuple):
    """One number a frame for each measure, over the frame's own pixels (not over padding)."""

    psnr: np.ndarray
    """(T,) in dB, infinite where a frame came back unchanged."""
    ssim: np.ndarray | None
    """(T,), or None for frames under 11x11 pixels, where it is not defined."""


class Report(NamedTuple):
    """A clip and what a model made of it. Frames are uint8 (T, H, W, 3)."""

    clip: Clip
    model: str
    sample: np.ndarray
    spatial_only: np.ndarray | None
    """None for a model without a 2D half."""
    latent_shape: tuple[int, ...]
    """(C, L, h, w)"""
    padded_size: tuple[int, int]
    """(H, W) that the model saw."""
    micro_frame_size: int | None
    groups: list[range]
    """Frames of each latent frame; empty where the model's law is not known here."""
    quality: dict[str, Quality]
    """"2D only" (where there is one) and "full"."""

    @property
    def chunk_starts(self) -> list[int]:
        """First frame of each chunk, counted from 0 in the clip."""
        return [0, *accumulate(chunk_lengths(len(self.clip), self.micro_frame_size))][:-1]

    @property
    def compression(self) -> float:
        """Numbers in the clip for each number in its latent."""
        channels, *latent = self.latent_shape
        return compression_ratio(self.clip.frames.shape[:3], latent, latent_channels=channels)


@torch.no_grad()
def reconstruct(
    vae, clip: Clip, model: str = "", progress: Callable[[list], Iterator] = iter, device: str = "cpu"
) -> Report:
    """Run a clip through a video VAE that takes pixels, and measure it frame by frame.

    Height and width are padded by replication to what the model divides by, and cropped back. A VideoVAE works chunk by
    chunk, so memory does not grow with the clip beyond its frames; another model takes the clip in one piece.

    progress: wraps the list of pieces, as tqdm does.
    """
    ratio = _spatial_ratio(vae)
    vae = vae.to(device)
    height, width = clip.frames.shape[1:3]
    padding = padded_size(width, ratio) - width, padded_size(height, ratio) - height
    lab_model = isinstance(vae, VideoVAE)
    micro_frame_size = vae.config.micro_frame_size if lab_model else None
    lengths = chunk_lengths(len(clip), micro_frame_size)
    samples, spatial_only, latents = [], [], []
    quality: dict[str, list[tuple[Tensor, Tensor | None]]] = {}
    for frames in progress(np.split(clip.frames, np.cumsum(lengths)[:-1])):
        x = to_tensor(frames)
        padded = F.pad(x, (0, padding[0], 0, padding[1], 0, 0), mode="replicate").to(device)
        if lab_model:
            result = vae.reconstruct(padded)
            outputs = {"2D only": result.spatial_only, "full": result.sample}
            latents.append(result.latent.shape)
        else:
            latent, sample = _round_trip(vae, padded)
            outputs = {"full": sample}
            latents.append(latent.shape)
        for name, y in outputs.items():
            y = y[..., :height, :width].clamp(-1, 1).float().cpu()
            quality.setdefault(name, []).append(_measure(x, y))
            (samples if name == "full" else spatial_only).append(to_frames(y))
    return Report(
        clip=clip,
        model=model,
        sample=np.concatenate(samples),
        spatial_only=np.concatenate(spatial_only) if spatial_only else None,
        latent_shape=(latents[0][1], sum(shape[2] for shape in latents), *latents[0][3:]),
        padded_size=(height + padding[1], width + padding[0]),
        micro_frame_size=micro_frame_size,
        groups=frame_groups(len(clip), vae.temporal_compression_ratio, micro_frame_size) if lab_model else [],
        quality={name: _join(parts) for name, parts in quality.items()},
    )


def _spatial_ratio(vae) -> int:
    if isinstance(vae, TemporalVAE):
        raise ValueError("a TemporalVAE takes 2D latents, not pixels: reconstruct with a VideoVAE around it")
    ratio = getattr(vae, "spatial_compression_ratio", None)
    if ratio is None:
        raise ValueError(f"{type(vae).__name__} is no video VAE that can be reconstructed with")
    return ratio


def _round_trip(vae, x: Tensor) -> tuple[Tensor, Tensor]:
    """Encode and decode with any video VAE of diffusers' interface, in one piece."""
    if isinstance(vae, SpatialVAE):
        latent = vae.encode(x).latent_dist.mode()
        return latent, vae.decode(latent, x.shape[2]).sample
    try:
        latent = vae.encode(x).latent_dist.mode()
        sample = vae.decode(latent).sample
    except Exception as error:  # other families fail in ways of their own on sizes they do not take
        raise ValueError(
            f"{type(vae).__name__} failed on {x.shape[2]} frames of {x.shape[3]}x{x.shape[4]}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if sample.shape != x.shape:
        raise ValueError(
            f"{type(vae).__name__} turned {x.shape[2]} frames of {x.shape[3]}x{x.shape[4]} into {sample.shape[2]} of "
            f"{sample.shape[3]}x{sample.shape[4]}; choose a length that it keeps with --frames (often a multiple of "
            f"its temporal ratio, plus 1)"
        )
    return latent, sample


def _measure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    big_enough = min(x.shape[3:]) >= metrics.SSIM_WINDOW
    return metrics.psnr(x, y, DATA_RANGE)[0], metrics.ssim(x, y, DATA_RANGE)[0] if big_enough else None


def _join(parts: list[tuple[Tensor, Tensor | None]]) -> Quality:
    psnr, ssim = zip(*parts, strict=True)
    return Quality(torch.cat(psnr).numpy(), None if ssim[0] is None else torch.cat(ssim).numpy())


# ---- what a report says --------------------------------------------------------------------------------------------


def describe(report: Report, start: int = 0) -> dict[str, str]:
    """Name -> text: the facts that the command line prints and the page shows."""
    num_frames, height, width, _ = report.clip.frames.shape
    facts = {
        "clip": f"{count(num_frames, 'frame')} of {height}x{width} (height x width), {report.clip.fps:.4g} per second"
    }
    if start:
        facts["clip"] += f", from frame {start}"
    if report.padded_size != (height, width):
        facts["padding"] = (
            f"right and bottom, by replication, to {report.padded_size[0]}x{report.padded_size[1]}; cropped back"
        )
    channels, latent_frames, h, w = report.latent_shape
    facts["latent"] = f"{count(latent_frames, 'frame')} of {h}x{w}, {channels} channels"
    if report.micro_frame_size is not None:
        lengths = chunk_lengths(num_frames, report.micro_frame_size)
        facts["latent"] += f", in {count(len(lengths), 'chunk')} of up to {report.micro_frame_size} frames"
    facts["compression"] = f"{report.compression:.1f} numbers to 1"
    for name, quality in report.quality.items():
        facts[name] = f"PSNR {_mean_and_worst(quality.psnr, start, 2, ' dB')}, SSIM "
        undefined = f"not defined under {metrics.SSIM_WINDOW}x{metrics.SSIM_WINDOW} pixels"
        facts[name] += undefined if quality.ssim is None else _mean_and_worst(quality.ssim, start, 4, "")
    return facts


def _mean_and_worst(values: np.ndarray, start: int, digits: int, unit: str) -> str:
    worst = int(np.argmin(values))
    return f"{values.mean():.{digits}f}{unit} (worst {values[worst]:.{digits}f} at t = {start + worst})"


def to_json(report: Report, start: int = 0) -> dict:
    """Everything measured, for metrics.json: null is an infinite PSNR (an unchanged frame) or an undefined SSIM."""

    def summary(values: np.ndarray | None) -> dict | None:
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

    num_frames, height, width, _ = report.clip.frames.shape
    return {
        "model": report.model,
        "clip": {"frames": num_frames, "height": height, "width": width, "fps": report.clip.fps, "first_frame": start},
        "padded_to": {"height": report.padded_size[0], "width": report.padded_size[1]},
        "latent_shape": dict(zip(("channels", "frames", "height", "width"), report.latent_shape, strict=True)),
        "micro_frame_size": report.micro_frame_size,
        "compression_ratio": report.compression,
        "quality": {
            name: {"psnr_db": summary(quality.psnr), "ssim": summary(quality.ssim)}
            for name, quality in report.quality.items()
        },
    }


# ---- what a report writes ------------------------------------------------------------------------------------------


def write_report(
    report: Report,
    out: Path,
    title: str,
    start: int = 0,
    gain: float = ERROR_GAIN,
    progress: Callable[[list], Iterator] = iter,
) -> None:
    """Write OUTPUTS into the folder `out`. They are made beside it and moved in at the end, each whole."""
    clip = report.clip
    panels = {"original": clip.frames}
    if report.spatial_only is not None:
        panels["2D only"] = report.spatial_only
    panels["full"] = report.sample
    panels[f"difference x{gain:g}"] = error_map(clip.frames, report.sample, gain)
    captions = {name: [f"{value:.1f} dB" for value in quality.psnr] for name, quality in report.quality.items()}
    colours = {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}
    curves = [Curve(name, quality.psnr, colours[name]) for name, quality in report.quality.items()]

    def page() -> str:
        facts = describe(report, start)
        return frame_player(
            panels, title, clip.fps, curves, report.groups, report.chunk_starts, facts, first_frame=start
        )

    writers = {
        "reconstruction.mp4": lambda path: write_video(path, report.sample, clip.fps, times=clip.times),
        "side_by_side.mp4": lambda path: write_video(path, side_by_side(panels), clip.fps, times=clip.times),
        "contact_sheet.png": lambda path: contact_sheet(panels, captions, title, first_frame=start).savefig(
            path, dpi=110
        ),
        "metrics.json": lambda path: path.write_text(json.dumps(to_json(report, start), indent=2) + "\n", "utf-8"),
        "index.html": lambda path: path.write_text(page(), "utf-8"),
    }
    assert tuple(writers) == OUTPUTS
    with _staging(out) as folder:
        for name in progress(list(OUTPUTS)):
            writers[name](folder / name)


def prepare_folder(out: Path) -> None:
    """Refuse, before any work is done, a folder that cannot be made or written to. Leaves nothing behind."""
    try:
        with _made_folders(out) as made:
            with _staging(out):
                pass
            for folder in made:
                folder.rmdir()
    except OSError as error:
        raise OSError(f"cannot write to the folder {out}: {error.strerror}") from None


@contextmanager
def _made_folders(out: Path) -> Iterator[list[Path]]:
    """Make `out` and its parents; yields those that were missing, innermost first, and removes them on failure."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield made
    except BaseException:
        for folder in made:
            if folder.exists():
                folder.rmdir()
        raise


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder in `out` whose files move to `out` when the block ends well; `out` is made where it is not."""
    with _made_folders(out):
        staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
        try:
            yield staging
            for file in staging.iterdir():
                file.replace(out / file.name)
        finally:
            shutil.rmtree(staging)
