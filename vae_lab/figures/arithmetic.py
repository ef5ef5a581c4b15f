"""Pictures of the arithmetic of `shapes`: padding and windows, chunks and groups. Figures out, nothing displayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..shapes import chunk_lengths, conv_output_size, frame_groups, front_padding, time_padding
from ..utils.checks import positive_int
from ..utils.text import count
from .style import COLOURS, new_axis, new_figure, show_image, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


class _Row(NamedTuple):
    """The input of one convolution of a stack, or the stack's output: `size` cells after `len(copies)` of padding."""

    size: int
    copies: list[int | None]
    """The cell of this row that each padding cell copies; None: a zero."""


def _rows(kernel_size: int, stride: int, dilation: int, num_frames: int, pad_mode: str, layers: int) -> list[_Row]:
    """Rows of a stack of equal layers: the frames, the output of each layer but the last, and the last output."""
    padding = time_padding(kernel_size, stride, dilation)
    rows, size = [], positive_int("num_frames", num_frames)
    for _ in range(positive_int("layers", layers)):
        outputs = conv_output_size(size, kernel_size, stride, dilation, padding)
        if pad_mode == "reflect" and padding >= size:
            raise ValueError(f'pad_mode "reflect" needs more than {padding} frames to pad as many, got {size}')
        copies = np.pad(np.arange(size), (padding, 0), mode=NUMPY_PAD[pad_mode])[:padding].tolist()
        rows.append(_Row(size, [None] * padding if pad_mode == "constant" else copies))
        size = outputs
    return [*rows, _Row(size, [])]


def _seen(rows: Sequence[_Row], output: int, kernel_size: int, stride: int, dilation: int) -> list[set[int]]:
    """The cells of each row that an output depends on: padding cells, which are negative, and the cells they copy."""
    seen = [{output}]
    for row in reversed(rows[:-1]):
        first = [j * stride - len(row.copies) for j in seen[0] if j >= 0]
        cells = {start + tap * dilation for start in first for tap in range(kernel_size)}
        copied = (row.copies[cell] for cell in cells if cell < 0)
        seen.insert(0, cells | {copy for copy in copied if copy is not None})
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
) -> Figure:
    """Draw causal convolutions along time: padding, frames, and the frames that every output sees.

    output: the output frame whose window is drawn in full colour; None: the last one.
    layers: the number of equal convolutions, one after another.
    """
    if pad_mode not in NUMPY_PAD:
        raise ValueError(f"pad_mode must be one of {tuple(NUMPY_PAD)}, got {pad_mode!r}")
    rows = _rows(kernel_size, stride, dilation, num_frames, pad_mode, layers)
    outputs = rows[-1].size
    output = outputs - 1 if output is None else output
    if not 0 <= output < outputs:
        raise ValueError(f"output must be from 0 to {outputs - 1}, got {output}")
    left = max(len(row.copies) * stride**r for r, row in enumerate(rows))
    total = left + num_frames
    line = 0.7 if outputs < 12 else 0.45
    height, width = 0.9 + 0.55 * layers + 0.38 * line * outputs, min(12, 2.2 + 0.55 * total)
    figure, axis = _cell_axis(height, width, total, 2.4 + 1.8 * layers + line * outputs)
    seen = [_seen(rows, j, kernel_size, stride, dilation) for j in range(outputs)]
    for r, row in enumerate(rows):
        width, top = stride**r, 1.8 * r
        for cell in range(-len(row.copies), row.size):
            copy = row.copies[cell] if cell < 0 else None
            text = cell if cell >= 0 else "" if copy is None else f"={copy}"
            colour = "padding" if cell < 0 else "latent" if r else "input"
            _cell(axis, left + cell * width, top, width, 1, colour, text, cell in seen[output][r])
        name = "padding, frames" if r == 0 else "outputs" if r == layers else f"after layer {r - 1}"
        _row_name(axis, top + 0.5, name)
    for j in range(outputs):
        top = 1.8 * layers + 1.8 + line * j
        for cell in seen[j][0]:
            _cell(axis, left + cell, top, 1, line - 0.1, "input" if cell >= 0 else "padding", "", j == output)
        _row_name(axis, top + line / 2, f"output {j} sees")
    stack = f", {layers} layers" if layers > 1 else ""
    axis.set_title(
        f"kernel {kernel_size}, stride {stride}, dilation {dilation}, {pad_mode}{stack}: {count(num_frames, 'frame')} "
        f"and {len(rows[0].copies)} of padding give {count(outputs, 'output')}"
    )
    return figure


@styled
def size_diagram(
    num_frames: int, temporal_ratio: int = 4, micro_frame_size: int | None = 17, latent: int | None = None
) -> Figure:
    """Draw which frames go into which latent frame, chunk by chunk, padding included.

    latent: the latent frame whose frames are drawn in full colour; None: all of them.
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
            frame, own = start + position - padding, index + position // temporal_ratio
            text = "" if position < padding or frame % every else frame
            colour = "padding" if position < padding else "input"
            _cell(axis, left + position, 0, 1, 1, colour, text, latent in (None, own))
        for step in range(0, padding + length, temporal_ratio):
            _cell(axis, left + step, 1.5, temporal_ratio, 1, "latent", index, latent in (None, index))
            index += 1
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

    Args:
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
