"""Widgets for JupyterLab that answer in the browser; `save_html` makes pages of them.

Each viewer carries all it can show, so it works the same in JupyterLab and in a page that is opened offline; only
`explore_latents` asks the kernel, for decoded changes that it does not hold. Where there are no widgets a viewer is a
PNG picture and a text that says the same.
"""

import base64
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from .figures import COLOURS, ERROR_GAIN, training_picture
from .frame_view import DATA_RANGE, frame_view
from .latent_view import LatentView
from .metrics import psnr
from .pages import MAX_VIEWER_BYTES
from .shapes import MICRO_FRAME_SIZE, SPATIAL_RATIO, TEMPORAL_RATIO, count, latent_size
from .tables import CHUNKS, PADDING_LIMITS, RATIOS, SIZE_LIMITS, check_within, padding_table, size_table
from .video import Clip, to_frames, write_beside

MAX_PICTURE_BYTES = 150_000  # of the PNG: base64 and the script with it stay within pages.ROOM


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
    if not isinstance(title, str):
        raise ValueError(f"title must be text, got {title!r}")
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
    shown = frame_view(
        videos,
        latent,
        temporal_ratio=temporal_ratio,
        micro_frame_size=micro_frame_size,
        gain=gain,
        fps=fps,
        first_frame=first_frame,
        max_bytes=max_bytes,
    )
    return Viewer(*shown)


# ---- latents -------------------------------------------------------------------------------------------------------


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
    """256 colours, to stay small, and where it still is too large, fewer pixels."""
    for dpi in (80, 56, 40, 28):
        drawn, buffer = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
        Image.open(drawn).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return buffer.getvalue()
