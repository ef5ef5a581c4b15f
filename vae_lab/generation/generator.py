"""A trained generator: a transformer, the VAE whose latents it makes, and the numbers that tie them together."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.bundled import LAB_WEIGHTS, lab_weights
from ..checkpoints.loading import load
from ..families.codec import Codec, codec_of
from ..utils.checks import (
    check_above,
    check_at_least,
    check_known,
    check_text,
    check_video,
    finite,
    positive_int,
    torch_seed,
)
from ..utils.files import read_text
from ..video.frames import to_frames, to_tensor
from .diffusers_transformers import DiffusersTransformer
from .prompts import Prompt, embed, prompts_of
from .rectified_flow import NUM_TIMESTEPS, FlowPath, sample
from .stdit import STDiT3

SETTINGS = "generator.json"
STEPS = 8  # of Euler's method, by default
BATCH = 8  # clips that the VAE decodes at a time


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """What a generator's folder says beside the weights of its transformer."""

    vae: str  # what `load` reads
    vae_identity: str  # `Codec.identity` of that VAE when the generator was trained
    num_frames: int
    size: int  # height and width of the clips, in pixels
    fps: float
    shift: float  # of timesteps
    latents_mean: list[float]  # of each channel of the raw latents of the training clips
    latents_std: list[float]
    keep_first: float = 0.0  # share of the training clips that began with a kept frame; above 0, it continues images
    caption_dropout: float | None = None  # share of them without their text, for guidance; None: not known

    def __post_init__(self):
        for name in ("vae", "vae_identity"):
            check_text(name, getattr(self, name))
        for name in ("num_frames", "size"):
            positive_int(name, getattr(self, name))
        for name in ("fps", "shift"):
            check_above(name, getattr(self, name), 0)
        check_at_least("keep_first", self.keep_first, 0)
        if self.caption_dropout is not None:
            check_at_least("caption_dropout", self.caption_dropout, 0)
        for name in ("latents_mean", "latents_std"):
            if not isinstance(getattr(self, name), list):
                raise ValueError(f"{name} must be a list of numbers, got {getattr(self, name)!r}")
        for number in self.latents_mean:
            finite("latents_mean", number)
        for number in self.latents_std:
            check_above("latents_std", number, 0)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read them from a JSON file. Raises ValueError if it does not hold them."""
        try:
            values = json.loads(read_text(path))
            check_known(SETTINGS, values, list(cls.__dataclass_fields__))
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


class Generator:
    """Turns prompts into clips.

    Args:
        transformer: predicts the velocity of normalised latents (z - mean) / std.
        vae: any that `families` knows.
        settings: as saved in the generator's folder.

    Raises ValueError if the VAE is another than the one the transformer was trained on.
    """

    def __init__(self, transformer: STDiT3 | DiffusersTransformer, vae: Any, settings: GeneratorSettings):
        self.transformer, self.settings, self.codec = transformer.eval(), settings, codec_of(vae)
        channels = transformer.config.in_channels
        for name in ("latents_mean", "latents_std"):
            if len(getattr(settings, name)) != channels:
                given = len(getattr(settings, name))
                raise ValueError(f"{name} must have {channels} numbers, one for each latent channel, got {given}")
        self.latent_shape = latent_shape(self.codec, settings.num_frames, settings.size)
        if (found := self.latent_shape[0]) != channels:
            raise ValueError(f"vae must have {channels} latent channels, {self.codec.name} has {found}")
        if (identity := self.codec.identity()) != settings.vae_identity:
            raise ValueError(
                f"vae must be the one that the generator was trained on ({settings.vae} in float32, identity "
                f"{settings.vae_identity[:12]}), got another {self.codec.name} ({self.codec.dtype}, identity "
                f"{identity[:12]}): its latents mean something else"
            )
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)
            for values in (settings.latents_mean, settings.latents_std)
        )

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """Draw standard normal noise (count, C, L, h, w). Clip i depends on seed + i alone."""
        first = torch_seed(seed)
        seeds = [torch_seed(first + i) for i in range(positive_int("count", count))]
        return torch.stack([torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds])

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Prompt | str],
        num_steps: int = STEPS,
        *,
        guidance: float = 1.0,
        method: str = "euler",
        seed: int = 0,
        noise: Tensor | None = None,
        first_frame: np.ndarray | None = None,
        on_step: Callable[[float, Tensor, Tensor], object] | None = None,
    ) -> Tensor:
        """Generate normalised latents (B, C, L, h, w), one clip for each prompt. Equal arguments give equal bits.

        They are computed where the transformer is; it and the VAE may be on different devices.

        Args:
            num_steps, guidance, method, on_step: as in `rectified_flow.sample`.
            seed: see `noise`. noise: in place of the seed.
            first_frame: uint8 (H, W, 3). All clips begin with it: the latent of that image is kept. This needs a
              generator that was trained with `keep_first`. It also needs a causal VAE, which gives an image the latent
              that a clip's first frame has; this is not checked.

        Raises ValueError for unknown words, for a first frame that the generator cannot continue, and for what
        `rectified_flow.sample` refuses.
        """
        device = next(self.transformer.parameters()).device
        y = embed(prompts, self.transformer.config.caption_channels).to(device)
        guidance, nothing = finite("guidance", guidance), self.transformer.null_caption(len(y))
        if guidance != 1 and self.settings.caption_dropout == 0:
            raise ValueError(
                f"guidance must be 1, got {guidance}: it compares with clips without a text, and this generator was "
                "trained with a caption_dropout of 0"
            )
        noise = (self.noise(len(y), seed) if noise is None else self._checked("noise", noise)).to(device)
        if len(noise) != len(y):
            raise ValueError(f"noise must be for as many clips as there are prompts, {len(y)}, got {len(noise)}")
        keep = edit = None
        if first_frame is not None:
            if not self.settings.keep_first:
                raise ValueError(
                    "first_frame needs a generator that was trained with keep_first above 0 in its recipe; this one "
                    "has never seen a kept frame"
                )
            frame = np.asarray(first_frame)
            image = to_tensor(frame[None]).to(self.codec.device)
            still = self.normalised(self.codec.encode(image)).to(device)
            if still.shape[3:] != noise.shape[3:]:
                side = self.settings.size
                raise ValueError(f"first_frame must be {side} pixels high and wide, got {frame.shape[:2]}")
            keep = torch.zeros_like(noise)
            keep[:, :, :1] = still
            edit = torch.ones(len(y), noise.shape[2])
            edit[:, 0] = 0

        size = dict(fps=self.settings.fps, height=self.settings.size, width=self.settings.size)

        def model(text: Tensor) -> Callable[..., Any]:
            return lambda z, t, x_mask=None: self.transformer(z, t, text, x_mask=x_mask, **size)

        return sample(
            model(y), noise, num_steps, shift=self.settings.shift, method=method, guidance=guidance,
            unconditional=None if guidance == 1 else model(nothing), keep=keep, edit=edit, on_step=on_step,
        )  # fmt: skip

    def path(self, prompts: Sequence[Prompt | str], num_steps: int = STEPS, **options: Any) -> FlowPath:
        """Sample by Euler's method, and return every point on the way.

        Options as in `sample`, but for method and on_step.
        """
        if wrong := {"method", "on_step"} & set(options):
            raise ValueError(f"{wrong.pop()} is for sample: a path is Euler's, and holds every step")
        steps: list[tuple[float, Tensor, Tensor]] = []
        prompts, noise = prompts_of(prompts), options.pop("noise", None)
        noise = self.noise(len(prompts), options.pop("seed", 0)) if noise is None else noise
        self.sample(prompts, num_steps, noise=noise, on_step=lambda *step: steps.append(step), **options)
        timesteps, points, velocities = zip(*steps, strict=True)
        points = noise.to(points[0].device), *points
        return FlowPath([float(NUM_TIMESTEPS), *timesteps], torch.stack(points), torch.stack(velocities))

    def generate(self, prompts: Sequence[Prompt | str], num_steps: int = STEPS, **options: Any) -> list[np.ndarray]:
        """Generate a clip, uint8 (T, H, W, 3), for each prompt; options as in `sample`."""
        return self.decode(self.sample(prompts, num_steps, **options))

    @torch.no_grad()
    def decode(self, z: Tensor) -> list[np.ndarray]:
        """Decode normalised latents (B, C, L, h, w) to clips, each uint8 (T, H, W, 3)."""
        z = self._checked("z", z)
        z = (z * self._std.to(z.device) + self._mean.to(z.device)).to(self.codec.device, self.codec.dtype)
        clips = [self.codec.decode(part, self.settings.num_frames) for part in z.split(BATCH)]
        return [to_frames(clip[None]) for part in clips for clip in part]

    def normalised(self, z: Tensor) -> Tensor:
        """Normalise raw latents (B, C, L, h, w) of the VAE by the statistics of the training clips."""
        return (z - self._mean.to(z.device)) / self._std.to(z.device)

    def _checked(self, name: str, z: Tensor) -> Tensor:
        check_video(name, z)
        if z.shape[1:] != self.latent_shape:
            channels, *size = self.latent_shape
            wanted = f"(B, {channels}, {', '.join(map(str, size))})"
            raise ValueError(f"{name} must have shape {wanted}, the VAE's for these clips, got {tuple(z.shape)}")
        return z

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the transformer and the settings; the VAE is only named."""
        self.transformer.save_pretrained(folder)
        (Path(folder) / SETTINGS).write_text(json.dumps(asdict(self.settings), indent=2) + "\n", "utf-8")


def latent_shape(codec: Codec, num_frames: int, size: int) -> tuple[int, ...]:
    """Return the shape of a square clip's latent, (C, L, h, w)."""
    pixels = (1, codec.in_channels, num_frames, size, size)
    shape = codec.encoded_shape(pixels)
    if shape is None:  # a class that cannot run without values
        shape = tuple(codec.encode(torch.zeros(pixels)).shape)
    return shape[1:]


def load_generator(source: str | Path = "lab-generator", vae: Any = None) -> Generator:
    """Load a generator, and its VAE unless a copy of it is given.

    source: "lab-generator" or "lab-generator-factorised" (trained, in data/), or a folder that
      `Generator.save_pretrained` or a training wrote.

    Raises FileNotFoundError if the folder has no generator.json, ValueError if the VAE does not fit.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source must be a str or a Path, got {source!r}")
    folder = lab_weights(str(source)) if source in LAB_WEIGHTS else Path(source)
    if not (folder / SETTINGS).is_file():
        hint = f"; {folder / 'model'} has one" if (folder / "model" / SETTINGS).is_file() else ""
        message = f"{folder} holds no generator: there is no {SETTINGS}, which `vae-lab train` writes"
        raise FileNotFoundError(message + hint)
    settings, transformer = GeneratorSettings.read(folder / SETTINGS), load(folder)
    if not isinstance(transformer, STDiT3 | DiffusersTransformer):
        raise ValueError(
            f"{folder} must hold an STDiT3 or a DiffusersTransformer, it holds a {type(transformer).__name__}"
        )
    return Generator(transformer, load(settings.vae) if vae is None else vae, settings)
