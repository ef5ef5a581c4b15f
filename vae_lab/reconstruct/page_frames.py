"""Frames of a long clip for its page and contact sheet: chosen and compressed as they pass, and kept on disk."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image

from ..figures.frames import evenly_chosen
from ..viewers.pictures import FEWEST_FRAMES, MAX_PAGE_BYTES, PictureBudget, Thinning, as_text, view_data, webp


class FrameStore:
    """Compressed frames of a clip, in zip files of consecutive frames.

    As many frames are kept as fit into `max_bytes`: all at first; when that is too much, every second, then every
    fourth and so on, but never fewer than FEWEST_FRAMES. The choice depends on the frames alone, not on where the work
    was interrupted. The frames of the contact sheet are kept in addition. panels: names of what is shown of each frame.
    """

    def __init__(self, num_frames: int, panels: Sequence[str], size: tuple[int, int], max_bytes: int = MAX_PAGE_BYTES):
        self._num_frames, self.panels, self._size = num_frames, panels, size
        self._budget = PictureBudget(max_bytes)
        self._sheet = evenly_chosen(num_frames)
        self._bytes: dict[int, int] = {}  # of every frame that the page keeps
        self._places: dict[int, Path] = {}
        self._open: tuple[Path, ZipFile] | None = None
        self.stride = 1

    def write(self, file: ZipFile, t: int, panels: Mapping[str, np.ndarray]) -> None:
        """Write frame t (H, W, 3) of every panel to a file if it is kept. When the file is complete, `add` it."""
        if t % self.stride == 0 or t in self._sheet:
            for name in self.panels:
                file.writestr(f"{t}/{name}.webp", webp(panels[name]))

    def add(self, path: Path) -> None:
        """Take in a complete file. If all files are too large now, double the stride."""
        with ZipFile(path) as file:
            for entry in file.infolist():
                t = int(entry.filename.split("/")[0])
                self._places[t] = path
                if t % self.stride == 0:
                    self._bytes[t] = self._bytes.get(t, 0) + (entry.file_size + 2) // 3 * 4  # as base64
        while sum(self._bytes.values()) > self._budget.left and 2 * self.stride <= self._num_frames // FEWEST_FRAMES:
            self.stride *= 2
            self._bytes = {t: size for t, size in self._bytes.items() if t % self.stride == 0}

    def sheet(self) -> tuple[list[int], dict[str, np.ndarray]]:
        """Return the contact sheet's frame numbers, and panel -> these frames, uint8 (N, H, W, 3)."""
        return self._sheet, {name: np.stack([self._decoded(t, name) for t in self._sheet]) for name in self.panels}

    def player(self) -> tuple[list[dict[str, Any]], str]:
        """Return panels for `viewers.pictures.assemble`, which read their pictures from disk on demand, and a note."""
        kept, shrink, small = range(0, self._num_frames, self.stride), 1, {}
        size = sum(self._bytes.values())
        while size > self._budget.left:  # so few frames that they stay in memory
            shrink = self._budget.shrink_further(shrink, size, self._budget.left, max(self._size))
            small = {(t, name): as_text(webp(self._decoded(t, name), shrink)) for name in self.panels for t in kept}
            size = sum(map(len, small.values()))

        def picture(t: int, name: str) -> str:
            return small.get((t, name)) or as_text(self._read(t, name))

        def strip(name: str) -> list[Callable[[], str]]:
            return [partial(picture, t, name) for t in kept]

        views = {name: view_data(name, name, partial(strip, name), self._size, shrink) for name in self.panels}
        panels = [{"name": name, "latent": False, "views": [view]} for name, view in views.items()]
        return panels, self._budget.note(Thinning(self._num_frames, self.stride, shrink))

    def close(self) -> None:
        """Close the file that pictures were read from."""
        if self._open:
            self._open[1].close()
            self._open = None

    def _read(self, t: int, name: str) -> bytes:
        path = self._places[t]
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = path, ZipFile(path)
        return self._open[1].read(f"{t}/{name}.webp")

    def _decoded(self, t: int, name: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self._read(t, name))).convert("RGB"))
