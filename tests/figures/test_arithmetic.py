import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from vae_lab import CausalConv3d, VideoVAE, load
from vae_lab.figures.arithmetic import block_diagram, dependency_diagram, padding_diagram, size_diagram
from vae_lab.figures.style import COLOURS
from vae_lab.shapes import frame_groups


def cells(figure) -> dict[str, list]:
    """colour name -> (x, y, width, is in full colour) of each cell"""
    names = {colour.lower(): name for name, colour in COLOURS.items()}
    found = {}
    for patch in figure.axes[0].patches:
        name = names[to_hex(patch.get_facecolor()[:3])]
        found.setdefault(name, []).append((patch.get_x(), patch.get_y(), patch.get_width(), patch.get_alpha() == 1))
    return found


def test_padding_diagram_shows_padding_frames_and_windows():
    found = cells(padding_diagram(3, stride=2, num_frames=8, output=2))
    top = lambda name: [cell for cell in found[name] if cell[1] == 0]  # noqa: E731
    assert [x for x, *_ in top("padding")] == [0]
    assert [x for x, *_ in top("input")] == list(range(1, 9))
    assert [x - 1 for x, _, _, lit in top("input") if lit] == [3, 4, 5]  # frames of output 2
    assert [(x, width) for x, _, width, _ in found["latent"]] == [(1, 2), (3, 2), (5, 2), (7, 2)]
    title = padding_diagram(3, num_frames=1, pad_mode="replicate").axes[0].get_title()
    assert title == "kernel 3, stride 1, dilation 1, replicate: 1 frame and 2 of padding give 1 output"


@pytest.mark.parametrize("mode", ["constant", "replicate", "reflect"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "frames", "layers"), [(3, 2, 1, 17, 3), (2, 2, 2, 8, 1), (4, 1, 2, 14, 2)]
)
def test_padding_diagram_shows_what_the_gradient_says(mode, kernel, stride, dilation, frames, layers):
    x = torch.zeros(1, 1, frames, 1, 1, requires_grad=True)
    y = x
    for _ in range(layers):
        conv = CausalConv3d(1, 1, (kernel, 1, 1), (stride, 1, 1), (dilation, 1, 1), pad_mode=mode)
        torch.nn.init.ones_(conv.conv.weight)
        y = conv(y)
    for output in range(y.shape[2]):
        (gradient,) = torch.autograd.grad(y[0, 0, output].sum(), x, retain_graph=True)
        figure = padding_diagram(kernel, stride, dilation, frames, mode, output, layers)
        blue = COLOURS["input"].lower()
        lit = [
            text.get_text()
            for text, patch in zip(figure.axes[0].texts, figure.axes[0].patches, strict=False)
            if patch.get_y() == 0 and patch.get_alpha() == 1 and to_hex(patch.get_facecolor()[:3]) == blue
        ]
        assert sorted(map(int, lit)) == gradient.flatten().nonzero().flatten().tolist()


def test_padding_diagram_takes_another_padding():
    """Two frames in front of stride 2 give a group of one frame, then groups of two: also after two layers."""
    found = cells(padding_diagram(3, stride=2, num_frames=9, output=1, padding=2))
    assert [x for x, y, *_ in found["padding"] if y == 0] == [0, 1]
    assert [(x - 2, width) for x, _, width, _ in found["latent"]] == [(-1, 2), (1, 2), (3, 2), (5, 2), (7, 2)]
    assert [x - 2 for x, y, _, lit in found["input"] if y == 0 and lit] == [0, 1, 2]
    figure = padding_diagram(3, stride=2, num_frames=17, layers=2, padding=2)
    outputs = [(x - 5, width) for x, y, width, _ in cells(figure)["latent"] if y == 3.6]  # frame 0 is drawn at 5
    assert outputs == [(-3, 4), (1, 4), (5, 4), (9, 4), (13, 4)]
    assert figure.axes[0].get_title().endswith("2 layers: 17 frames and 2 of padding give 5 outputs")
    with pytest.raises(ValueError, match="padding must be .*-1"):
        padding_diagram(3, padding=-1)


@pytest.mark.parametrize(
    ("name", "size", "latents"),
    [("lab", (17, 64, 96), 5), ("lab-8", (18, 64, 64), 6), ("lab-frame-group", (1, 8, 8), 1)],
)
def test_block_diagram_says_what_the_model_does(name, size, latents):
    vae = load(name)
    x = torch.zeros(1, 3, *size)
    between = vae.spatial.encode(x).latent_dist.mode()
    latent = vae.encode_spatial_latent(between).latent_dist.mode()
    axis = block_diagram(vae, size).axes[0]
    texts = [text.get_text() for text in axis.texts if text.get_text()]
    stacks = dict(pixels=x, **{"2D latents": between, "latent": latent})
    for title, array in stacks.items():
        assert f"{title}\n{tuple(array.shape[1:])}\n{array.numel():,} numbers" in texts
    assert sum(text == "encode" for text in texts) == sum(text == "decode" for text in texts) == 2
    (temporal,) = [text for text in texts if text.startswith("temporal half")]
    weights = sum(parameter.numel() for parameter in vae.temporal.parameters())
    assert temporal == f"temporal half\nchunks of 17 frames\ntime ÷ 4\n{weights / 1e6:.1f} million weights"
    colours = [to_hex(patch.get_facecolor()).upper() for patch in axis.patches]
    sheets = {colour: colours.count(COLOURS[colour]) for colour in ("input", "spatial", "latent")}
    assert sheets == {"input": size[0], "spatial": size[0], "latent": latents}


def test_block_diagram_of_another_architecture():
    spatial = dict(block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2)
    temporal = dict(base_channels=4, num_res_blocks=1, channel_multipliers=(1, 1), temporal_downsample=(True,))
    vae = VideoVAE(spatial, temporal | dict(norm_num_groups=2), micro_frame_size=None)
    texts = [text.get_text() for text in block_diagram(vae, (9, 8, 8)).axes[0].texts]
    assert any("height and width ÷ 2" in text for text in texts)
    assert any("the whole clip at once\ntime ÷ 2" in text for text in texts)
    assert "latent\n(4, 5, 4, 4)\n320 numbers" in texts


def test_size_diagram_shows_chunks_and_groups():
    figure = size_diagram(33, latent=5)
    found = cells(figure)
    assert len(found["padding"]) == 3 and len(found["input"]) == 33 and len(found["latent"]) == 9
    assert sum(lit for *_, lit in found["input"]) == 4 and sum(lit for *_, lit in found["latent"]) == 1
    assert figure.axes[0].get_title() == "33 frames, chunks of 17, ratio 4: 9 latent frames"
    assert "no chunks" in size_diagram(5, micro_frame_size=None).axes[0].get_title()


def test_dependency_diagram_outlines_groups():
    groups = frame_groups(17)
    figure = dependency_diagram({"one": np.zeros((17, 5), bool), "two": np.ones((17, 5), bool)}, groups)
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    assert [(p.get_x(), p.get_width()) for p in figure.axes[0].patches] == [(g.start - 0.5, len(g)) for g in groups]
    assert figure.axes[0].get_images()[0].get_array().min() == 1  # nothing moved: white
    assert figure.axes[1].get_images()[0].get_array().max() == 0.55


def test_bad_arguments():
    for function, message in (
        (lambda: padding_diagram(3, pad_mode="mirror"), "pad_mode must be one of .*, got 'mirror'"),
        (lambda: padding_diagram(3, num_frames=2, output=2), "output must be from 0 to 1, got 2"),
        (
            lambda: padding_diagram(5, num_frames=4, pad_mode="reflect"),
            "needs more than 4 frames to pad as many, got 4",
        ),
        (lambda: padding_diagram(1, stride=2), "stride \\(2\\) must not be larger than the kernel's reach"),
        (lambda: block_diagram(load("lab").temporal, (17, 8, 8)), "vae must be a VideoVAE, .* got TemporalVAE"),
        (lambda: block_diagram(load("lab"), (17, 60, 64)), r"height \(60\) must be a multiple of 8"),
        (lambda: size_diagram(17, latent=5), "latent must be from 0 to 4, got 5"),
        (
            lambda: dependency_diagram({"one": np.zeros((5, 17))}, frame_groups(17)),
            r"moved\['one'\] must be \(17, 5\), got \(5, 17\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            function()
