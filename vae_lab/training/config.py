"""What a training run is: a `TrainConfig` of one or more `Stage`s, in Python or in a TOML file."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..utils.checks import check_at_least, check_known, check_one_of, positive_int

HALVES = ("spatial", "temporal", "video")
TARGETS = ("pixels", "latents")
STARTS = ("interpolation", "random")
PRECISIONS = ("auto", "no", "bf16", "fp16")
RUNTIME_FIELDS = ("checkpoint_every", "log_every", "measure_every", "workers")  # these do not change the weights


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training with one target and one learning rate, warmed up, then decayed to 0 by a cosine."""

    name: str
    steps: int
    learning_rate: float
    target: str = "pixels"
    """What is reconstructed: "pixels", or "latents" of the frozen 2D half (temporal half only)."""
    batch_size: int = 8
    """Clips a step and process."""
    num_frames: tuple[int, int] = (1, 17)
    """Shortest and longest clip; each step draws one length for all its clips. Images come on top."""
    identity_weight: float = 0.0
    """Of the squared distance, per element, of an image's temporal latent from its 2D latent (temporal half only)."""

    def __post_init__(self):
        _text("name", self.name)
        positive_int("steps", self.steps)
        positive_int("batch_size", self.batch_size)
        check_at_least("learning_rate", self.learning_rate, 0)
        check_at_least("identity_weight", self.identity_weight, 0)
        check_one_of("target", self.target, TARGETS)
        if not isinstance(self.num_frames, list | tuple) or len(self.num_frames) != 2:
            raise ValueError(f"num_frames must be (shortest, longest), got {self.num_frames!r}")
        shortest, longest = self.num_frames
        if not 1 <= positive_int("num_frames", shortest) <= positive_int("num_frames", longest):
            raise ValueError(f"num_frames must be (shortest, longest), got {tuple(self.num_frames)}")
        object.__setattr__(self, "num_frames", (shortest, longest))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what weights come out, and four settings (RUNTIME_FIELDS) that do not.

    All weights of losses are per element: each loss is a mean over batch, channels, frames and pixels (of the KL: over
    the latent's elements), so that they keep their balance at any size, length and batch. The reference does not: it
    divides the reconstruction's sum by B * T and the KL's sum by B (Open-Sora v1.2.0, `opensora/models/vae/losses.py`),
    so that against the reconstruction its KL weighs L times as much in a clip of L latent frames as in an image.
    """

    half: str
    """"spatial" or "temporal": which half is trained; "video": a whole VAE from pixels."""
    stages: tuple[Stage, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of SpatialVAE or TemporalVAE. Of half "video" those of VideoVAE, or of diffusers' class `class_name`,
    which is then among them."""
    spatial: str = "lab"
    """The frozen 2D half behind which a temporal half is trained: anything `load` reads that has one."""
    spatial_scaling_factor: float | None = None
    """What latents of that 2D half are multiplied by; None: its own scaling_factor. Temporal half only."""
    start: str = "interpolation"
    """"interpolation" (`initialization.start_as_interpolation`), "random" (torch's own), or a checkpoint that `load`
    reads, whose half is trained further (`model` is then left out)."""
    size: int = 64
    """Pixels of a side of the square training clips."""
    image_fraction: float = 0.2
    """Steps on images, clips of one frame (Open-Sora: 20 % images, 80 % clips). Of the 2D half all steps are."""
    cached_clips: int = 1024
    """Clips whose 2D latents are computed once and kept on disk; 0: new clips, and new latents, at every step."""
    mse_weight: float = 1.0
    l1_weight: float = 0.05
    kl_weight: float = 1e-6
    perceptual_weight: float = 0.0
    perceptual: str | None = None
    """Where a perceptual distance is at hand, "module:name" of what makes it: called without arguments it gives a torch
    module of images (N, 3, H, W) in [-1, 1] twice -> (N, ...), "lpips:LPIPS" for instance."""
    weight_decay: float = 0.0
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    """Of the moving average of the weights, which is what is saved in the end."""
    seed: int = 0
    mixed_precision: str = "auto"
    """"auto": bf16 where the accelerator has it, "no" elsewhere."""
    checkpoint_every: int = 250
    log_every: int = 10
    measure_every: int = 250
    """Steps between measurements of PSNR on clips held out of the run."""
    workers: int = 0
    """Processes that make or decode clips beside the training process."""

    def __post_init__(self):
        check_one_of("half", self.half, HALVES)
        check_one_of("mixed_precision", self.mixed_precision, PRECISIONS)
        if not self.stages:
            raise ValueError("stages must hold at least one Stage")
        object.__setattr__(self, "stages", tuple(self.stages))
        if not isinstance(self.model, Mapping):
            raise ValueError(f"model must be a table of arguments, got {self.model!r}")
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))
        for name in ("size", "checkpoint_every", "log_every", "measure_every"):
            positive_int(name, getattr(self, name))
        for name in ("cached_clips", "warmup_steps", "workers", "seed"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << 63:
                raise ValueError(f"{name} must be an integer of at least 0 and below 2**63, got {value!r}")
        for name in ("mse_weight", "l1_weight", "kl_weight", "perceptual_weight", "weight_decay", "max_grad_norm",
                     "image_fraction", "ema_decay"):  # fmt: skip
            check_at_least(name, getattr(self, name), 0)
        for name in ("spatial", "start"):
            _text(name, getattr(self, name))
        if self.max_grad_norm == 0:
            raise ValueError("max_grad_norm must be above 0, got 0")
        if self.image_fraction > 1:
            raise ValueError(f"image_fraction must be from 0 to 1, got {self.image_fraction}")
        if self.ema_decay >= 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if self.perceptual is not None and (not isinstance(self.perceptual, str) or ":" not in self.perceptual):
            raise ValueError(f'perceptual must be a text "module:name", got {self.perceptual!r}')
        if bool(self.perceptual_weight) != (self.perceptual is not None):
            raise ValueError('perceptual_weight and perceptual (a "module:name") must be given together')
        if self.start not in STARTS and self.model:
            raise ValueError(f"model must be left out where start is a checkpoint ({self.start}), which has its own")
        check_factor("spatial_scaling_factor", self.spatial_scaling_factor, self.half)
        for stage in self.stages if self.half != "temporal" else ():
            if stage.target != "pixels" or stage.identity_weight:
                raise ValueError(
                    f"stage {stage.name!r}: the {'2D half' if self.half == 'spatial' else 'whole VAE'} is trained on "
                    f'target "pixels" and without identity_weight'
                )

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `TrainConfig.from_dict` takes them and JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        stages = [dataclasses.asdict(stage) | {"num_frames": list(stage.num_frames)} for stage in self.stages]
        return values | {"model": _plain(self.model), "stages": stages}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """From plain values. Refuses names that are no field, and says which are close."""
        values = dict(values)
        _check_names(cls.__name__, values, cls)
        stages, given = [], values.pop("stages")
        if not isinstance(given, list | tuple) or not all(isinstance(stage, Mapping) for stage in given):
            raise ValueError(f"stages must be a list of tables ([[stages]] in TOML), got {given!r}")
        for stage in given:
            _check_names("Stage", stage, Stage)
            stages.append(Stage(**stage))
        return cls(stages=tuple(stages), **values)

    @classmethod
    def from_toml(cls, path: str | Path) -> "TrainConfig":
        """From a TOML file, each stage a [[stages]] table. Errors name the file."""
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text("utf-8")))
        except (ValueError, TypeError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
            raise ValueError(f"{path}: {error}") from error


def check_factor(name: str, factor: float | None, half: str) -> None:
    """Refuse what is no factor on 2D latents, or has none to be of."""
    if factor is None:
        return
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if half != "temporal" or not number or not 0 < factor < float("inf"):
        raise ValueError(f'{name} must be a number above 0 and of half "temporal", got {factor!r} of {half!r}')


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_names(kind: str, values: Mapping[str, Any], cls: type) -> None:
    check_known(kind, values, [f.name for f in fields(cls)])
    for f in fields(cls):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in values:
            raise ValueError(f"{kind} needs a value for {f.name!r}")
