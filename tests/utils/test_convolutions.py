import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vae_lab.utils.convolutions import SHORT, WIDE, Conv3d

# Warnings of torch's modules, at the first import
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TF32")
SMALL = (1, 4, 5, 8, 8)  # far below the 20,480 from which on torch itself calls oneDNN


def conv(**arguments) -> Conv3d:
    torch.manual_seed(0)
    return Conv3d(4, 6, 3, padding=(0, 1, 1), **arguments)


def expected(conv, x, front):
    padded = F.pad(x.double(), (1, 1, 1, 1, front, 0))
    bias = None if conv.bias is None else conv.bias.double()
    return F.conv3d(padded, conv.weight.double(), bias, conv.stride, 0, conv.dilation).to(x.dtype)


def operator(y: torch.Tensor) -> str:
    """The operator that made y, which may be a part of its output."""
    node = y.grad_fn
    while "Convolution" not in node.name():
        node = node.next_functions[0][0]
    return node.name()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize(("stride", "dilation", "front"), [(1, 1, 2), (1, 2, 4), (2, 1, 1), (3, 2, 2), (1, 1, 0)])
def test_zeros_are_in_front_alone(stride, dilation, front, frames, bias, dtype):
    layer = conv(stride=(stride, 1, 1), dilation=(dilation, 1, 1), bias=bias).to(dtype)
    if frames + front > 2 * dilation:
        x = torch.randn(2, 4, frames, 5, 6, dtype=dtype)
        torch.testing.assert_close(layer(x, front), expected(layer, x, front), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer(x[:1], front), expected(layer, x[:1], front), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
def test_onednn_computes_small_clips_too():
    layer, x = conv(), torch.randn(SMALL)
    assert operator(layer(x, 2)) == "MkldnnConvolutionBackward0"
    with torch.backends.mkldnn.flags(enabled=False):
        assert operator(layer(x, 2)) == "ConvolutionBackward0"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_clip_shorter_than_the_kernel_is_refused(dtype):
    """Cutting what oneDNN returns must not make an empty clip of it."""
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        conv(stride=(2, 1, 1)).to(dtype)(torch.zeros(1, 4, 1, 8, 8, dtype=dtype), 1)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
def test_wide_convolutions_of_few_frames_leave_zeros_out():
    """Such a call multiplies three frames of the kernel less, and gives what the others give."""
    torch.manual_seed(0)
    layer = Conv3d(WIDE, WIDE, 3, padding=(0, 1, 1))
    for frames, calls in ((2, 1), (3, 3), (SHORT, 3), (SHORT + 1, 1)):
        x = torch.randn(1, WIDE, frames, 2, 3)
        with torch.profiler.profile() as profile:
            y = layer(x, 2)
        assert sum(event.name == "aten::mkldnn_convolution" for event in profile.events()) == calls
        torch.testing.assert_close(y, expected(layer, x, 2), rtol=1e-4, atol=1e-5)


def test_time_may_be_padded_at_both_ends_too():
    layer, x = Conv3d(4, 6, 3, padding=1), torch.randn(SMALL)
    torch.testing.assert_close(layer(x, 1), layer.double()(x.double(), 1).float(), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_torchs_convolution():
    layer, x = conv(), torch.randn(SMALL, requires_grad=True)
    leaves = (x, *layer.parameters())
    found = torch.autograd.grad(layer(x, 2).square().sum(), leaves)
    for one, other in zip(found, torch.autograd.grad(expected(layer, x, 2).square().sum(), leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_what_follows_operations_sees_torchs_convolution():
    layer, x = conv(), torch.randn(SMALL)
    with FlopCounterMode(display=False) as counter:
        layer(x, 2)
    assert counter.get_total_flops() == 2 * 27 * 4 * 6 * 5 * 8 * 8
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x, 2).dtype == torch.bfloat16
    y, tangent = torch.func.jvp(lambda x: layer(x, 2), (x,), (x,))
    torch.testing.assert_close(tangent, y - layer.bias.view(-1, 1, 1, 1), rtol=1e-4, atol=1e-4)
    with torch.autograd.forward_ad.dual_level():
        dual = layer(torch.autograd.forward_ad.make_dual(x, x), 2)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent)
    two = torch.stack([x, 2 * x])
    mapped = torch.func.vmap(lambda x: layer(x, 2))(two)
    torch.testing.assert_close(mapped, torch.stack([layer(x, 2) for x in two]))
    assert "mkldnn" not in str(torch.jit.trace(layer, x, check_trace=False).inlined_graph)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
    assert layer(fake, 2).shape == (1, 6, 5, 8, 8)
    assert layer.to("meta")(x.to("meta"), 2).shape == (1, 6, 5, 8, 8)
