import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLHunyuanVideo, AutoencoderKLWan
from torch import nn

from tests.helpers import SMALL_TEMPORAL, small_vae
from vae_lab import CausalConv3d, TemporalVAE
from vae_lab.probes.attribution import attribute_leak


def small(norm: str, **config) -> TemporalVAE:
    torch.manual_seed(0)
    config = SMALL_TEMPORAL | dict(temporal_downsample=(True, True), norm=norm) | config
    return TemporalVAE(**config).eval().double()


def clip(frames: int, size: int = 3, channels: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, frames, size, size, dtype=torch.double)


def encode(vae, x, frame=None):
    return attribute_leak(vae, lambda x: vae.encode(x).latent_dist.mode(), x, frame)


def decode(vae, z, *num_frames, frame=None):
    return attribute_leak(vae, lambda z: vae.decode(z, *num_frames).sample, z, frame)


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("frame", [None, 2])
def test_the_first_group_norm_of_the_released_architecture_is_named(frame):
    vae = small("group")
    found = encode(vae, clip(17), frame)
    assert [(o.path, o.kind, o.call) for o in found.offenders] == [
        ("encoder.down_blocks.0.resnets.0.norm1", "GroupNorm", 0)
    ]
    assert found.first is found.offenders[0]
    assert found.moved > 0 or frame == 2  # after frame 2 of 17, a map to 5 frames has no past for certain
    found = decode(vae, clip(5), 17, frame=frame)
    assert [(o.path, o.kind) for o in found.offenders] == [("decoder.mid_block.resnets.0.norm1", "GroupNorm")]
    assert hooks(vae) == 0


@pytest.mark.parametrize("frame", [None, 1, 2, 4])
@pytest.mark.parametrize("frames", [5, 16, 17])
def test_nothing_is_named_in_a_causal_model(frames, frame):
    vae = small("frame_group", pad_mode="replicate")
    found = encode(vae, clip(frames), frame)
    assert (found.offenders, found.first, found.moved) == ((), None, 0)
    assert found.compared == 55
    latents = -(-frames // 4)
    found = decode(vae, clip(latents), frames, frame=min(frame or 1, latents - 1))
    assert (found.offenders, found.moved) == ((), 0)


def test_the_amount_is_how_far_the_past_moved():
    norm = nn.GroupNorm(1, 1, affine=False).double()
    x = clip(4, channels=1)
    found = attribute_leak(norm, norm, x, frame=3, seed=5, size=2.0)
    noise = torch.randn(1, 1, 1, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    moved = (norm(torch.cat([x[:, :, :3], x[:, :, 3:] + 2 * noise], dim=2)) - norm(x))[:, :, :3].abs().max().item()
    assert found.first.moved == pytest.approx(moved, rel=1e-12) == found.moved
    assert found.first.frames == (3, 4)
    assert (found.first.path, found.frame, found.num_frames, found.compared) == ("", 3, 4, 1)
    assert repr(found.first) == f"the model GroupNorm: past outputs moved by {moved:.1e}"


def test_the_stack_names_the_module_of_its_temporal_half():
    vae = small_vae(micro_frame_size=9).double()
    found = encode(vae, clip(18, 16, channels=3))
    assert [(o.path, o.call) for o in found.offenders] == [("temporal.encoder.down_blocks.0.resnets.0.norm1", 1)]
    assert "norm1 GroupNorm (call 1): past outputs moved by" in repr(found)
    assert decode(vae, clip(5, 2), 17).first.path == "temporal.decoder.mid_block.resnets.0.norm1"


class SymmetricConv3d(CausalConv3d):
    """Pads as much behind as in front: one frame of the future gets in."""

    def forward(self, x):
        return self.conv(F.pad(x, (0, 0, 0, 0, 1, 1)))


@pytest.mark.parametrize("frame", [None, 4])
def test_a_planted_convolution_is_named(frame):
    vae = small("frame_group")
    for block in (vae.encoder.down_blocks[1].resnets[0], vae.decoder.up_blocks[2].resnets[0]):
        width = block.conv1.conv.weight.shape[0]
        block.conv1 = SymmetricConv3d(width, width, 3).double()
    found = encode(vae, clip(16), frame)
    assert [(o.path, o.kind, o.frames) for o in found.offenders] == [
        ("encoder.down_blocks.1.resnets.0.conv1", "SymmetricConv3d", (1, 8))
    ]
    # the change of the last latent is one of 4 frames there, and reaches one more
    found = decode(vae, clip(4), 16, frame=frame and 3)
    assert [(o.path, o.frames) for o in found.offenders] == [("decoder.up_blocks.2.resnets.0.conv1", (1, 16))]


def test_a_leak_within_a_group_is_none():
    vae = small("frame_group")
    vae.encoder.conv_in = SymmetricConv3d(4, 4, 3).double()
    assert encode(vae, clip(16), 15).offenders == ()  # frame 14 belongs to the same latent
    assert encode(vae, clip(16), 12).first.path == encode(vae, clip(16)).first.path == "encoder.conv_in"


def test_convolutions_with_padding_of_their_own_are_held_to_their_stride():
    for stride, moved in ((1, 1), (2, 0)):
        conv = nn.Conv3d(1, 1, 3, (stride, 1, 1), padding=1).double()
        found = attribute_leak(conv, conv, clip(8, channels=1), frame=5)
        assert [o.frames[0] for o in found.offenders] == [moved] * (moved > 0)
    conv = nn.Conv3d(1, 1, (7, 1, 1), (2, 1, 1)).double()  # padded outside, as a causal one: 4 frames become 2
    assert not attribute_leak(conv, lambda x: conv(F.pad(x, (0, 0, 0, 0, 5, 0))), clip(4, channels=1), frame=1).first


class Mix(nn.Module):
    """Children that see one frame each, and code of its own that does not."""

    def __init__(self, leaks: bool):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.leaks = leaks

    def forward(self, x):
        x = self.second(self.first(x) * 2)
        return x + x.mean(dim=2, keepdim=True) if self.leaks else x


def test_code_inside_a_module_is_laid_to_the_module():
    model = nn.Sequential(Mix(False), nn.Sequential(Mix(True)), Mix(False))
    found = attribute_leak(model, model, clip(4))
    assert [(o.path, o.kind) for o in found.offenders] == [("1.0", "Mix")]


class Cropped(nn.Module):
    """A convolution padded on both sides whose last outputs are thrown away: causal as a whole."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, (3, 1, 1), padding=(2, 0, 0)).double()

    def forward(self, x):
        return self.conv(x)[:, :, :-2]


def test_a_leak_that_stays_inside_a_module_is_not_one():
    model = Cropped()
    assert attribute_leak(model, model, clip(6, channels=1)).offenders == ()
    assert attribute_leak(model.conv, model.conv, clip(6, channels=1)).offenders != ()


def test_a_leak_outside_the_modules_is_told():
    model = nn.Identity()
    found = attribute_leak(model, lambda x: model(x) + x.mean(dim=2, keepdim=True), clip(3))
    assert found.offenders == () and found.moved > 0
    assert "no offender\n  but the past of f's output moved by" in repr(found)


def test_modules_without_five_axes_are_passed_over():
    folded = nn.Conv2d(4, 4, 1).double()
    f = lambda x: folded(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (1, -1)).transpose(1, 2)  # noqa: E731
    found = attribute_leak(folded, f, clip(3))
    assert (found.compared, found.offenders) == (0, ())
    assert repr(found) == "LeakAttribution: frames from 2 on of 3 changed, 0 module calls compared, no offender"


class Several(nn.Module):
    """Inputs by keyword, a cache and a tuple of results, as diffusers' chunked convolutions have them."""

    def forward(self, x, cache=None, scale=1.0):
        return x * scale, x[:, :, :1] * x[:, :, -1:]


def test_the_first_of_several_results_counts_and_inputs_may_be_keywords():
    part = Several()
    assert attribute_leak(part, lambda x: part(x=x, cache=x[:, :, :2])[0], clip(3)).compared == 1
    assert attribute_leak(part, lambda x: part(x=x)[0], clip(3)).offenders == ()


class Grow(nn.Module):
    """Every frame `times` times, the first one once; `late` outputs move too early."""

    def __init__(self, times: int, first_alone: bool, late: int = 0):
        super().__init__()
        self.times, self.first_alone, self.late = times, first_alone, late

    def forward(self, x):
        y = x.repeat_interleave(self.times, dim=2)
        y = y[:, :, self.times - 1 :] if self.first_alone else y
        return torch.cat([y[:, :, self.late :], y[:, :, -1:].expand(-1, -1, self.late, -1, -1)], dim=2)


@pytest.mark.parametrize(("times", "first_alone"), [(2, False), (4, False), (4, True), (2, True), (6, True)])
def test_upsampling_may_move_the_frames_of_one_input(times, first_alone):
    sound, leaking = Grow(times, first_alone), Grow(times, first_alone, late=1)
    for frame in (None, 1):
        assert attribute_leak(sound, sound, clip(3), frame).offenders == ()
        found = attribute_leak(leaking, leaking, clip(3), frame)
        assert found.first.frames[0] == 1


class Shrink(nn.Module):
    def forward(self, x):
        return x.unflatten(2, (-1, 2)).mean(dim=3)


def test_pooling_in_time_may_move_one_frame_a_group():
    pool = Shrink()
    for frame in (None, 4, 5):
        assert attribute_leak(pool, pool, clip(8), frame).offenders == ()


def test_inplace_modules_do_not_hide_what_went_in():
    model = nn.Sequential(nn.SiLU(inplace=True), nn.GroupNorm(1, 4).double(), nn.SiLU(inplace=True))
    found = attribute_leak(model, lambda x: model(x.clone()), clip(3))
    assert [o.path for o in found.offenders] == ["1"]


class Nothing(nn.Module):
    def forward(self, x):
        return x.flip(2) * 0


def test_zero_and_minus_zero_are_one():
    assert attribute_leak(m := Nothing(), m, clip(4)).offenders == ()


def test_a_second_offender_is_found_where_the_first_left_a_past():
    model = nn.Sequential(*(SymmetricConv3d(1, 1, 3) for _ in range(8))).double()
    found = attribute_leak(model, model, clip(20, channels=1))
    assert [o.path for o in found.offenders] == [str(i) for i in range(8)]
    assert [o.frames for o in found.offenders] == [(1, 20)] * 8
    assert len(repr(found).splitlines()) == 7 and repr(found).endswith("and 3 more")
    table = found.table()
    assert table["module"].tolist() == [str(i) for i in range(8)]
    assert list(table) == ["module", "class", "call", "moved", "frames_moved", "frames"]
    assert len(found.plot().axes[0].patches) == 8


CONFIGS = {
    AutoencoderKLCogVideoX: dict(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
    ),
    AutoencoderKLHunyuanVideo: dict(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
    ),
    AutoencoderKLWan: dict(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
    ),
}  # fmt: skip


def family(cls):
    torch.manual_seed(0)
    return cls(**CONFIGS[cls]).eval().double()


@pytest.mark.parametrize(
    ("cls", "frames", "call"), [(AutoencoderKLCogVideoX, 8, 0), (AutoencoderKLCogVideoX, 17, 1),
                                (AutoencoderKLHunyuanVideo, 9, 0)],
)  # fmt: skip
def test_group_norms_of_other_families_are_named(cls, frames, call):
    vae = family(cls)
    found = encode(vae, clip(frames, 16, channels=3))
    assert [(o.path, o.kind, o.call) for o in found.offenders] == [
        ("encoder.down_blocks.0.resnets.0.norm1", "GroupNorm", call)
    ]
    found = decode(vae, clip(3, 2))
    norm = "norm1.norm_layer" if cls is AutoencoderKLCogVideoX else "norm1"
    assert [(o.path, o.kind) for o in found.offenders] == [(f"decoder.mid_block.resnets.0.{norm}", "GroupNorm")]


@pytest.mark.parametrize("frame", [None, 1, 3, 5])
def test_wan_is_causal_chunk_after_chunk(frame):
    vae = family(AutoencoderKLWan)
    found = encode(vae, clip(9, 16, channels=3), frame)
    assert (found.offenders, found.moved) == ((), 0) and found.compared > 100
    found = decode(vae, clip(3, 2, channels=16), frame=min(frame or 2, 2))
    assert (found.offenders, found.moved) == ((), 0)


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of order")


def drop(x):
    return F.dropout(x, 0.5, training=True)


class Dropout(nn.Module):
    def forward(self, x):
        return drop(x)


class Moody(nn.Module):
    """Runs its part for some clips only."""

    def __init__(self):
        super().__init__()
        self.part = nn.Identity()

    def forward(self, x):
        return self.part(x) if x[:, :, -1].max() < 50 else x


def test_hooks_are_removed_after_an_exception():
    model = nn.Sequential(nn.Identity(), Broken())
    with pytest.raises(RuntimeError, match="out of order"):
        attribute_leak(model, model, clip(3))
    assert hooks(model) == 0


X = torch.randn(1, 4, 3, 2, 2)
SOUND = nn.Identity()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attribute_leak(SOUND.forward, SOUND, X), "model must be a torch.nn.Module, got method"),
        (lambda: attribute_leak(SOUND, None, X), "f must be a function .*, got NoneType"),
        (lambda: attribute_leak(SOUND, SOUND, X[0]), "x must be a tensor of shape"),
        (lambda: attribute_leak(SOUND, SOUND, X[:, :, :1]), "x must have at least 2 frames, .*, got 1"),
        (lambda: attribute_leak(SOUND, SOUND, X, 0), "frame must be at least 1, got 0"),
        (lambda: attribute_leak(SOUND, SOUND, X, 3), "frame must be from 1 to 2, the last frame of x, got 3"),
        (lambda: attribute_leak(SOUND, SOUND, X, 1.5), "frame must be an integer of at least 1, got 1.5"),
        (lambda: attribute_leak(SOUND, SOUND, X, size=-1.0), "size must be above 0 and finite, got -1.0"),
        (lambda: attribute_leak(SOUND, lambda x: x + 1, X), "f called no module of model"),
        (lambda: attribute_leak(m := Dropout(), m, X), "f must give the same output twice for the same x"),
        (lambda: attribute_leak(m := Moody(), m, X, size=1e4), "f must call the same modules and give the same shape"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
