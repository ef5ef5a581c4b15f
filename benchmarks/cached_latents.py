"""Stages 1 and 2 of training on cached 2D latents, against the same training with the 2D half recomputed every step.

The lab's own recipe: its 2D half, its temporal half, its batches. Both kinds run in turn in one process, and the ratio
of their times is what counts: it hardly depends on what else the machine does.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch

from vae_lab.training.config import TrainConfig
from vae_lab.training.data import Inputs, SyntheticClips
from vae_lab.training.losses import Objective
from vae_lab.training.models import frozen_spatial, new_half

ROOT = Path(__file__).parents[1]


def seconds(objective: Objective, optimizer, inputs: Inputs, first: int, steps: int) -> float:
    """A step of stage 0, the making of its batch included, on average."""
    stage = objective.config.stages[0]
    begin = time.perf_counter()
    for batch, _ in zip(inputs.batches(0, first), range(steps), strict=False):
        loss = objective(stage, *batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.vae.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - begin) / steps


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "data" / "recipes" / "temporal.toml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of each kind in a round")
    args = parser.parse_args(argv)
    config = dataclasses.replace(TrainConfig.from_toml(args.recipe), cached_clips=64, image_fraction=0.0)
    spatial, temporal = frozen_spatial(config.spatial), new_half(config).to(memory_format=torch.channels_last_3d)
    objective = Objective(config, temporal, spatial)
    optimizer = torch.optim.AdamW(temporal.parameters(), 0.0)
    kinds = {"cached": Inputs(config, SyntheticClips(), spatial, "cpu", 0)}
    kinds["recomputed"] = Inputs(config, SyntheticClips(), spatial, "cpu", 0)
    with tempfile.TemporaryDirectory() as folder:
        kinds["cached"].fill_cache(Path(folder), progress=False)
        rounds = []
        for number in range(-1, args.rounds):
            first = max(number, 0) * args.steps  # the same steps for both, so the same numbers of frames
            times = {kind: seconds(objective, optimizer, inputs, first, args.steps) for kind, inputs in kinds.items()}
            if number >= 0:  # the first round only warms up
                rounds.append(times)
    ratios = [times["recomputed"] / times["cached"] for times in rounds]
    for kind in kinds:
        print(f"{kind:<12} {1e3 * statistics.median(times[kind] for times in rounds):8.0f} ms a step (median)")
    ratio = statistics.median(ratios)
    print(f"cached latents: {ratio:.1f} times the steps per second ({min(ratios):.1f} to {max(ratios):.1f})")
    return ratio


if __name__ == "__main__":
    main()
