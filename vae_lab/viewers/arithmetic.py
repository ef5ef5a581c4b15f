"""Explorers of padding and of sizes: every answer is looked up in tables made by the library's own formulas."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F

from ..causal_conv import PAD_MODES, CausalConv3d
from ..figures.arithmetic import padding_diagram, size_diagram
from ..figures.style import COLOURS
from ..shapes import (
    MICRO_FRAME_SIZE,
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    chunk_lengths,
    compression_ratio,
    conv_output_size,
    frame_groups,
    front_padding,
    latent_frames,
    latent_size,
    time_padding,
)
from ..utils.text import count
from .widgets import Viewer

# ---- arithmetic ----------------------------------------------------------------------------------------------------


PADDING_LIMITS = {"frames": (1, 20), "kernel": (1, 5), "stride": (1, 3), "dilation": (1, 3), "layers": (1, 3)}
SIZE_LIMITS = {"frames": (1, 102), "height": (8, 1024), "width": (8, 1024)}  # 102 frames: six chunks of 17
CHUNKS = (None, 5, 9, 17, 33)
RATIOS = (1, 2, 4, 8)
# The widest tensor of SDXL's 2D decoder: block_out_channels[1] channels at full size, `micro_batch_size` frames at once
DECODER = {"channels": 256, "frames": 4}
FLOAT32_BYTES = 4
LATENT_CHANNELS = 4


def _or_error(function: Callable[..., Any], *args: object) -> Any:
    """What the function returns, or {"error": the library's own words} where it refuses its arguments."""
    try:
        return function(*args)
    except ValueError as error:
        return {"error": str(error)}


def _values(limits: tuple[int, int], step: int = 1) -> range:
    return range(limits[0], limits[1] + 1, step)


def _controls(limits: dict[str, tuple[int, int]], steps: dict[str, int]) -> dict[str, dict[str, int]]:
    return {name: {"min": low, "max": high, "step": steps.get(name, 1)} for name, (low, high) in limits.items()}


def check_within(name: str, value: object, allowed: Sequence) -> Any:
    """The start value, an integer as int; refuse one that the page has no answer for."""
    if value not in allowed or isinstance(value, bool):
        shown = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else f"one of {tuple(allowed)}"
        if isinstance(allowed, range) and allowed.step > 1:
            shown += f" in steps of {allowed.step}"
        raise ValueError(f"{name} must be {shown} here, got {value!r}")
    return int(value) if isinstance(value, Integral) else value


def padding_table() -> dict[str, Any]:
    """Padding, outputs and what padding cells are made of, for every kernel, stride, dilation, length and pad mode.

    `layers["k,s,d"]`: {"padding", "outputs": [outputs of 1, 2, ... frames]}; `sources[mode][frames - 1][padding]`: the
    frame that each padding cell copies (None: a zero). Refused arguments are {"error": message}.
    """
    frames = _values(PADDING_LIMITS["frames"])
    kernels, strides, dilations = (_values(PADDING_LIMITS[name]) for name in ("kernel", "stride", "dilation"))
    layers = {f"{k},{s},{d}": _or_error(_layer, k, s, d, frames) for k in kernels for s in strides for d in dilations}
    most = max(layer["padding"] for layer in layers.values() if "padding" in layer)
    return {
        "limits": _controls(PADDING_LIMITS, {}),
        "modes": list(PAD_MODES),
        "layers": layers,
        "sources": {
            mode: [[_or_error(_sources, mode, t, p) for p in range(most + 1)] for t in frames] for mode in PAD_MODES
        },
    }


def _layer(kernel_size: int, stride: int, dilation: int, frames: range) -> dict[str, Any]:
    padding = time_padding(kernel_size, stride, dilation)
    outputs = [_or_error(conv_output_size, t, kernel_size, stride, dilation, padding) for t in frames]
    return {"padding": padding, "outputs": outputs}


def _sources(mode: str, num_frames: int, padding: int) -> list[int | None]:
    """The frame in each padding cell, read off the real padding of frames that are numbered from 1."""
    conv = CausalConv3d(1, 1, (padding + 1, 1, 1), pad_mode=mode)
    numbers = torch.arange(1.0, num_frames + 1).view(1, 1, -1, 1, 1)
    with torch.no_grad():
        conv(numbers)  # refuses what the real layer refuses, in its words
    padded = F.pad(numbers, (0, 0, 0, 0, padding, 0), mode=mode).flatten().int().tolist()
    return [number - 1 if number else None for number in padded[:padding]]


def size_table() -> dict[str, Any]:
    """Chunks, groups of frames, latent sizes and compression, for every length, chunk length and temporal ratio."""
    frames = _values(SIZE_LIMITS["frames"])
    sides = _values(SIZE_LIMITS["height"], SPATIAL_RATIO)
    key = lambda chunk: "null" if chunk is None else str(chunk)  # noqa: E731  as JSON writes it

    def compression(t: int, ratio: int, chunk: int | None) -> float:
        size = (t, SPATIAL_RATIO, SPATIAL_RATIO)  # height and width cancel out
        return compression_ratio(size, latent_size(size, ratio, micro_frame_size=chunk))

    return {
        "limits": _controls(SIZE_LIMITS, {"height": SPATIAL_RATIO, "width": SPATIAL_RATIO}),
        "chunks": list(CHUNKS),
        "ratios": list(RATIOS),
        "chunkLengths": {key(chunk): [chunk_lengths(t, chunk) for t in frames] for chunk in CHUNKS},
        "tables": {
            str(ratio): {
                "padding": [front_padding(t, ratio) for t in frames],
                "latents": [latent_frames(t, ratio, None) for t in frames],
                "starts": [[group.start for group in frame_groups(t, ratio, None)] for t in frames],
            }
            for ratio in RATIOS
        },
        "compression": {
            key(chunk): {str(ratio): [compression(t, ratio, chunk) for t in frames] for ratio in RATIOS}
            for chunk in CHUNKS
        },
        "latentSides": [latent_size((1, side, SPATIAL_RATIO))[1] for side in sides],
        "spatialRatio": SPATIAL_RATIO,
        "latentChannels": LATENT_CHANNELS,
        "decoder": DECODER,
        "bytes": FLOAT32_BYTES,
    }  # fmt: skip


def explore_padding(
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    num_frames: int = 8,
    layers: int = 1,
    pad_mode: str = "constant",
) -> Viewer:
    """The time axis of causal convolutions: padding, windows, outputs, what an output sees, the formula, torch's line.

    The arguments are where its controls start; `layers` of the same convolution can be stacked.
    """
    given = {"frames": num_frames, "kernel": kernel_size, "stride": stride, "dilation": dilation, "layers": layers}
    names = ("num_frames", "kernel_size", "stride", "dilation", "layers")
    start = {
        key: check_within(name, value, range(PADDING_LIMITS[key][0], PADDING_LIMITS[key][1] + 1))
        for (key, value), name in zip(given.items(), names, strict=True)
    }
    table = padding_table()
    check_within("pad_mode", pad_mode, table["modes"])
    figure = lambda: padding_diagram(kernel_size, stride, dilation, num_frames, pad_mode, layers=layers)  # noqa: E731
    figure()  # refuses, as the controls do, what no convolution can be
    text = (
        f"Padding explorer: kernel {kernel_size}, stride {stride}, dilation {dilation}, {count(num_frames, 'frame')}, "
        f"{count(layers, 'layer')}, pad mode {pad_mode}"
    )
    start |= {"mode": pad_mode, "output": start["frames"]}
    return Viewer({"kind": "padding", "start": start, "colours": COLOURS} | table, text, figure)


def explore_sizes(
    num_frames: int = 51,
    height: int = 256,
    width: int = 256,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
    temporal_ratio: int = TEMPORAL_RATIO,
) -> Viewer:
    """Which frames go into which latent frame: chunks, padding, latent size, compression and memory.

    The arguments are where its controls start.
    """
    given = {"frames": num_frames, "height": height, "width": width}
    start = {
        key: check_within(name, value, range(low, high + 1, 1 if key == "frames" else SPATIAL_RATIO))
        for (key, value), name in zip(given.items(), ("num_frames", "height", "width"), strict=True)
        for low, high in [SIZE_LIMITS[key]]
    }
    start |= {
        "chunk": check_within("micro_frame_size", micro_frame_size, CHUNKS),
        "ratio": check_within("temporal_ratio", temporal_ratio, RATIOS),
        "latent": 0,
    }
    size = latent_size((num_frames, height, width), temporal_ratio, micro_frame_size=micro_frame_size)
    text = (
        f"Size explorer: {num_frames}x{height}x{width} (frames x height x width), chunks of {micro_frame_size}, "
        f"temporal ratio {temporal_ratio}: latent {size[0]}x{size[1]}x{size[2]}"
    )
    return Viewer(
        {"kind": "sizes", "start": start, "colours": COLOURS} | size_table(),
        text,
        lambda: size_diagram(num_frames, temporal_ratio, micro_frame_size),
    )
