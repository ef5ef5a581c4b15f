"""Path, loss, timesteps and samplers: against Open-Sora's golden values, diffusers' scheduler and known solutions."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from tests.helpers import GOLDEN
from vae_lab.generation import (
    FlowPath,
    add_noise,
    draw_timesteps,
    flow_loss,
    sample,
    sampling_timesteps,
    shift_timestep,
    timestep_shift,
    timestep_transform,
    velocity,
    velocity_in,
)
from vae_lab.generation.config import SAMPLINGS as NAMES
from vae_lab.generation.rectified_flow import SAMPLINGS

CASES = load_file(GOLDEN / "stdit" / "cases.safetensors")
INFO = json.loads((GOLDEN / "stdit" / "cases.json").read_text())
PATH = {name.removeprefix("path."): value for name, value in CASES.items() if name.startswith("path.")}


def linear(z, t, x_mask=None):
    """The model of the golden values."""
    return torch.einsum("ij,bjthw->bithw", CASES["linear.matrix"], z) * (0.5 + t / 1000).view(-1, 1, 1, 1, 1)


def close(a, b) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


# ---- golden values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", INFO["timestep_transform"], ids=lambda row: "x".join(map(str, row["size"])))
def test_the_transform_is_open_soras(row):
    num_frames, height, width = row["size"]
    u, wanted = torch.tensor(row["t"], dtype=torch.float64).T
    got = timestep_transform(u * 1000, num_frames=num_frames, height=height, width=width)
    assert close(got, wanted)
    repeated = torch.full((2,), num_frames), torch.tensor([height, height]), torch.tensor([width])
    assert timestep_transform(500.0, *repeated) == timestep_transform(500.0, *row["size"])


@pytest.mark.parametrize("number", [0, 1])
def test_the_sampler_is_open_soras(number):
    case, noise = INFO["samples"][number], CASES[f"sample{number}.noise"]
    options = dict(guidance=case["guidance"], unconditional=linear)
    got = sample(linear, noise, num_steps=case["steps"], size=case["pixels"], **options)
    assert close(got, CASES[f"sample{number}.result"])


def test_path_and_losses_are_open_soras():
    x0, noise, t, mask = (PATH[name] for name in ("x0", "noise", "timestep", "mask"))
    x = add_noise(x0, noise, t)
    assert close(x, PATH["x_t"])
    assert close(flow_loss(linear(x, t), x0, noise), PATH["loss"])
    x = add_noise(x0, noise, t, mask)
    assert torch.equal(x.transpose(1, 2)[~mask], x0.transpose(1, 2)[~mask])
    assert close(flow_loss(linear(x, t), x0, noise, mask), PATH["loss_masked"])


# ---- the path and its velocity ---------------------------------------------------------------------------------------


def test_the_path_is_straight_from_data_to_noise():
    x0, noise = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    for t, wanted in ((0.0, x0), (1000.0, noise)):
        assert torch.equal(add_noise(x0, noise, torch.full((2,), t)), wanted)
    early, late = (add_noise(x0, noise, torch.tensor([t, t])) for t in (400.0, 700.0))
    assert torch.allclose(early, late + velocity(x0, noise) * 0.3, atol=1e-6)  # towards data, along v


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_one_step_along_the_exact_velocity_is_the_data(method):
    x0, noise = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    got = sample(lambda z, t: velocity(x0, noise), noise, num_steps=1, method=method)
    assert torch.allclose(got, x0, atol=1e-6)


def test_half_precision_stays():
    x0 = torch.randn(1, 2, 3, 2, 2, dtype=torch.bfloat16)
    assert add_noise(x0, x0, torch.tensor([300.0])).dtype == torch.bfloat16
    assert sample(lambda z, t: z, x0, num_steps=3, shift=2).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_latents_are_walked_at_the_same_timesteps(dtype):
    """bfloat16 rounds timesteps to multiples of 4."""
    seen, noise = [], torch.zeros(2, 1, 1, 1, 1, dtype=dtype)

    def model(z, t):
        seen.append(t)
        return torch.ones_like(z)

    assert sample(model, noise, 30, shift=2.4187).dtype == dtype
    wanted = sampling_timesteps(30, shift=2.4187)[:-1].float()
    assert torch.equal(torch.stack(seen), wanted[:, None].expand(-1, 2))


def test_kept_frames_of_another_dtype_change_no_dtype():
    noise, edit = torch.randn(1, 4, 3, 2, 2), torch.tensor([[0.0, 0.5, 1]])
    got = sample(lambda z, t, x_mask: z, noise, 4, keep=torch.ones_like(noise).double(), edit=edit)
    assert got.dtype == torch.float32 and torch.equal(got[:, :, 0], torch.ones(1, 4, 2, 2))


# ---- timesteps -------------------------------------------------------------------------------------------------------


def test_the_shift_composes_and_keeps_the_ends():
    t = torch.linspace(0, 1000, 11, dtype=torch.float64)
    assert torch.allclose(shift_timestep(shift_timestep(t, 2), 3), shift_timestep(t, 6))
    assert torch.equal(shift_timestep(t, 3)[[0, -1]], t[[0, -1]])
    assert torch.allclose(shift_timestep(t, 1), t)


def test_the_shift_grows_with_pixels_and_latent_frames():
    assert timestep_shift(1, 512, 512) == 1
    assert timestep_shift(1, 1024, 1024, scale=0.5) == 1
    assert timestep_shift(17, 64, 64) == pytest.approx(5**0.5 / 8)
    assert timestep_shift(33, 64, 64) == timestep_shift(17, 64, 64)  # Open-Sora counts whole chunks only
    assert timestep_shift(34, 64, 64) == pytest.approx(10**0.5 / 8)


def test_scaling_latents_is_a_shift():
    """Latents of scale s under shift r have the ratio of data to noise of unit latents under shift r / s."""
    u, scale, shift = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 2.5, 3.0
    moved, other = shift_timestep(u * 1000, shift) / 1000, shift_timestep(u * 1000, shift / scale) / 1000
    assert torch.allclose(scale * (1 - moved) / moved, (1 - other) / other)


def test_a_recipe_draws_timesteps_as_the_flow_does():
    assert NAMES == SAMPLINGS


def test_drawn_timesteps_have_their_distribution():
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([0.1, 0.5, 0.9])
    uniform = draw_timesteps(100_000, generator=generator)
    assert torch.allclose(uniform.quantile(points), points * 1000, atol=6)
    wanted = torch.special.ndtri(points).sigmoid() * 1000
    middle = draw_timesteps(100_000, "logit-normal", generator=generator)
    assert torch.allclose(middle.quantile(points), wanted, atol=6)
    late = draw_timesteps(100_000, "logit-normal", shift=3, generator=generator)
    assert torch.allclose(late.quantile(points), shift_timestep(wanted, 3), atol=6)
    again = [draw_timesteps(5, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("num_frames", [2, 16])
def test_short_clips_need_the_quirk(num_frames):
    with pytest.raises(ValueError, match=rf"num_frames must be 1 or at least 17, got {num_frames}: .*timestep 0"):
        timestep_transform(900.0, num_frames=num_frames, height=256, width=256)
    t = torch.tensor([0.0, 900.0])
    assert torch.equal(timestep_transform(t, num_frames, 256, 256, quirks=True), torch.zeros(2))
    noise = torch.randn(1, 4, 4, 2, 2)  # and it comes back as it is: Open-Sora's issue #601
    assert torch.equal(sample(linear, noise, num_steps=4, size=(num_frames, 256, 256), quirks=True), noise)


def test_open_soras_sampler_forgets_the_scale():
    size = (51, 240, 426)
    plain, scaled, quirk = (
        sampling_timesteps(4, size, scale=scale, quirks=quirks) for scale, quirks in ((1, 0), (2, 0), (2, 1))
    )
    assert torch.equal(quirk, plain)
    assert torch.allclose(
        scaled[:-1], timestep_transform(torch.tensor([1000.0, 750, 500, 250]), *size, scale=2).double()
    )
    assert not torch.allclose(scaled, plain)


# ---- samplers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_steps", "shift"), [(8, 3.0), (30, timestep_shift(51, 240, 426)), (5, 0.5)])
def test_diffusers_scheduler_walks_the_same_way(num_steps, shift):
    """With sigmas that end above 0, and the velocity turned round."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_steps, num_steps))
    noise = torch.randn(2, 4, 5, 2, 2)
    z = noise
    for t in scheduler.timesteps:
        z = scheduler.step(-linear(z, t.expand(2)), t, z).prev_sample
    assert torch.allclose(scheduler.timesteps.double(), sampling_timesteps(num_steps, shift=shift)[:-1], atol=1e-3)
    assert close(sample(linear, noise, num_steps, shift=shift), z)


def test_diffusers_own_timesteps_are_shifted_twice():
    """https://github.com/huggingface/diffusers/issues/13243; if this fails, docs/generation.md can say less."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.4187)
    scheduler.set_timesteps(30)
    difference = scheduler.timesteps.double() - sampling_timesteps(30, shift=2.4187)[:-1]
    assert 60 < difference.abs().max() < 80


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_errors_fall_with_the_order_of_the_method(method, order):
    """dx/ds = k x has the solution x(0) = exp(-k) x(1)."""
    noise, k = torch.randn(1, 1, 2, 3, 3, dtype=torch.float64), 1.5
    wanted = noise * np.exp(-k)
    errors = [(sample(lambda z, t: -k * z, noise, n, method=method) - wanted).norm() for n in (40, 80)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def test_a_straight_path_does_not_bend_and_every_answer_is_its_end():
    x0, noise = torch.randn(2, 3, 4, 5, 2, 2, dtype=torch.float64)
    times = sampling_timesteps(4, shift=3).tolist()
    points = torch.stack([add_noise(x0, noise, torch.full((3,), t)) for t in times])
    velocities = velocity(x0, noise).expand(4, *x0.shape)
    path = FlowPath(times, points, velocities)
    assert path.answers.shape == (5, *x0.shape) and torch.allclose(path.answers, x0.expand(5, *x0.shape))
    assert path.bend.shape == (4, 3) and path.bend.abs().max() < 1e-12
    turned = velocities.clone()
    turned[1, 2] *= -1  # straight back: 2 d away from d
    assert torch.allclose(FlowPath(times, points, turned).bend[1], torch.tensor([0, 0, 4.0], dtype=torch.float64))
    assert torch.allclose(FlowPath(times, points, turned).answers[1, 2], points[1, 2] - 0.9 * velocities[1, 2])


def test_guidance_follows_its_formula():
    noise, zero = torch.randn(2, 4, 3, 2, 2), lambda z, t: torch.zeros_like(z)
    half = lambda z, t: linear(z, t) / 2  # noqa: E731
    got = sample(linear, noise, 6, guidance=3, unconditional=half)
    assert torch.allclose(got, sample(lambda z, t: 2 * linear(z, t), noise, 6), atol=1e-5)  # .5 + 3 (1 - .5)
    assert torch.equal(sample(linear, noise, 6, guidance=0, unconditional=zero), noise)


def open_soras_loop(model, noise, x0, edit, timesteps):
    """Open-Sora's way to keep frames, one frame after another."""
    frames = [noise[:, :, j] if edit[j] == 1 else x0[:, :, j] for j in range(len(edit))]
    begun = [value == 1 for value in edit]
    for t, after in zip(timesteps[:-1], timesteps[1:], strict=True):
        moving = [value * 1000 >= t for value in edit]
        for j in range(len(edit)):
            if moving[j] and not begun[j]:
                frames[j] = (1 - t / 1000) * frames[j] + t / 1000 * noise[:, :, j]
        begun = moving
        v = model(torch.stack(frames, 2), torch.full((len(noise),), float(t)))
        for j in range(len(edit)):
            if moving[j]:
                frames[j] = frames[j] + v[:, :, j] * float((t - after) / 1000)
    return torch.stack(frames, 2)


def test_kept_frames_stay_and_edited_ones_begin_late():
    noise, x0, seen = torch.randn(2, 4, 5, 2, 2), torch.randn(2, 4, 5, 2, 2), []

    def model(z, t, x_mask):
        seen.append(x_mask)
        return linear(z, t)

    edit = torch.tensor([0, 0.3, 0.55, 1, 1])
    got = sample(model, noise, 10, shift=2, keep=x0, edit=edit.expand(2, -1))
    assert torch.equal(got[:, :, 0], x0[:, :, 0])
    assert torch.allclose(got, open_soras_loop(linear, noise, x0, edit, sampling_timesteps(10, shift=2)), atol=1e-5)
    assert [mask.sum(1).tolist() for mask in seen][:1] == [[2, 2]] and seen[-1].sum(1).tolist() == [4, 4]
    everything = sample(lambda z, t, x_mask: linear(z, t), noise, 10, keep=x0, edit=torch.ones(2, 5))
    assert torch.equal(everything, sample(linear, noise, 10))


def test_each_step_can_be_watched():
    seen, noise = [], torch.randn(1, 4, 3, 2, 2)
    got = sample(linear, noise, 4, shift=3, on_step=lambda t, z, v: seen.append((t, z, v)))
    assert [t for t, _, _ in seen] == [900, 750, 500, 0]
    assert torch.equal(seen[-1][1], got)
    assert torch.equal(seen[0][2], linear(noise, torch.tensor([1000.0])))


def test_the_first_half_of_the_channels_is_the_velocity():
    noise = torch.randn(1, 4, 3, 2, 2)
    doubled = lambda z, t: torch.cat([linear(z, t), torch.full_like(z, torch.nan)], 1)  # noqa: E731
    assert torch.equal(sample(doubled, noise, 5), sample(linear, noise, 5))


Z = torch.zeros(2, 4, 5, 2, 2)
BAD = [
    (partial(sample, linear, Z, 0), "num_steps must be at least 1, got 0"),
    (partial(sample, linear, Z, 2.5), "num_steps must be an integer of at least 1, got 2.5"),
    (partial(sample, linear, Z, guidance="7", unconditional=linear), "guidance must be a finite number, got '7'"),
    (
        partial(sample, linear, Z, guidance=float("nan"), unconditional=linear),
        "guidance must be a finite number, got nan",
    ),
    (partial(sample, linear, Z, guidance=4), r"guidance \(4.0\) needs unconditional"),
    (partial(sample, linear, Z, method="rk4"), "method must be one of euler, heun, got 'rk4'"),
    (partial(sample, linear, Z[0]), r"noise must be a tensor of shape \(B, C, T, H, W\)"),
    (partial(sample, linear, Z, size=(17, 64, 64), shift=2), "must not both be given"),
    (partial(sample, linear, Z, size=(16, 64, 64)), "num_frames must be 1 or at least 17, got 16"),
    (partial(sample, linear, Z, size=(17, 64)), r"size must be \(T, H, W\), got \(17, 64\)"),
    (partial(sample, linear, Z, size=17), r"size must be \(T, H, W\), got 17"),
    (partial(sample, linear, Z, scale=2.0), r"scale \(2.0\) needs size: only Open-Sora's transform has it"),
    (partial(sample, linear, Z, shift=2, quirks=True), "quirks needs size"),
    (partial(sample, linear, Z, shift=0), "shift must be above 0 and finite, got 0"),
    (partial(sample, linear, Z, keep=Z), "keep and edit must be given together"),
    (
        partial(sample, linear, Z, keep=Z, edit=torch.ones(2, 4)),
        r"edit must hold numbers from 0 to 1 of shape \(2, 5\)",
    ),
    (partial(sample, linear, Z, keep=Z, edit=torch.full((2, 5), 1.5)), "edit must hold numbers from 0 to 1"),
    (partial(sample, linear, Z, keep=Z, edit="half"), "edit must hold numbers, got 'half'"),
    (partial(sample, linear, Z, keep=Z[:1], edit=torch.ones(2, 5)), r"keep must have the shape of the latents"),
    (partial(sample, linear, Z, keep=Z * torch.nan, edit=torch.ones(2, 5)), "keep must be finite"),
    (
        partial(sample, lambda z, t: z[:, :3], Z),
        r"the model must return \(B, 4 or 8, L, h, w\), got shape \(2, 3, 5, 2, 2\)",
    ),
    (partial(velocity_in, None, 4), "the model must return .*, got NoneType"),
    (partial(add_noise, Z, Z[:1], torch.zeros(2)), "noise must have the shape of the latents"),
    (partial(add_noise, Z, Z, torch.zeros(1)), r"timestep must have shape \(2,\), one for each clip"),
    (partial(add_noise, Z, Z, torch.zeros(2), torch.ones(2, 5)), r"mask must be bool of shape \(2, 5\)"),
    (partial(add_noise, Z, Z * torch.nan, torch.zeros(2)), "noise must be finite"),
    (
        partial(add_noise, Z, Z, torch.tensor([5.0, -3.0])),
        r"timestep must be from 0 \(data\) to 1000 \(noise\), got -3.0",
    ),
    (partial(add_noise, Z, Z, torch.tensor([torch.nan, 1.0])), "timestep must be from 0 .* got nan"),
    (partial(add_noise, Z, Z, "late"), "timestep must hold numbers, got 'late'"),
    (partial(shift_timestep, 1500.0, 3), r"t must be from 0 \(data\) to 1000 \(noise\), got 1500.0"),
    (partial(timestep_transform, "5", 17, 64, 64), "t must hold numbers, got '5'"),
    (partial(velocity, 1.0, Z), r"x0 must be a tensor of shape \(B, C, T, H, W\), got float"),
    (
        partial(flow_loss, Z[:1], Z, Z),
        r"predicted must have the shape of the latents, \(2, 4, 5, 2, 2\), got \(1, 4, 5",
    ),
    (partial(flow_loss, torch.zeros(2, 8, 5, 2, 2), Z, Z), "predicted must have the shape .* got \\(2, 8, 5"),
    (
        partial(flow_loss, Z, Z, Z, torch.tensor([[True] * 5, [False] * 5])),
        "mask must be True for a latent frame of each clip, got .*False",
    ),
    (partial(draw_timesteps, 3, "normal"), "sampling must be one of uniform, logit-normal, got 'normal'"),
    (partial(draw_timesteps, 3, shift=-1), "shift must be above 0 and finite, got -1"),
    (partial(timestep_transform, 5.0, 17, 0, 64), "height must be one number above 0, .* got 0"),
    (partial(timestep_transform, 5.0, 17.5, 64, 64), "num_frames must be an integer of at least 1, got 17.5"),
    (
        partial(timestep_transform, 5.0, torch.tensor([17, 34]), 64, 64),
        r"num_frames must be one number .* got \[17, 34\]",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
