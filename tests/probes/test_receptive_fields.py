from math import inf

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import small_vae
from vae_lab import CausalConv3d, TemporalVAE
from vae_lab.probes.dependency import frame_dependency
from vae_lab.probes.receptive_fields import receptive_field
from vae_lab.shapes import stacked_reach

RELEASED = dict(base_channels=2, num_res_blocks=4, channel_multipliers=(1, 1, 1, 1), norm_num_groups=1)


def temporal(norm: str = "frame_group", **config) -> TemporalVAE:
    torch.manual_seed(0)
    return TemporalVAE(**config | dict(norm=norm)).eval().double().requires_grad_(False)


def encoder(vae):
    return lambda x: vae.encode(x).latent_dist.mode()


def decoder(vae):
    return lambda z: vae.decode(z, z.shape[2] * vae.temporal_compression_ratio).sample


def clip(frames: int, height: int = 1, width: int = 1, channels: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, frames, height, width, dtype=torch.double)


def convs(*layers: dict) -> nn.Module:
    return nn.Sequential(*(nn.Conv3d(1, 1, **layer) for layer in layers)).double()


def values(field) -> tuple:
    return field.graph, field.gradient, field.cut


@pytest.mark.parametrize("space", [1, 2])
def test_released_depths_encoder_sees_201_frames(space):
    field = receptive_field(encoder(temporal(**RELEASED)), clip(212, space, space))
    assert values(field.time) == (201, 201, False)
    assert field.time.first + 200 == 4 * field.time.output + 3  # up to the end of its own group
    assert field.height.graph == field.width.graph == inf  # the norm pools over a frame


def test_released_depths_decoder_sees_54_latents_or_in_the_worst_phases_55():
    vae = temporal(**RELEASED)
    field = receptive_field(decoder(vae), clip(60))
    assert values(field.time) == (55, 55, False)
    seen = frame_dependency(lambda z: decoder(vae)(z)[:, :, -4:], clip(60), "gradient")
    sizes = [last - first + 1 for first, last in map(seen.seen, range(4))]
    assert sizes == [55, 55, 54, 54]  # the last latent's four frames: upsampling by 2, twice, after odd reaches
    assert field.time.output % 4 in (0, 1)


def test_group_norm_sees_the_whole_clip():
    field = receptive_field(encoder(temporal("group", **RELEASED)), clip(20, 3, 3))
    assert [values(axis) for axis in field[:3]] == [(inf, 20, True), (inf, 3, True), (inf, 3, True)]
    assert field.time.output == 2  # the middle one
    assert "time: by operations unbounded, by gradient at least 20, bulk of it in" in repr(field)


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 1, 1)] * 3,
        [(3, 2, 1)] * 3,
        [(3, 1, 2), (5, 2, 1), (2, 3, 3), (4, 1, 1)],
        [(1, 1, 1)],
        [(2, 4, 1)],  # stride beyond the kernel: samples that nothing sees
    ],
)
def test_a_stack_of_convolutions_is_what_shapes_says(layers):
    for k, axis in enumerate(("time", "height", "width")):
        one = lambda value, other, k=k: tuple(value if d == k else other for d in range(3))  # noqa: E731
        model = convs(
            *(dict(kernel_size=one(n, 1), stride=one(s, 1), dilation=one(d, 1), padding=one(d * (n // 2), 0))
              for n, s, d in layers)
        )  # fmt: skip
        x = clip(*one(90, 2), channels=1)
        field = receptive_field(model, x)
        assert values(getattr(field, axis)) == (stacked_reach(layers), stacked_reach(layers), False)
        others = [getattr(field, name) for name in ("time", "height", "width") if name != axis]
        assert [(other.graph, other.gradient) for other in others] == [(1, 1)] * 2


def test_a_field_that_the_input_cuts_is_said_to_be_cut():
    model = convs(dict(kernel_size=(9, 1, 1), padding=(4, 0, 0)))
    assert values(receptive_field(model, clip(30, channels=1)).time) == (9, 9, False)
    assert values(receptive_field(model, clip(12, channels=1)).time) == (9, 9, False)
    assert values(receptive_field(model, clip(8, channels=1)).time) == (9, 8, True)
    assert values(receptive_field(model, clip(5, channels=1)).time) == (9, 5, True)


def test_a_field_cut_on_one_side_only():
    conv = convs(dict(kernel_size=(9, 1, 1)))
    causal = lambda x: conv(F.pad(x, (0, 0, 0, 0, 8, 0)))[:, :, :6]  # noqa: E731
    assert values(receptive_field(causal, clip(8, channels=1)).time) == (9, 6, True)
    backwards = lambda x: conv(F.pad(x, (0, 0, 0, 0, 0, 8)))[:, :, 2:]  # noqa: E731
    assert values(receptive_field(backwards, clip(8, channels=1)).time) == (9, 6, True)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.filterwarnings("ignore:TF32")
def test_both_operators_of_a_convolution_in_float32_are_followed(flag):
    conv = CausalConv3d(1, 1, (5, 3, 1), (2, 1, 1), (2, 1, 1))
    with torch.backends.mkldnn.flags(enabled=flag):
        found = receptive_field(conv, torch.rand(1, 1, 40, 9, 9))
    assert [values(axis) for axis in found[:3]] == [(9, 9, False), (3, 3, False), (1, 1, False)]


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.filterwarnings("ignore:TF32")
def test_frames_that_a_causal_convolution_cuts_off_are_no_upsampling(flag):
    """9 frames, of which oneDNN makes 11, become 18, and not 22."""
    before, after = CausalConv3d(1, 2, (3, 1, 1)), CausalConv3d(1, 1, (3, 1, 1))
    doubled = lambda x: after(before(x).transpose(1, 2).flatten(1, 2)[:, None])  # noqa: E731
    with torch.backends.mkldnn.flags(enabled=flag):
        assert values(receptive_field(doubled, torch.rand(1, 1, 9, 3, 3)).time) == (4, 4, False)


def test_gradients_are_found_under_no_grad():
    x = clip(9, channels=1).requires_grad_()
    with torch.no_grad():
        assert receptive_field(convs(dict(kernel_size=(3, 1, 1))), x).time.gradient == 3
    assert x.grad is None


class Up(nn.Module):
    """conv, upsampling by `factor` in all axes, conv: the window's phase decides what it sees."""

    def __init__(self, factor: int, kernel: int, mode: str = "nearest"):
        super().__init__()
        self.factor, self.mode = factor, mode
        self.before = nn.Conv3d(1, 1, 3, padding=1).double()
        self.after = nn.Conv3d(1, 1, kernel, padding=kernel // 2).double()

    def forward(self, x):
        return self.after(F.interpolate(self.before(x), scale_factor=self.factor, mode=self.mode))


@pytest.mark.parametrize(("factor", "kernel"), [(2, 1), (2, 3), (2, 5), (3, 3), (4, 5)])
def test_upsampling_in_its_worst_phase(factor, kernel):
    field = receptive_field(Up(factor, kernel), clip(9, 8, 7, channels=1))
    for axis in field[:3]:
        assert axis.graph == axis.gradient == max((p + kernel - 1) // factor + 1 for p in range(factor)) + 2
        assert not axis.cut


def test_what_cannot_be_followed_is_none_with_its_reason():
    def reason(f, x=None):
        field = receptive_field(f, clip(12, 4, 4) if x is None else x).time
        assert field.graph is None
        return field.reason

    conv = nn.Conv3d(4, 4, 3, padding=1).double()
    assert reason(lambda x: x.roll(1, dims=2)) == "roll is not followed"
    assert reason(lambda x: x + x.mean(dim=2, keepdim=True)) == "mean is not followed"
    assert reason(lambda x: F.avg_pool3d(x, 2)) == "avg_pool3d is not followed"
    assert reason(lambda x: x.softmax(dim=-1)) == "softmax is not followed"
    assert reason(lambda x: conv(x[:, :, ::2])) == (
        "12 frames become 6 between the input and conv3d 0, by something that is not followed"
    )
    assert "several times" in reason(lambda x: torch.cat([conv(chunk) for chunk in x.split(6, dim=2)], dim=2))
    assert "interpolate with mode 'trilinear' of 5 axes" in reason(
        lambda x: F.interpolate(x, scale_factor=2, mode="trilinear")
    )
    assert "interpolate from 12 to 15" in reason(lambda x: F.interpolate(x, size=(15, 4, 4)))
    assert "batch_norm in training mode" in reason(lambda x: F.batch_norm(x, None, None, training=True))
    assert "by upsampling or by padding: give a larger x" in reason(
        lambda x: conv(x).repeat_interleave(2, dim=2), clip(4, 4, 4)
    )
    tokens = lambda x: x.flatten()[:20].view(1, 5, 4)  # noqa: E731  neither frames nor clips
    attend = F.scaled_dot_product_attention
    assert (
        reason(lambda x: x + attend(tokens(x), tokens(x), tokens(x))[0, 0, 0])
        == "attention over 5 tokens is not followed"
    )
    # a shift by indexing is not seen, but what it does to the gradient is
    behind = lambda x: conv(x) + torch.cat([x[:, :, :1].expand(-1, -1, 4, -1, -1), x[:, :, :-4]], dim=2)  # noqa: E731
    assert reason(behind) == "the operations that were followed give 3, but the gradient reaches 6"
    strided = nn.Conv3d(4, 4, (2, 1, 1), stride=(2, 1, 1)).double()
    assert "follows an upsampling with a stride" in reason(lambda x: strided(F.interpolate(x, scale_factor=2)))


def test_what_stays_within_the_channels_is_followed():
    norm = lambda x: x / (x.square().mean(dim=1, keepdim=True) + 1).sqrt()  # noqa: E731
    assert receptive_field(norm, clip(3)).time.graph == 1
    assert receptive_field(lambda x: x.softmax(dim=1) * 2, clip(3)).time.graph == 1
    assert receptive_field(lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)), clip(3).float()).time.graph == 1


def test_attention_over_frames_and_over_clips():
    def attend(x):  # (N, C, *cells): all cells see all cells
        tokens = x.flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])

    conv = nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)).double()
    flat = nn.Conv2d(4, 4, 1).double()

    def frame_by_frame(x):
        frames = flat(conv(x).transpose(1, 2).flatten(0, 1))
        frames = F.group_norm(frames.flatten(2), 2).unflatten(2, frames.shape[2:])  # as diffusers' attention does
        return attend(frames).unflatten(0, (1, -1)).transpose(1, 2)

    field = receptive_field(frame_by_frame, clip(6, 3, 2))
    assert [values(axis) for axis in field[:3]] == [(3, 3, False), (inf, 3, True), (inf, 2, True)]
    field = receptive_field(lambda x: attend(conv(x)), clip(6, 3, 2))
    assert [values(axis) for axis in field[:3]] == [(inf, 6, True), (inf, 3, True), (inf, 2, True)]


def test_padding_shorter_than_the_kernel_is_no_upsampling():
    conv = nn.Conv3d(4, 4, (3, 1, 1)).double()
    assert receptive_field(lambda x: conv(F.pad(x, (0, 0, 0, 0, 2, 0))), clip(2)).time.graph == 3


def test_the_stack_in_time():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None).double()
    vae.spatial.register_to_config(micro_batch_size=None)
    field = receptive_field(encoder(vae), clip(13, 16, 16, channels=3))
    assert field.time.graph == 53
    assert field.height.graph == field.width.graph == inf
    decode = receptive_field(decoder(vae.temporal), clip(24, 2, 2))
    assert values(decode.time) == (18, 18, False)


def test_chunks_bound_the_gradient_and_are_not_followed():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=9).temporal.double()
    run = lambda x: torch.cat([encoder(vae)(chunk) for chunk in x.split(9, dim=2)], dim=2)  # noqa: E731
    field = receptive_field(run, clip(27)).time
    assert values(field) == (None, 9, False)
    assert field.first == 9


def test_the_window_is_the_shortest_that_holds_its_share():
    weights = torch.tensor([0, 1, 0, 96, 2, 1, 0.0])  # of the frames that output j sees, from j - 3 on
    kernel = weights.view(1, 1, 7, 1, 1).double()
    f = lambda x: F.conv3d(x, kernel, padding=(3, 0, 0))  # noqa: E731
    for share, window in (
        (0.9, (0, 0)),
        (0.97, (0, 1)),
        (0.98, (0, 1)),
        (0.985, (0, 2)),
        (0.99, (0, 2)),
        (0.995, (-2, 2)),
    ):
        field = receptive_field(f, clip(15, channels=1), share)
        assert tuple(np.array(field.time.window) - field.time.output) == window
        assert field.time.effective == window[1] - window[0] + 1
        assert field.share == share
    assert (field.time.gradient, field.time.graph) == (5, 7)  # the kernel's zeros are not seen
    np.testing.assert_allclose(field.time.mass[field.time.first :][:5], np.array([1, 0, 96, 2, 1]) / 100, rtol=1e-12)


def test_a_map_that_does_not_look_at_its_input():
    constant = torch.ones(1, 1, 2, 1, 1, dtype=torch.double, requires_grad=True)
    field = receptive_field(lambda x: constant * 2, clip(3)).time
    assert (field.gradient, field.effective, field.cut, field.mass.sum()) == (0, 0, False, 0)


def test_results_read_well_and_plot():
    field = receptive_field(convs(dict(kernel_size=(3, 1, 1), padding=(1, 0, 0))), clip(9, 3, 1, channels=1))
    assert repr(field).splitlines()[0] == (
        "ReceptiveField of one output sample, in input samples (bulk: 99% of the gradient)"
    )
    assert repr(field).splitlines()[1].startswith("  time: by operations 3, by gradient 3, bulk of it in ")
    table = field.table()
    assert table.index.tolist() == ["time", "height", "width"]
    assert table["graph"].tolist() == [3, 1, 1] and table["gradient"].tolist() == [3, 1, 1]
    figure = field.plot("height", chunk=2)
    assert figure.axes[0].get_xlabel() == "input row"
    assert figure.axes[0].get_title() == f"what output row {field.height.output} sees"
    lost = receptive_field(lambda x: x.flip(2), clip(3))
    assert "time: by operations not followed, by gradient 1" in repr(lost) and "\n    flip is not followed" in repr(
        lost
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: receptive_field(None, clip(3)), "f must be a function .*, got NoneType"),
        (lambda: receptive_field(lambda x: x, clip(3)[0]), "x must be a tensor of shape"),
        (lambda: receptive_field(lambda x: x[0], clip(3)), r"f\(x\) must be a tensor of shape"),
        (lambda: receptive_field(F.dropout, clip(3)), "f must give the same output twice"),
        (lambda: receptive_field(lambda x: x.detach() * 2, clip(3)), "f must let gradients through"),
        (lambda: receptive_field(lambda x: x * 2, clip(3), 1.0), "share must be between 0 and 1, got 1.0"),
        (lambda: receptive_field(lambda x: x * 2, clip(3)).plot("t"), "axis must be one of .*, got 't'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
