import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from vae_lab.families import FAMILIES, tiny_model
from vae_lab.probes.stitching import diffusers_stitch_error, diffusers_tiling, stitch_error


def tiler(tile: int, overlap: int, ratio: int, direction: str = "encode", crop: int | None = None):
    """Tiling from its definition, in latent rows and columns: tiles laid over one another and blended linearly.

    crop: rows kept of each tile; the right number is tile - overlap.
    """
    take, give = (ratio, 1) if direction == "encode" else (1, ratio)
    stride = tile - overlap
    crop = stride if crop is None else crop

    def blend(before, after, dim):
        extent = min(overlap * give, before.shape[dim], after.shape[dim])
        shape = [1] * 5
        shape[dim] = extent
        share = (torch.arange(extent, dtype=after.dtype) / extent).view(shape)
        mixed = torch.lerp(before.narrow(dim, before.shape[dim] - extent, extent), after.narrow(dim, 0, extent), share)
        return torch.cat([mixed, after.narrow(dim, extent, after.shape[dim] - extent)], dim)

    def tiled(function, x):
        rows = []
        for top in range(0, x.shape[3], stride * take):
            row = [
                function(x[:, :, :, top : top + tile * take, left : left + tile * take])
                for left in range(0, x.shape[4], stride * take)
            ]
            row = [row[0]] + [blend(a, b, 4) for a, b in zip(row, row[1:], strict=False)]
            rows.append(torch.cat([piece[..., : crop * give] for piece in row], dim=4))
        rows = [rows[0]] + [blend(a, b, 3) for a, b in zip(rows, rows[1:], strict=False)]
        joined = torch.cat([row[..., : crop * give, :] for row in rows], dim=3)
        return joined[..., : x.shape[3] // take * give, : x.shape[4] // take * give]

    return tiled


@given(st.integers(2, 6), st.data(), st.sampled_from(("encode", "decode")), st.sampled_from((1, 3, 8)))
def test_a_right_tiler_scores_nothing(tile, data, direction, ratio):
    overlap = data.draw(st.integers(0, tile - 1), "overlap")
    rows, columns = (data.draw(st.integers(tile + 1, 3 * tile + 1), name) for name in ("rows", "columns"))
    result = stitch_error(tiler(tile, overlap, ratio, direction), (rows * ratio, columns * ratio), ratio, direction)
    assert result.exact and result.largest < 1e-12
    assert result.axis is None and result.at is None
    assert result.size == result.expected_size
    assert result.size[1:] == ((rows, columns) if direction == "encode" else (rows * ratio, columns * ratio))


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_cropped_at_the_wrong_stride(direction):
    """Tiles of 5 that overlap by 2 and are not cut to 3: each of them puts what follows 2 places too far on."""
    wrong = tiler(5, 2, 8, direction, crop=5)
    result = stitch_error(wrong, (13 * 8, 13 * 8), direction=direction)
    assert not result.exact
    assert result.largest == pytest.approx(4)  # at places 10, 11, 12 of the third tile
    assert result.error[1].min() == pytest.approx(-4)  # what is there belongs further up
    scale = 1 if direction == "encode" else 8
    assert (result.axis, result.at) == ("height", (0, 10 * scale, 0))
    table = result.table()
    assert table.loc["height"].tolist() == table.loc["width"].tolist()
    assert table.loc["height", "share misplaced"] == pytest.approx(8 / 13)  # the overlap of tiles 0 and 1 is right
    assert table.loc["time"].tolist() == [0, 0]
    unit = "latent rows, at frame 0, row"
    assert f"4.000 {unit} {10 * scale}, column 0" in repr(result) and "not exact" in repr(result)


def test_one_axis_alone_and_less_than_a_latent():
    def one_pixel_to_the_right(function, x):
        left, right = x.split((24, x.shape[4] - 24), dim=4)
        left, right = function(left), function(right)
        return torch.cat([left[..., :1], left, right], dim=4)[..., : x.shape[4] * 8]

    decode = lambda function, z: one_pixel_to_the_right(function, z)[..., : z.shape[4] * 8]  # noqa: E731
    result = stitch_error(decode, (16, 320), direction="decode")
    assert result.axis == "width" and result.largest == pytest.approx(1 / 8)
    assert not result.error[:2].any()
    assert result.at == (0, 0, 1)  # the first is copied, and in its place
    assert "0.125 latent columns" in repr(result)


def test_what_blending_does_to_tiles_that_disagree():
    """Halves one row apart, blended over two rows: half a row off in the middle."""

    def tiled(function, x):
        top, bottom = function(x[..., : 5 * 8, :]), function(x[..., 2 * 8 :, :])  # latents 0..4 and 2..; taken as 3..
        mixed = torch.lerp(top[..., 3:5, :], bottom[..., 0:2, :], torch.tensor([0.0, 0.5]).double().view(2, 1))
        return torch.cat([top[..., :3, :], mixed, bottom[..., 2:, :]], dim=3)[..., :8, :]

    result = stitch_error(tiled, (64, 16))
    assert result.error[1, 0, :, 0].tolist() == pytest.approx([0, 0, 0, 0, -0.5, -1, -1, -1])


def test_an_output_of_another_size():
    result = stitch_error(lambda f, x: torch.cat([f(x[..., :32, :]), f(x[..., 32:, :]), f(x[..., :8, :])], 3), (64, 16))
    assert result.largest < 1e-12 and not result.exact
    assert (result.size, result.expected_size) == ((1, 9, 2), (1, 8, 2))
    assert "size  1x9x2, should be 1x8x2" in repr(result)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4), st.sampled_from(("encode", "decode")))
def test_time_in_tiles_that_share_their_first_latent(ratio, tile, num_tiles, direction):
    """As causal VAEs are cut: every tile begins with the last frame of the tile before, whose latent is dropped."""
    take, give = (ratio, 1) if direction == "encode" else (1, ratio)

    def tiled(function, x, first=1):
        starts = range(0, x.shape[2] - 1, tile * take)
        tiles = [function(x[:, :, i : i + tile * take + 1]) for i in starts]
        return torch.cat([tiles[0], *(piece[:, :, first : first + tile * give] for piece in tiles[1:])], dim=2)

    arguments = dict(size=(8, 8), direction=direction, num_frames=tile * num_tiles * ratio + 1, temporal_ratio=ratio)
    assert stitch_error(tiled, **arguments).exact
    early = stitch_error(lambda function, x: tiled(function, x, first=0), **arguments)
    assert early.axis == "time" and early.largest == pytest.approx(1 / give)
    assert early.at == (tile * give + 1, 0, 0)


def test_the_map_is_drawn():
    figure = stitch_error(tiler(5, 2, 8, crop=5), (104, 104)).plot()
    height, width, scale = figure.axes
    assert (height.get_xlabel(), height.get_ylabel()) == ("latent column", "latent row")
    assert height.images[0].get_array().shape == (13, 13)
    assert height.images[0].get_array()[12, 0] == pytest.approx(4) and width.images[0].get_array()[0, 12] == 4
    assert scale.get_ylabel() == "misplacement in latent samples"
    exact = stitch_error(tiler(5, 2, 8, "decode"), (104, 104), direction="decode")
    assert exact.plot().axes[0].get_xlabel() == "pixel column"
    assert exact.plot().axes[0].images[0].get_clim() == (0, 1)  # so that rounding is not drawn large
    assert "exact\n  largest misplacement  0.000 latent samples" in repr(exact)


@pytest.mark.parametrize(
    ("tiled", "arguments", "message"),
    [
        (None, {"size": (64, 60)}, r"width \(60\) must be a multiple of ratio \(8\)"),
        (None, {"size": (64,)}, r"size must be \(H, W\), got \(64,\)"),
        (None, {"size": (0, 64)}, "size must be at least 1, got 0"),
        (None, {"ratio": 0}, "ratio must be at least 1, got 0"),
        (None, {"direction": "code"}, "direction must be one of encode, decode, got 'code'"),
        (None, {"num_frames": 6, "temporal_ratio": 4}, r"num_frames - 1 \(5\) must be a multiple of .* \(4\)"),
        (lambda f, x: f(x), {}, "tiled must need several tiles, it called the function 1 times: size 64x64"),
        (lambda f, x: f(x)[0], {}, r"tiled must return a tensor \(1, 3, T, H, W\), got \(3, 1, 8, 8\)"),
        (lambda f, x: None, {}, r"tiled must return a tensor \(1, 3, T, H, W\), got NoneType"),
        (lambda f, x: f(x) * torch.nan, {}, "tiled must return finite numbers"),
    ],
)  # fmt: skip
def test_errors(tiled, arguments, message):
    with pytest.raises(ValueError, match=message):
        stitch_error(tiled, **{"size": (64, 64)} | arguments)


# ---- diffusers -----------------------------------------------------------------------------------------------------

COG = dict(
    down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
)  # fmt: skip
LTX = dict(
    latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
    layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5, patch_size=1, patch_size_t=1,
    spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
)  # fmt: skip
MAGVIT = dict(
    latent_channels=4, block_out_channels=[8] * 4, layers_per_block=1, norm_num_groups=8,
    down_block_types=["SpatialDownBlock3D"] + ["SpatialTemporalDownBlock3D"] * 3,
    up_block_types=["SpatialUpBlock3D"] + ["SpatialTemporalUpBlock3D"] * 3,
)  # fmt: skip
MOCHI = dict(
    in_channels=15, latent_channels=4, encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4,
    layers_per_block=(1,) * 5, scaling_factor=1,
)  # fmt: skip
WAN = dict(base_dim=3, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
WAN_22 = WAN | dict(
    base_dim=4, decoder_base_dim=8, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    scale_factor_spatial=16,
)  # fmt: skip
HUNYUAN = dict(latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)


def diffusers_vae(name: str, config: dict):
    """A small one of random weights, with tiles of 64 pixels of which 48 are new."""
    import diffusers

    vae = getattr(diffusers, name)(**config)
    if name == "AutoencoderKLCogVideoX":
        vae.enable_tiling(48, 80)  # these it cuts by shares: 1/6 and 1/5 are overlap
    else:
        vae.tile_sample_min_height = vae.tile_sample_min_width = 64
        vae.tile_sample_stride_height = vae.tile_sample_stride_width = 48
    return vae


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("AutoencoderKLCogVideoX", COG),
        ("AutoencoderKLHunyuanVideo", HUNYUAN),
        ("AutoencoderKLMochi", MOCHI),
        ("AutoencoderKLLTXVideo", LTX),
        ("AutoencoderKLWan", WAN),
    ],
)
def test_video_vaes_of_diffusers_stitch_exactly(name, config, direction):
    result = diffusers_stitch_error(diffusers_vae(name, config), direction)
    assert result.exact and result.largest < 1e-9
    assert result.tiles == 16  # two and a half tiles are four strides


def test_magvit_of_diffusers_misplaces_rows_when_it_encodes():
    """It keeps whole tiles of 8 latent rows where only 6 are new (diffusers 0.42.1): 2 more with every tile."""
    vae = diffusers_vae("AutoencoderKLMagvit", MAGVIT)
    result = diffusers_stitch_error(vae, "encode", size=(32 * 8, 32 * 8))
    assert result.error[1, 0, [0, 7, 15, 23, 31], 0].tolist() == pytest.approx([0, 0, -2, -4, -6])
    assert result.largest == pytest.approx(6) and result.axis == "height"
    assert "6.000 latent rows" in repr(result)
    assert diffusers_stitch_error(vae, "decode").exact


@pytest.mark.parametrize(("name", "config"), [("AutoencoderKLHunyuanVideo", HUNYUAN), ("AutoencoderKLLTXVideo", LTX)])
def test_tiles_of_time(name, config):
    """LTX drops the last frame of a decoded tile where the first one is double (diffusers 0.42.1): a frame off."""
    vae = diffusers_vae(name, config)
    assert diffusers_stitch_error(vae, "encode", axis="time").exact
    decoded = diffusers_stitch_error(vae, "decode", axis="time")
    if name == "AutoencoderKLHunyuanVideo":
        assert decoded.exact
    else:
        assert decoded.axis == "time" and decoded.largest == pytest.approx(1 / vae.temporal_compression_ratio)
        curve = decoded.plot().axes[0].lines[0].get_ydata()
        assert curve[:10] == pytest.approx(np.zeros(10)) and curve[17:] == pytest.approx(np.full(24, -0.25))


def test_frames_of_tiles_of_time_as_the_real_decoder_of_ltx_makes_them():
    """What the ideal decoder assumes: the one frame of a tile's first latent is the last of that latent's group."""
    import diffusers

    vae = diffusers.AutoencoderKLLTXVideo(**LTX).double().eval()
    ratio = vae.temporal_compression_ratio
    z = torch.randn(1, 8, 24, 1, 1, dtype=torch.double)
    with torch.no_grad():
        whole, tile = vae.decoder(z, None), vae.decoder(z[:, :, 2:], None)
    middle = slice(60, 64)  # far from the ends of both
    difference = [(whole[:, :, shift:][:, :, middle] - tile[:, :, middle]).abs().max() for shift in range(10)]
    assert np.argmin(difference) == 2 * ratio
    assert difference[2 * ratio] < 1e-3 * difference[2 * ratio - 1]


def test_pixels_folded_outside_the_encoder():
    vae = diffusers_vae("AutoencoderKLWan", WAN_22)
    assert diffusers_stitch_error(vae, "encode").exact
    with pytest.raises(ValueError, match="AutoencoderKLWan unfolds channels into 2x2 pixels after its decoder"):
        diffusers_stitch_error(vae, "decode")


def test_the_vae_is_left_as_it_was():
    vae = diffusers_vae("AutoencoderKLWan", WAN)
    parts, attributes = dict(vae._modules), dict(vae.__dict__)
    tiled = diffusers_tiling(vae)

    def fails(x):
        raise RuntimeError("stop")

    with pytest.raises(ValueError, match=r"AutoencoderKLWan.tiled_encode fails on \(1, 3, 1, 128, 128\): stop"):
        tiled(fails, torch.zeros(1, 3, 1, 128, 128))
    assert diffusers_stitch_error(vae).exact
    assert list(vae._modules.items()) == list(parts.items())
    assert vae.__dict__.keys() == attributes.keys()
    assert all(vae.__dict__[key] is value for key, value in attributes.items())


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("name", ["autoencoderkl", "dc-ae", "flux2"])
def test_tiling_of_pictures(name, direction):
    vae = tiny_model(name)
    if name != "dc-ae":
        vae.tile_sample_min_size, vae.tile_latent_min_size = 64, 8
    result = diffusers_stitch_error(vae, direction)
    assert result.exact and result.tiles in (9, 16)


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_scored_or_refused(name, direction):
    vae = tiny_model(name)
    for axis in ("space", "time"):
        try:
            assert diffusers_stitch_error(vae, direction, axis).tiles > 1
        except ValueError as error:
            assert str(error).startswith(type(vae).__name__) and len(str(error)) > 40


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_tiling_that_clears_caches(direction):
    assert diffusers_stitch_error(tiny_model("qwen-image").double(), direction).exact


def test_diffusers_errors():
    vae = diffusers_vae("AutoencoderKLWan", WAN)
    message = "AutoencoderKLWan must have _temporal_tiled_encode and encoder, it lacks _temporal_tiled_encode"
    with pytest.raises(ValueError, match=message):
        diffusers_tiling(vae, axis="time")
    with pytest.raises(
        ValueError, match="Linear must have tiled_decode and decoder, it lacks tiled_decode and decoder"
    ):
        diffusers_tiling(torch.nn.Linear(1, 1), "decode")
    for family, reason in {
        "allegro": "AutoencoderKLAllegro must have tile_sample_min_height and tile_sample_min_width",
        "vidtok causal": "AutoencoderVidTok must tell its spatial_compression_ratio or block_out_channels",
    }.items():
        with pytest.raises(ValueError, match=reason):
            diffusers_stitch_error(tiny_model(family), "decode")
    with pytest.raises(ValueError, match="direction must be one of encode, decode, got 'both'"):
        diffusers_tiling(vae, "both")
    with pytest.raises(ValueError, match="axis must be one of space, time, got 'width'"):
        diffusers_tiling(vae, axis="width")
    with pytest.raises(ValueError, match="tiled must need several tiles"):
        diffusers_stitch_error(vae, size=(48, 48))
