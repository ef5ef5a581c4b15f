"""What the latent viewer shows: latents and frames in, its data, a text and a figure out; no widget is made."""

import base64
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from torch import Tensor

from ..families import LAB_CLASSES, decoded_shape, groups_of, micro_frame_size_of, shift_and_scale
from ..figures.frames import ERROR_GAIN, error_map, latent_pictures
from ..figures.latents import latent_filmstrip, short_numbers
from ..figures.style import COLOURS, OTHER_COLOURS
from ..latents.arrays import check_latent, check_other
from ..latents.files import read_latents
from ..latents.statistics import latent_report
from ..shapes import MICRO_FRAME_SIZE, TEMPORAL_RATIO, chunk_lengths, frame_groups
from ..utils.checks import check_video, positive_int
from ..utils.text import count
from ..video.frames import Clip
from .frames import clip_frames
from .latent_answers import LatentAnswers
from .latent_numbers import MOST_FRAMES, numbers_within, short
from .pictures import MAX_SIDE, MAX_VIEWER_BYTES, ROOM, Panel, View, fit_latents, fit_pictures, thinning_note, view_data
from .widgets import Viewer

# ---- latents -------------------------------------------------------------------------------------------------------


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
        numbers, notes, taken = numbers_within(self.report, NUMBERS + (max_bytes - ROOM) // 8, max_bytes)
        room = max_bytes - ROOM - max(0, taken - NUMBERS)
        titled = {short_numbers(name): pictures for name, pictures in latent_pictures(self._z).items()}
        views = [View(name.split(" (")[0], name, pictures) for name, pictures in titled.items()]
        panels = [Panel("latent", views, latent=True)]
        pictures = None
        if self._clip is None:
            panels, left_out, strips, _ = fit_latents(panels, room // 2)
            images, stride, shrink = [strips[id(panel)] for panel in panels], 1, 1
        else:
            panels.append(Panel("frames", [View("frames", "frames", self._clip)]))
            share = room // 3 if has_vae else room * 7 // 8  # decoded and changed frames need as much
            panels, left_out, images, stride, shrink = fit_pictures(panels, len(self._clip), share)
            view = view_data("frames", "frames", images.pop()[0], self._clip.shape[1:3], shrink)
            pictures = view | {"stride": stride}
        notes += [thinning_note(num_frames or 1, stride, shrink, max_bytes, left_out)]
        shown = [
            view_data(view.name, view.title, strip, view.frames.shape[1:3])
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
            f"{short(m)} ± {short(s)}" for m, s in zip(mean, std, strict=True)
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


class LatentViewer(Viewer):
    """What `explore_latents` returns: a viewer that decodes changed latents as long as its kernel runs."""

    question = traitlets.Dict().tag(sync=True)  # {"number": differs each time, "question": …}, set in the browser

    def __init__(self, view: LatentView):
        super().__init__(view.data, view.text, view.figure)
        self._answers = view.answers

    @traitlets.observe("question")
    def _asked(self, change) -> None:
        if self._answers and change["new"]:
            self.send(self._answers.answer(change["new"]["question"]))

    def precompute(self, questions: Sequence[Mapping[str, Any]]) -> None:
        """Decode changes before they are asked for, so that a saved page has them too.

        questions: {"operation": "zero", "channel": 0}, likewise "amplify" with channel and factor, "shift" with channel
          and latent_frames, "swap" with channel, "interpolate" with weight, "cell" with cell (latent frame, row,
          column), amount (in standard deviations of the channel) and channel (None: all).

        The first ones are dropped where all together are more than max_bytes; a warning and the viewer say so.
        """
        if self._answers is None:
            raise ValueError("precompute needs a vae: give explore_latents one")
        checked = self._answers.check(questions)  # all of them before anything is decoded
        try:
            self._answers.precompute(checked)
        finally:  # the answers before one that fails are kept
            self.send_state("data")


def explore_latents(
    z: Tensor | np.ndarray | str | Path,
    frames: Tensor | np.ndarray | Clip | None = None,
    *,
    posterior=None,
    vae=None,
    other: Tensor | np.ndarray | str | Path | None = None,
    num_frames: int | None = None,
    temporal_ratio: int = TEMPORAL_RATIO,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    latents_mean=None,
    latents_std=None,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> LatentViewer:
    """What is in the latents of one clip: pictures over time, statistics, relations, and what changing them does.

    Args:
        z: raw latents (1, C, L, h, w), or a file for `read_latents`.
        frames: the clip, as `compare_frames` takes one.
        posterior: `vae.encode(x).latent_dist`; adds its std and its KL divergence from N(0, 1), by channel.
        vae: any video VAE that `load` reads; tells which frames each latent frame stands for, and shift and scale
          where it has them, and decodes the changes that the reader asks for. Those need the kernel, or `precompute`.
        other: latents of a second clip, of the same shape: to swap channels with and to interpolate to.
        num_frames: where there are no frames, how many there were. Without either, latent frames have no frames.
        temporal_ratio, micro_frame_size: without vae the law by which frames belong to latent frames
          (`shapes.frame_groups`).
        latents_mean, latents_std: what shift and scale assume of raw latents, where vae does not tell; a number or one
          for each channel (`latent_statistics.scale_check`). For diffusers' scaling_factor 0 and 1 / scaling_factor.
        max_bytes: of the viewer; where it would be more, something is left out and the viewer says so.
    """
    view = LatentView(
        z,
        frames,
        posterior=posterior,
        vae=vae,
        other=other,
        num_frames=num_frames,
        temporal_ratio=temporal_ratio,
        micro_frame_size=micro_frame_size,
        latents_mean=latents_mean,
        latents_std=latents_std,
        max_bytes=max_bytes,
    )
    return LatentViewer(view)
