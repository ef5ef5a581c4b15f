"""Winograd's convolution against torch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from vae_lab.utils.winograd import POINTS, kernel_at_points, matrices, winograd

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
ERROR = {2: 2e-6, 4: 8e-6}  # of the largest value, at 128 to 512 channels; torch's own convolution: 5e-7


def layer(outputs: int, channels: int, *kernel: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, channels, *kernel, generator=generator) / (channels * 9 * kernel[0]) ** 0.5


def clip(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def expected(x, weight, bias=None, padding=(0, 0), front=0, behind=0, stride=1):
    weight = weight.unsqueeze(2) if weight.ndim == 4 else weight
    padded = F.pad(x.double(), (padding[1], padding[1], padding[0], padding[0], front, behind))
    return F.conv3d(padded[None], weight.double(), None if bias is None else bias.double(), (stride, 1, 1))[0]


def error(y: torch.Tensor, reference: torch.Tensor) -> float:
    assert y.shape == reference.shape and y.dtype == torch.float32
    return float((y - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("m", [2, 4])
def test_matrices_convolve_one_line(m):
    a, b, g = matrices(m)
    generator = torch.Generator().manual_seed(0)
    line, kernel = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (m + 2, 3))
    wanted = torch.stack([line[i : i + 3] @ kernel for i in range(m)])
    torch.testing.assert_close(a @ ((g @ kernel) * (b @ line)), wanted, rtol=0, atol=1e-14)


def test_matrices_of_two_outputs_are_those_of_the_literature():
    """Lavin and Gray, section 4.1, whose first and last points have the opposite sign."""
    a, b, g = matrices(2)
    sign = torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)
    assert b[:, 0].tolist() == [-1, 0, 0, 0] and b[3].tolist() == [0, -1, 0, 1]
    assert (g * sign[:, None]).tolist() == [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    assert a.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("channels", "frames", "side"), [(128, 5, 9), (256, 3, 8), (512, 2, 8)])
def test_error_of_whole_layers(m, channels, frames, side):
    weight, x = layer(channels, channels, 3, 3, 3), clip(channels, frames, side, side)
    y = winograd(x, kernel_at_points(weight, m), padding=(1, 1), front=2)
    assert error(y, expected(x, weight, padding=(1, 1), front=2)) < ERROR[m]


def test_better_points_halve_the_error(monkeypatch):
    """The roots of 1/2 and 2 against the usual 1 and 2, both by the formula."""
    weight, x = layer(64, 256, 1, 3, 3), clip(256, 1, 24, 24)
    errors = []
    for points in [(0.5**0.5, 2**0.5), (1.0, 2.0)]:
        monkeypatch.setitem(POINTS, 4, points)
        a, b, g = matrices(4)
        tiles = x[:, 0].unfold(1, 6, 4).unfold(2, 6, 4).flatten(1, 2)  # (C, tiles, 6, 6)
        at, kernel = b.float() @ tiles @ b.float().T, (g @ weight[:, :, 0].double() @ g.T).float()
        y = a.float() @ torch.einsum("ocij,ctij->otij", kernel, at) @ a.float().T
        reference = expected(x, weight)[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).flatten(1, 2)
        errors.append(float((y - reference).square().mean().sqrt()))
    assert errors[0] < 0.55 * errors[1]


@settings(deadline=None, max_examples=40)
@given(
    m=st.sampled_from([2, 4]),
    size=st.tuples(st.integers(1, 6), st.integers(1, 13), st.integers(1, 13)),
    kernel=st.sampled_from([1, 2, 3]),
    padding=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    front=st.integers(0, 3),
    behind=st.integers(0, 2),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    last=st.booleans(),
    scratch=st.sampled_from([1, 40_000, 2**24]),
)
def test_any_size(m, size, kernel, padding, front, behind, stride, bias, last, scratch):
    """Odd sizes, single pixels and frames, strips of one row and of one frame: 8 channels suffice for that."""
    stride = 1 if kernel == 1 else stride
    if size[0] + front + behind < kernel:
        return
    weight, x = layer(16, 8, kernel, 3, 3), clip(8, *size)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    offset = clip(16) if bias else None
    shape = dict(padding=padding, front=front, behind=behind, stride=stride)
    y = winograd(x, kernel_at_points(weight, m), offset, scratch=scratch, **shape)
    assert error(y, expected(x, weight, offset, **shape)) < 1e-5


def test_images_need_no_axis_of_time():
    weight, x = layer(16, 8, 3, 3), clip(8, 3, 10, 11)
    assert error(winograd(x, kernel_at_points(weight, 4), padding=(1, 1)), expected(x, weight, padding=(1, 1))) < 1e-5


def test_strips_keep_temporary_tensors_small():
    """A frame with 32 rows of tiles: what is allocated beside the output stays below the limit."""
    weight, x = layer(128, 128, 3, 3), clip(128, 1, 128, 128).contiguous(memory_format=torch.channels_last)
    kernel, limit = kernel_at_points(weight, 4), 2**21
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        winograd(x, kernel, padding=(1, 1), scratch=limit)
    largest = [max(event.cpu_memory_usage, 0) for event in profile.events() if event.name == "aten::empty"]
    output = 4 * 128 * 128 * 128
    assert sorted(largest)[-1] == output and limit / 2 < sorted(largest)[-2] < limit
