"""Pictures of the arithmetic of `shapes`: padding and windows, chunks and groups, a whole model. Figures out, nothing
displayed.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..shapes import chunk_lengths, conv_output_size, frame_groups, front_padding, time_padding
from ..utils.checks import check_one_of, integer_within, positive_int
from ..utils.tables import Axes, Figure
from ..utils.text import count
from .style import COLOURS, LINE, new_axis, new_figure, show_image, styled

NUMPY_PAD: dict[str, Any] = {"constant": "constant", "replicate": "edge", "reflect": "reflect"}
"""torch's name of a padding mode -> numpy's."""


def _cell_axis(height: float, width: float, columns: float, rows: float) -> tuple[Figure, Axes]:
    """A Figure whose axis has one unit per cell; rows are counted downwards."""
    figure, axis = new_axis(height, width)
    axis.set(xlim=(-0.1, columns + 0.1), ylim=(rows, -0.1))
    axis.axis("off")
    return figure, axis


def _cell(axis: Axes, x: float, y: float, width: float, height: float, colour: str, text: object, lit: bool) -> None:
    """Draw a cell with its text; one that is not lit is faint."""
    from matplotlib.patches import Rectangle

    cell = Rectangle((x, y), width, height, facecolor=COLOURS[colour], edgecolor="white", linewidth=1.2)
    cell.set_alpha(1.0 if lit else 0.28)
    axis.add_artist(cell)  # add_patch would compute limits, which are set
    tone = "white" if lit and colour == "input" else "black"
    axis.text(x + width / 2, y + height / 2, str(text), ha="center", va="center", color=tone, fontsize=9)


def _row_name(axis: Axes, y: float, name: str) -> None:
    axis.text(-0.3, y, name, ha="right", va="center", fontsize=9)


def _seen(
    rows: Sequence[np.ndarray], output: int, kernel_size: int, stride: int, dilation: int, padding: int
) -> list[np.ndarray]:
    """For each row, whether an output depends on its places: its window, and the cells that padding in it copies."""
    seen, outputs = [rows[-1] == output], np.array([output])
    for row in reversed(rows[:-1]):
        places = (outputs[:, None] * stride + np.arange(kernel_size) * dilation).ravel()
        outputs = np.unique(row[places][row[places] >= 0])
        seen.insert(0, np.isin(np.arange(len(row)), [*places, *(outputs + padding)]))
    return seen


@styled
def padding_diagram(
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    num_frames: int = 6,
    pad_mode: str = "constant",
    output: int | None = None,
    layers: int = 1,
    padding: int | None = None,
) -> Figure:
    """Draw causal convolutions along time: padding, frames, and the frames that every output sees.

    output: the output frame whose window is drawn in full colour; None: the last one.
    layers: the number of equal convolutions, one after another.
    padding: frames in front of each; None: `shapes.time_padding`. An output is drawn under the frames that end with the
    last one it sees, a group of `stride` frames.
    """
    check_one_of("pad_mode", pad_mode, NUMPY_PAD)
    usual, outputs = time_padding(kernel_size, stride, dilation), positive_int("num_frames", num_frames)
    padding = usual if padding is None else integer_within("padding", padding, 0)
    rows = []  # the input of each layer, padding first: for each place the cell that is copied there, -1 for a zero
    for _ in range(positive_int("layers", layers)):
        if pad_mode == "reflect" and padding >= outputs:
            raise ValueError(f'pad_mode "reflect" needs more than {padding} frames to pad as many, got {outputs}')
        zeros = dict(constant_values=-1) if pad_mode == "constant" else {}
        rows.append(np.pad(np.arange(outputs), (padding, 0), NUMPY_PAD[pad_mode], **zeros))
        outputs = conv_output_size(outputs, kernel_size, stride, dilation, padding)
    rows.append(np.arange(outputs))
    output = outputs - 1 if output is None else output
    if not 0 <= output < outputs:
        raise ValueError(f"output must be from 0 to {outputs - 1}, got {output}")
    earlier = [(padding - usual) * sum(stride**i for i in range(r)) for r in range(layers + 1)]  # in frames, of row r
    left = max(padding * stride**r + earlier[r] for r in range(layers))
    total = left + num_frames
    line = 0.7 if outputs < 12 else 0.45
    height, width = 0.9 + 0.55 * layers + 0.38 * line * outputs, min(12, 2.2 + 0.55 * total)
    figure, axis = _cell_axis(height, width, total, 2.4 + 1.8 * layers + line * outputs)
    seen = [_seen(rows, j, kernel_size, stride, dilation, padding) for j in range(outputs)]
    for r, row in enumerate(rows):
        width, top = stride**r, 1.8 * r
        for place, (copied, lit) in enumerate(zip(row, seen[output][r], strict=True)):
            cell = place - padding if r < layers else place
            text = cell if cell >= 0 else "" if copied < 0 else f"={copied}"
            colour = "padding" if cell < 0 else "latent" if r else "input"
            _cell(axis, left + cell * width - earlier[r], top, width, 1, colour, text, lit)
        name = "padding, frames" if r == 0 else "outputs" if r == layers else f"after layer {r - 1}"
        _row_name(axis, top + 0.5, name)
    for j in range(outputs):
        top = 1.8 * layers + 1.8 + line * j
        for cell in (np.flatnonzero(seen[j][0]) - padding).tolist():
            _cell(axis, left + cell, top, 1, line - 0.1, "input" if cell >= 0 else "padding", "", j == output)
        _row_name(axis, top + line / 2, f"output {j} sees")
    stack = f", {layers} layers" if layers > 1 else ""
    axis.set_title(
        f"kernel {kernel_size}, stride {stride}, dilation {dilation}, {pad_mode}{stack}: {count(num_frames, 'frame')} "
        f"and {padding} of padding give {count(outputs, 'output')}"
    )
    return figure


@styled
def size_diagram(
    num_frames: int,
    temporal_ratio: int = 4,
    micro_frame_size: int | None = 17,
    latent: int | None = None,
    padded: bool = True,
) -> Figure:
    """Draw which frames go into which latent frame, chunk by chunk.

    latent: the latent frame whose frames are drawn in full colour; None: all of them. padded: draw the frames of zeros
    in front of each chunk, which the lab's models have and other families do not.
    """
    lengths = chunk_lengths(num_frames, micro_frame_size)
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size)
    if latent is not None and not 0 <= latent < len(groups):
        raise ValueError(f"latent must be from 0 to {len(groups) - 1}, got {latent}")
    gap = 0.6
    total = num_frames + sum(front_padding(n, temporal_ratio) for n in lengths) + gap * (len(lengths) - 1)
    figure, axis = _cell_axis(1.7, min(12, 2 + 0.5 * total), total, 3)
    every = 1 if total <= 30 else 4
    start, left, index = 0, 0.0, 0
    for length in lengths:
        padding = front_padding(length, temporal_ratio)
        for position in range(padding + length):
            if position % temporal_ratio == 0:
                lit = latent in (None, index)
                _cell(axis, left + position, 1.5, temporal_ratio, 1, "latent", index, lit)
                index += 1
            if position < padding and not padded:
                continue
            frame = start + position - padding
            text = "" if position < padding or frame % every else frame
            _cell(axis, left + position, 0, 1, 1, "padding" if position < padding else "input", text, lit)
        start, left = start + length, left + padding + length + gap
    _row_name(axis, 0.5, "frames")
    _row_name(axis, 2.0, "latents")
    chunks = "no chunks" if micro_frame_size is None else f"chunks of {micro_frame_size}"
    frames, latents = count(num_frames, "frame"), count(len(groups), "latent frame")
    axis.set_title(f"{frames}, {chunks}, ratio {temporal_ratio}: {latents}")
    return figure


@styled
def dependency_diagram(moved: Mapping[str, np.ndarray], groups: Sequence[range]) -> Figure:
    """Draw which changed frame moves which latent frame, one matrix beside another.

    moved: title -> bool (frames, latent frames): whether a change of the frame moved the latent frame.
    groups: the frames that each latent frame stands for; outlined in the colour of latents.
    """
    from matplotlib.patches import Rectangle

    num_frames = groups[-1].stop
    figure = new_figure(1.2 + 0.28 * len(groups), 4.6 * len(moved))
    for axis, (title, matrix) in zip(figure.subplots(1, len(moved), squeeze=False)[0], moved.items(), strict=True):
        matrix = np.asarray(matrix)
        if matrix.shape != (num_frames, len(groups)):
            raise ValueError(f"moved[{title!r}] must be ({num_frames}, {len(groups)}), got {matrix.shape}")
        show_image(axis, np.where(matrix.T, 0.55, 1.0), cmap="gray", vmin=0, vmax=1, aspect="auto")
        for latent, group in enumerate(groups):
            corner = (group.start - 0.5, latent - 0.5)
            axis.add_patch(Rectangle(corner, len(group), 1, fill=False, linewidth=2.2, edgecolor=COLOURS["latent"]))
        every = max(1, num_frames // 17)
        axis.set(xticks=range(0, num_frames, every), yticks=range(len(groups)))
        axis.set(xlabel="changed frame t", ylabel="latent frame", title=title)
    return figure


def _sheets(axis: Axes, centre: float, shape: Sequence[int], scale: float, step: float, colour: str) -> None:
    """Draw the frames of (C, T, H, W) one behind the other, the last one furthest back."""
    from matplotlib.patches import Rectangle

    frames, height, width = shape[1], shape[2] * scale, shape[3] * scale
    depth = step * (frames - 1)
    for t in reversed(range(frames)):
        corner = (centre - (width + depth) / 2 + t * step, 2 - (height - depth) / 2 - t * step)
        sheet = Rectangle(corner, width, height, facecolor=COLOURS[colour], edgecolor="white", linewidth=4 * step)
        axis.add_artist(sheet)


def _half(axis: Axes, centre: float, lines: Sequence[str]) -> None:
    """Draw a half of a model between two stacks: its name and what it does, an arrow there and an arrow back."""
    from matplotlib.patches import Rectangle

    left, right = centre - 1.75, centre + 1.75
    axis.add_artist(Rectangle((left, 1.05), 3.5, 1.9, facecolor="white", edgecolor=LINE, linewidth=1.2))
    axis.text(centre, 2, "\n".join(lines), ha="center", va="center", fontsize=8.5)
    for name, y, start, stop in (("encode", 0.65, left, right), ("decode", 3.5, right, left)):
        axis.annotate("", (stop, y), (start, y), arrowprops=dict(arrowstyle="->", color=LINE))
        axis.text(centre, y - 0.1, name, ha="center", va="bottom", fontsize=8.5)


@styled
def block_diagram(vae: Any, size: Sequence[int]) -> Figure:
    """Draw a VideoVAE from end to end: pixels, 2D half, 2D latents, temporal half, latent, and the way back.

    vae: the loaded model, whose config and weights say what is written. size: (T, H, W) of a clip. Every frame is a
    sheet; widths, heights and numbers of sheets are to scale.
    """
    if not all(hasattr(vae, half) for half in ("spatial", "temporal")):
        raise ValueError(f"vae must be a VideoVAE, which has a 2D half and a temporal half; got {type(vae).__name__}")
    spatial, temporal, chunk = vae.spatial, vae.temporal, vae.config.micro_frame_size
    stacks = {
        "pixels": ("input", (spatial.config.in_channels, *map(int, size))),
        "2D latents": ("spatial", (spatial.config.latent_channels, *spatial.latent_size(size))),
        "latent": ("latent", (temporal.config.latent_channels, *vae.latent_size(size))),
    }
    frames = "the whole clip at once" if chunk is None else f"chunks of {chunk} frames"
    halves = [
        (spatial, "2D half", "each frame by itself", f"height and width ÷ {vae.spatial_compression_ratio}"),
        (temporal, "temporal half", frames, f"time ÷ {vae.temporal_compression_ratio}"),
    ]
    figure, axis = new_axis(2.7)
    axis.set(xlim=(0, 18), ylim=(5.4, 0), title="(channels, frames, height, width); every sheet is a frame")
    axis.axis("off")
    scale, step = 2.2 / max(size[1:]), min(0.12, 1.4 / size[0])  # axis units for a pixel, and from sheet to sheet
    for centre, (name, (colour, shape)) in zip((2.0, 9.25, 15.8), stacks.items(), strict=True):
        _sheets(axis, centre, shape, scale, step, colour)
        axis.text(centre, 4.1, f"{name}\n{shape}\n{prod(shape):,} numbers", ha="center", va="top", fontsize=8.5)
    for centre, (half, *lines) in zip((6.0, 12.5), halves, strict=True):
        weights = sum(parameter.numel() for parameter in half.parameters())
        _half(axis, centre, [*lines, f"{weights / 1e6:.1f} million weights"])
    return figure
