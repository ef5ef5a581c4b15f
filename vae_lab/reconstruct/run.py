"""Reconstruct a clip: in memory, or from file to file."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import av
import numpy as np
import torch
from tqdm import tqdm

from ..figures.frames import ERROR_GAIN, contact_sheet, error_map, side_by_side
from ..figures.style import FULL, RECONSTRUCTION_COLOURS, SPATIAL_ONLY
from ..metrics import FRAME_METRICS
from ..utils.fast import mode_of
from ..utils.text import count
from ..video.frames import Clip
from ..video.writing import VideoWriter, join_videos
from ..viewers.page import page_parts, section_parts
from ..viewers.pictures import Curve, assemble
from .page_frames import FrameStore
from .plan import PARTIAL, Plan, SourceError
from .round_trip import RoundTrip
from .segments import SEGMENT_FRAMES, WorkFolder, code_identity, segment_plan
from .summary import ClipSummary, Quality, Report, describe, to_json


class StoppedError(RuntimeError):
    """A reconstruction had to stop; the message says why, and what is kept where."""


def reconstruct(
    vae, clip: Clip, model: str = "", progress: Callable[[list], Iterator] = iter, device: str = "cpu"
) -> Report:
    """Run a clip through a video VAE that takes pixels, and measure it frame by frame.

    The model takes the clip piece by piece if it can, see `RoundTrip`. The clip and its reconstruction are in memory;
    `reconstruct_file` keeps neither. model: its name in the report. progress: wraps the list of pieces, as tqdm does.
    """
    if not isinstance(clip, Clip):
        raise ValueError(f"clip must be a Clip, as read_video returns one, got {type(clip).__name__}")
    num_frames, height, width, _ = clip.frames.shape
    trip = RoundTrip(vae, num_frames, height, width, device)
    parts = progress(np.split(clip.frames, np.cumsum(trip.lengths)[:-1]))
    pieces = [(piece.outputs, piece.quality) for piece in map(trip.feed, parts)]
    outputs = {name: np.concatenate([frames[name] for frames, _ in pieces]) for name in trip.panels}
    facts = _facts(trip, model, clip.fps, [quality for _, quality in pieces])
    return Report(**facts, notes=clip.notes, clip=clip, sample=outputs[FULL], spatial_only=outputs.get(SPATIAL_ONLY))


def _facts(trip: RoundTrip, model: str, fps: float, quality: Sequence[Mapping[str, Quality]]) -> dict[str, Any]:
    """The fields of a ClipSummary. quality: of the pieces of the finished round trip."""
    return {
        "model": model,
        "size": (trip.num_frames, trip.height, trip.width),
        "fps": fps,
        "latent_shape": trip.latent_shape,
        "padded_size": trip.padded_size,
        "micro_frame_size": trip.codec.chunk,
        "fast_mode": mode_of(trip.codec.vae),
        "timeline": trip.timeline,
        "quality": _joined(quality),
    }


def _joined(quality: Sequence[Mapping[str, Quality]]) -> dict[str, Quality]:
    return {panel: Quality.cat([piece[panel] for piece in quality]) for panel in quality[0]}


def reconstruct_file(
    vae,
    source: str | Path,
    out: str | Path,
    start: int = 0,
    num_frames: int | None = None,
    size: Sequence[int] | None = None,
    model: str = "",
    title: str = "",
    gain: float = ERROR_GAIN,
    device: str = "cpu",
    progress: bool = False,
    strict: bool = False,
) -> ClipSummary:
    """Run a video file through a video VAE and write OUTPUTS into the folder `out`, in memory that does not grow.

    (A model that takes the clip in one piece, see `RoundTrip`, needs memory for all of it.) While the model computes a
    piece, threads read the next one, and measure and write the one before. The numbers are those of `reconstruct`. The
    page of a long clip shows as many frames as it has room for, evenly chosen, and says so.

    The work is kept in `out`/.reconstruct in segments of up to SEGMENT_FRAMES frames. After any interruption, the same
    call resumes after the last whole segment, and the result is the same to the bit; a call with other arguments,
    another file or other weights starts over, with a warning. OUTPUTS appear together at the end, each whole: until
    then, existing files in `out` are untouched.

    Args:
        source, start, num_frames, size: as in `read_video`. A truncated file is reconstructed up to where it ends, with
          a warning, unless num_frames says how many frames are wanted. Frames that cannot be decoded are left out, and
          so is the shape of pixels in all but the two videos: metrics.json has notes of it.
        strict: refuse a truncated source and one with damaged frames.
        model, title: what metrics.json calls the model, and the page's title.
        gain: factor on the shown difference.
        progress: show the number of finished frames and the remaining time, on a terminal.

    Raises ValueError or OSError as `Plan` and `RoundTrip` do, before anything is written. Raises StoppedError if the
    source has fewer or more frames than were counted or cannot be read to the end, or if an output cannot be written:
    the message says how many frames are kept. If it is the source, they are also in `out`/reconstruction.partial.mp4,
    which plays.
    """
    plan = Plan(Path(source), Path(out), start, num_frames, size, gain, device, strict)
    return run_plan(plan, vae, model, title, progress)


def run_plan(plan: Plan, vae, model: str = "", title: str = "", progress: bool = False) -> ClipSummary:
    """Carry out a plan: the second half of `reconstruct_file`."""
    job = _Job(plan, vae)
    try:
        with job.work.locked():
            job.work_through(progress)
            facts = _facts(job.trip, model, plan.info.fps, job.quality())
            summary = ClipSummary(**facts, first_frame=plan.start, notes=plan.info.notes)
            job.write_outputs(summary, title)
            return summary
    except OSError as error:
        path, reason = error.filename or plan.out, error.strerror or error
        raise StoppedError(f"cannot read or write {path}: {reason}; {job.work.kept()}") from error


class _Job:
    """A plan while it is carried out: the model's state, and what is kept of finished frames."""

    def __init__(self, plan: Plan, vae):
        self.plan, info = plan, plan.info
        self.trip = RoundTrip(vae, info.num_frames, info.height, info.width, plan.device)
        if len(self.trip.lengths) == 1 and info.num_frames > SEGMENT_FRAMES:
            name, frames = self.trip.codec.name, count(info.num_frames, "frame")
            warnings.warn(f"{name} takes all {frames} in one piece: memory grows with the clip", stacklevel=3)
        self.segments = segment_plan(self.trip.lengths, info.height, info.width)
        panels = ["original", *self.trip.panels, f"difference x{plan.gain:g}"]
        self.pictures = FrameStore(info.num_frames, panels, (info.height, info.width))
        self.work = WorkFolder(plan.out)

    def work_through(self, progress: bool) -> None:
        """Make the segments that are missing."""
        total = self.plan.info.num_frames
        run = self.plan.identity() | {
            "model": self.trip.codec.identity(),
            "metrics": {name: code_identity(metric.function) for name, metric in FRAME_METRICS.items()},
            "torch, av or scikit-image": [torch.__version__, av.__version__, version("scikit-image")],
        }
        if mode := mode_of(self.trip.codec.vae):  # no entry otherwise, so that runs of older versions resume
            run["fast_mode"] = mode
        done = self.work.begin(run, [sum(lengths) for lengths in self.segments])
        if done:
            self._resume()
            if progress:
                print(f"resuming     after {done} of {count(total, 'frame')}")
        frames = self.plan.frames(done)
        disable = None if progress else True  # None: shown on a terminal only
        missing = self.segments[len(self.work.segments) :]
        pieces = (np.stack(list(islice(frames, length))) for lengths in missing for length in lengths)
        with (
            tqdm(total=total, initial=done, desc="reconstruct", unit="frame", disable=disable) as bar,
            ThreadPoolExecutor(1) as reading,
            ThreadPoolExecutor(1) as videos,
            ThreadPoolExecutor(1) as others,
        ):
            try:
                originals = _ahead(reading, pieces)
                for lengths in missing:
                    with self.work.new_segment(self.trip.state_dict) as folder:
                        self._make_segment(folder, videos, others, islice(originals, len(lengths)), done, bar.update)
                    done += sum(lengths)
                    self.pictures.add(self.work.segments[-1] / "pictures.zip")
                next(frames, None)  # it raises if there are more
            except SourceError as error:
                raise StoppedError(f"{self.plan.source}: {error}; {self._leave_partial()}") from error.__cause__

    def _resume(self) -> None:
        try:
            for segment in self.work.segments:
                self.pictures.add(segment / "pictures.zip")
            self.trip.load_state_dict(self.work.state(self.plan.device))
            self.quality()
        except Exception as error:  # libraries raise anything on damaged files
            raise StoppedError(
                f"what an earlier run left in {self.work.path} is damaged ({type(error).__name__}); delete that folder "
                "to start over"
            ) from error

    def quality(self) -> list[dict[str, Quality]]:
        """Read the quality of every panel in each finished segment."""
        panels, segments = self.trip.panels, self.work.segments
        return [{panel: Quality(np.load(segment / f"{panel}.npz")) for panel in panels} for segment in segments]

    def _make_segment(
        self,
        folder: Path,
        videos: Executor,
        others: Executor,
        originals: Iterable[np.ndarray],
        first: int,
        advance: Callable,
    ) -> None:
        """Reconstruct pieces, the first of which begins with frame `first`, and write what is kept of them.

        The model computes a piece while the one before is written, no more, so that order and memory are kept. Each of
        the executors is one thread, which finds the memory that it freed before.
        """
        fps, aspect = self.plan.info.fps, self.plan.info.pixel_aspect
        (start,) = self.plan.ticks(first, first + 1)
        writing: list[Future] = []
        quality: list[Future] = []
        with (
            VideoWriter(folder / "reconstruction.mp4", fps, first == 0, aspect) as full,
            VideoWriter(folder / "side_by_side.mp4", fps, pixel_aspect=aspect) as side,
            ZipFile(folder / "pictures.zip", "w") as zipped,
        ):
            try:
                for original in originals:
                    piece = self.trip.feed(original)
                    _finish(writing)
                    outputs, error = piece.outputs, error_map(original, piece.outputs[FULL], self.plan.gain)
                    panels = dict(zip(self.pictures.panels, [original, *outputs.values(), error], strict=True))
                    ticks = [tick - start for tick in self.plan.ticks(first, first + len(original))]
                    quality.append(others.submit(getattr, piece, "quality"))
                    del piece  # its tensors are not needed any longer when its quality is known
                    writing = [
                        videos.submit(_write_videos, full, side, panels, ticks),
                        others.submit(self._write_pictures, zipped, first, panels),
                        quality[-1],
                    ]
                    first += len(original)
                    advance(len(original))
                _finish(writing)
            finally:
                wait(writing)  # before the files are closed
        for panel, measured in _joined([part.result() for part in quality]).items():
            np.savez(folder / f"{panel}.npz", **dict[str, Any](measured))

    def _write_pictures(self, zipped: ZipFile, first: int, panels: Mapping[str, np.ndarray]) -> None:
        for t in range(len(panels[FULL])):
            self.pictures.write(zipped, first + t, {name: frames[t] for name, frames in panels.items()})

    def _leave_partial(self) -> str:
        """Join the finished segments to a file that plays, and return a sentence that says where it is."""
        done = self.work.done()
        if not done:
            return self.work.kept()
        partial, joined = self.plan.out / PARTIAL, self.work.path / PARTIAL
        try:
            self._join("reconstruction.mp4", joined, done)
            joined.replace(partial)
        except OSError:
            joined.unlink(missing_ok=True)
            return self.work.kept()
        return f"the first {count(done, 'frame')} of the reconstruction are in {partial}; {self.work.kept()}"

    def _join(self, name: str, path: Path, num_frames: int) -> None:
        join_videos([segment / name for segment in self.work.segments], path, self.plan.ticks(0, num_frames))

    def write_outputs(self, summary: ClipSummary, title: str) -> None:
        """Join the segments, draw the rest, and move all of it into the folder."""
        info, start, pictures = self.plan.info, self.plan.start, self.pictures
        colours, measured = RECONSTRUCTION_COLOURS, summary.quality.items()
        curves = [Curve(panel, quality.psnr.tolist(), colours[panel]) for panel, quality in measured]
        with self.work.outputs() as folder, closing(pictures):
            for name in ("reconstruction.mp4", "side_by_side.mp4"):
                self._join(name, folder / name, info.num_frames)
            chosen, panels = pictures.sheet()
            captions = {panel: [f"{q.psnr[t]:.1f} dB" for t in chosen] for panel, q in measured}
            sheet = contact_sheet(panels, captions, title, numbers=[start + t for t in chosen])
            sheet.savefig(folder / "contact_sheet.png", dpi=110)
            (folder / "metrics.json").write_text(json.dumps(to_json(summary), indent=2) + "\n", "utf-8")
            shown, note = pictures.player()
            data = assemble(shown, info.num_frames, pictures.stride, note, info.fps, curves, summary.timeline, start)
            with (folder / "index.html").open("w", encoding="utf-8") as file:
                file.writelines(page_parts(title, section_parts(data, text=title), describe(summary)))
        (self.plan.out / PARTIAL).unlink(missing_ok=True)


def _write_videos(full: VideoWriter, side: VideoWriter, panels: Mapping[str, np.ndarray], ticks: Sequence[int]) -> None:
    for frame, picture, tick in zip(panels[FULL], side_by_side(panels), ticks, strict=True):
        full.write(frame, tick)
        side.write(picture, tick)


def _finish(parts: Iterable[Future]) -> None:
    """Wait for all parts, and raise the first error of theirs."""
    for part in parts:
        part.result()


def _ahead(pool: Executor, pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield pieces; while one is in use, `pool` makes the next."""
    coming = pool.submit(next, pieces, None)
    while (piece := coming.result()) is not None:
        coming = pool.submit(next, pieces, None)
        yield piece
