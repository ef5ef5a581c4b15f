from zipfile import ZipFile

import numpy as np

from tests.helpers.video import LONG
from vae_lab.reconstruct.page_frames import FrameStore


def thinned(tmp_path, frames: np.ndarray, max_bytes: int):
    pictures = FrameStore(len(frames), ["a", "b"], frames.shape[1:3], max_bytes)
    for first in range(0, len(frames), 10):
        path = tmp_path / f"{max_bytes}-{first}.zip"
        with ZipFile(path, "w") as file:
            for t in range(first, min(first + 10, len(frames))):
                pictures.write(file, t, {"a": frames[t], "b": 255 - frames[t]})
        pictures.add(path)
    return pictures


def test_pictures_are_thinned_evenly_and_then_shrunk(tmp_path):
    frames = LONG.frames[:50]
    for max_bytes, stride, note in (
        (10_000_000, 1, ""),
        (150_000, 2, "Every 2nd of 50 frames is kept, so that all pictures stay under 0.15 MB."),
        (75_000, 4, "Every 4th of 50 frames is kept, so that all pictures stay under 0.075 MB."),
        (12_000, 4, "Every 4th of 50 frames is kept and pictures are shrunk"),
    ):
        pictures = thinned(tmp_path, frames, max_bytes)
        panels, found = pictures.player()
        assert (pictures.stride, found[: len(note)]) == (stride, note) and bool(found) == bool(note)
        strips = [[picture() for picture in panel["views"][0]["images"]()] for panel in panels]
        assert [len(strip) for strip in strips] == [len(range(0, 50, stride))] * 2
        assert sum(len(picture) for strip in strips for picture in strip) <= max_bytes
        assert (panels[0]["views"][0]["height"] == 24) == ("shrunk" not in found)
        numbers, sheet = pictures.sheet()
        assert numbers == [0, 10, 20, 29, 39, 49]
        assert np.array_equal(sheet["b"], 255 - frames[numbers])
        pictures.close()
