"""Put trained generators into data and measure them: `make_generator.py [--full RUN] [--factorised RUN]`.

RUN is the folder of a finished `vae-lab train data/recipes/generation/full.toml RUN`, or of factorised.toml. Without
it, the bundled weights are only measured. Weights are written in float16. measured.json gets, for each number of Euler
steps, the share of 192 clips (each of 64 prompts with three seeds) in which each thing is right, and the mean speed
divided by the asked one; "true" and "decoded" are drawn clips, and drawn clips that the VAE has coded.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vae_lab import to_frames, to_tensor
from vae_lab.generation import Generator, STDiT3, all_prompts, load_generator, prompted_clip, score
from vae_lab.generation.judge import KINDS, Scores
from vae_lab.utils.text import count

DATA = Path(__file__).parents[1] / "data"
STEPS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
GUIDED = 8, 1.5  # steps, guidance


def pack(run: Path, folder: Path) -> None:
    """Write the generator of a run in float16, without the paths of its folders."""
    trained = load_generator(run / "model")
    plain = STDiT3(**{name: value for name, value in trained.transformer.config.items() if name[0] != "_"})
    plain.load_state_dict(trained.transformer.state_dict())
    Generator(plain.half(), trained.codec.vae, trained.settings).save_pretrained(folder)


def row_of(scores: Scores) -> dict[str, float]:
    return {kind: round(scores.share(kind), 4) for kind in KINDS} | {"relative speed": round(scores.relative_speed, 4)}


@torch.no_grad()
def measure(generator: Generator, steps: Sequence[int] = STEPS) -> dict[str, dict[str, float]]:
    """Return what the judge reads from clips of every prompt: true ones, decoded ones, and generated ones."""
    settings, codec = generator.settings, generator.codec
    size, prompts = (settings.num_frames, settings.size), all_prompts() * len(SEEDS)
    true = [prompted_clip(np.random.default_rng([1, 1 << 40, i]), p, *size) for i, p in enumerate(prompts)]
    decoded = [to_frames(codec.decode(codec.encode(to_tensor(clip)), size[0])) for clip in true]
    rows = {"true": row_of(score(prompts, true)), "decoded": row_of(score(prompts, decoded))}

    def generated(num_steps: int, guidance: float = 1.0) -> dict[str, float]:
        clips = [generator.generate(all_prompts(), num_steps, guidance=guidance, seed=seed) for seed in SEEDS]
        return row_of(score(prompts, np.concatenate(clips)))

    for number in steps:
        rows[count(number, "step")] = generated(number)
    rows[f"{count(GUIDED[0], 'step')}, guidance {GUIDED[1]}"] = generated(*GUIDED)
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """Write the measurements as a Markdown table."""
    columns = [*KINDS, "relative speed"]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in rows.items():
        cells = [*(f"{row[kind]:.0%}" for kind in KINDS), f"{row['relative speed']:.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--full", "--factorised"):
        parser.add_argument(name, type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, default=DATA, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name, run in (("lab_generator", args.full), ("lab_generator_factorised", args.factorised)):
        folder = args.data / name
        if run:
            pack(run, folder)
        if (folder / "config.json").is_file():
            rows = measure(load_generator(folder), args.steps)
            (folder / "measured.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
            print(f"{name}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
