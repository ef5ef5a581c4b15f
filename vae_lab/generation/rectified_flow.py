"""Rectified flow, as in Open-Sora 1.2: a straight path from data to noise, and a walk back along a learned velocity.

    x_t = (1 - s) x0 + s e,   s = t / 1000,   v = x0 - e

x0 is data, e is standard normal noise, and t runs from 0 (data) to 1000 (noise). A model learns v from x_t and t. Since
v = -dx/ds, one step of the walk from t to a smaller t' is x + v (t - t') / 1000.

The sign is the opposite of that in Stable Diffusion 3, minRF and diffusers, whose models predict e - x0. What Open-Sora
calls "timepoints" in its code is 1 - s.

Source: Open-Sora v1.2.0, `opensora/schedulers/rf/__init__.py` and `rectified_flow.py`. The idea: Liu et al. 2022, "Flow
Straight and Fast", arXiv 2209.03003; logit-normal timesteps: Esser et al. 2024, arXiv 2403.03206.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..utils.checks import check_above, check_one_of, check_video, finite, plain, positive_int, repeated_number

NUM_TIMESTEPS = 1000  # the timestep of pure noise
BASE_SIDE = 512  # pixels: an image of 512x512 keeps its timesteps
CHUNK, CHUNK_LATENTS = 17, 5  # frames that the released VAE encodes at a time, and their latent frames
SAMPLINGS = ("uniform", "logit-normal")
METHODS = ("euler", "heun")
Number = TypeVar("Number", float, Tensor)


def add_noise(x0: Tensor, noise: Tensor, timestep: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the point x_t = (1 - s) x0 + s noise of the path, s = timestep / 1000.

    Args:
        x0, noise: latents (B, C, L, h, w) and standard normal noise of the same shape.
        timestep: (B,), from 0 (data) to 1000 (noise).
        mask: bool (B, L); latent frames with False stay as they are in x0. Default: all get noise.
    """
    check_video("x0", x0)
    _check_same_shape("noise", noise, x0)
    check_video("noise", noise)
    s = timesteps_of(timestep, len(x0), x0.device).view(-1, 1, 1, 1, 1) / NUM_TIMESTEPS
    x = ((1 - s) * x0 + s * noise).to(x0.dtype)
    return x if mask is None else torch.where(_per_frame(mask, x0), x, x0)


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """Return what a model learns, x0 - noise. diffusers' flow-matching models learn the negative of it."""
    check_video("x0", x0)
    _check_same_shape("noise", noise, x0)
    return x0 - noise


def velocity_in(output: Any, channels: int) -> Tensor:
    """Return the velocity (B, channels, L, h, w) in what a model returns: a tensor, or an object with `.sample`.

    Of twice as many channels, as Open-Sora's models have, it is the first half; the second half was meant for a
    variance, but is neither trained nor used.
    Raises ValueError for any other number of channels.
    """
    output = getattr(output, "sample", output)
    if not isinstance(output, Tensor) or output.ndim != 5 or output.shape[1] not in (channels, 2 * channels):
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the model must return (B, {channels} or {2 * channels}, L, h, w), got {got}")
    return output[:, :channels]


def flow_loss(predicted: Tensor, x0: Tensor, noise: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared error of a predicted velocity (B, C, L, h, w) for each clip: (B,).

    mask: bool (B, L), as in `add_noise`; only latent frames with True count, of which each clip needs one.
    """
    target = velocity(x0, noise)
    _check_same_shape("predicted", predicted, x0)
    error = (predicted - target).square()
    if mask is None:
        return error.mean((1, 2, 3, 4))
    frames = _per_frame(mask, x0)
    if has_values(mask) and not mask.any(1).all():
        raise ValueError(f"mask must be True for a latent frame of each clip, got {mask.tolist()}")
    return (error * frames).sum((1, 2, 3, 4)) / (frames.sum((1, 2, 3, 4)) * error[0, :, 0].numel())


def shift_timestep(t: Number, shift: float) -> Number:
    """Move timesteps towards noise (shift above 1) or data (below 1): 1000 shift u / (1 + (shift - 1) u), u = t / 1000.

    diffusers' schedulers and SD3 have the same formula (`shift` of FlowMatchEulerDiscreteScheduler).

    >>> shift_timestep(500.0, 3)
    750.0
    """
    check_above("shift", shift, 0)
    _check_timesteps("t", numbers("t", t))
    u = t / NUM_TIMESTEPS
    return NUM_TIMESTEPS * shift * u / (1 + (shift - 1) * u)


def timestep_shift(num_frames: Any, height: Any, width: Any, *, scale: float = 1.0, quirks: bool = False) -> float:
    """Return Open-Sora's shift for clips of a size in pixels: sqrt(height * width / 512**2) * sqrt(n) * scale.

    The more numbers a clip has, the more noise it takes to hide it. n counts latent frames: 1 for an image, else
    num_frames // 17 * 5, so 18 to 33 frames count as 17 do. The frame rate plays no part.

    quirks: from 2 to 16 frames, Open-Sora's n is 0 and with it every timestep: the model never sees any noise. Without
      quirks these lengths are refused.

    >>> round(timestep_shift(51, 240, 426), 4), timestep_shift(1, 512, 512)
    (2.4187, 1.0)
    """
    num_frames = positive_int("num_frames", repeated_number("num_frames", num_frames))
    height, width = repeated_number("height", height), repeated_number("width", width)
    check_above("scale", scale, 0)
    n = 1 if num_frames == 1 else num_frames // CHUNK * CHUNK_LATENTS
    if n == 0 and not quirks:
        raise ValueError(
            f"num_frames must be 1 or at least {CHUNK}, got {num_frames}: for 2 to {CHUNK - 1} frames Open-Sora's "
            "transform makes every timestep 0, so that nothing gets noise (quirks=True reproduces this)"
        )
    return sqrt(height * width / BASE_SIDE**2) * sqrt(n) * scale


def timestep_transform(
    t: Number, num_frames: Any, height: Any, width: Any, *, scale: float = 1.0, quirks: bool = False
) -> Number:
    """Shift timesteps t, from 0 to 1000, as Open-Sora does for clips of this size (`timestep_shift`).

    num_frames, height, width: of the clips, in frames and pixels; tensors of equal numbers are allowed.

    >>> round(timestep_transform(500.0, num_frames=17, height=64, width=64), 2)
    218.45
    """
    shift = timestep_shift(num_frames, height, width, scale=scale, quirks=quirks)
    return shift_timestep(t, shift) if shift else t * 0


def draw_timesteps(
    count: int, sampling: str = "uniform", *, shift: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw timesteps (count,), from 0 to 1000, for training.

    sampling: "uniform", or "logit-normal", the sigmoid of a standard normal variable, which prefers the middle.
    shift: see `shift_timestep`.
    """
    check_one_of("sampling", sampling, SAMPLINGS)
    positive_int("count", count)
    if sampling == "uniform":
        u = torch.rand(count, generator=generator)
    else:
        u = torch.randn(count, generator=generator).sigmoid()
    return shift_timestep(u * NUM_TIMESTEPS, shift)


def sampling_timesteps(
    num_steps: int,
    size: tuple[int, int, int] | None = None,
    *,
    shift: float | None = None,
    scale: float = 1.0,
    quirks: bool = False,
) -> Tensor:
    """Return the timesteps of a walk from noise to data, float64 (num_steps + 1,): 1000 first, 0 last.

    They are evenly spaced, then shifted: by `shift`, or as Open-Sora does for clips of `size` (T, H, W) in pixels.

    >>> sampling_timesteps(4, shift=3).tolist()
    [1000.0, 900.0, 750.0, 500.0, 0.0]
    """
    t = torch.linspace(NUM_TIMESTEPS, 0, positive_int("num_steps", num_steps) + 1, dtype=torch.float64)
    if size is not None:
        if shift is not None:
            raise ValueError(f"size {size} and shift {shift} must not both be given: size decides the shift")
        if not isinstance(plain(size), list | tuple) or len(size) != 3:
            raise ValueError(f"size must be (T, H, W), got {size!r}")
        # Open-Sora's sampler calls the transform without the scale that its training uses
        return timestep_transform(t, *size, scale=1.0 if quirks else scale, quirks=quirks)
    if scale != 1 or quirks:
        name = f"scale ({scale})" if scale != 1 else "quirks"
        raise ValueError(f"{name} needs size: only Open-Sora's transform has it")
    return t if shift is None else shift_timestep(t, shift)


@torch.no_grad()
def sample(
    model: Callable[..., Any],
    noise: Tensor,
    num_steps: int = 30,
    size: tuple[int, int, int] | None = None,
    *,
    shift: float | None = None,
    scale: float = 1.0,
    method: str = "euler",
    guidance: float = 1.0,
    unconditional: Callable[..., Any] | None = None,
    keep: Tensor | None = None,
    edit: Tensor | None = None,
    on_step: Callable[[float, Tensor, Tensor], object] | None = None,
    quirks: bool = False,
) -> Tensor:
    """Walk from noise to latents along a model's velocity. Equal arguments give equal bits.

    Args:
        model: called with z (B, C, L, h, w) and t (B,), from 0 to 1000; returns the velocity (`velocity_in`).
        noise: standard normal, (B, C, L, h, w).
        num_steps: of the walk; Euler calls the model once a step, Heun twice.
        size: (T, H, W) of the clips in pixels, for Open-Sora's `timestep_transform`; shift: in place of it. Default:
          evenly spaced timesteps.
        scale: of the transform, as in `timestep_shift`.
        method: "euler", or "heun", which averages the velocities at both ends of a step (second order).
        guidance, unconditional: classifier-free guidance. `unconditional` is called as `model` is but ignores the text.
          With c and u the velocities of the two, the walk follows u + guidance * (c - u).
        keep, edit: latents (B, C, L, h, w), and how far each of their frames changes, (B, L): 0 keeps it, 1 generates
          it, and in between it gets noise once t has fallen to edit * 1000. The models are then called with x_mask too,
          bool (B, L), False for the frames that this step keeps.
        on_step: called after each step with the timestep that it reached, the latents there, and the velocity.
        quirks: Open-Sora's own (`timestep_shift`); its sampler also forgets the scale.

    Returns:
        Latents of the shape of noise.
    """
    check_video("noise", noise)
    check_one_of("method", method, METHODS)
    guidance = finite("guidance", guidance)
    if guidance != 1 and unconditional is None:
        raise ValueError(f"guidance ({guidance}) needs unconditional, a model that is called without the text")
    timesteps = sampling_timesteps(num_steps, size, shift=shift, scale=scale, quirks=quirks)
    precise = torch.promote_types(noise.dtype, torch.float32)  # bfloat16 would round timesteps to multiples of 4
    if (keep is None) != (edit is None):
        raise ValueError("keep and edit must be given together")
    z, begun = noise, None
    if keep is not None and edit is not None:
        _check_same_shape("keep", keep, noise)
        check_video("keep", keep)
        keep, edit = keep.to(noise.dtype), _edit_of(edit, noise)
        begun = (edit == 1).to(noise.device)
        z = torch.where(_per_frame(begun, noise), noise, keep)

    def follow(z: Tensor, t: Tensor, options: dict[str, Tensor]) -> Tensor:
        t = t.to(noise.device, precise).expand(len(z))
        v = velocity_in(model(z, t, **options), z.shape[1])
        if unconditional is not None:
            u = velocity_in(unconditional(z, t, **options), z.shape[1])
            v = u + guidance * (v - u)
        return v

    for t, after in zip(timesteps[:-1], timesteps[1:], strict=True):
        options, dt = {}, (t - after).item() / NUM_TIMESTEPS
        if begun is not None and edit is not None:
            moving = (edit * NUM_TIMESTEPS >= t).to(noise.device)
            z = torch.where(_per_frame(moving & ~begun, z), add_noise(z, noise, t.to(precise).expand(len(z))), z)
            begun, options = moving, {"x_mask": moving}
        v = follow(z, t, options)
        if method == "heun":
            v = (v + follow(_stepped(z, v * dt, options), after, options)) / 2
        z = _stepped(z, v * dt, options)
        if on_step is not None:
            on_step(after.item(), z, v)
    return z


class FlowPath(NamedTuple):
    """All points of a walk from noise to latents by Euler's method."""

    timesteps: list[float]
    """N + 1: 1000 first, 0 last."""
    points: Tensor
    """(N + 1, B, C, L, h, w)"""
    velocities: Tensor
    """The model's at each point but the last, (N, B, C, L, h, w)."""

    @property
    def answers(self) -> Tensor:
        """Where a single step from each point to timestep 0 would lead: x + v t / 1000, (N + 1, B, C, L, h, w)."""
        t = self.velocities.new_tensor(self.timesteps[:-1]).view(-1, 1, 1, 1, 1, 1)
        return torch.cat([self.points[:-1] + self.velocities * t / NUM_TIMESTEPS, self.points[-1:]])

    @property
    def bend(self) -> Tensor:
        """How far each velocity differs from the straight way d from the first point to the last, (N, B).

        |v - d|^2 / |d|^2: 0 everywhere on a straight path that is walked evenly.
        """
        straight = self.points[-1] - self.points[0]
        return (self.velocities - straight).square().sum((2, 3, 4, 5)) / straight.square().sum((1, 2, 3, 4))


def _stepped(z: Tensor, change: Tensor, options: dict[str, Tensor]) -> Tensor:
    return z + (change * _per_frame(options["x_mask"], z) if options else change)


def _check_same_shape(name: str, value: Tensor, x0: Tensor) -> None:
    if not isinstance(value, Tensor) or value.shape != x0.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must have the shape of the latents, {tuple(x0.shape)}, got {got}")


def timesteps_of(timestep: Any, count: int, device: torch.device) -> Tensor:
    """Return timesteps as a tensor (count,). Raises ValueError for another shape, or numbers outside 0 to 1000."""
    t = numbers("timestep", timestep, device=device)
    if t.shape != (count,):
        raise ValueError(f"timestep must have shape ({count},), one for each clip, got {tuple(t.shape)}")
    _check_timesteps("timestep", t)
    return t


def _check_timesteps(name: str, t: Tensor) -> None:
    if not has_values(t):
        return
    rounding = 4 * torch.finfo(t.dtype).eps if t.is_floating_point() else 0  # of a shifted 1000
    fits = (t >= 0) & (t <= NUM_TIMESTEPS * (1 + rounding))
    if not fits.all():
        raise ValueError(f"{name} must be from 0 (data) to {NUM_TIMESTEPS} (noise), got {t[~fits][0].item()}")


def numbers(name: str, value: Any, **options: Any) -> Tensor:
    """Return numbers as a tensor; anything else raises ValueError."""
    try:
        return torch.as_tensor(value, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold numbers, got {value!r}") from error


def has_values(x: Tensor) -> bool:
    """Return whether the values of a tensor can be checked: it is not meta, and torch does not compile or export."""
    return not (x.is_meta or torch.compiler.is_compiling())


def _per_frame(mask: Tensor, x0: Tensor) -> Tensor:
    """(B, L) -> (B, 1, L, 1, 1)"""
    check_mask("mask", mask, (len(x0), x0.shape[2]))
    return mask[:, None, :, None, None]


def check_mask(name: str, mask: Any, shape: tuple[int, int]) -> None:
    """Refuse anything but a bool tensor (B, L)."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape:
        got = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name} must be bool of shape {shape}, one for each latent frame, got {got}")


def _edit_of(edit: Any, noise: Tensor) -> Tensor:
    frames = (len(noise), noise.shape[2])
    edit = numbers("edit", edit, dtype=torch.float64, device="cpu")
    if edit.shape != frames or not ((edit >= 0) & (edit <= 1)).all():
        raise ValueError(f"edit must hold numbers from 0 to 1 of shape {frames}, got {edit.tolist()}")
    return edit
