"""What the latent viewer shows: latents and frames in, its data, a text and a figure out; no widget is made."""

import base64
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import pages
from .adapters import groups_of, micro_frame_size_of, shift_and_scale
from .figures import COLOURS, ERROR_GAIN, OTHER_COLOURS, error_map, latent_pictures
from .frame_view import clip_frames
from .latent_answers import LatentAnswers
from .latent_changes import check_other
from .latent_figures import latent_filmstrip
from .latent_files import read_latents
from .latent_statistics import ACTIVE_VARIANCE, LatentReport, Spectrum, check_latent, latent_report
from .pages import ROOM, Panel, View
from .shapes import chunk_lengths, count, frame_groups, positive_int
from .video import Clip

GAINS = (1, ERROR_GAIN, 16, 64)  # of differences, to choose from
LEVELS = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(3, axis=3)
ERROR_SCALE = error_map(np.zeros_like(LEVELS), LEVELS, gain=1)[0, 0]  # (256, 3): the colour of each level
NO_DECODER = "Nothing decodes these latents here: give explore_latents a vae to change them and see the frames."


class LatentView:
    """`data`, `text` and `figure` of `viewers.explore_latents`, whose arguments these are, and what answers it."""

    def __init__(
        self,
        z: Tensor | np.ndarray | str | Path,
        frames: Tensor | np.ndarray | Clip | None,
        *,
        posterior,
        vae,
        other: Tensor | np.ndarray | str | Path | None,
        num_frames: int | None,
        temporal_ratio: int,
        micro_frame_size: int | None,
        latents_mean,
        latents_std,
        max_bytes: int,
    ):
        z = _latents("z", z)
        other = None if other is None else _latents("other", other)
        if other is not None:
            check_other(z, other)
        if positive_int("max_bytes", max_bytes) < 2 * ROOM:
            raise ValueError(f"max_bytes must be at least {2 * ROOM}, got {max_bytes}")
        clip = None if frames is None else clip_frames("frames", frames)
        if clip is not None and num_frames not in (None, len(clip)):
            raise ValueError(f"num_frames ({num_frames}) must be that of frames, {len(clip)}; it can be left out")
        num_frames = num_frames if clip is None else len(clip)
        if vae is not None and num_frames is None:
            raise ValueError("num_frames must be given with vae where there are no frames: it is what is decoded")
        if vae is not None:
            micro_frame_size = micro_frame_size_of(vae)
            if latents_mean is None and latents_std is None:
                latents_mean, latents_std = shift_and_scale(vae, z.shape[1]) or (None, None)
        self.groups = _groups(vae, z.shape[2], num_frames, temporal_ratio, micro_frame_size)
        self.report = latent_report(z, posterior, latents_mean, latents_std)
        self._clip, self._z = clip, z[0].double().numpy()
        self.answers = None
        self.data = self._data(z, num_frames, micro_frame_size, other is not None, vae is not None, max_bytes)
        if vae is not None:
            room = max_bytes - ROOM - self._used
            self.answers = LatentAnswers(vae, z, other, num_frames, room, max_bytes, self.data["changes"])
        self.text = self._text(num_frames)

    def _data(self, z, num_frames, micro_frame_size, has_other, has_vae, max_bytes) -> dict[str, Any]:
        room = max_bytes - ROOM
        views = [View(name.split(" (")[0], name, pictures) for name, pictures in latent_pictures(self._z).items()]
        panels = [Panel("latent", views, latent=True)]
        pictures = None
        if self._clip is None:
            panels, left_out, strips, _ = pages.fit_latents(panels, room // 2)
            images, stride, shrink = [strips[id(panel)] for panel in panels], 1, 1
        else:
            panels.append(Panel("frames", [View("frames", "frames", self._clip)]))
            share = room // 3 if has_vae else room * 7 // 8  # decoded and changed frames need as much
            panels, left_out, images, stride, shrink = pages.fit_pictures(panels, len(self._clip), share)
            view = pages.view_data("frames", "frames", images.pop()[0], self._clip.shape[1:3], shrink)
            pictures = view | {"stride": stride}
        notes = [pages.thinning_note(num_frames or 1, stride, shrink, max_bytes, left_out)]
        shown = [
            pages.view_data(view.name, view.title, strip, view.frames.shape[1:3])
            for panel, strips in zip(panels, images, strict=False)
            for view, strip in zip(panel.views, strips, strict=True)
        ]
        self._used = sum(len(i) for view in [*shown, *([pictures] if pictures else [])] for i in view["images"])
        values = base64.b64encode(self._z.astype("<f4").tobytes()).decode()
        if len(values) > (room // 8 if has_vae else room - self._used):
            values = None
            notes.append("The numbers in single cells are left out: there are too many for the size of this viewer.")
        self._used += len(values or "")
        return {
            "kind": "latents",
            "note": " ".join(filter(None, notes)),
            "size": list(z.shape[1:]),
            "numFrames": num_frames,
            "groups": [[group.start, group.stop] for group in self.groups] if self.groups else None,
            "chunkStarts": [0, *accumulate(chunk_lengths(num_frames, micro_frame_size))][:-1] if num_frames else [],
            "latents": shown,
            "frames": pictures,
            "values": values,
            "colours": COLOURS,
            "matrixColours": [OTHER_COLOURS[2], COLOURS["latent"]],
            "errorScale": base64.b64encode(ERROR_SCALE.tobytes()).decode(),
            "gain": ERROR_GAIN,
            "gains": list(GAINS),
            "statistics": _statistics(self.report),
            "relations": _relations(self.report),
            "changes": {
                "live": has_vae,
                "reason": "" if has_vae else NO_DECODER,
                "other": has_other,
                "decoded": None,
                "answers": [],
                "note": "",
            },
        }

    def _text(self, num_frames: int | None) -> str:
        channels, latent_frames, height, width = self.report.shape
        text = f"Latent viewer: {channels}x{latent_frames}x{height}x{width} (channels x latent frames x height x width)"
        if num_frames:
            text += f" of {count(num_frames, 'frame')}"
        mean, std, _ = self.report.moments
        text += "; mean and std by channel: " + ", ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, std, strict=True))
        return text + (f". Warning: {self.report.warning}" if self.report.warning else "")

    def figure(self):
        """The film: PCA and every channel over latent frames, under the frames that each one stands for."""
        frames = (None, None) if self._clip is None else (self._clip, self.groups)
        return latent_filmstrip(self._z, *frames, columns=6)


def _latents(name: str, z: Tensor | np.ndarray | str | Path) -> Tensor:
    """Latents on the CPU, looked at."""
    if isinstance(z, str | Path):
        return read_latents(z)
    check_latent(z, name)
    return z.detach().cpu() if isinstance(z, Tensor) else torch.from_numpy(np.ascontiguousarray(z))


def _groups(vae, latent_frames: int, num_frames: int | None, temporal_ratio, micro_frame_size) -> list[range]:
    """The frames of each latent frame; none where it is not told how many frames there are."""
    if num_frames is None:
        return []
    if vae is not None:
        return groups_of(vae, positive_int("num_frames", num_frames), latent_frames)
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size)
    if len(groups) != latent_frames:
        raise ValueError(
            f"z has {latent_frames} latent frames, but {num_frames} frames have {len(groups)} by temporal_ratio and "
            f"micro_frame_size: pass those of the model"
        )
    return groups


def _statistics(report: LatentReport) -> dict[str, Any]:
    rows = report.table().to_dict("records")
    notes = []
    if report.scale:
        verdict = repr(report.scale).splitlines()[0].removeprefix("ScaleCheck: ")
        totals = ", ".join(f"{name} {total:.2f}" for name, total in report.scale.total.items())
        if not report.warning:
            notes.append(f"Shift and scale: {verdict}.")
        notes.append(f"Distance from what each use of shift and scale gives, in nats over all channels: {totals}.")
    else:
        notes.append("Shift and scale are not checked: neither latents_mean and latents_std nor a vae tell them.")
    if report.posterior:
        verdict = repr(report.posterior).splitlines()[0].removeprefix("PosteriorStatistics: ")
        rule = f"its posterior mean varies by more than {ACTIVE_VARIANCE} over the cells (Burda et al. 2016)"
        notes.append(f"{verdict}. Active: {rule}.")
    return {
        "warning": report.warning,
        "rows": [{key: _number(value) for key, value in row.items()} for row in rows],
        "frames": {name: _numbers(values) for name, values in report.frames._asdict().items()},
        "notes": notes,
    }


def _relations(report: LatentReport) -> dict[str, Any]:
    return {
        "correlation": _numbers(report.correlation),
        "autocorrelation": _numbers(report.time_correlation),
        "spatial": _spectrum(report.spatial),
        "temporal": _spectrum(report.temporal),
        "notes": [
            "Correlations are over all cells. Power is the mean squared Fourier coefficient: white noise of variance v "
            "has v at every frequency. In space the mean of each latent frame is removed, in time that of each cell."
        ],
    }


def _spectrum(spectrum: Spectrum) -> dict[str, Any]:
    return {"frequency": spectrum.frequency.tolist(), "power": _numbers(spectrum.power), "unit": spectrum.unit}


def _number(value) -> float | bool | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[Sequence]:
    return [[_number(value) for value in row] for row in values]
