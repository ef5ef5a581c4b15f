"""The tables behind the pages say what the real modules do."""

import json

import pytest
import torch
import torch.nn.functional as F

from vae_lab import CausalConv3d, SpatialVAE, shapes
from vae_lab.causal_conv import PAD_MODES
from vae_lab.families import FAMILIES
from vae_lab.viewers.arithmetic import (
    CHUNKS,
    DECODER,
    RATIOS,
    check_within,
    explore_sizes,
    padding_table,
    size_table,
)


@pytest.fixture(scope="module")
def padding():
    return padding_table()


@pytest.fixture(scope="module")
def sizes():
    return size_table()


def test_layers_are_those_of_the_real_convolution(padding):
    refused = 0
    for key, layer in padding["layers"].items():
        k, s, d = map(int, key.split(","))
        if "error" in layer:
            with pytest.raises(ValueError) as error:
                CausalConv3d(1, 1, (k, 1, 1), (s, 1, 1), (d, 1, 1))
            assert str(error.value) == layer["error"]
            refused += 1
            continue
        conv = CausalConv3d(1, 1, (k, 1, 1), (s, 1, 1), (d, 1, 1))
        assert layer["padding"] == conv.time_padding
        for t, outputs in enumerate(layer["outputs"], start=1):
            if t < s:
                assert "must be at least the kernel's reach" in outputs["error"]
            else:
                assert conv(torch.zeros(1, 1, t, 1, 1)).shape[2] == outputs
    assert (
        refused == 7 and len(padding["layers"]) == 45
    )  # kernel 1 with stride 2, 3; kernel 2 with stride 3, dilation 1


def test_padding_cells_are_copies_of_what_torch_copies(padding):
    x = torch.arange(6.0).view(1, 1, 6, 1, 1)
    for mode in PAD_MODES:
        padded = F.pad(x + 1, (0, 0, 0, 0, 4, 0), mode=mode).flatten()[:4].int().tolist()
        assert padding["sources"][mode][5][4] == [value - 1 if value else None for value in padded]
    assert 'pad_mode "reflect" needs more than' in padding["sources"]["reflect"][2][3]["error"]
    assert padding["sources"]["reflect"][3][3] == [3, 2, 1]


def test_sizes_are_those_of_shapes(sizes):
    for chunk in CHUNKS:
        name = "null" if chunk is None else str(chunk)
        for ratio in RATIOS:
            table = sizes["tables"][str(ratio)]
            for t in (1, 4, 16, 17, 18, 33, 51, 102):
                lengths = sizes["chunkLengths"][name][t - 1]
                assert sum(lengths) == t
                assert sum(len(table["starts"][n - 1]) for n in lengths) == shapes.latent_frames(t, ratio, chunk)
                starts, begin = [], 0
                for n in lengths:
                    starts += [begin + start for start in table["starts"][n - 1]]
                    begin += n
                assert starts == [group.start for group in shapes.frame_groups(t, ratio, chunk)]
    assert [sizes["latentSides"]["8"][side // 8 - 1] for side in (8, 256, 1024)] == [1, 32, 128]


def test_families_are_those_of_the_records(sizes):
    assert [family["name"] for family in sizes["families"]] == [
        family.name for family in FAMILIES.values() if family.class_name != "VideoVAE"
    ]
    for row in sizes["families"]:
        family, law = FAMILIES[row["name"].lower()], sizes["laws"][row["law"]]
        lengths = sizes["chunkLengths"]["null" if row["chunk"] is None else str(row["chunk"])]
        for t in range(1, 103):
            assert (law["latents"][t - 1], law["back"][t - 1]) == (family.latent_frames(t), family.decoded_frames(t))
            assert (t in law["kept"]) == family.is_legal(t)
            if family.is_legal(t):
                starts, begin = [], 0
                for n in lengths[t - 1]:
                    starts += [begin + start for start in sizes["tables"][str(row["ratio"])]["starts"][n - 1]]
                    begin += n
                assert starts == [group.start for group in family.timeline(t).groups]
        assert sizes["latentSides"][str(row["cell"])][720 // 8 - 1] == -(-720 // row["cell"])


def test_start_values_of_a_family():
    assert explore_sizes(49, 480, 720, family="mochi").text == (
        "Size explorer: 49x480x720 (frames x height x width), Mochi: latent 9x60x90"
    )
    four, eight = explore_sizes(channels=4).data, explore_sizes(channels=8).data
    assert (four["latentChannels"], eight["latentChannels"]) == (4, 8)
    assert explore_sizes(51, family="open-sora 1.2").text == explore_sizes(51).text == explore_sizes().text
    for name, frames in (("wan 2.1", 49), ("cogvideox", 49), ("minimax-h3", 56), ("qwen-image 2.1", 1)):
        assert explore_sizes(family=name).data["start"]["frames"] == frames  # the nearest to 51 that it keeps
    for options, message in (
        (dict(family="wan"), "family must be one of the known ones, such as wan 2"),
        (
            dict(family="wan 2.1", num_frames=51),
            "Wan 2.1 returns 49 of 51 frames; nearest lengths that it keeps: 49 and 53",
        ),
        (dict(family="allegro", num_frames=24), "Allegro does not take 256x256: tiles of 24x320x320 only: height 320"),
        (dict(family="wan 2.1", num_frames=49, channels=8), "and channels must be left out with family: wan 2.1 has"),
        (dict(channels=0), "channels must be at least 1, got 0"),
        (dict(family="wan 2.1", num_frames=49, temporal_ratio=8), "must be left out with family: wan 2.1 has its own"),
    ):
        with pytest.raises(ValueError, match=message):
            explore_sizes(**options)


def test_tables_are_small(padding, sizes):
    assert len(json.dumps(padding)) < 60_000
    assert len(json.dumps(sizes)) < 85_000


def test_the_largest_tensor_of_the_released_decoder():
    """Measured with hooks on the whole released architecture, without its numbers."""
    with torch.device("meta"):
        vae = SpatialVAE()
    found = {}

    def watch(module, inputs, output):  # fmt: skip
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            found[output.numel()] = tuple(output.shape)

    for module in vae.autoencoder.decoder.modules():
        module.register_forward_hook(watch)
    vae.decode(torch.zeros(1, 4, 9, 4, 8, device="meta"))
    assert found[max(found)] == (DECODER["frames"], DECODER["channels"], 32, 64)


def test_start_values_outside_the_tables_are_refused():
    check_within("num_frames", 5, range(1, 21))
    for value, allowed, message in (
        (21, range(1, 21), "num_frames must be 1 to 20 here, got 21"),
        (True, range(1, 21), "num_frames must be 1 to 20 here, got True"),
        (12, range(8, 1025, 8), "num_frames must be 8 to 1024 in steps of 8 here, got 12"),
        (6, (None, 5, 9), r"num_frames must be one of \(None, 5, 9\) here, got 6"),
    ):
        with pytest.raises(ValueError, match=message):
            check_within("num_frames", value, allowed)
