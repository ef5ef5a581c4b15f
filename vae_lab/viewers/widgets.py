"""Widgets for JupyterLab that answer in the browser; `save_html` turns them into pages.

A viewer carries everything that it can show, so it works the same in JupyterLab and in a page opened offline. Only
`explore_latents` asks the kernel, for edits that it has not decoded yet. Without widgets a viewer is a PNG picture and
a text that says the same.
"""

import base64
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from PIL import Image
from torch import Tensor

from ..figures.frames import training_picture
from ..metrics import DATA_RANGE, psnr
from ..utils.files import write_beside
from ..video.frames import to_frames
from . import page

MAX_PICTURE_BYTES = 150_000  # largest PNG, in bytes: its base64 and the script stay within pictures.ROOM


class Viewer(anywidget.AnyWidget):
    """A picture with controls that needs no kernel once it exists. `text` begins with its name: what it shows."""

    _esm = page.script() + page.asset("widget.js")
    _css = page.asset("viewer.css")
    data = traitlets.Dict().tag(sync=True)

    def __init__(self, data: Mapping[str, Any], name: str, text: str, figure: Callable[[], Any]):
        super().__init__(data=dict(data))
        self.name, self.text, self._figure = name, f"{name}: {text}", figure

    def picture(self) -> bytes:
        """Return the PNG that stands in for the viewer without widgets."""
        return _png(self._figure())

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = self.text
        data["image/png"] = base64.b64encode(self.picture()).decode()
        return data, metadata


def save_html(widget: Viewer, path: str | Path, title: str = "") -> Path:
    """Write a page whose controls work without kernel and network, into a folder that exists. Returns its path."""
    if not isinstance(widget, Viewer):
        raise ValueError(f"widget must be a viewer of vae_lab.viewers, got {type(widget).__name__}")
    if not isinstance(title, str):
        raise ValueError(f"title must be text, got {title!r}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path must be a file, got the folder {str(path)!r}")
    section = page.section_parts(widget.data, widget.picture(), widget.text)
    with write_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.writelines(page.page_parts(title or widget.name, section))
    return path


class VideoUpload(ipywidgets.VBox):
    """A button that uploads a video from the reader's computer. `path` is None until then, and a file for `read_video`.

    Uploads go to a temporary folder that is deleted with the kernel. A JupyterLab started by `make lab` takes up to
    200 MB; others silently drop files above 10 MB: copy such a file to the server and use its path instead.
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


class TrainingView(ipywidgets.VBox):
    """Loss, PSNR and a clip's reconstruction while `train` runs: display it, then `train(config, out, watch=view)`.

    x: the clip, (1, 3, T, H, W) in [-1, 1]. every: the least seconds between two pictures, but for the last step's.
    """

    def __init__(self, x: Tensor, every: float = 4.0):
        self._x, self._every, self._drawn = x, every, -every
        self._said, self._picture = ipywidgets.Label("waits for train(…, watch=view)"), ipywidgets.Image(format="png")
        super().__init__([self._said, self._picture])

    def __call__(self, progress) -> None:
        """Draw a `training.Progress`, unless the last picture is too recent."""
        row = progress.log[-1]
        if row["step"] < progress.steps and time.monotonic() < self._drawn + self._every:
            return
        with torch.no_grad():
            latent = progress.vae.encode(self._x).latent_dist.mode()
            y = progress.vae.decode(latent, self._x.shape[2]).sample
        clips = {"original": to_frames(self._x), "by now": to_frames(y)}
        self._picture.value = _png(training_picture(progress.log, clips))
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
    """Draw a figure as a small PNG: in 256 colours, and with fewer pixels if it is still too large."""
    for dpi in (80, 56, 40, 28):
        drawn, buffer = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
        Image.open(drawn).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return buffer.getvalue()
