"""The main job: a clip through a video VAE, and everything a person wants to see of it, written to a folder."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tqdm import tqdm

from ..figures.frames import ERROR_GAIN, contact_sheet, error_map, side_by_side
from ..figures.style import COLOURS
from ..utils.text import count
from ..video.frames import Clip
from ..video.reading import VideoInfo, iter_video, scan_video
from ..video.writing import VideoWriter, check_fps, check_times, join_videos, ticks
from ..viewers.page import page_parts, section_parts
from ..viewers.pictures import Curve, assemble
from .page_frames import Pictures, new_file
from .round_trip import RoundTrip
from .segments import WorkFolder, model_identity, segment_plan, source_identity
from .summary import Quality, Report, Summary, describe, to_json

OUTPUTS = ("reconstruction.mp4", "side_by_side.mp4", "contact_sheet.png", "metrics.json", "index.html")
PARTIAL = "reconstruction.partial.mp4"


class StoppedError(RuntimeError):
    """A reconstruction had to stop; the message says why, and what is kept where."""


class _SourceError(Exception):
    """Reading the source failed."""


# ---- in memory -----------------------------------------------------------------------------------------------------


def reconstruct(
    vae, clip: Clip, model: str = "", progress: Callable[[list], Iterator] = iter, device: str = "cpu"
) -> Report:
    """Run a clip through a video VAE that takes pixels, and measure it frame by frame.

    The model works as in `RoundTrip`, piece by piece where it can; the clip and what comes back are in memory
    (`reconstruct_file` keeps neither).

    progress: wraps the list of pieces, as tqdm does.
    """
    trip = RoundTrip(vae, len(clip), *clip.frames.shape[1:3], device)
    pieces = [trip.feed(frames) for frames in progress(np.split(clip.frames, np.cumsum(trip.lengths)[:-1]))]
    outputs = {name: np.concatenate([piece.outputs[name] for piece in pieces]) for name in trip.panels}
    quality = {name: Quality.cat([piece.quality[name] for piece in pieces]) for name in trip.panels}
    return Report(
        **_facts(trip, model, clip.fps, quality),
        clip=clip,
        sample=outputs["full"],
        spatial_only=outputs.get("2D only"),
    )


def _facts(trip: RoundTrip, model: str, fps: float, quality: dict[str, Quality]) -> dict[str, Any]:
    return {
        "model": model,
        "size": (trip.num_frames, trip.height, trip.width),
        "fps": fps,
        "latent_shape": trip.latent_shape,
        "padded_size": trip.padded_size,
        "micro_frame_size": trip.micro_frame_size,
        "groups": trip.groups,
        "quality": quality,
    }


# ---- from file to file ---------------------------------------------------------------------------------------------


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
    info: VideoInfo | None = None,
) -> Summary:
    """Run a video file through a video VAE and write OUTPUTS into the folder `out`, in memory that does not grow.

    Frames are read, go through the model and are written in pieces; only a few numbers of each are kept. (A model that
    takes the clip in one piece, see `RoundTrip`, needs memory for the whole.) The numbers are those of `reconstruct`.
    Of a long clip the page shows as many frames as it has room for, evenly chosen, and says so.

    The work is kept in `out`/.reconstruct in segments of up to SEGMENT_FRAMES frames. Stopped by whatever it was, the
    same call goes on after the last whole segment, and ends with the same bits; a call with other arguments, another
    file or other weights starts anew and warns. OUTPUTS appear together at the end, each whole: until then, what was in
    `out` before is untouched.

    Args:
        source, start, num_frames, size: as in `read_video`. Of a file that breaks off, what is there is taken, with a
          warning, unless num_frames says how much is wanted.
        model, title: what metrics.json and the page call the model and the whole.
        gain: factor on the shown difference.
        progress: show frames done and time left, on a terminal.
        info: `scan_video` of the same arguments, where it was done before.

    Raises:
        ValueError, FileNotFoundError: as `read_video`, before anything is written.
        StoppedError: the source gave fewer or more frames than were counted, or could not be read any further, or
          nothing more can be written. The message says how many frames are kept. Where it was the source, the frames
          done so far are also in `out`/reconstruction.partial.mp4, which plays.
    """
    source, out = Path(source), Path(out)
    if source.exists():
        prepare_folder(out, source)
    info = info or scan_video(source, start, num_frames, size)
    if info.breaks_off:
        warnings.warn(f"{info.breaks_off}: {count(info.num_frames, 'frame')} before are reconstructed", stacklevel=2)
    check_fps(info.fps)
    if info.times is not None:
        check_times(info.times)
    trip = RoundTrip(vae, info.num_frames, info.height, info.width, device)
    plan = segment_plan(trip.lengths, info.height, info.width)
    panels = ["original", *trip.panels, f"difference x{gain:g}"]
    pictures = Pictures(info.num_frames, panels, (info.height, info.width))
    run = {
        "input": source_identity(source),
        "start": start,
        "number of frames": info.num_frames,
        "size": list(size) if size else None,
        "model": model_identity(vae),
        "gain": gain,
        "device": str(device),
        "torch or av": [torch.__version__, av.__version__],
    }
    work = WorkFolder(out)
    try:
        with work.locked(), ExitStack() as at_end:
            at_end.callback(pictures.close)
            done = work.begin(run, [sum(lengths) for lengths in plan])
            if done:
                _take_up(work, trip, pictures, device)
                if progress:
                    print(f"going on     after {done} of {count(info.num_frames, 'frame')}")
            bar = tqdm(
                total=info.num_frames,
                initial=done,
                desc="reconstruct",
                unit="frame",
                disable=None if progress else True,
            )
            at_end.callback(bar.close)
            if info.breaks_off is None and num_frames is None:
                frames = iter_video(source, start + done, None, size) if done < info.num_frames else iter(())
            else:
                left = info.num_frames - done
                frames = iter_video(source, start + done, left, size) if left else iter(())
            try:
                for lengths in plan[len(work.segments) :]:
                    with work.new_segment(trip.state_dict) as folder:
                        _make_segment(folder, trip, frames, lengths, done, info, pictures, gain, bar.update)
                    done += sum(lengths)
                    pictures.add(work.segments[-1] / "pictures.zip")
                _check_end(frames, info.num_frames)
            except _SourceError as error:
                raise StoppedError(f"{source}: {error}; {_leave_partial(work, info, plan)}") from error.__cause__
            bar.close()
            summary = Summary(**_facts(trip, model, info.fps, _read_quality(work.segments, trip.panels)))
            _write_outputs(work, summary, pictures, info, plan, title, start)
            return summary
    except OSError as error:
        raise StoppedError(f"cannot write {error.filename or out}: {error.strerror or error}; {work.kept()}") from error


def _take_up(work: WorkFolder, trip: RoundTrip, pictures: Pictures, device: str) -> None:
    """Read what finished segments left."""
    try:
        for segment in work.segments:
            pictures.add(segment / "pictures.zip")
        trip.load_state_dict(work.state(device))
        _read_quality(work.segments, trip.panels)
    except Exception as error:  # whatever a damaged file makes of the libraries that read it
        raise StoppedError(
            f"what an earlier run left in {work.path} is damaged ({type(error).__name__}); delete that folder "
            "to start anew"
        ) from error


def _make_segment(folder, trip, frames, lengths, first, info, pictures, gain, advance) -> None:
    """Run pieces of these lengths, the first frame of which is `first`, and write what is kept of them."""
    quality = {name: [] for name in trip.panels}
    begins = ticks(first, info.fps, info.times)
    with ExitStack() as files:
        full = files.enter_context(VideoWriter(folder / "reconstruction.mp4", info.fps, warn=first == 0))
        side = files.enter_context(VideoWriter(folder / "side_by_side.mp4", info.fps))
        zipped = files.enter_context(new_file(folder / "pictures.zip"))
        for length in lengths:
            original = _take(frames, length, first, info.num_frames)
            piece = trip.feed(original)
            shown = [original, *piece.outputs.values(), error_map(original, piece.outputs["full"], gain)]
            panels = dict(zip(pictures.panels, shown, strict=True))
            for t, picture in enumerate(side_by_side(panels)):
                at = ticks(first + t, info.fps, info.times) - begins
                full.write(piece.outputs["full"][t], at)
                side.write(picture, at)
                pictures.write(zipped, first + t, {name: clip[t] for name, clip in panels.items()})
            for name, its in piece.quality.items():
                quality[name].append(its)
            first += length
            advance(length)
    numbers = {name: Quality.cat(parts)._asdict() for name, parts in quality.items()}
    np.savez(
        folder / "quality.npz",
        **{f"{name} {key}": v for name, its in numbers.items() for key, v in its.items() if v is not None},
    )


def _take(frames: Iterator[np.ndarray], number: int, first: int, num_frames: int) -> np.ndarray:
    taken = []
    try:
        taken.extend(islice(frames, number))
    except (ValueError, OSError) as error:
        raise _SourceError(f"cannot be read after frame {first + len(taken)} of {num_frames}: {error}") from error
    if len(taken) < number:
        raise _SourceError(f"ended after {count(first + len(taken), 'frame')}, but {num_frames} were counted before")
    return np.stack(taken)


def _check_end(frames: Iterator[np.ndarray], num_frames: int) -> None:
    try:
        more = next(frames, None)
    except (ValueError, OSError) as error:
        raise _SourceError(f"cannot be read to its end after {count(num_frames, 'frame')}: {error}") from error
    if more is not None:
        raise _SourceError(f"has more than the {count(num_frames, 'frame')} that were counted before")


def _leave_partial(work: WorkFolder, info: VideoInfo, plan: Sequence[Sequence[int]]) -> str:
    """Join what is done to a file that plays; a sentence that says where it is."""
    done = work.done()
    if not done:
        return work.kept()
    at = [ticks(t, info.fps, info.times) for t in range(done)]
    joined = work.path / PARTIAL
    try:
        join_videos([segment / "reconstruction.mp4" for segment in work.segments], joined, at)
        joined.replace(work.out / PARTIAL)
    except OSError:
        joined.unlink(missing_ok=True)
        return work.kept()
    return f"the first {count(done, 'frame')} of the reconstruction are in {work.out / PARTIAL}; {work.kept()}"


def _read_quality(segments: Sequence[Path], names: Sequence[str]) -> dict[str, Quality]:
    parts = {name: [] for name in names}
    for segment in segments:
        with np.load(segment / "quality.npz") as numbers:
            for name in names:
                parts[name].append(Quality(numbers[f"{name} psnr"], numbers.get(f"{name} ssim")))
    return {name: Quality.cat(its) for name, its in parts.items()}


def _write_outputs(work, summary, pictures, info, plan, title, start) -> None:
    """Join the segments, draw the rest, and move all of it into the folder."""
    at = [ticks(t, info.fps, info.times) for t in range(info.num_frames)]
    captions = {name: [f"{value:.1f} dB" for value in quality.psnr] for name, quality in summary.quality.items()}
    colours = {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}
    curves = [Curve(name, quality.psnr, colours[name]) for name, quality in summary.quality.items()]
    with work.outputs() as folder:
        for name in ("reconstruction.mp4", "side_by_side.mp4"):
            join_videos([segment / name for segment in work.segments], folder / name, at)
        chosen, panels = pictures.sheet()
        captions = {name: [texts[t] for t in chosen] for name, texts in captions.items()}
        sheet = contact_sheet(panels, captions, title, numbers=[start + t for t in chosen])
        sheet.savefig(folder / "contact_sheet.png", dpi=110)
        (folder / "metrics.json").write_text(json.dumps(to_json(summary, start), indent=2) + "\n", "utf-8")
        shown, note = pictures.player()
        data = assemble(
            shown, info.num_frames, pictures.stride, note, info.fps, curves, summary.groups, summary.chunk_starts, start
        )
        with (folder / "index.html").open("w", encoding="utf-8") as file:
            file.writelines(page_parts(title, section_parts(data, text=title), describe(summary, start)))
        pictures.close()
    (work.out / PARTIAL).unlink(missing_ok=True)


def prepare_folder(out: Path, source: Path) -> None:
    """Refuse, before any work is done, a folder that cannot be written to, or where that would overwrite the source."""
    for path in (out / name for name in (*OUTPUTS, PARTIAL)):
        if path.is_dir():
            raise ValueError(f"OUT ({out}) must have no folder called {path.name}, which is to be a file")
        if path.exists() and path.samefile(source):
            raise ValueError(f"IN ({source}) must not be a file that is written to OUT ({out})")
    if out.exists() and out.samefile(source):
        raise ValueError(f"OUT ({out}) must not be IN, the folder of images that is read")
    try:
        with WorkFolder(out).locked():
            pass
    except OSError as error:
        raise OSError(f"cannot write to the folder {out}: {error.strerror}") from None
