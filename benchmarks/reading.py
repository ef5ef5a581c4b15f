"""Reading H.264 with accurate colours, against the same reading with the colours that FFmpeg converts fastest.

Accurate: chroma interpolated and values rounded, as `read_video` does. Fast: chroma repeated and values truncated: that
makes pictures 1 to 2 levels too dark. Both read the same 8-bit 4:2:0 files in turn in one process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

from av.video.reformatter import VideoReformatter

from vae_lab import iter_video, photo_clip, write_video
from vae_lab.video.colours import Converter

SIZES = [(240, 320), (480, 640), (720, 1280), (1080, 1920)]


class Fast(Converter):
    def __init__(self):
        self._step = VideoReformatter()

    def rgb(self, frame):
        return self._step.reformat(frame, format="rgb24").to_ndarray()


def seconds(path: Path, converter: type[Converter]) -> float:
    """Seconds to read a file."""
    begin = time.perf_counter()
    with mock.patch("vae_lab.video.decoding.Converter", converter):
        for _ in iter_video(path):
            pass
    return time.perf_counter() - begin


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pixels", type=int, default=15_000_000, help="of a clip, all frames together")
    args = parser.parse_args(argv)
    medians = []
    for height, width in SIZES:
        num_frames = max(4, args.pixels // (height * width))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_video(path, photo_clip("motorcycle_left", num_frames, (height, width)).frames)
            rounds = [[seconds(path, kind) for kind in (Fast, Converter)] for _ in range(args.rounds + 1)][1:]
        fast, accurate = (1e3 * statistics.median(column) / num_frames for column in zip(*rounds, strict=True))
        ratios = [fast / accurate for fast, accurate in rounds]
        medians.append(statistics.median(ratios))
        spread = f"{medians[-1]:.2f} times the speed ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{width}x{height}: fast {fast:.2f}, accurate {accurate:.2f} ms a frame; accurate has {spread}")
    return min(medians)


if __name__ == "__main__":
    main()
