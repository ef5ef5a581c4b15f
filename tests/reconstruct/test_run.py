"""`reconstruct` from file to file: the same numbers in bounded memory, and nothing lost however it is stopped."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import ROOT, processes, small_vae
from tests.helpers.video import LONG, encode, moving, overwrite, packets
from vae_lab import VideoVAE, load, photo_clip, psnr, read_video, to_tensor, write_video
from vae_lab.__main__ import main
from vae_lab.metrics import FRAME_METRICS
from vae_lab.reconstruct import page_frames, round_trip, run
from vae_lab.reconstruct.plan import OUTPUTS, PARTIAL, Plan
from vae_lab.reconstruct.round_trip import RoundTrip
from vae_lab.reconstruct.run import StoppedError, _Job, reconstruct, reconstruct_file, run_plan
from vae_lab.reconstruct.segments import WorkFolder, segment_plan
from vae_lab.video.reading import scan_video
from vae_lab.video.writing import CODECS

PIECES = {"stream": [16] * 6 + [4], "chunks": [17] * 5 + [15], "whole": [100], "spatial": [16] * 6 + [4]}

# The command line as the fixture `hurried` makes it, for a separate process, which can be killed and measured.
HURRIED = """
from vae_lab import metrics
from vae_lab.figures import frames
from vae_lab.reconstruct import segments
from vae_lab.video import writing
segments.SEGMENT_FRAMES, frames.PANEL_WIDTH = {segment}, 32
writing.CODECS[".mp4"][3]["preset"] = "ultrafast"
for name in {left_out}:
    del metrics.FRAME_METRICS[name]
"""
MEASURED = """
import re, sys
from vae_lab.__main__ import main
code = main(sys.argv[1:])
try:
    print("peak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
except OSError:
    pass
sys.exit(code)
"""


def start_hurried(source: Path, out: Path, model: Path) -> BaseProcess:
    before = HURRIED.format(segment=34, left_out=[])
    return processes.start(["reconstruct", source, out, "--model", model], out.with_name("printed"), before=before)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, vae in (
        ("stream", small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)),
        ("chunks", small_vae(micro_frame_size=17)),
        ("whole", small_vae(micro_frame_size=None)),
        ("spatial", small_vae().spatial),
    ):
        vae.save_pretrained(folder / name)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    write_video(path, LONG.frames)
    return path


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setattr("vae_lab.reconstruct.segments.SEGMENT_FRAMES", 34)  # two pieces


@pytest.fixture
def hurried(small_segments, monkeypatch):
    monkeypatch.setattr("vae_lab.figures.frames.PANEL_WIDTH", 32)
    monkeypatch.setitem(CODECS[".mp4"][3], "preset", "ultrafast")


def contents(out: Path) -> dict[str, object]:
    """What a run wrote: the videos' frames and times, the other files' bytes."""
    found = {}
    for path in sorted(out.iterdir()):
        found[path.name] = path.read_bytes()
        if path.suffix == ".mp4":
            clip = read_video(path)
            found[path.name] = clip.frames.tobytes(), clip.times.tobytes()
    return found


# ---- the same as in memory -----------------------------------------------------------------------------------------


def test_what_is_no_clip_is_refused():
    with pytest.raises(ValueError, match="clip must be a Clip, as read_video returns one, got ndarray"):
        reconstruct(small_vae(), LONG.frames)


@pytest.mark.parametrize("name", ["stream", "chunks", "whole", "spatial"])
def test_file_to_file_gives_what_memory_gives(name, models, source, tmp_path, small_segments):
    vae, clip = load(models[name]), read_video(source)
    report = reconstruct(vae, clip)
    summary = reconstruct_file(vae, source, tmp_path / "out")
    for measure, quality in report.quality.items():
        assert np.array_equal(quality.psnr, summary.quality[measure].psnr)
        assert np.array_equal(quality["ssim"], summary.quality[measure]["ssim"])
    for field in ("size", "fps", "latent_shape", "padded_size", "micro_frame_size", "timeline", "chunk_starts"):
        assert getattr(report, field) == getattr(summary, field)
    x = to_tensor(clip.frames)
    with torch.no_grad():
        y = vae.decode(vae.encode(x).latent_dist.mode(), 100).sample
    assert psnr(x, y.clamp(-1, 1), 2.0)[0].numpy() == pytest.approx(summary.quality["full"].psnr, abs=1e-3)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(OUTPUTS)  # and no folder of work
    written = read_video(tmp_path / "out" / "reconstruction.mp4")
    assert np.array_equal(written.times, clip.times)
    coded = []
    for frames in np.split(report.sample, np.cumsum([sum(part) for part in segment_plan(PIECES[name], 24, 32)])[:-1]):
        write_video(tmp_path / "part.mp4", frames)
        coded.append(read_video(tmp_path / "part.mp4").frames)
    assert np.array_equal(written.frames, np.concatenate(coded))
    data = page_data(tmp_path / "out")
    assert [frame["t"] for frame in data["frames"]] == list(range(100)) and data["note"] == ""
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["clip"]["frames"] == 100


def page_data(out: Path) -> dict:
    return json.loads(re.search(r'"application/json">(.*?)</script>', (out / "index.html").read_text("utf-8"))[1])


@pytest.mark.parametrize("suffix", [".gif", "", ".png", ".mkv"])
def test_other_sources_and_odd_sizes(models, tmp_path, suffix, hurried):
    vae, path = VideoVAE.from_pretrained(models["stream"]), tmp_path / f"in{suffix}"
    frames = LONG.frames[: 1 if suffix == ".png" else 20, :19, :21]
    times = np.cumsum([0.0, *np.random.default_rng(0).uniform(0.005, 0.3, 19)]) if suffix == ".mkv" else None
    write_video(path, frames, 20, lossless=suffix in ("", ".mkv"), times=times)
    clip = read_video(path, size=(17, 21))
    with pytest.warns(UserWarning, match="frames of 17x21 are stored as 18x22"):
        summary = reconstruct_file(vae, path, tmp_path / "out", size=(17, 21))
    assert summary.size == (len(frames), 17, 21) and summary.padded_size == (24, 24)
    assert np.array_equal(summary.quality["full"].psnr, reconstruct(vae, clip).quality["full"].psnr)
    for name in ("reconstruction.mp4", "side_by_side.mp4"):
        written = read_video(tmp_path / "out" / name)
        assert len(written) == len(frames)
        expected = np.arange(len(frames)) / clip.fps if clip.times is None else clip.times - clip.times[0]
        assert written.times == pytest.approx(expected, abs=2e-5)


# ---- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_times_the_frames_take_the_memory_of_one(models, tmp_path):
    frames, peaks = photo_clip("coffee", 50, (64, 64)).frames, []
    for number in (100, 1000):
        path = tmp_path / f"{number}.mp4"
        write_video(path, (frames[min(t % 100, 99 - t % 100)] for t in range(number)))
        driver = HURRIED.format(segment=128, left_out=["ssim"]) + MEASURED
        command = [sys.executable, "-c", driver, "reconstruct", path, tmp_path / "out", "--model", models["stream"]]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == 0, result.stderr
        peaks.append(int(re.search(r"peak (\d+)", result.stdout)[1]) * 1024 / 1e6)
        measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["quality"]["full"]["psnr_db"]
        assert len(measured["per_frame"]) == number
    data = page_data(tmp_path / "out")
    assert data["note"] == "Every 2nd of 1000 frames is kept, so that all pictures stay under 32 MB."
    assert scan_video(tmp_path / "out" / "side_by_side.mp4").num_frames == 1000
    print(f"peak memory: {peaks[0]:.0f} MB for 100 frames, {peaks[1]:.0f} MB for 1,000")
    assert peaks[1] < 1.05 * peaks[0]


# ---- stopped and started again -------------------------------------------------------------------------------------


def wait_for_segments(process: BaseProcess, out: Path, number: int) -> None:
    last = out / ".reconstruct" / f"segment-{number - 1:06d}"
    while process.is_alive() and not last.exists():
        time.sleep(0.002)


@pytest.mark.parametrize(("name", "moments"), [("stream", [(1, 0.0), (1, 0.2), (2, 0.05)]), ("chunks", [(1, 0.1)])])
def test_killed_at_any_moment_it_ends_with_the_same_bits(name, moments, models, source, tmp_path, hurried):
    """moments: segments that are to be there, seconds after that."""
    out, killed = tmp_path / "out", 0
    reconstruct_file(load(models[name]), source, tmp_path / "whole", title=f"clip.mp4 through {models[name]}")
    for finished, delay in moments:
        process = start_hurried(source, out, models[name])
        wait_for_segments(process, out, finished)
        time.sleep(delay)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed
    assert WorkFolder(out).segments and not (out / "reconstruction.mp4").exists()
    for segment, lengths in zip(WorkFolder(out).segments, segment_plan(PIECES[name], 24, 32), strict=False):
        assert len(read_video(segment / "reconstruction.mp4")) == sum(lengths)  # each plays
    assert main(["reconstruct", str(source), str(out), "--model", str(models[name])]) == 0
    found, expected = contents(out), contents(tmp_path / "whole")
    assert found.pop("metrics.json") != expected.pop("metrics.json")  # one has the model's name
    assert found == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_what_is_kept(number, code, models, source, tmp_path):
    out = tmp_path / "out"
    process = start_hurried(source, out, models["stream"])
    wait_for_segments(process, out, 1)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    errors = out.with_name("printed").read_text()
    assert re.search(
        r"interrupted, \d+ of 100 frames are done and kept in .*\.reconstruct, and the same command", errors
    )
    assert "Traceback" not in errors
    assert [path.name for path in out.iterdir()] == [".reconstruct"]
    assert not list((out / ".reconstruct").glob("*partial*"))


class Stop(Exception):
    pass


def stopped_after(segments: int, monkeypatch, call) -> None:
    """Run `call` until so many segments are whole."""

    make, made = _Job._make_segment, []

    def counted(*arguments):
        if len(made) == segments:
            raise Stop
        make(*arguments)
        made.append(1)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(_Job, "_make_segment", counted)
        call()


def test_another_run_starts_anew_and_says_so(models, source, tmp_path, monkeypatch, hurried):
    vae, out = VideoVAE.from_pretrained(models["stream"]), tmp_path / "out"
    other = small_vae(1, temporal=dict(norm="frame_group"), micro_frame_size=None)
    copy = tmp_path / "copy.mp4"
    shutil.copy(source, copy)
    for changes, name in (
        (dict(gain=2.0), "gain"),
        (dict(size=(16, 16)), "size"),
        (dict(start=1), "start, number of frames"),
        (dict(source=copy), "input"),
        (dict(vae=other), "model"),
    ):
        call = dict(vae=vae, source=source, out=out)
        stopped_after(1, monkeypatch, lambda call=call: reconstruct_file(**call))
        assert WorkFolder(out).done() in (28, 32)
        with pytest.warns(UserWarning, match=rf"held \d+ frames of a run with a different {name}: starting over"):
            stopped_after(0, monkeypatch, lambda call=call | changes: reconstruct_file(**call))
        assert not any(out.iterdir())  # nothing of either is left
    stopped_after(1, monkeypatch, lambda: reconstruct_file(vae, source, out))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reconstruct_file(vae, source, out)


def test_a_changed_metric_starts_over(models, source, tmp_path, monkeypatch, hurried):
    vae, out = VideoVAE.from_pretrained(models["stream"]), tmp_path / "out"
    stopped_after(1, monkeypatch, lambda: reconstruct_file(vae, source, out))

    def psnr(x, y, data_range):  # the old name, other values
        return x.new_full((1, x.shape[2]), 7.0)

    monkeypatch.setitem(FRAME_METRICS, "psnr", replace(FRAME_METRICS["psnr"], function=psnr))
    with pytest.warns(UserWarning, match=r"held \d+ frames of a run with a different metrics: starting over"):
        summary = reconstruct_file(vae, source, out)
    assert (summary.quality["full"].psnr == 7).all()


def test_kept_work_that_is_gone_is_not_called_unwritable(models, source, tmp_path, monkeypatch, hurried):
    vae, out = VideoVAE.from_pretrained(models["stream"]), tmp_path / "out"
    write = _Job.write_outputs

    def without_a_segment(job, *arguments):
        (job.work.segments[1] / "reconstruction.mp4").unlink()
        write(job, *arguments)

    monkeypatch.setattr(_Job, "write_outputs", without_a_segment)
    message = r"cannot read or write .*segment-000001/reconstruction.mp4: No such file"
    with pytest.raises(StoppedError, match=message):
        reconstruct_file(vae, source, out)


def test_two_at_once_are_refused(models, source, tmp_path):
    vae = VideoVAE.from_pretrained(models["stream"])
    with WorkFolder(tmp_path / "out").locked(), pytest.raises(ValueError, match="another run is using .*out"):
        reconstruct_file(vae, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_at_the_very_end_leaves_the_old_outputs(models, source, tmp_path, monkeypatch, hurried):
    vae, out = VideoVAE.from_pretrained(models["stream"]), tmp_path / "out"
    out.mkdir()
    for name in OUTPUTS:
        (out / name).write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(out / "x"))

    with monkeypatch.context() as patch:
        patch.setattr("vae_lab.reconstruct.run.page_parts", full)
        with pytest.raises(StoppedError, match="No space left on device; 100 of 100 frames are done and kept in"):
            reconstruct_file(vae, source, out)
    assert all((out / name).read_text() == "old" for name in OUTPUTS)
    reconstruct_file(vae, source, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)


# ---- a full disk ---------------------------------------------------------------------------------------------------


@contextmanager
def limited(size: int):
    """No file may grow beyond this, as on a full disk: every write beyond it fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_what_was_done(models, tmp_path, monkeypatch, hurried, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (36, 24, 32, 3), np.uint8)
    write_video(tmp_path / "in.mkv", np.concatenate([LONG.frames[:1].repeat(64, 0), noise]), lossless=True)
    arguments = ["reconstruct", str(tmp_path / "in.mkv"), str(tmp_path / "out"), "--model", str(models["chunks"])]
    with monkeypatch.context() as patch:  # how large things become
        patch.setattr(WorkFolder, "clear", lambda folder: None)
        reconstruct_file(load(models["chunks"]), tmp_path / "in.mkv", tmp_path / "whole")
    calm, _, noisy = ((path / "pictures.zip").stat().st_size for path in WorkFolder(tmp_path / "whole").segments)
    page = (tmp_path / "whole" / "index.html").stat().st_size
    assert calm < noisy < page

    def stopped(size: int) -> str:
        with limited(size):
            assert main(arguments) == 1
        return capsys.readouterr().err

    assert re.search(
        r"^vae-lab reconstruct: cannot read or write .*: File too large; nothing was written$", stopped(3_000)
    )
    assert not (tmp_path / "out").exists()
    for size, kept in (((calm + noisy) // 2, 68), ((noisy + page) // 2, 100)):
        message = (
            rf"cannot read or write .*: File too large; {kept} of 100 frames are done and kept in .*resumes from there"
        )
        assert re.search(message, stopped(size))
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".reconstruct"]
    assert main(arguments) == 0  # with room again it goes on
    found, expected = (read_video(tmp_path / name / "side_by_side.mp4") for name in ("out", "whole"))
    assert np.array_equal(found.frames, expected.frames)


# ---- sources that are not what they seemed -------------------------------------------------------------------------


def test_a_source_that_breaks_off_is_reconstructed_as_far_as_it_goes(models, source, tmp_path, hurried, capsys):
    broken, out = tmp_path / "broken.mp4", tmp_path / "out"
    broken.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    arguments = ["reconstruct", str(broken), str(out), "--model", str(models["stream"])]
    assert main([*arguments, "--frames", "100"]) == 2
    assert "breaks off" in capsys.readouterr().err and not out.exists()
    with pytest.warns(
        UserWarning, match=r"broken.mp4 breaks off after (\d+) frames: reconstructing the \1 frames before"
    ):
        assert main(arguments) == 1
    errors = capsys.readouterr().err
    number = int(re.search(r"broken.mp4 breaks off after (\d+) frames; it was reconstructed up to there", errors)[1])
    assert 20 < number < 100
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)
    assert len(read_video(out / "reconstruction.mp4")) == number


def test_what_is_unusual_about_a_source_is_said_once_and_the_shape_of_pixels_kept(models, tmp_path, hurried, capsys):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    whole = encode(tmp_path / "whole.mp4", moving(40), options={"g": "10", "bf": "0"}, prepare=anamorphic)
    overwrite(whole, tmp_path / "in.mp4", [packets(whole)[25]])
    arguments = ["reconstruct", str(tmp_path / "in.mp4"), str(tmp_path / "out"), "--model", str(models["stream"])]
    assert main([*arguments, "--strict"]) == 2
    assert "in.mp4 breaks off or is damaged after frame 24" in capsys.readouterr().err
    assert main(arguments) == 0
    notes = json.loads((tmp_path / "out" / "metrics.json").read_text())["notes"]
    assert [note.split(":")[0] for note in notes] == ["pixels are 16", "1 frame could not be decoded"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert said == [f"note: {tmp_path / 'in.mp4'}: {note}" for note in notes]
    for name in ("reconstruction.mp4", "side_by_side.mp4"):
        clip = read_video(tmp_path / "out" / name)
        assert len(clip) == 39 and clip.pixel_aspect == Fraction(16, 11)


def test_a_source_that_changes_under_the_work(models, source, tmp_path, hurried):
    vae, copy = VideoVAE.from_pretrained(models["stream"]), tmp_path / "in.mp4"
    shutil.copy(source, copy)
    out = tmp_path / "out"
    plan = Plan(copy, out)
    copy.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    message = (
        r"in.mp4: cannot be read after frame \d+ of 100: .*breaks off.*; "
        r"the first (\d+) frames of the reconstruction are in .*partial.mp4; \1 of 100 frames are done and kept in"
    )
    with pytest.raises(StoppedError, match=message) as stopped:
        run_plan(plan, vae)
    number = int(re.search(r"the first (\d+) frames", str(stopped.value))[1])
    partial = read_video(out / PARTIAL)
    assert len(partial) == number > 20
    with pytest.warns(UserWarning) as warned:  # the same command: what is there, to the end
        reconstruct_file(vae, copy, out)
    texts = [str(warning.message) for warning in warned]
    assert "breaks off" in texts[0] and "of a run with a different number of frames: starting over" in texts[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)


@pytest.mark.parametrize(
    ("counted", "message"),
    [
        (101, r"clip.mp4: ended after 100 frames, but 101 were counted before; the first \d+ frames"),
        (99, r"clip.mp4: has more than the 99 frames that were counted before; the first 99 frames of the"),
    ],
)
def test_a_number_of_frames_that_is_wrong_by_one(counted, message, models, source, tmp_path, hurried):
    vae = VideoVAE.from_pretrained(models["stream"])
    plan = Plan(source, tmp_path / "out")
    plan.info = plan.info._replace(num_frames=counted, times=np.arange(counted) / 24)
    with pytest.raises(StoppedError, match=message):
        run_plan(plan, vae)
    assert len(read_video(tmp_path / "out" / PARTIAL)) in (93, 99)
    with pytest.warns(UserWarning, match="a different number of frames: starting over"):
        reconstruct_file(vae, source, tmp_path / "out")
    assert len(read_video(tmp_path / "out" / "reconstruction.mp4")) == 100


def test_an_unreadable_picture_in_a_folder(models, tmp_path, hurried):
    write_video(tmp_path / "in", LONG.frames, lossless=True)
    picture = tmp_path / "in" / "000070.png"
    plan = Plan(tmp_path / "in", tmp_path / "out")
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(
        StoppedError, match="cannot be read after frame 70 of 100: .*not a whole image.*the first 64 fr"
    ):
        run_plan(plan, VideoVAE.from_pretrained(models["stream"]))


# ---- beside the model ------------------------------------------------------------------------------------------------


def test_the_model_is_never_more_than_one_piece_ahead(models, source, tmp_path, monkeypatch, hurried):
    """Otherwise memory would grow with the clip wherever the model is quicker than what is done with its outputs."""
    fed, written, lead, feed = [], [], [], RoundTrip.feed

    def counted(trip, frames):
        lead.append(len(fed) - len(written))
        fed.append(len(frames))
        return feed(trip, frames)

    def slowly(full, side, panels, ticks):
        time.sleep(0.1)
        write(full, side, panels, ticks)
        written.append(len(ticks))

    write = run._write_videos
    monkeypatch.setattr(RoundTrip, "feed", counted)
    monkeypatch.setattr(run, "_write_videos", slowly)
    reconstruct_file(VideoVAE.from_pretrained(models["stream"]), source, tmp_path / "out")
    assert fed == written and max(lead) == 1


@pytest.mark.parametrize("name", ["webp", "side_by_side", "measure_frames"])
def test_what_fails_beside_the_model_stops_the_work(name, models, source, tmp_path, monkeypatch, hurried):
    vae, out, calls = VideoVAE.from_pretrained(models["stream"]), tmp_path / "out", []
    owner = {"webp": page_frames, "side_by_side": run, "measure_frames": round_trip}[name]

    def failing(*arguments):
        calls.append(1)
        if len(calls) > {"webp": 200, "side_by_side": 4, "measure_frames": 4}[name]:
            raise OSError(28, "No space left on device", "x")
        return function(*arguments)

    function = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(StoppedError, match=r"cannot read or write x: No space left on device; \d+ of 100 frames"):
            reconstruct_file(vae, source, out)
    assert [path.name for path in out.iterdir()] == [".reconstruct"]
    reconstruct_file(vae, source, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)


# ---- folders --------------------------------------------------------------------------------------------------------


def test_the_source_is_never_overwritten(models, source, tmp_path, capsys):
    model = ["--model", str(models["stream"]), "--frames", "2"]
    mine = tmp_path / "reconstruction.mp4"
    shutil.copy(source, mine)
    before = mine.read_bytes()
    assert main(["reconstruct", str(mine), str(tmp_path), *model]) == 2
    assert "must not be a file that is written to out" in capsys.readouterr().err and mine.read_bytes() == before
    images = tmp_path / "images"
    write_video(images, LONG.frames[:2])
    assert main(["reconstruct", str(images), str(images), *model]) == 2
    assert "must not be source, the folder of images that is read" in capsys.readouterr().err
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    assert main(["reconstruct", str(source), str(tmp_path / "out"), *model]) == 2
    assert "must have no folder called index.html, which is to be a file" in capsys.readouterr().err
    for arguments in (["", "out"], [str(source), ""]):
        with pytest.raises(SystemExit):
            main(["reconstruct", *arguments])
        assert "a path must not be empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["state.pt", "pictures.zip", "full.npz"])
def test_damaged_work_is_named(name, models, source, tmp_path, monkeypatch, hurried):
    call = dict(vae=VideoVAE.from_pretrained(models["stream"]), source=source, out=tmp_path / "out")
    stopped_after(1, monkeypatch, lambda: reconstruct_file(**call))
    (WorkFolder(tmp_path / "out").segments[0] / name).write_text("xx")
    with pytest.raises(
        StoppedError, match=r"what an earlier run left in .*\.reconstruct is damaged .* delete that folder"
    ):
        reconstruct_file(**call)
