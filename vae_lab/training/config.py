"""What a training run does: a `TrainConfig` with one or more `Stage`s, written in Python or in a TOML file."""

import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from ..utils.checks import (
    check_above,
    check_at_least,
    check_known,
    check_one_of,
    check_text,
    integer_within,
    is_number,
    plain,
    positive_int,
)
from ..utils.files import read_text

PARTS = ("spatial", "temporal", "whole")
STARTS = ("interpolation", "frames", "random")
RUNTIME_FIELDS = ("checkpoint_every", "log_every", "measure_every", "workers")  # these do not change the weights
_Class = TypeVar("_Class", bound=type)
Config = TypeVar("Config")


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `half`, the old name of `part`, in the values of a config; "whole" was then called "video"."""
    if "half" not in values:
        return dict(values)
    if "part" in values:
        raise ValueError("part and half, its old name, must not both be given")
    part = "whole" if values["half"] == "video" else values["half"]
    return {"part": part} | {name: value for name, value in values.items() if name != "half"}


def reads_half(cls: _Class) -> _Class:
    """Let the constructor of a dataclass also read `half` (see `renamed`), with a warning."""
    made: Any = cls
    init = made.__init__

    @wraps(init)
    def init_with_old_name(self, **values):
        if "half" in values:
            warnings.warn('half is now called part, and its "video" is "whole"', FutureWarning, stacklevel=2)
        init(self, **renamed(values))

    made.__init__ = init_with_old_name
    return cls


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training with one target and one learning rate, which warms up, then decays to 0 by a cosine."""

    name: str
    steps: int
    learning_rate: float
    target: str = "pixels"  # reconstruct "pixels", or "latents" of the frozen 2D half (part "temporal" only)
    batch_size: int = 8  # clips per step and process
    num_frames: tuple[int, int] = (1, 17)  # shortest and longest clip; a step draws one length. Images are extra
    identity_weight: float = 0.0  # of an image's mean squared distance from its 2D latent (part "temporal" only)

    def __post_init__(self):
        make_plain(self)
        check_text("name", self.name)
        positive_int("steps", self.steps)
        positive_int("batch_size", self.batch_size)
        check_at_least("learning_rate", self.learning_rate, 0)
        check_at_least("identity_weight", self.identity_weight, 0)
        check_one_of("target", self.target, ("pixels", "latents"))
        pair = self.num_frames if isinstance(self.num_frames, list | tuple) else ()
        if len(pair) != 2 or positive_int("num_frames", pair[0]) > positive_int("num_frames", pair[1]):
            raise ValueError(f"num_frames must be (shortest, longest), got {self.num_frames!r}")
        object.__setattr__(self, "num_frames", tuple(pair))


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run of a training is made from, in plain values, in Python or in a TOML file."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold and `from_dict` reads."""
        return plain_values(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values. Unknown fields raise ValueError with close matches."""
        check_fields(cls, values)
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Build from a TOML file. Errors name the file."""
        return from_toml(path, cls.from_dict)


@reads_half
@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Everything that decides the trained weights, and four settings (RUNTIME_FIELDS) that do not.

    Each loss is a mean over the elements of the batch (the KL: of its latents), so the balance of their weights does
    not depend on size, length or batch. The reference instead divides the reconstruction's sum by B * T and the KL's by
    B (Open-Sora v1.2.0, `opensora/models/vae/losses.py`): a clip of L latent frames has L times the KL of an image.
    """

    part: str  # "spatial" (the 2D half), "temporal" (the temporal half, behind a frozen 2D half), "whole" (a whole VAE)
    stages: tuple[Stage, ...]
    # Arguments of SpatialVAE or TemporalVAE. For part "whole": those of VideoVAE or, with "class_name" among them, of
    # that diffusers class.
    model: Mapping[str, Any] = field(default_factory=dict)
    spatial: str = "lab"  # the frozen 2D half of part "temporal": any checkpoint with a 2D half that `load` reads
    spatial_scaling_factor: float | None = None  # on the latents of that 2D half; None: its scaling_factor
    # "interpolation" (`start_as_interpolation`), "frames" (`start_carrying_frames`, part "temporal" only), "random"
    # (torch's defaults), or a checkpoint that `load` reads, whose training continues (leave `model` out then).
    start: str = "interpolation"
    size: int = 64  # height and width of the training clips, in pixels
    image_fraction: float = 0.2  # share of steps on images, clips of one frame (Open-Sora: 20 %); part "spatial": all
    cached_clips: int = 1024  # whose 2D latents are computed once and kept on disk; 0: new clips at every step
    mse_weight: float = 1.0
    l1_weight: float = 0.05
    kl_weight: float = 1e-6
    perceptual_weight: float = 0.0
    perceptual: str | None = None  # "module:name", such as "lpips:LPIPS": what makes the `perceptual` of an `Objective`
    weight_decay: float = 0.0
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999  # of the moving average of the weights, which the finished model has
    seed: int = 0
    mixed_precision: str = "auto"  # "auto": bf16 if the accelerator supports it, else "no"
    checkpoint_every: int = 250
    log_every: int = 10
    measure_every: int = 250  # steps between measurements of PSNR on held-out clips
    workers: int = 0  # processes that draw or decode clips beside the training process

    def __post_init__(self):
        make_plain(self)
        check_one_of("part", self.part, PARTS)
        check_one_of("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))
        stages = tuple(self.stages) if isinstance(self.stages, list | tuple) else ()
        if not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise ValueError(f"stages must hold at least one Stage, and nothing else, got {self.stages!r}")
        object.__setattr__(self, "stages", stages)
        if not isinstance(self.model, Mapping):
            raise ValueError(f"model must be a table of arguments, got {self.model!r}")
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))
        for name in ("size", "checkpoint_every", "log_every", "measure_every"):
            positive_int(name, getattr(self, name))
        for name in ("cached_clips", "warmup_steps", "workers", "seed"):
            integer_within(name, getattr(self, name), 0, (1 << 63) - 1)
        for name in ("mse_weight", "l1_weight", "kl_weight", "perceptual_weight", "weight_decay", "image_fraction",
                     "ema_decay"):  # fmt: skip
            check_at_least(name, getattr(self, name), 0)
        for name in ("spatial", "start"):
            check_text(name, getattr(self, name))
        check_above("max_grad_norm", self.max_grad_norm, 0)
        if self.image_fraction > 1:
            raise ValueError(f"image_fraction must be from 0 to 1, got {self.image_fraction}")
        if self.ema_decay >= 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if self.perceptual is not None and (not isinstance(self.perceptual, str) or ":" not in self.perceptual):
            raise ValueError(f'perceptual must be a text "module:name", got {self.perceptual!r}')
        if bool(self.perceptual_weight) != (self.perceptual is not None):
            raise ValueError('perceptual_weight and perceptual (a "module:name") must be given together')
        if self.start not in STARTS and self.model:
            raise ValueError(f"model must be left out if start is a checkpoint ({self.start}), which has its arguments")
        if self.start == "frames" and self.part != "temporal":
            raise ValueError(f'start "frames" is for part "temporal", got part {self.part!r}')
        check_factor("spatial_scaling_factor", self.spatial_scaling_factor, self.part)
        for stage in self.stages if self.part != "temporal" else ():
            if stage.target != "pixels" or stage.identity_weight:
                rule = 'is trained on target "pixels" and without identity_weight'
                trained = "2D half" if self.part == "spatial" else "whole VAE"
                raise ValueError(f"stage {stage.name!r}: the {trained} {rule}")

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values, with a table of its own for each stage ([[stages]] in TOML).

        Unknown fields raise ValueError with close matches.
        """
        check_fields(cls, renamed(values))
        stages = values["stages"]
        if not isinstance(stages, list | tuple) or not all(isinstance(stage, Mapping) for stage in stages):
            raise ValueError(f"stages must be a list of tables ([[stages]] in TOML), got {stages!r}")
        for stage in stages:
            check_fields(Stage, stage)
        return cls(**{**values, "stages": tuple(Stage(**stage) for stage in stages)})


def from_toml(path: str | Path, build: Callable[[dict[str, Any]], Config]) -> Config:
    """Build a config from the values in a TOML file. Errors name the file."""
    text = read_text(path)
    try:
        return build(tomllib.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise ValueError(f"{path}: {error}") from error


def check_factor(name: str, factor: float | None, part: str) -> None:
    """Refuse a factor on 2D latents that is not a number above 0, or is given for another part than "temporal"."""
    if factor is not None and (part != "temporal" or not is_number(factor) or not 0 < factor < float("inf")):
        raise ValueError(f'{name} must be a number above 0, for part "temporal" only, got {factor!r} for part {part!r}')


def make_plain(config: Any) -> None:
    """Turn numpy's numbers in the fields of a frozen dataclass into Python's, which JSON can hold."""
    for f in fields(config):
        object.__setattr__(config, f.name, plain(getattr(config, f.name)))


def plain_values(value: Any) -> Any:
    """Turn stages and mappings into dicts, and tuples into lists, which JSON can hold."""
    if isinstance(value, Mapping | Stage):
        return {key: plain_values(item) for key, item in (vars(value) if isinstance(value, Stage) else value).items()}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Refuse values for fields that a dataclass does not have, and the lack of one that it needs."""
    check_known(cls.__name__, values, [f.name for f in fields(cls)])
    for f in fields(cls):
        if f.name not in values and f.default is f.default_factory is MISSING:
            raise ValueError(f"{cls.__name__} needs a value for {f.name!r}")
