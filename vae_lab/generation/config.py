"""What a training of a generator does: a `GenerationConfig`, written in Python or in a TOML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..training.config import RunConfig, TrainConfig, from_toml, make_plain
from ..utils.checks import check_above, check_at_least, check_one_of, check_text, integer_within, positive_int

PART = "generation"
SAMPLINGS = ("uniform", "logit-normal")
TRANSFORMERS = ("STDiT3", "LatteTransformer3DModel", "CogVideoXTransformer3DModel", "AllegroTransformer3DModel")
MOST_CLIPS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(RunConfig):
    """Everything that decides the trained weights, and three settings (`checkpoint_every` …) that do not."""

    part: str = PART  # tells a recipe of a generator from one of a VAE
    vae: str  # whose latents are generated: what `load` reads
    steps: int
    learning_rate: float  # warms up, stays, then decays to 0 by a cosine over the last `decay_fraction` of the steps
    muon_learning_rate: float | None = None  # of the blocks' matrices, by torch.optim.Muon; None: all by AdamW
    transformer: str = "STDiT3"  # or a class of diffusers in `diffusers_transformers.TRANSFORMERS`
    model: Mapping[str, Any] = field(default_factory=dict)  # arguments of that class, but for sizes and text
    num_frames: int = 17
    size: int = 64  # height and width, in pixels
    fps: float = 24.0
    clips: int = 768  # encoded once, and kept on disk
    held_out_clips: int = 64  # that measure the loss, and are never trained on
    batch_size: int = 16
    normalise: bool = True  # latents have mean 0 and std 1 in each channel; False: they stay as the VAE makes them
    sampling: str = "uniform"  # of timesteps: "uniform" or "logit-normal"
    shift: float = 3.0  # of timesteps, in training and in sampling (`shift_timestep`)
    caption_dropout: float = 0.1  # share of clips that are trained without their text, for guidance
    keep_first: float = 0.0  # share of clips whose first latent frame stays without noise: it learns to continue images
    warmup_steps: int = 100
    decay_fraction: float = 0.5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995  # of the moving average of the weights, which the finished model has
    seed: int = 0
    mixed_precision: str = "auto"  # "auto": bf16 if the accelerator supports it, else "no"
    checkpoint_every: int = 500
    log_every: int = 20
    measure_every: int = 500  # steps between measurements of the loss on held-out clips

    def __post_init__(self):
        make_plain(self)
        check_one_of("part", self.part, (PART,))
        check_text("vae", self.vae)
        check_one_of("transformer", self.transformer, TRANSFORMERS)
        if not isinstance(self.model, Mapping):
            raise ValueError(f"model must be a table of arguments, got {self.model!r}")
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))
        for name in ("steps", "num_frames", "size", "batch_size", "checkpoint_every", "log_every", "measure_every"):
            positive_int(name, getattr(self, name))
        for name in ("clips", "held_out_clips"):
            integer_within(name, getattr(self, name), 2, MOST_CLIPS)
        integer_within("seed", self.seed, 0, (1 << 63) - 1)
        integer_within("warmup_steps", self.warmup_steps, 0)
        for name in ("learning_rate", "fps", "shift", "max_grad_norm"):
            check_above(name, getattr(self, name), 0)
        if self.muon_learning_rate is not None:
            check_above("muon_learning_rate", self.muon_learning_rate, 0)
        check_at_least("weight_decay", self.weight_decay, 0)
        for name in ("caption_dropout", "keep_first", "decay_fraction", "ema_decay"):
            value = getattr(self, name)
            check_at_least(name, value, 0)
            if value > 1 or (value == 1 and name == "ema_decay"):
                raise ValueError(f"{name} must be from 0 to 1{', 1 excluded' * (name == 'ema_decay')}, got {value}")
        check_one_of("sampling", self.sampling, SAMPLINGS)
        check_one_of("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))
        if type(self.normalise) is not bool:
            raise ValueError(f"normalise must be true or false, got {self.normalise!r}")


def read_recipe(path: str | Path) -> GenerationConfig | TrainConfig:
    """Read a recipe for `vae-lab train`: of a generator if its `part` is "generation", else of a VAE."""

    def build(values: Mapping[str, Any]) -> GenerationConfig | TrainConfig:
        if "vae" in values and values.get("part") != PART:  # a recipe of a VAE has no such field
            raise ValueError(
                f'part must be "{PART}" in a recipe with a vae, that of a generator, got {values.get("part")!r}'
            )
        return (GenerationConfig if values.get("part") == PART else TrainConfig).from_dict(values)

    return from_toml(path, build)
