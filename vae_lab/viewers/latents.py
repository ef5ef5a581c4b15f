"""The latent viewer: what is in the latents of one clip, and what editing them does to the frames."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from torch import Tensor

from ..families.codec import Codec, codec_of
from ..figures.frames import ERROR_GAIN, colour_scale
from ..figures.latents import latent_filmstrip
from ..figures.style import COLOURS, OTHER_COLOURS
from ..latents.arrays import check_latent, check_shape_of
from ..latents.edits import forms
from ..latents.files import read_latents
from ..latents.statistics import ACTIVE_VARIANCE, LatentReport, Spectrum, latent_report
from ..shapes import Timeline
from ..utils.checks import check_video, positive_int
from ..utils.text import count
from ..video.frames import Clip
from .frames import check_timeline, clip_frames, timeline_of
from .latent_answers import EditRequest, LatentAnswers
from .pictures import MAX_VIEWER_BYTES, ROOM, PictureBudget, Thinning, as_text, check_sides, latent_views
from .widgets import Viewer

MOST_FRAMES = 256  # for one latent frame: eight times the ratio of any known model
NUMBERS = 200_000  # bytes of pictures.ROOM for statistics; the picture and the script have the rest
GAINS = (1, ERROR_GAIN, 16, 64)  # of differences, to choose from
ERROR_SCALE = colour_scale("error")  # (256, 3): the colour of each level
NO_DECODER = "Nothing decodes these latents here: give explore_latents a vae to edit them and see the frames."


class LatentViewer(Viewer):
    """The result of `explore_latents`: a viewer that decodes edited latents as long as its kernel runs."""

    request = traitlets.Dict().tag(sync=True)  # {"number": differs each time, "request": EditRequest}, by the browser

    report: LatentReport  # the statistics that it shows
    answers: LatentAnswers | None = None  # what decodes; None without a vae

    @traitlets.observe("request")
    def _requested(self, change) -> None:
        if self.answers and change["new"]:
            self.send(self.answers.answer(change["new"]["request"]))

    def precompute(self, edits: Sequence[EditRequest]) -> None:
        """Decode edits in advance, so that a saved page has them too.

        edits: each the name of an edit of `latents.edits.EDITS` and a value for each of its parameters, such as
          {"operation": "zero", "channel": 0}. The lab's own are "zero" (channel), "amplify" (channel, factor), "shift"
          (channel, latent_frames), "swap" (channel), "interpolate" (weight) and "cell": cell (latent frame, row,
          column), amount (in standard deviations of the channel) and channel (None: all).

        The first answers are dropped if all together are more than max_bytes; a warning and the viewer say so.
        """
        if self.answers is None:
            raise ValueError("precompute needs a vae: give explore_latents one")
        checked = self.answers.check(edits)  # all of them before any is decoded
        try:
            self.answers.precompute(checked)
        finally:  # the browser gets the answers before one that fails
            self.send_state("data")


def explore_latents(
    z: Tensor | np.ndarray | str | Path,
    frames: Tensor | np.ndarray | Clip | None = None,
    *,
    posterior: Any = None,
    vae: Any = None,
    other: Tensor | np.ndarray | str | Path | None = None,
    num_frames: int | None = None,
    timeline: Timeline | None = None,
    latents_mean: Any = None,
    latents_std: Any = None,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> LatentViewer:
    """Show the latents of one clip: pictures over time, statistics, relations, and what edits of them do.

    Args:
        z: raw latents (1, C, L, h, w), or a file for `read_latents`. frames: the clip, as `compare_frames` takes one.
        posterior: `vae.encode(x).latent_dist`; adds its std and its KL divergence from N(0, 1), by channel.
        vae: any video VAE that `load` reads. It tells which frames each latent frame stands for and, if it has them,
          shift and scale, and it decodes the edits that the reader asks for, which needs the kernel or `precompute`.
        other: latents of a second clip, of the same shape, to swap channels with and to interpolate to.
        num_frames: how many frames there were, if there are no frames here. Without either, latent frames have none.
        timeline: which frames each latent frame stands for; default: that of vae, or without vae Open-Sora's,
          `Timeline(num_frames)`. It must agree with vae.
        latents_mean, latents_std: as `latents.scale_check` takes them, if vae does not tell.
        max_bytes: of the viewer; things are left out to stay below it, and the viewer says so.
    """
    z, values = _checked("z", z)
    check_sides("z", z.shape[3:], "cells")
    if other is not None:
        other, _ = _checked("other", other)
        check_shape_of(z, other)
    budget = PictureBudget(max_bytes, reserved=ROOM)
    clip = None if frames is None else _clip(frames, z)
    codec = None if vae is None else codec_of(vae)
    timeline = _timeline(z, clip, num_frames, timeline, codec)
    if codec and latents_mean is None and latents_std is None:
        latents_mean, latents_std = codec.mean_std(z.shape[1]) or (None, None)
    report = latent_report(z, posterior, latents_mean, latents_std)
    numbers, notes = _numbers_within(report, budget)
    pictures, note = _pictures_within(values, clip, codec is not None, budget)
    groups, chunk_starts = (timeline.groups, timeline.chunk_starts) if timeline else ([], [])
    data = {
        **numbers,
        **pictures,
        "kind": "latents",
        "note": " ".join(filter(None, [*notes, note])),
        "size": list(values.shape),
        "numFrames": timeline and timeline.num_frames,
        "colours": COLOURS,
        "matrixColours": [OTHER_COLOURS[2], COLOURS["latent"]],
        "errorScale": as_text(ERROR_SCALE.tobytes()),
        "gain": ERROR_GAIN,
        "gains": list(GAINS),
        "groups": [[group.start, group.stop] for group in groups] or None,
        "chunkStarts": chunk_starts,
        "changes": {
            "live": codec is not None,
            "reason": "" if codec else NO_DECODER,
            "edits": forms(z.shape, other is not None),
            "decoded": None,
            "answers": [],
            "note": "",
        },
    }
    film = partial(latent_filmstrip, values, clip, None if clip is None else groups, columns=6)
    viewer = LatentViewer(data, "Latent viewer", _text(report, timeline), film)
    viewer.report = report
    if codec and timeline:
        viewer.answers = LatentAnswers(codec, z, other, timeline.num_frames, budget, viewer.data["changes"])
    return viewer


def _pictures_within(
    values: np.ndarray, clip: np.ndarray | None, decodes: bool, budget: PictureBudget
) -> tuple[dict[str, Any], str]:
    """Return the pictures and cells of latents and the clip as JSON, and a note about what is left out of them."""
    cell_room = budget.share(1 / 8) if decodes else None
    # Decoded and edited frames need as much as these, so a third for each
    room = budget.share(1 if clip is None else 1 / 3 if decodes else 7 / 8)
    later = budget.left - room
    latents, left_out = budget.latents(latent_views(values), room // 2)
    frames, thinning = (None, Thinning(1)) if clip is None else budget.clip("frames", clip, budget.left - later)
    note, cells = budget.note(thinning, left_out), as_text(values.astype("<f4").tobytes())
    if len(cells) > (budget.left if cell_room is None else cell_room):
        too_many = "The numbers in single cells are left out: there are too many for the size of this viewer."
        note, cells = f"{note} {too_many}".lstrip(), ""
    budget.left -= len(cells)
    return {"latents": latents, "frames": frames, "values": cells or None}, note


def _numbers_within(report: LatentReport, budget: PictureBudget) -> tuple[dict[str, Any], list[str]]:
    """Return statistics and relations as JSON, and notes about what is left out of them."""
    room, max_bytes, every, notes = NUMBERS + budget.share(1 / 8), budget.max_bytes, 1, []
    correlation = _rounded(report.correlation) if len("0, ") * report.correlation.size < room // 2 else None
    if correlation is None or len(json.dumps(correlation)) > room // 2:
        correlation = None
        notes.append(f"The correlations between {len(report.correlation)} channels are left out: they are too many.")
    while (size := len(json.dumps(numbers := _numbers(report, correlation, every)))) > room:
        if every >= max(report.shape[1:]):
            raise ValueError(
                f"max_bytes ({max_bytes}) must be larger: it leaves {room} bytes for statistics, and those of "
                f"{count(report.shape[0], 'channel')} have {size}"
            )
        every = max(every + 1, every * size // room)  # nearly in proportion
    budget.left -= max(0, size - NUMBERS)
    if every > 1:
        notes.append(f"The curves of the statistics have one of {every} latent frames, lags and frequencies.")
    return numbers, [*notes, f"So all stays under {max_bytes / 1e6:.3g} MB."] if notes else []


def _numbers(report: LatentReport, correlation: list | None, every: int) -> dict[str, Any]:
    """Return statistics and relations as JSON, with one of `every` latent frames, lags and frequencies."""
    notes = []
    if report.scale:
        totals = ", ".join(f"{name} {_short(total)}" for name, total in report.scale.total.items())
        if not report.warning:
            notes.append(f"Shift and scale: {report.scale.verdict}.")
        notes.append(f"Distance from what each use of shift and scale gives, in nats over all channels: {totals}.")
    else:
        notes.append("Shift and scale are not checked: neither latents_mean and latents_std nor a vae give them.")
    if report.posterior:
        rule = f"its posterior mean varies by more than {ACTIVE_VARIANCE} over the cells (Burda et al. 2016)"
        notes.append(f"{report.posterior.verdict}. Active: {rule}.")

    def spectrum(of: Spectrum) -> dict[str, Any]:
        power = _rounded(of.power[:, ::every])
        return {"frequency": of.frequency[::every].tolist(), "power": power, "unit": of.unit}

    return {
        "statistics": {
            "warning": report.warning,
            "rows": [{key: _number(value) for key, value in row.items()} for row in report.table().to_dict("records")],
            "frames": {name: _rounded(values[:, ::every]) for name, values in report.frames._asdict().items()},
            "every": every,
            "notes": notes,
        },
        "relations": {
            "correlation": correlation,
            "autocorrelation": _rounded(report.time_correlation[:, ::every]),
            "every": every,
            "spatial": spectrum(report.spatial),
            "temporal": spectrum(report.temporal),
            "notes": [
                "Correlations are over all cells. Power is the mean squared Fourier coefficient: white noise of "
                "variance v has v at every frequency. In space the mean of each latent frame is removed, in time that "
                "of each cell."
            ],
        },
    }


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _number(value) -> float | bool | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _rounded(values: np.ndarray) -> list[list]:
    return [[_number(value) for value in row] for row in values]


def _text(report: LatentReport, timeline: Timeline | None) -> str:
    text = f"{'x'.join(map(str, report.shape))} (channels x latent frames x height x width)"
    if timeline:
        text += f" of {count(timeline.num_frames, 'frame')}"
    mean, std, _ = report.moments
    moments = ", ".join(f"{_short(m)} ± {_short(s)}" for m, s in zip(mean, std, strict=True))
    warning = f". Warning: {report.warning}" if report.warning else ""
    return f"{text}; mean and std by channel: {moments}{warning}"


def _checked(name: str, z: Tensor | np.ndarray | str | Path) -> tuple[Tensor, np.ndarray]:
    """Return checked latents: (1, C, L, h, w) on the CPU, in a type that torch computes with, and as float64."""
    if isinstance(z, str | Path):
        z = read_latents(z)
    values = check_latent(z, name)
    if isinstance(z, Tensor):
        z = z.detach().cpu()
        return (z.float() if z.dtype.itemsize < 2 else z), values
    return torch.from_numpy(np.require(z, z.dtype.newbyteorder("="), ["C", "W"])), values


def _clip(frames: Tensor | np.ndarray | Clip, z: Tensor) -> np.ndarray:
    """Return frames, uint8 (T, H, W, 3); refuse frames whose aspect ratio differs from z's."""
    if isinstance(frames, Tensor):
        check_video("frames", frames, 3)
        if len(frames) != 1:
            raise ValueError(f"frames must be one clip (1, 3, T, H, W), got shape {tuple(frames.shape)}")
    clip = clip_frames("frames", frames)
    (tall, wide), (height, width) = clip.shape[1:3], z.shape[3:]
    check_sides("frames", clip.shape[1:3])
    if tall * width != wide * height:
        raise ValueError(
            f"frames must have the aspect ratio of z: {tall}x{wide} pixels (height x width) are {tall / height:.4g} a "
            f"row and {wide / width:.4g} a column of its {height}x{width} cells"
        )
    return clip


def _timeline(
    z: Tensor, clip: np.ndarray | None, num_frames: int | None, timeline: Timeline | None, codec: Codec | None
) -> Timeline | None:
    """Return the timeline on which the arguments of `explore_latents` agree; None if none tells the length."""
    check_timeline(timeline)
    name = "num_frames"
    if clip is not None:
        if num_frames not in (None, len(clip)):
            raise ValueError(f"num_frames ({num_frames}) must be that of frames, {len(clip)}; it can be left out")
        num_frames, name = len(clip), "frames"
    elif num_frames is None and timeline:
        num_frames, name = timeline.num_frames, "timeline"
    if num_frames is None:
        if codec:
            raise ValueError("num_frames must be given with vae if there are no frames: it is what is decoded")
        return None
    if positive_int("num_frames", num_frames) > MOST_FRAMES * z.shape[2]:
        latents = count(z.shape[2], "latent frame")
        raise ValueError(f"num_frames must be at most {MOST_FRAMES} for each of {latents}, got {num_frames}")
    if codec is None:
        return timeline_of(num_frames, timeline, "z", z.shape[2])
    _check_decodes(codec, z, num_frames, name)
    own = codec.timeline(num_frames, z.shape[2])
    if timeline and (timeline.groups, timeline.chunk_starts) != (own.groups, own.chunk_starts):
        raise ValueError(f"timeline must be that of vae, {own}, or be left out; got {timeline}")
    return own


def _check_decodes(codec: Codec, z: Tensor, num_frames: int, name: str) -> None:
    """Refuse a model that cannot decode z to num_frames, which the argument `name` told."""
    fits = (*z.shape[:2], 1, *z.shape[3:]) if codec.any_length else z.shape  # one latent frame tells enough
    shape = codec.decoded_shape(fits, 1 if codec.any_length else num_frames)
    if shape is None:
        return
    if len(shape) != 5 or shape[1] != 3:
        raise ValueError(f"vae must decode to frames (1, 3, T, H, W), but {codec.name} decodes z to {shape}")
    if not codec.any_length and shape[2] != num_frames:
        longer = codec.decoded_shape((*z.shape[:2], z.shape[2] + 1, *z.shape[3:]), num_frames) or shape
        fitting = sorted({shape[2], longer[2]})
        decodes = f"{codec.name} decodes {count(z.shape[2], 'latent frame')} to {count(shape[2], 'frame')}"
        raise ValueError(
            f"{name} must be as many as z decodes to, got {num_frames}: {decodes}, so some frames are not in z or in "
            f"others of its latent frames; lengths that fit are {' and '.join(map(str, fitting))}"
        )
