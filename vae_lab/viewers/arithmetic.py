"""Explorers of padding and sizes: the browser looks both up in tables that the library's formulas made."""

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F

from .. import shapes
from ..causal_conv import PAD_MODES, CausalConv3d
from ..families.sizes import clip_size
from ..families.table import FAMILIES, family_named
from ..figures.arithmetic import padding_diagram, size_diagram
from ..figures.style import COLOURS
from ..shapes import LATENT_CHANNELS, MICRO_FRAME_SIZE, SPATIAL_RATIO, TEMPORAL_RATIO
from ..utils.checks import positive_int
from ..utils.text import count
from .widgets import Viewer

LARGEST = dict(frames=20, kernel=5, stride=3, dilation=3, layers=3)
PADDING_LIMITS = {name: range(1, largest + 1) for name, largest in LARGEST.items()}
SIDES = range(SPATIAL_RATIO, 1025, SPATIAL_RATIO)
SIZE_LIMITS = {"frames": range(1, 103), "height": SIDES, "width": SIDES}  # 102 frames: six chunks of 17
NUM_FRAMES = 51  # three chunks of 17
CHUNKS = (None, 5, 9, 17, 33)
RATIOS = (1, 2, 4, 8)
# The widest tensor of SDXL's 2D decoder: block_out_channels[1] channels at full size, `micro_batch_size` frames at once
DECODER = {"channels": 256, "frames": 4}


def _or_error(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; if it refuses its arguments, return {"error": its message}."""
    try:
        return function(*args)
    except ValueError as error:
        return {"error": str(error)}


def _sliders(limits: dict[str, range]) -> dict[str, dict[str, int]]:
    return {name: {"min": values[0], "max": values[-1], "step": values.step} for name, values in limits.items()}


def check_within(name: str, value: object, allowed: Sequence) -> Any:
    """Return a start value, integers as int; refuse one that the page has no answer for."""
    if getattr(value, "shape", ()) or value not in allowed or isinstance(value, bool):  # an array is no one value
        shown = f"one of {tuple(allowed)}"
        if isinstance(allowed, range):
            steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
            shown = f"{allowed[0]} to {allowed[-1]}{steps}"
        raise ValueError(f"{name} must be {shown} here, got {value!r}")
    return int(value) if isinstance(value, Integral) else value


def padding_table() -> dict[str, Any]:
    """Tabulate padding, outputs and the content of padding cells, for every kernel, stride, dilation, length and mode.

    `layers["k,s,d"]`: {"padding", "outputs": [outputs of 1, 2, ... frames]}; `sources[mode][frames - 1][padding]`: the
    frame that each padding cell copies (None: a zero). Refused arguments are {"error": message}.
    """
    frames, kernels, strides, dilations, _ = PADDING_LIMITS.values()
    layers = {f"{k},{s},{d}": _or_error(_layer, k, s, d) for k in kernels for s in strides for d in dilations}
    paddings = range(max(layer["padding"] for layer in layers.values() if "padding" in layer) + 1)
    return {
        "limits": _sliders(PADDING_LIMITS),
        "modes": list(PAD_MODES),
        "layers": layers,
        "sources": {mode: [[_or_error(_sources, mode, t, p) for p in paddings] for t in frames] for mode in PAD_MODES},
    }


def _layer(kernel_size: int, stride: int, dilation: int) -> dict[str, Any]:
    padding = shapes.time_padding(kernel_size, stride, dilation)
    sizes = (kernel_size, stride, dilation, padding)
    outputs = [_or_error(shapes.conv_output_size, t, *sizes) for t in PADDING_LIMITS["frames"]]
    return {"padding": padding, "outputs": outputs}


def _sources(mode: str, num_frames: int, padding: int) -> list[int | None]:
    """The frame in each padding cell, read from the real padding of frames that are numbered from 1."""
    conv = CausalConv3d(1, 1, (padding + 1, 1, 1), pad_mode=mode)
    numbers = torch.arange(1.0, num_frames + 1).view(1, 1, -1, 1, 1)
    with torch.no_grad():
        conv(numbers)  # raises the real layer's errors
    padded = F.pad(numbers, (0, 0, 0, 0, padding, 0), mode=mode).flatten().int().tolist()
    return [number - 1 if number else None for number in padded[:padding]]


def size_table(channels: int = LATENT_CHANNELS) -> dict[str, Any]:
    """Tabulate chunks, padding, groups of frames and latent sizes, for every length, chunk and temporal ratio.

    channels: of latents by Open-Sora's law.
    """
    frames = SIZE_LIMITS["frames"]
    families, laws = family_table()
    used = {family["chunk"] for family in families} - {*CHUNKS}
    chunks = {"null" if chunk is None else str(chunk): chunk for chunk in (*CHUNKS, *used)}  # keys as JSON writes them

    return {
        "limits": _sliders(SIZE_LIMITS),
        "chunks": list(CHUNKS),
        "ratios": list(RATIOS),
        "chunkLengths": {key: [shapes.chunk_lengths(t, chunk) for t in frames] for key, chunk in chunks.items()},
        "tables": {
            str(ratio): {
                "padding": [shapes.front_padding(t, ratio) for t in frames],
                "starts": [[group.start for group in shapes.frame_groups(t, ratio, None)] for t in frames],
            }
            for ratio in {*RATIOS, *(family["ratio"] for family in families)}
        },
        "families": families,
        "laws": laws,
        "latentSides": {
            str(cell): [shapes.padded_size(side, cell) // cell for side in SIDES]
            for cell in {SPATIAL_RATIO, *(family["cell"] for family in families)}
        },
        "spatialRatio": SPATIAL_RATIO,
        "latentChannels": channels,
        "decoder": DECODER,
        "bytes": 4,  # of float32
    }


def family_table() -> tuple[list[dict[str, Any]], list[dict[str, list | None]]]:
    """Tabulate the families but Open-Sora's own, and their laws; many families share one.

    Of each law: latent frames and frames back of 1, 2, ... frames (None: refused), empty frames, and the lengths kept.
    """
    families: list[dict[str, Any]] = []
    laws: list[dict[str, list | None]] = []
    frames = SIZE_LIMITS["frames"]
    for family in FAMILIES.values():
        if family.class_name == "VideoVAE":  # its law is that of the controls for chunk and ratio
            continue
        blank = [family.law.blank(t) for t in frames]
        law: dict[str, list | None] = {
            "latents": [family.latent_frames(t) for t in frames],
            "back": [family.decoded_frames(t) for t in frames],
            "blank": blank if any(blank) else None,
            "kept": sorted({length for t in frames for length in family.nearest_legal(t)}),
            "starts": None,
        }
        if family.law.timeline is not shapes.Timeline:  # groups of its own
            legal = [t if family.is_legal(t) else None for t in frames]
            law["starts"] = [t and [group.start for group in family.timeline(t).groups] for t in legal]
        if law not in laws:
            laws.append(law)
        taken = [(h, w) for h in SIDES for w in SIDES if family.sizes(h, w)]
        rule, *_ = family.calling.split(";")
        families.append(
            {
                "name": family.name,
                "law": laws.index(law),
                "formula": family.law.formula,
                "ratio": family.temporal_ratio,
                "chunk": family.chunk,
                "cell": family.spatial_ratio,
                "channels": family.latent_channels,
                "before": family.time_padding or "unknown",
                "sees": family.encoder_sees.text if family.encoder_sees else "unknown",
                "taken": None if len(taken) == len(SIDES) ** 2 else taken,
                "rule": rule,
            }
        )
    return families, laws


def explore_padding(
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    num_frames: int = 8,
    layers: int = 1,
    pad_mode: str = "constant",
) -> Viewer:
    """Show causal convolutions along time: padding, windows, outputs, what an output sees, the formula, torch's line.

    The controls start at the arguments; `layers` is the number of equal convolutions on top of one another.
    """
    values = dict(num_frames=num_frames, kernel_size=kernel_size, stride=stride, dilation=dilation, layers=layers)
    pairs = zip(values.items(), PADDING_LIMITS.items(), strict=True)
    start = {key: check_within(*value, allowed) for value, (key, allowed) in pairs}
    start |= {"mode": check_within("pad_mode", pad_mode, PAD_MODES), "output": start["frames"]}

    figure = partial(padding_diagram, kernel_size, stride, dilation, num_frames, pad_mode, layers=layers)
    figure()  # refuses what no convolution can be, as the controls do
    text = (
        f"kernel {kernel_size}, stride {stride}, dilation {dilation}, {count(num_frames, 'frame')}, "
        f"{count(layers, 'layer')}, pad mode {pad_mode}"
    )
    return Viewer(
        {"kind": "padding", "start": start, "colours": COLOURS} | padding_table(), "Padding explorer", text, figure
    )


def explore_sizes(
    num_frames: int | None = None,
    height: int = 256,
    width: int = 256,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    temporal_ratio: int = TEMPORAL_RATIO,
    family: str | None = None,
    channels: int = LATENT_CHANNELS,
) -> Viewer:
    """Show which frames go into which latent frame: chunks, padding, latent size, compression and memory.

    The controls start at the arguments.

    Args:
        num_frames: of the clip; default: 51, or the nearest length that the family keeps.
        micro_frame_size, temporal_ratio: of Open-Sora's law; other families have their own.
        family: a name in `FAMILIES`, such as "wan 2.1"; None: Open-Sora 1.2.
        channels: of its latents (the bundled `lab-8` has 8); other families have their own.

    Raises ValueError, with the nearest lengths that the family keeps, if it does not take such a clip.
    """
    record = None if family is None else family_named(family)
    if num_frames is None:
        lengths = record.nearest_legal(NUM_FRAMES) if record else (NUM_FRAMES,)
        num_frames = min(lengths, key=lambda length: abs(length - NUM_FRAMES))
    start = {
        "frames": check_within("num_frames", num_frames, SIZE_LIMITS["frames"]),
        "height": check_within("height", height, SIDES),
        "width": check_within("width", width, SIDES),
        "chunk": check_within("micro_frame_size", micro_frame_size, CHUNKS),
        "ratio": check_within("temporal_ratio", temporal_ratio, RATIOS),
        "family": None,
        "latent": 0,
    }
    if record and record.class_name != "VideoVAE":
        if (micro_frame_size, temporal_ratio, channels) != (MICRO_FRAME_SIZE, TEMPORAL_RATIO, LATENT_CHANNELS):
            law = "micro_frame_size, temporal_ratio and channels"
            raise ValueError(f"{law} must be left out with family: {family} has its own")
        timeline, made = record.timeline(num_frames), clip_size(record, num_frames, height, width)
        if made.latent is None:
            raise ValueError(f"{record.name} {'; '.join(made.notes)}")
        shown = f"{num_frames}x{height}x{width} (frames x height x width), {record.name}"
        return _size_viewer(
            start | {"family": record.name},
            f"{shown}: latent {'x'.join(map(str, made.latent))}",
            partial(size_diagram, num_frames, timeline.ratio, timeline.chunk, padded=False),
            channels,
        )
    size = shapes.latent_size((num_frames, height, width), temporal_ratio, micro_frame_size=micro_frame_size)
    text = (
        f"{num_frames}x{height}x{width} (frames x height x width), chunks of {micro_frame_size}, "
        f"temporal ratio {temporal_ratio}: latent {size[0]}x{size[1]}x{size[2]}"
    )
    return _size_viewer(start, text, partial(size_diagram, num_frames, temporal_ratio, micro_frame_size), channels)


def _size_viewer(start: dict[str, Any], text: str, figure: Callable[[], Any], channels: int) -> Viewer:
    table = size_table(positive_int("channels", channels))
    return Viewer({"kind": "sizes", "start": start, "colours": COLOURS} | table, "Size explorer", text, figure)
