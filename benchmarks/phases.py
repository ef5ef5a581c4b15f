"""Where the time of `vae-lab reconstruct` goes: the demo, or a long clip, from the import of torch to the last file.

Each phase in seconds of its threads' CPU, without those that torch and x264 start themselves; phases overlap, so they
do not add up to the wall time. Imports happen in a fresh process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
PHASES = {  # where a function is looked up -> its phase
    "vae_lab.reconstruct.round_trip.RoundTrip.feed": "model",
    "vae_lab.reconstruct.round_trip.measure_frames": "PSNR, SSIM",
    "vae_lab.reconstruct.run._write_videos": "videos",
    "vae_lab.reconstruct.run._Job._write_pictures": "pictures",
    "vae_lab.reconstruct.run._Job.write_outputs": "last files",
}


def measured(source: str, out: str) -> dict[str, float]:
    """Seconds of each step in this process, in which nothing may be imported yet."""
    seconds: dict[str, float] = {}

    def step(name: str, run: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = run()
        seconds[name] = time.perf_counter() - begin
        return result

    step("import torch", lambda: __import__("torch"))
    step("import the rest", lambda: __import__("vae_lab.reconstruct.run", fromlist=["run"]))
    from vae_lab import load, read_video
    from vae_lab.reconstruct.run import reconstruct_file

    vae = step("load the weights", lambda: load("lab"))
    spent = dict.fromkeys(PHASES.values(), 0.0)

    def timed(function: Callable, phase: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[phase] += time.thread_time() - begin

        return call

    patches = [mock.patch(path, timed(resolve_name(path), phase)) for path, phase in PHASES.items()]
    for patch in patches:
        patch.start()
    begin = time.process_time()
    summary = step("reconstruct", lambda: reconstruct_file(vae, source, out, model="lab"))
    cpu = time.process_time() - begin
    frames = read_video(source, num_frames=min(17, summary.size[0]))
    from vae_lab.viewers import compare_frames

    step("construct a viewer", lambda: compare_frames({"original": frames}))
    return seconds | {"CPU of reconstruct": cpu} | spent | {"frames": summary.size[0]}


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(ROOT / "data" / "astronaut.mp4"), help="default: that of `make demo`")
    parser.add_argument("--frames", type=int, metavar="N", help="reconstruct a made-up clip of N frames of 128x128")
    parser.add_argument("--here", metavar="OUT", help="measure in this process, print JSON, and stop")
    args = parser.parse_args(argv)
    if args.here:
        found = measured(args.source, args.here)
        print(json.dumps(found))
        return found
    with tempfile.TemporaryDirectory() as folder:
        if args.frames:
            from vae_lab import photo_clip, write_video

            args.source = str(Path(folder) / "clip.mp4")
            there = photo_clip("coffee", 50, (128, 128)).frames
            write_video(args.source, (there[min(t % 100, 99 - t % 100)] for t in range(args.frames)))
        command = [
            sys.executable,
            "-m",
            "benchmarks.phases",
            "--source",
            args.source,
            "--here",
            str(Path(folder) / "out"),
        ]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(result.stdout)
    for name, value in found.items():
        print(f"  {name:<32}{value:8.2f}" + (" s" if name != "frames" else ""))
    print(f"  frames a second                 {found['frames'] / found['reconstruct']:8.2f}")
    return found


if __name__ == "__main__":
    main()
