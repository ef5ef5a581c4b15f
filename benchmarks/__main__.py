"""All benchmarks, one after another: `make bench`. Each prints ratios of things measured in turn, in one process."""

import argparse
import json
from pathlib import Path

from . import cached_latents, frames, gpu, models, phases, plans, reading, streaming

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "--long", action="store_true", help="released sizes, longer clips: an hour instead of three minutes"
)
parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="default: out/bench.json")
args = parser.parse_args()
long = ["--long"] if args.long else []
# models first: it measures memory before anything is computed
runs = [(models, long), (gpu, long), (phases, []), (plans, [])]
if args.long:
    runs += [(phases, ["--frames", "1000"]), (frames, []), (cached_latents, []), (streaming, []), (reading, [])]
else:
    runs += [(cached_latents, ["--rounds", "3", "--steps", "3"]), (streaming, ["--rounds", "3", "--lengths"])]
found = {}
for benchmark, options in runs:
    name = " ".join([benchmark.__name__.rpartition(".")[2], *options])
    print(f"{name}: {benchmark.__doc__.splitlines()[0]}", flush=True)
    found[name] = benchmark.main(options)
args.out.parent.mkdir(parents=True, exist_ok=True)
args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
print(f"wrote {args.out}")
