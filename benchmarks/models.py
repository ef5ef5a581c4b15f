"""The halves and the stack: straightforward, exact, fast, and models of diffusers, in turn in one process.

Straightforward is Open-Sora's way (`measuring.straightforward`). Sizes are frames x height x width, in pixels or, for
the temporal half, in cells of the 2D latents. Ratios are of CPU seconds: median (least to largest). GFLOP/s count the
operations of direct convolutions, in a CPU second. Errors are largest differences from float64, as a fraction of the
largest value, on smaller clips (ERROR_SIZES), the mean of ERROR_CLIPS of them. Peaks are above what a process has in
use before, weights included.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

from vae_lab import SpatialVAE, TemporalVAE, VideoVAE, load
from vae_lab.utils.fast import has_bf16, has_onednn

from .measuring import Once, Seconds, in_turn, limit, once, ratio, straightforward


class Case(NamedTuple):
    """One row of the table for each way."""

    part: str  # "temporal", "spatial" or "stack"
    model: str  # "lab" or "released"
    size: tuple[int, int, int]
    rounds: int = 5
    ways: tuple[str, ...] = ("straightforward", "exact", "F4", "F2")
    peaks: bool = False  # whether memory is measured too

    @property
    def title(self) -> str:
        part = {"temporal": "temporal half", "spatial": "2D half", "stack": "stack"}[self.part]
        return f"{part}, {self.model}, {'x'.join(map(str, self.size))}{' cells' * (self.part == 'temporal')}"


EXACT = ("straightforward", "exact")
PEERS = ("wan", "hunyuan", "cogvideox")
SHORT = (
    Case("temporal", "lab", (17, 16, 16), 15, EXACT),
    Case("temporal", "lab", (17, 32, 32), 7, EXACT),
    Case("temporal", "released", (5, 16, 16), 2),
    Case("spatial", "lab", (8, 192, 192), 5, (*EXACT, "F4")),
    Case("spatial", "released", (1, 128, 128), 3),
    Case("stack", "lab", (17, 64, 64), 3, (*EXACT, "F4", *PEERS)),
    Case("stack", "lab", (17, 192, 192), 2, (*EXACT, "F4"), peaks=True),
)
LONG = (
    *SHORT,
    Case("temporal", "released", (17, 16, 16), 3, (*EXACT, "F4", "F2", "bf16")),
    Case("temporal", "released", (17, 32, 32), 1),
    Case("spatial", "released", (4, 256, 256), 1, (*EXACT, "F4", "F2", "bf16"), peaks=True),
    Case("stack", "lab", (17, 128, 128), 3, (*EXACT, "F4", *PEERS), peaks=True),
    Case("stack", "released", (17, 256, 256), 0, (*EXACT, "F4"), peaks=True),
)
"""0 rounds: really run, once, each way in a process of its own."""
LENGTHS = {"short": (17, 68), "long": (17, 34, 68, 136, 272, 544)}  # frames, of which a stack's cost is measured
ERROR_SIZES = {"temporal": (5, 8, 8), "spatial": (1, 64, 64), "stack": (5, 64, 64)}
ERROR_CLIPS = {"lab": 8, "released": 1}  # of four clips alone, the mean can be 30 % off


def make(part: str, model: str, device: str = "cpu") -> Any:
    """A half or both with the lab's weights, or with random ones in the released size."""
    if model == "released":
        torch.manual_seed(0)
        with torch.device(device):
            return {"temporal": TemporalVAE, "spatial": SpatialVAE, "stack": VideoVAE}[part]().eval()
    vae = load("lab").to(device)
    return vae if part == "stack" else getattr(vae, part)


def peer(name: str) -> torch.nn.Module:
    """A class of diffusers with as many parameters as the lab's weights, and random ones."""
    torch.manual_seed(0)
    blocks = dict(down_block_types=4 * ("CogVideoXDownBlock3D",), up_block_types=4 * ("CogVideoXUpBlock3D",))
    vae = {
        "wan": lambda: diffusers.AutoencoderKLWan(base_dim=16, z_dim=4, latents_mean=4 * [0.0], latents_std=4 * [1.0]),
        "hunyuan": lambda: diffusers.AutoencoderKLHunyuanVideo(
            block_out_channels=(16, 32, 64, 64), latent_channels=4, norm_num_groups=8
        ),
        "cogvideox": lambda: diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(16, 32, 32, 64), latent_channels=4, norm_num_groups=8, **blocks
        ),
    }[name]()
    return vae.eval()


def clip(part: str, size: tuple[int, int, int], dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Pixels, or 2D latents for the temporal half."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 4 if part == "temporal" else 3, *size)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) / 2
    return (x if part == "temporal" else x.clamp(-1, 1)).to(dtype)


def calls(vae: Any, x: torch.Tensor, within: Callable[[], AbstractContextManager] = nullcontext) -> dict[str, Callable]:
    """Direction -> a function without arguments. The decoder gets the mode of what the encoder gives."""

    def encode() -> torch.Tensor:
        with torch.no_grad(), within():
            return vae.encode(x).latent_dist.mode()

    z = encode().contiguous()
    length = {"num_frames": x.shape[2]} if isinstance(vae, TemporalVAE | VideoVAE) else {}

    def decode() -> torch.Tensor:
        with torch.no_grad(), within():
            return vae.decode(z, **length).sample

    return {"encode": encode, "decode": decode}


def within(vae: Any, way: str) -> Callable[[], AbstractContextManager]:
    """What a way's calls are made in."""
    if way in ("straightforward", "exact"):
        return straightforward if way == "straightforward" else nullcontext
    fast = vae.fast(way)  # one, so that weights are transformed once
    return lambda: fast


def flops(case: Case) -> dict[str, float]:
    """Direction -> GFLOP of the direct convolutions and products, counted without computing them."""
    counted = {}
    for direction, call in calls(make(case.part, case.model, "meta"), clip(case.part, case.size).to("meta")).items():
        with FlopCounterMode(display=False) as counter:
            call()
        counted[direction] = counter.get_total_flops() / 1e9
    return counted


@torch.no_grad()
def errors(vae: Any, part: str, ways: tuple[str, ...], clips: int) -> dict[str, dict[str, float]]:
    """Way -> direction -> error against float64, the mean of so many clips."""
    exact, used = copy.deepcopy(vae).double(), {way: within(vae, way) for way in ways}
    found = {way: dict.fromkeys(("encode", "decode"), 0.0) for way in ways}
    for seed in range(clips):
        x = clip(part, ERROR_SIZES[part], seed=seed)
        truth = {"encode": exact.encode(x.double()).latent_dist.mode()}
        z = truth["encode"].float().contiguous()
        truth["decode"] = exact.decode(z.double()).sample
        for way in ways:
            with used[way]():
                results = {"encode": vae.encode(x).latent_dist.mode(), "decode": vae.decode(z).sample}
            for name, y in truth.items():
                found[way][name] += float((results[name] - y).abs().max() / y.abs().max()) / clips
    return found


def prepared(case: Case, way: str) -> Callable[[], Any]:
    """For `once`: encode and decode, after a smaller clip has transformed a fast mode's weights."""
    vae = peer(way) if way in PEERS else make(case.part, case.model)
    used = nullcontext if way in PEERS else within(vae, way)
    if used not in (nullcontext, straightforward):
        for call in calls(vae, clip(case.part, ERROR_SIZES[case.part]), used).values():
            call()
    x = clip(case.part, case.size)

    def run() -> None:
        with torch.no_grad(), used():
            z = vae.encode(x).latent_dist.mode()
            vae.decode(z, x.shape[2]) if isinstance(vae, TemporalVAE | VideoVAE) else vae.decode(z)

    return run


def measured(case: Case, runs: dict[str, Once]) -> list[dict[str, Any]]:
    """A row for each way and direction. runs: way -> the call in a process of its own, if there was one."""
    ours, counted = tuple(way for way in case.ways if way not in PEERS), flops(case)
    vae, x = make(case.part, case.model), clip(case.part, case.size)
    error, times = errors(vae, case.part, ours, ERROR_CLIPS[case.model]), {}
    if case.rounds:
        made = {way: calls(vae, x, within(vae, way)) if way in ours else calls(peer(way), x) for way in case.ways}
        for direction in ("encode", "decode"):
            times[direction] = in_turn({way: made[way][direction] for way in made}, case.rounds)
    else:
        times["both"] = {way: Seconds([run.cpu], [run.wall]) for way, run in runs.items()}
        counted["both"] = sum(counted.values())
        error = {way: {"both": max(both.values())} for way, both in error.items()}
    rows = []
    for direction, seconds in times.items():
        for way, used in seconds.items():
            row = dict(case=case.title, direction=direction, way=way, ratio=ratio(used, seconds["straightforward"]))
            row |= dict(cpu=statistics.median(used.cpu), wall=statistics.median(used.wall))
            row["gflops"] = counted[direction] / row["cpu"] if way in ours else None
            row["error"] = error[way][direction] if way in ours else None
            row["peak"] = runs[way].peak if way in runs else None
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one case as text."""
    layout = "  {:<8}{:<17}{:>9}{:>9}  {:<22}{:>8}{:>10}{:>9}"
    lines = [
        rows[0]["case"],
        layout.format("", "", "CPU s", "wall s", "straightforward = 1", "GFLOP/s", "error", "peak MB"),
    ]
    for row in rows:
        spread = "{:.2f} ({:.2f} to {:.2f})".format(*row["ratio"])
        forms = dict(gflops=".0f", error=".1e", peak=".0f")
        others = ["" if row[name] is None else format(row[name], form) for name, form in forms.items()]
        cells = row["direction"], row["way"], f"{row['cpu']:.3f}", f"{row['wall']:.3f}", spread, *others
        lines.append(layout.format(*cells).rstrip())
    return "\n".join(lines)


def lengths(frames: tuple[int, ...], side: int = 64) -> list[dict[str, float]]:
    """What a frame of the lab's stack costs in clips of these lengths, exact and in one call."""
    rows = []
    for number in frames:
        if run := once(lambda number=number: prepared(Case("stack", "lab", (number, side, side)), "exact")):
            rows.append(dict(frames=number, cpu_ms=1e3 * run.cpu / number, peak=run.peak))
            line = f"{1e3 * run.cpu / number:.1f} ms of CPU a frame, peak {run.peak:.0f} MB"
            print(f"  stack, lab, {number} frames of {side}x{side}: {line}", flush=True)
    return rows


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="released sizes too, which takes an hour on two cores")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose title has this text")
    args = parser.parse_args(argv)
    absent = {"bf16": not has_bf16(), "F4": not has_onednn(), "F2": not has_onednn()}
    cases = [case for case in (LONG if args.long else SHORT) if args.only in case.title]
    cases = [case._replace(ways=tuple(way for way in case.ways if not absent.get(way))) for case in cases]
    runs: list[dict[str, Once]] = []  # first of all, see `once`
    for case in cases:
        found = {way: once(lambda c=case, w=way: prepared(c, w)) for way in case.ways if case.peaks}
        runs.append({way: run for way, run in found.items() if run})
    cost = [] if args.only else lengths(LENGTHS["long" if args.long else "short"])
    best, rows = limit(), []
    print(f"  this machine: {best:.0f} GFLOP in a CPU second at best, {torch.get_num_threads()} threads")
    for case, run in zip(cases, runs, strict=True):
        if case.rounds or run:
            rows += (made := measured(case, run))
            print(table(made), flush=True)
    return dict(limit=best, threads=torch.get_num_threads(), rows=rows, lengths=cost)


if __name__ == "__main__":
    main()
