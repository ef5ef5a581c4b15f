"""Streaming a clip in pieces, against the same clip in one call: time a frame, and memory at two lengths.

The causal lab weights without chunks. Both ways run in turn in one process; of memory, each length has a process of its
own, and what counts is the peak that the operating system saw.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch

from vae_lab import StreamingDecoder, StreamingEncoder, VideoVAE, load, synthetic_clip, to_tensor

from .measuring import kilobytes


def model(source: str) -> VideoVAE:
    return load(source).with_micro_frame_size(None)


def stream(vae: VideoVAE, x: torch.Tensor, num_frames: int, piece: int) -> None:
    """x again and again, until num_frames are through."""
    encoder, decoder = StreamingEncoder(vae, num_frames), StreamingDecoder(vae, num_frames)
    while encoder.position < num_frames:
        at = encoder.position % x.shape[2]
        frames = x[:, :, at : min(at + piece, at + num_frames - encoder.position)]
        z = encoder.encode(frames).latent_dist.mode()
        if z.shape[2]:
            decoder.decode(z)
    encoder.finish()
    decoder.finish()


@torch.no_grad()
def at_once(vae: VideoVAE, x: torch.Tensor) -> None:
    vae.decode(vae.encode(x).latent_dist.mode(), x.shape[2])


def clip(num_frames: int, size: int) -> torch.Tensor:
    return to_tensor(synthetic_clip("texture", num_frames, (size, size)).frames)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-frame-group")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=64, help="of the clip that is timed")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--piece", type=int, default=16, help="frames a call")
    parser.add_argument("--lengths", type=int, nargs="*", default=[200, 2000], help="frames, of which memory is taken")
    parser.add_argument("--only-stream", type=int, metavar="N", help="stream N frames, print the peak in MB, and stop")
    args = parser.parse_args(argv)
    vae = model(args.model)
    if args.only_stream:
        stream(vae, clip(4 * args.piece, args.size), args.only_stream, args.piece)
        print(kilobytes("VmHWM") / 1024)
        return 0.0
    x = clip(args.frames, args.size)
    ways = {"at once": lambda: at_once(vae, x), "stream": lambda: stream(vae, x, args.frames, args.piece)}
    rounds = []
    for number in range(-1, args.rounds):
        times = {}
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            times[name] = (time.perf_counter() - begin) / args.frames
        if number >= 0:  # the first round only warms up
            rounds.append(times)
    for name in ways:
        print(f"{name:<12} {1e3 * statistics.median(times[name] for times in rounds):8.2f} ms a frame (median)")
    ratios = [times["at once"] / times["stream"] for times in rounds]
    ratio = statistics.median(ratios)
    print(f"streaming: {ratio:.2f} times the speed of one call ({min(ratios):.2f} to {max(ratios):.2f})")
    same = ["--model", args.model, "--size", str(args.size), "--piece", str(args.piece)]
    peaks = []
    for length in args.lengths:
        command = [sys.executable, "-m", "benchmarks.streaming", *same, "--only-stream", str(length)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"{length} frames streamed: peak {peaks[-1]:.0f} MB")
    if len(peaks) > 1:
        print(f"memory: {peaks[-1] / peaks[0]:.3f} times")
    return ratio


if __name__ == "__main__":
    main()
