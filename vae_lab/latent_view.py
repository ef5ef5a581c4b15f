"""What the latent viewer shows: latents and frames in, its data, a text and a figure out; no widget is made."""

import base64
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import pages
from .adapters import LAB_CLASSES, decoded_shape, groups_of, micro_frame_size_of, shift_and_scale
from .checks import check_video
from .figures import COLOURS, ERROR_GAIN, OTHER_COLOURS, error_map, latent_pictures
from .frame_view import clip_frames
from .latent_answers import LatentAnswers
from .latent_changes import check_other
from .latent_figures import latent_filmstrip, short_numbers
from .latent_files import read_latents
from .latent_statistics import ACTIVE_VARIANCE, LatentReport, Spectrum, check_latent, latent_report
from .pages import MAX_SIDE, ROOM, Panel, View
from .shapes import chunk_lengths, count, frame_groups, positive_int
from .video import Clip

MOST_FRAMES = 256  # that a latent frame can stand for: eight times the ratio of any model that is known
NUMBERS = 200_000  # bytes of ROOM for statistics; the picture and the script have the rest
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
        if max(z.shape[3:]) > MAX_SIDE:
            raise ValueError(f"z must be at most {MAX_SIDE} cells high and wide, got shape {tuple(z.shape)}")
        other = None if other is None else _latents("other", other)
        if other is not None:
            check_other(z, other)
        if positive_int("max_bytes", max_bytes) < 2 * ROOM:
            raise ValueError(f"max_bytes must be at least {2 * ROOM}, got {max_bytes}")
        clip = None if frames is None else _clip(frames, z)
        if clip is not None and num_frames not in (None, len(clip)):
            raise ValueError(f"num_frames ({num_frames}) must be that of frames, {len(clip)}; it can be left out")
        num_frames = num_frames if clip is None else len(clip)
        if num_frames is not None:
            num_frames = positive_int("num_frames", num_frames)
            if num_frames > MOST_FRAMES * z.shape[2]:
                raise ValueError(
                    f"num_frames must be at most {MOST_FRAMES} for each of {count(z.shape[2], 'latent frame')}, got "
                    f"{num_frames}"
                )
        if vae is not None and num_frames is None:
            raise ValueError("num_frames must be given with vae where there are no frames: it is what is decoded")
        if vae is not None:
            _check_vae(vae, z, num_frames, "num_frames" if clip is None else "frames")
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
        numbers, notes, taken = _numbers_within(self.report, NUMBERS + (max_bytes - ROOM) // 8, max_bytes)
        room = max_bytes - ROOM - max(0, taken - NUMBERS)
        titled = {short_numbers(name): pictures for name, pictures in latent_pictures(self._z).items()}
        views = [View(name.split(" (")[0], name, pictures) for name, pictures in titled.items()]
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
        notes += [pages.thinning_note(num_frames or 1, stride, shrink, max_bytes, left_out)]
        shown = [
            pages.view_data(view.name, view.title, strip, view.frames.shape[1:3])
            for panel, strips in zip(panels, images, strict=False)
            for view, strip in zip(panel.views, strips, strict=True)
        ]
        self._used = max(0, taken - NUMBERS)
        self._used += sum(len(i) for view in [*shown, *([pictures] if pictures else [])] for i in view["images"])
        values = base64.b64encode(self._z.astype("<f4").tobytes()).decode()
        if len(values) > (room // 8 if has_vae else max_bytes - ROOM - self._used):
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
            **numbers,
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
        text += "; mean and std by channel: " + ", ".join(
            f"{_short(m)} ± {_short(s)}" for m, s in zip(mean, std, strict=True)
        )
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
    if isinstance(z, Tensor):
        return z.detach().cpu()
    return torch.from_numpy(np.require(z, z.dtype.newbyteorder("="), ["C", "W"]))


def _clip(frames: Tensor | np.ndarray | Clip, z: Tensor) -> np.ndarray:
    """uint8 (T, H, W, 3), of the same aspect ratio as the cells: only there a cell has its place in the frames."""
    if isinstance(frames, Tensor):
        check_video("frames", frames, 3)
        if len(frames) != 1:
            raise ValueError(f"frames must be one clip (1, 3, T, H, W), got shape {tuple(frames.shape)}")
    clip = clip_frames("frames", frames)
    (tall, wide), (height, width) = clip.shape[1:3], z.shape[3:]
    if max(tall, wide) > MAX_SIDE:
        raise ValueError(f"frames must be at most {MAX_SIDE} pixels high and wide, got {tall}x{wide}")
    if tall * width != wide * height:
        raise ValueError(
            f"frames must have the aspect ratio of z: {tall}x{wide} pixels (height x width) are {tall / height:.4g} a "
            f"row and {wide / width:.4g} a column of its {height}x{width} cells"
        )
    return clip


def _check_vae(vae, z: Tensor, num_frames: int, name: str) -> None:
    """Refuse what cannot decode z to so many frames, which `name` gave."""
    kind = type(vae).__name__
    decode, config, device, dtype = (getattr(vae, name, None) for name in ("decode", "config", "device", "dtype"))
    if not callable(decode) or not hasattr(config, "get") or device is None or dtype is None:
        raise ValueError(f"vae must be a video VAE with diffusers' interface, such as `load` reads, got {kind}")
    lab = isinstance(vae, LAB_CLASSES)
    short = (*z.shape[:2], 1, *z.shape[3:])  # the lab's models are told how many frames, so one says enough
    shape = decoded_shape(vae, short, 1) if lab else decoded_shape(vae, z.shape, num_frames)
    if shape is None:
        return
    if len(shape) != 5 or shape[1] != 3:
        raise ValueError(f"vae must decode to frames (1, 3, T, H, W), but {kind} decodes z to {shape}")
    groups_of(vae, num_frames, z.shape[2])
    if not lab and shape[2] != num_frames:
        longer = decoded_shape(vae, (*z.shape[:2], z.shape[2] + 1, *z.shape[3:]), num_frames)[2]
        decodes = f"{kind} decodes {count(z.shape[2], 'latent frame')} to {count(shape[2], 'frame')}"
        raise ValueError(
            f"{name} must be as many as z decodes to, got {num_frames}: {decodes}, so some frames are not in z or in "
            f"others of its latent frames; lengths that fit are {shape[2]} and {longer}"
        )


def _groups(vae, latent_frames: int, num_frames: int | None, temporal_ratio, micro_frame_size) -> list[range]:
    """The frames of each latent frame; none where it is not told how many frames there are."""
    if num_frames is None:
        return []
    if vae is not None:
        return groups_of(vae, num_frames, latent_frames)
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size)
    if len(groups) != latent_frames:
        raise ValueError(
            f"z has {latent_frames} latent frames, but {num_frames} frames have {len(groups)} by temporal_ratio and "
            f"micro_frame_size: pass those of the model"
        )
    return groups


def _numbers_within(report: LatentReport, room: int, max_bytes: int) -> tuple[dict[str, Any], list[str], int]:
    """Statistics and relations as JSON, what the viewer says of what is left out of them, and their bytes."""
    correlation, every, notes = None, 1, []
    if len("0, ") * report.correlation.size < room // 2:
        correlation = _numbers(report.correlation)
    if correlation is None or len(json.dumps(correlation)) > room // 2:
        correlation = None
        notes.append(f"The correlations between {len(report.correlation)} channels are left out: they are too many.")
    while True:
        found = {"statistics": _statistics(report, every), "relations": _relations(report, correlation, every)}
        size = len(json.dumps(found))
        if size <= room:
            break
        if every >= max(report.shape[1:]):
            raise ValueError(
                f"max_bytes ({max_bytes}) must be larger: it leaves {room} bytes for statistics, and those of "
                f"{count(report.shape[0], 'channel')} have {size}"
            )
        every = max(every + 1, every * size // room)  # nearly in proportion
    if every > 1:
        notes.append(f"The curves of the statistics have one of {every} latent frames, lags and frequencies.")
    return found, [" ".join([*notes, f"So all stays under {max_bytes / 1e6:.3g} MB."])] if notes else [], size


def _statistics(report: LatentReport, every: int) -> dict[str, Any]:
    rows = report.table().to_dict("records")
    notes = []
    if report.scale:
        verdict = repr(report.scale).splitlines()[0].removeprefix("ScaleCheck: ")
        totals = ", ".join(f"{name} {_short(total)}" for name, total in report.scale.total.items())
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
        "frames": {name: _numbers(values[:, ::every]) for name, values in report.frames._asdict().items()},
        "every": every,
        "notes": notes,
    }


def _relations(report: LatentReport, correlation: list | None, every: int) -> dict[str, Any]:
    return {
        "correlation": correlation,
        "autocorrelation": _numbers(report.time_correlation[:, ::every]),
        "every": every,
        "spatial": _spectrum(report.spatial, every),
        "temporal": _spectrum(report.temporal, every),
        "notes": [
            "Correlations are over all cells. Power is the mean squared Fourier coefficient: white noise of variance v "
            "has v at every frequency. In space the mean of each latent frame is removed, in time that of each cell."
        ],
    }


def _spectrum(spectrum: Spectrum, every: int) -> dict[str, Any]:
    frequency, power = spectrum.frequency[::every].tolist(), _numbers(spectrum.power[:, ::every])
    return {"frequency": frequency, "power": power, "unit": spectrum.unit}


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _number(value) -> float | bool | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[Sequence]:
    return [[_number(value) for value in row] for row in values]
