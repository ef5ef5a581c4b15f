"""The config of a trial: a training, and how its model is used and measured. Variants change some of its fields.

A `TrialConfig` trains a VAE, a `GenerationTrialConfig` a generator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..generation.config import PART, GenerationConfig
from ..generation.prompts import all_prompts
from ..shapes import MICRO_FRAME_SIZE
from ..training.config import TrainConfig, check_factor, reads_half, renamed
from ..utils.checks import check_known, positive_int


@reads_half
@dataclass(frozen=True, kw_only=True)
class TrialConfig(TrainConfig):
    """A training, and how its model is used and measured afterwards. `seed` is set by the ablation."""

    micro_frame_size: int | None = MICRO_FRAME_SIZE  # frames per chunk in use; None: no chunks. VideoVAEs only
    used_spatial_scaling_factor: float | None = None  # on 2D latents in use; None: as in training. Part "temporal" only
    measured_frames: int = 34  # of each measured clip
    measured_size: int = 64  # height and width of the measured clips, in pixels

    def __post_init__(self):
        super().__post_init__()
        for name in ("measured_frames", "measured_size"):
            positive_int(name, getattr(self, name))
        if self.micro_frame_size is not None:
            positive_int("micro_frame_size", self.micro_frame_size)
        if self.micro_frame_size != MICRO_FRAME_SIZE and not self.makes_video_vae:
            raise ValueError(f"micro_frame_size is for VideoVAEs only, got {self.micro_frame_size} for another model")
        check_factor("used_spatial_scaling_factor", self.used_spatial_scaling_factor, self.part)

    @property
    def makes_video_vae(self) -> bool:
        """Whether the trained model is a VideoVAE, the lab's stack of two halves."""
        return self.part == "temporal" or (self.part == "whole" and "class_name" not in self.model)

    @property
    def training(self) -> TrainConfig:
        """The fields that decide the weights."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})


@dataclass(frozen=True, kw_only=True)
class GenerationTrialConfig(GenerationConfig):
    """A training of a generator, and how its clips are measured afterwards. `seed` is set by the ablation."""

    measured_clips: int = len(all_prompts())  # generated, for all prompts in turn
    measured_steps: int = 8  # of Euler's method

    def __post_init__(self):
        super().__post_init__()
        for name in ("measured_clips", "measured_steps"):
            positive_int(name, getattr(self, name))

    @property
    def training(self) -> GenerationConfig:
        """The fields that decide the weights."""
        return GenerationConfig(**{f.name: getattr(self, f.name) for f in fields(GenerationConfig)})


AnyTrialConfig = TrialConfig | GenerationTrialConfig


def trial_config(values: Mapping[str, Any]) -> AnyTrialConfig:
    """Build from plain values: the config of a generator if `part` is "generation", else of a VAE."""
    return (GenerationTrialConfig if values.get("part") == PART else TrialConfig).from_dict(values)


def changed(base: AnyTrialConfig, difference: Mapping[str, Any]) -> AnyTrialConfig:
    """Return a copy of `base` with these fields changed.

    A table "model" changes the arguments that it names; with a "class_name" in it, or beside another "transformer", it
    replaces the model. A table "stages" maps names of stages to the fields that change; a list replaces all stages.
    """
    values = base.to_dict()
    another = {"transformer", "model"} <= difference.keys()
    for name, value in renamed(difference).items():
        if name == "model" and isinstance(value, Mapping) and "class_name" not in value and not another:
            value = values["model"] | value
        if name == "stages" and "stages" in values and not isinstance(value, list | tuple):
            if not isinstance(value, Mapping) or not all(isinstance(change, Mapping) for change in value.values()):
                raise ValueError(f"stages must be a list of stages or a table of stage name -> fields, got {value!r}")
            check_known("stages", value, [stage["name"] for stage in values["stages"]])
            value = [stage | dict(value.get(stage["name"], {})) for stage in values["stages"]]
        values[name] = value
    return type(base).from_dict(values)
