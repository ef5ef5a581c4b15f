import pytest
import torch
from hypothesis import given, strategies as st

from vae_lab import CausalConv3d
from vae_lab.shapes import conv_output_size, time_padding


def ones(kernel_size, **arguments) -> CausalConv3d:
    conv = CausalConv3d(1, 1, kernel_size, bias=False, **arguments)
    torch.nn.init.ones_(conv.conv.weight)
    return conv


def over_time(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1, 1)


def test_values_computed_by_hand():
    x = over_time([1, 2, 3, 4])
    assert ones((3, 1, 1))(x).flatten().tolist() == [1, 3, 6, 9]  # 001 012 123 234
    assert ones((3, 1, 1), stride=(2, 1, 1))(x).flatten().tolist() == [3, 9]  # 012 234
    assert ones((3, 1, 1), dilation=(2, 1, 1))(x).flatten().tolist() == [1, 2, 4, 6]  # 1 2 13 24
    assert ones((3, 1, 1), pad_mode="replicate")(x).flatten().tolist() == [3, 4, 6, 9]  # 111 112 123 234
    assert ones((3, 1, 1), pad_mode="reflect")(x).flatten().tolist() == [6, 5, 6, 9]  # 321 212 123 234


def test_time_padding_is_in_front_and_space_is_padded_on_both_sides():
    conv = ones(3)
    impulse = torch.zeros(1, 1, 5, 7, 7)
    impulse[0, 0, 2, 3, 3] = 1
    moved = conv(impulse)[0, 0].nonzero()
    assert moved.min(0).values.tolist() == [2, 2, 2]
    assert moved.max(0).values.tolist() == [4, 4, 4]


@given(
    frames=st.integers(1, 12), kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    space=st.sampled_from([1, 3, 5]), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_sizes_and_causality(frames, kernel, stride, dilation, space, dtype):
    if stride > dilation * (kernel - 1) + 1 or frames < stride:
        return
    torch.manual_seed(0)
    conv = CausalConv3d(2, 3, (kernel, space, space), (stride, 1, 1), (dilation, 1, 1)).to(dtype)
    x = torch.randn(1, 2, frames, 4, 6, dtype=dtype)
    y = conv(x)
    outputs = conv_output_size(frames, kernel, stride, dilation, time_padding(kernel, stride, dilation))
    assert y.shape == (1, 3, outputs, 4, 6)
    for t in range(frames):
        changed = x.clone()
        changed[:, :, t] += 1
        moved = (conv(changed) != y).any(dim=(0, 1, 3, 4)).nonzero().flatten()
        assert (moved >= t // stride).all()  # nothing before the group of t


@given(
    pieces=st.lists(st.integers(1, 5), min_size=1, max_size=5), kernel=st.integers(1, 4), stride=st.integers(1, 3),
    dilation=st.integers(1, 2), pad_mode=st.sampled_from(["constant", "replicate"]),
)  # fmt: skip
def test_step_over_any_pieces_equals_forward(pieces, kernel, stride, dilation, pad_mode):
    if stride > dilation * (kernel - 1) + 1 or sum(pieces) < stride:
        return
    torch.manual_seed(0)
    conv = CausalConv3d(2, 3, (kernel, 3, 3), (stride, 1, 1), (dilation, 1, 1), pad_mode).double()
    x = torch.randn(2, 2, sum(pieces), 4, 4, dtype=torch.double)
    past, outputs = None, []
    for piece in x.split(pieces, dim=2):
        y, past = conv.step(piece, past)
        outputs.append(y)
    joined, whole = torch.cat(outputs, dim=2), conv(x)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() < 1e-12
    assert past.shape[2] <= dilation * (kernel - 1) + stride


def test_arguments_have_torchs_meaning():
    conv = CausalConv3d(2, 3, 3, stride=2)
    assert conv.conv.stride == (2, 2, 2)
    assert conv(torch.zeros(1, 2, 8, 10, 12)).shape == (1, 3, 4, 5, 6)
    assert CausalConv3d(2, 3, 3, dilation=2)(torch.zeros(1, 2, 8, 10, 12)).shape == (1, 3, 8, 10, 12)
    assert CausalConv3d(2, 3, 3, bias=False).conv.bias is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(kernel_size=2), "kernel_size in height and width must be odd, got 2"),
        (dict(kernel_size=(3, 3, 4)), "kernel_size in height and width must be odd, got 4"),
        (dict(kernel_size=(3, 3)), r"kernel_size must be an int or \(time, height, width\), got \(3, 3\)"),
        (dict(kernel_size=1, stride=(2, 1, 1)), r"stride \(2\) must not be larger than the kernel's reach"),
        (dict(kernel_size=3, stride=0), "stride must be at least 1, got 0"),
        (dict(kernel_size=3, pad_mode="circular"), "pad_mode must be one of .* got 'circular'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalConv3d(1, 1, **arguments)


def test_reflect_needs_frames_to_reflect():
    conv = CausalConv3d(1, 1, 3, pad_mode="reflect")
    with pytest.raises(
        ValueError, match=r'pad_mode "reflect" needs more than \(T, H, W\) = \(2, 1, 1\).*got \(2, 4, 4\)'
    ):
        conv(torch.zeros(1, 1, 2, 4, 4))
    with pytest.raises(ValueError, match='^step needs time_pad_mode "constant" or "replicate": "reflect"'):
        conv.step(torch.zeros(1, 1, 4, 4, 4))


def test_not_causal_is_torchs_own_padding():
    for kernel, stride, dilation in ((3, 1, 1), (5, 1, 2), (3, 2, 1), (1, 1, 1)):
        torch.manual_seed(0)
        ours = CausalConv3d(2, 3, (kernel, 3, 3), (stride, 1, 1), (dilation, 1, 1), is_causal=False)
        padding = (dilation * (kernel // 2), 1, 1)
        torchs = torch.nn.Conv3d(2, 3, (kernel, 3, 3), (stride, 1, 1), padding, (dilation, 1, 1))
        torchs.load_state_dict(ours.conv.state_dict())
        x = torch.randn(1, 2, 8, 5, 5)
        torch.testing.assert_close(ours(x), torchs(x))
    with pytest.raises(ValueError, match="kernel_size in time must be odd if is_causal is False, got 2"):
        CausalConv3d(1, 1, (2, 1, 1), is_causal=False)
    with pytest.raises(ValueError, match="step needs is_causal=True"):
        ours.step(x)


def test_time_can_be_padded_in_another_way_than_space():
    x = over_time([1, 2, 3, 4])
    assert ones((3, 1, 1), time_pad_mode="replicate")(x).flatten().tolist() == [3, 4, 6, 9]  # 111 112 123 234
    assert ones(3, time_pad_mode="replicate")(x).flatten().tolist() == [3, 4, 6, 9]  # height and width have zeros
    assert ones(3, pad_mode="replicate", time_pad_mode="constant")(x).flatten().tolist() == [9, 27, 54, 81]
    assert ones((3, 1, 1), time_pad_mode="reflect", is_causal=False)(x).flatten().tolist() == [5, 6, 9, 10]
    with pytest.raises(ValueError, match=r'^time_pad_mode "reflect" needs .* = \(2, 0, 0\).*got \(2, 1, 1\)'):
        ones(3, time_pad_mode="reflect")(x[:, :, :2])
    with pytest.raises(ValueError, match="time_pad_mode must be one of .* got 'zeros'"):
        ones(3, time_pad_mode="zeros")
    conv = ones((3, 1, 1), time_pad_mode="replicate")
    first, past = conv.step(x[:, :, :1])
    assert first.item() == 3 and conv.step(x[:, :, 1:], past)[0].flatten().tolist() == [4, 6, 9]
