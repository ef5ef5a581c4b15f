"""Widgets for JupyterLab that answer in the browser, without asking the kernel; `save_html` makes pages of them.

Each viewer carries all it can show, so it works the same in JupyterLab and in a page that is opened offline. Where
there are no widgets it is a PNG picture and a text that says the same.
"""

import base64
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from . import pages
from .diagrams import padding_diagram, size_diagram
from .figures import COLOURS, ERROR_GAIN, OTHER_COLOURS, contact_sheet, error_map, latent_pictures, training_picture
from .metrics import psnr
from .pages import Curve, Panel, View
from .shapes import (
    MICRO_FRAME_SIZE,
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    chunk_lengths,
    count,
    frame_groups,
    latent_size,
    positive_int,
)
from .tables import CHUNKS, PADDING_LIMITS, RATIOS, SIZE_LIMITS, check_within, padding_table, size_table
from .video import Clip, check_frames, to_frames, to_tensor, write_beside

MAX_VIEWER_BYTES = 4_000_000  # of a viewer with everything in it
ROOM = 500_000  # of those, for what is not frames: the picture, the numbers and the script
NAMED_COLOURS = {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}
DATA_RANGE = 2.0  # of pixels in [-1, 1]


class Viewer(anywidget.AnyWidget):
    """A picture with controls that needs no kernel after it is made. `text` says what it shows."""

    _esm = pages.script() + pages.asset("widget.js")
    _css = pages.asset("viewer.css")
    data = traitlets.Dict().tag(sync=True)

    def __init__(self, data: Mapping[str, Any], text: str, figure: Callable[[], Any]):
        super().__init__(data=dict(data))
        self.text = text
        self._figure = figure

    def picture(self) -> bytes:
        """The PNG that stands in for the viewer where there are no widgets."""
        return _png(self._figure())

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = self.text
        data["image/png"] = base64.b64encode(self.picture()).decode()
        return data, metadata


def save_html(widget: Viewer, path: str | Path, title: str = "") -> Path:
    """Write a page whose controls work with no kernel and no network; returns its path. The folder must exist."""
    if not isinstance(widget, Viewer):
        raise ValueError(f"widget must be a viewer of vae_lab.viewers, got {type(widget).__name__}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path must be a file, got the folder {str(path)!r}")
    text = pages.page(title or widget.text.split(":")[0], pages.section(widget.data, widget.picture(), widget.text))
    with write_beside(path) as beside:
        beside.write_text(text, "utf-8")
    return path


# ---- frames --------------------------------------------------------------------------------------------------------


def compare_frames(
    videos: Mapping[str, Tensor | np.ndarray | Clip],
    latent: Tensor | None = None,
    *,
    temporal_ratio: int = TEMPORAL_RATIO,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    gain: float = ERROR_GAIN,
    fps: float = 12.0,
    first_frame: int = 0,
    max_bytes: int = MAX_VIEWER_BYTES,
) -> Viewer:
    """Clips side by side under one frame number, with their differences from the first one and the latents.

    Args:
        videos: title -> pixels (1, 3, T, H, W) in [-1, 1] (what overshoots is clamped), frames uint8 (T, H, W, 3) or
          a Clip; the first one is the original. The others get a PSNR curve and a difference, mean absolute over the
          channels times `gain`.
        latent: raw latents (1, C, L, h, w) of the clip; adds a panel with PCA and channels, each latent frame shown
          with the frames that it stands for, and marks those.
        temporal_ratio, micro_frame_size: the law by which frames belong to latent frames (`shapes.frame_groups`).
        fps: speed of Play.
        first_frame: number of the first frame in its file.
        max_bytes: of the viewer; where it would be more, frames are left out or shrunk and the viewer says so.
    """
    if not videos:
        raise ValueError("videos must hold at least one clip")
    clips = {name: _frames(name, video) for name, video in videos.items()}
    (reference, original), *others = clips.items()
    for name, frames in others:
        if frames.shape != original.shape:
            raise ValueError(
                f"videos must have the same shape, got {reference!r} {original.shape} and {name!r} {frames.shape}"
            )
    if not 0 < gain < float("inf"):
        raise ValueError(f"gain must be above 0 and finite, got {gain}")
    if positive_int("max_bytes", max_bytes) < 2 * ROOM:
        raise ValueError(f"max_bytes must be at least {2 * ROOM}, got {max_bytes}")
    num_frames, height, width, _ = original.shape
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size) if latent is not None else []
    starts = [0, *accumulate(chunk_lengths(num_frames, micro_frame_size))][:-1] if latent is not None else []
    quality = {
        name: psnr(_pixels(videos[reference]), _pixels(videos[name]), DATA_RANGE)[0].numpy() for name, _ in others
    }
    differences = [
        View(name, f"difference ×{gain:g}: {name}", error_map(original, frames, gain))
        for name, frames in reversed(others)
    ]
    panels = [Panel(name, [View(name, name, frames)]) for name, frames in clips.items()]
    if differences:
        panels.append(Panel(f"difference ×{gain:g}", differences))
    if latent is not None:
        panels.append(_latent_panel(latent, len(groups), num_frames))
    others_colours = cycle(OTHER_COLOURS)
    curves = [Curve(name, values, NAMED_COLOURS.get(name) or next(others_colours)) for name, values in quality.items()]
    data = pages.player_data(panels, fps, curves, groups, starts, first_frame, max_bytes - ROOM)
    text = f"Frame viewer: {count(num_frames, 'frame')} of {height}x{width} (height x width), panels "
    text += ", ".join(panel.name for panel in panels)
    if quality:
        means = ", ".join(f"{name} {values.mean():.2f} dB" for name, values in quality.items())
        text += f"; mean PSNR against {reference}: {means}"
    return Viewer(data, text, lambda: _sheet(panels, groups, quality, first_frame))


def _frames(name: str, video: Tensor | np.ndarray | Clip) -> np.ndarray:
    if not isinstance(name, str):
        raise ValueError(f"titles must be text, got {name!r}")
    if isinstance(video, Tensor):
        return to_frames(video)
    frames = video.frames if isinstance(video, Clip) else video
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"{name!r} must be a tensor, frames uint8 (T, H, W, 3) or a Clip, got {type(video).__name__}")
    check_frames(frames)
    return np.ascontiguousarray(frames)


def _pixels(video: Tensor | np.ndarray | Clip) -> Tensor:
    if isinstance(video, Tensor):
        return video.detach().float().cpu().clamp(-1, 1)
    return to_tensor(video.frames if isinstance(video, Clip) else video)


def _latent_panel(latent: Tensor, num_groups: int, num_frames: int) -> Panel:
    if not isinstance(latent, Tensor) or latent.ndim != 5 or len(latent) != 1:
        got = tuple(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
        raise ValueError(f"latent must be a tensor of one clip, (1, C, L, h, w), got {got}")
    if latent.shape[2] != num_groups:
        raise ValueError(
            f"latent has {latent.shape[2]} frames, but {num_frames} frames have {num_groups} by temporal_ratio and "
            f"micro_frame_size: pass those of the model"
        )
    pictures = latent_pictures(latent[0].detach().float().cpu().numpy())
    return Panel(
        "latent",
        [View(name.split(" (")[0], f"latent {name}", frames) for name, frames in pictures.items()],
        latent=True,
    )


def _sheet(panels: Sequence[Panel], groups: Sequence[range], quality: Mapping[str, np.ndarray], first_frame: int):
    """The first view of every panel as a contact sheet; latents stand with the frames they belong to."""
    rows = {}
    for panel in panels:
        view = panel.views[0]
        index = [i for i, group in enumerate(groups) for _ in group] if panel.latent else slice(None)
        rows[view.title] = view.frames[index]
    captions = {name: [f"{value:.1f} dB" for value in values] for name, values in quality.items()}
    return contact_sheet(rows, captions, first_frame=first_frame)


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def explore_padding(
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    num_frames: int = 8,
    layers: int = 1,
    pad_mode: str = "constant",
) -> Viewer:
    """The time axis of causal convolutions: padding, windows, outputs, what an output sees, the formula, torch's line.

    The arguments are where its controls start; `layers` of the same convolution can be stacked.
    """
    given = {"frames": num_frames, "kernel": kernel_size, "stride": stride, "dilation": dilation, "layers": layers}
    names = ("num_frames", "kernel_size", "stride", "dilation", "layers")
    start = {
        key: check_within(name, value, range(PADDING_LIMITS[key][0], PADDING_LIMITS[key][1] + 1))
        for (key, value), name in zip(given.items(), names, strict=True)
    }
    table = padding_table()
    check_within("pad_mode", pad_mode, table["modes"])
    figure = lambda: padding_diagram(kernel_size, stride, dilation, num_frames, pad_mode, layers=layers)  # noqa: E731
    figure()  # refuses, as the controls do, what no convolution can be
    text = (
        f"Padding explorer: kernel {kernel_size}, stride {stride}, dilation {dilation}, {count(num_frames, 'frame')}, "
        f"{count(layers, 'layer')}, pad mode {pad_mode}"
    )
    start |= {"mode": pad_mode, "output": start["frames"]}
    return Viewer({"kind": "padding", "start": start, "colours": COLOURS} | table, text, figure)


def explore_sizes(
    num_frames: int = 51,
    height: int = 256,
    width: int = 256,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    temporal_ratio: int = TEMPORAL_RATIO,
) -> Viewer:
    """Which frames go into which latent frame: chunks, padding, latent size, compression and memory.

    The arguments are where its controls start.
    """
    given = {"frames": num_frames, "height": height, "width": width}
    start = {
        key: check_within(name, value, range(low, high + 1, 1 if key == "frames" else SPATIAL_RATIO))
        for (key, value), name in zip(given.items(), ("num_frames", "height", "width"), strict=True)
        for low, high in [SIZE_LIMITS[key]]
    }
    start |= {
        "chunk": check_within("micro_frame_size", micro_frame_size, CHUNKS),
        "ratio": check_within("temporal_ratio", temporal_ratio, RATIOS),
        "latent": 0,
    }
    size = latent_size((num_frames, height, width), temporal_ratio, micro_frame_size=micro_frame_size)
    text = (
        f"Size explorer: {num_frames}x{height}x{width} (frames x height x width), chunks of {micro_frame_size}, "
        f"temporal ratio {temporal_ratio}: latent {size[0]}x{size[1]}x{size[2]}"
    )
    return Viewer(
        {"kind": "sizes", "start": start, "colours": COLOURS} | size_table(),
        text,
        lambda: size_diagram(num_frames, temporal_ratio, micro_frame_size),
    )


# ---- the reader's own file -----------------------------------------------------------------------------------------


class VideoUpload(ipywidgets.VBox):
    """A button that takes a video from the reader's computer; `path` is then a file for `read_video`, before that None.

    What is uploaded goes to a temporary folder, gone with the kernel. A JupyterLab that `make lab` started takes up to
    200 MB; one started otherwise drops what is above 10 MB without a word: copy the file and give its path instead.
    """

    def __init__(self):
        self.path: Path | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="vae_lab-")
        self._button = ipywidgets.FileUpload(
            accept="video/*,image/*", multiple=False, description="Choose a video", layout={"width": "auto"}
        )
        self._said = ipywidgets.Label("nothing chosen yet")
        super().__init__([self._button, self._said])
        self._button.observe(self._take, names="value")

    def _take(self, change) -> None:
        for file in change["new"]:
            self.path = Path(self._folder.name) / Path(file["name"]).name
            self.path.write_bytes(file["content"])
            self._said.value = f"{file['name']}, {file['size'] / 1e6:.2f} MB: run the next cell"

    def __repr__(self) -> str:
        return f"VideoUpload: {self.path.name if self.path else 'nothing chosen yet'}"


# ---- training, while it runs ---------------------------------------------------------------------------------------


class TrainingView(ipywidgets.VBox):
    """Loss, PSNR and a clip's reconstruction while `train` runs: display it, then `train(config, out, watch=view)`.

    Args:
        x: the clip that is reconstructed, (1, 3, T, H, W) in [-1, 1].
        every: seconds between two pictures, at least; the last step is always drawn.
    """

    def __init__(self, x: Tensor, every: float = 4.0):
        self._x, self._every, self._drawn = x, every, -every
        self._said, self._picture = ipywidgets.Label("waits for train(…, watch=view)"), ipywidgets.Image(format="png")
        super().__init__([self._said, self._picture])

    def __call__(self, progress) -> None:
        """Take a `training.Progress`."""
        row = progress.log[-1]
        if row["step"] < progress.steps and time.monotonic() < self._drawn + self._every:
            return
        with torch.no_grad():
            latent = progress.vae.encode(self._x).latent_dist.mode()
            y = progress.vae.decode(latent, self._x.shape[2]).sample
        picture = training_picture(progress.log, {"original": to_frames(self._x), "by now": to_frames(y)})
        self._picture.value = _png(picture)
        left = row["seconds"] / row["step"] * (progress.steps - row["step"])
        now = psnr(self._x, y.clamp(-1, 1), DATA_RANGE).mean().item()
        self._said.value = (
            f"step {row['step']} of {progress.steps} ({row['stage']}), loss {row['loss']:.4g}, this clip {now:.2f} dB, "
            f"{left:.0f} s left"
        )
        self._drawn = time.monotonic()

    def __repr__(self) -> str:
        return f"TrainingView: {self._said.value}"


def _png(figure) -> bytes:
    """256 colours, to stay small."""
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    Image.open(drawn).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
