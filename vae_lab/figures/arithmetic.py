"""Pictures of the arithmetic of `shapes`: padding and windows, chunks and groups. Figures out, nothing displayed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..shapes import chunk_lengths, conv_output_size, frame_groups, front_padding, time_padding
from ..utils.checks import positive_int
from ..utils.text import count
from .style import COLOURS

NUMPY_PAD = {"constant": "constant", "replicate": "edge", "reflect": "reflect"}  # torch's name -> numpy's


def _figure(width: float, height: float, columns: float, rows: float):
    """A Figure of which one axis unit is one cell; rows grow downwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(-0.1, columns + 0.1), ylim=(rows, -0.1))
    axis.axis("off")
    return figure, axis


def _cell(axis, x: float, y: float, width: float, height: float, colour: str, text: object = "", faint: bool = False):
    from matplotlib.patches import Rectangle

    axis.add_patch(
        Rectangle((x, y), width, height, facecolor=COLOURS[colour], edgecolor="white", linewidth=1.2,
                  alpha=0.28 if faint else 1.0)
    )  # fmt: skip
    tone = "black" if faint or colour != "input" else "white"
    axis.text(x + width / 2, y + height / 2, str(text), ha="center", va="center", color=tone, fontsize=9)


class _Row(NamedTuple):
    """Cells that a convolution of a stack takes: `size` of them after `len(copies)` of padding."""

    size: int
    copies: list[int | None]
    """The cell of this row that each padding cell copies; None is a zero."""


def _rows(kernel_size: int, stride: int, dilation: int, num_frames: int, pad_mode: str, layers: int) -> list[_Row]:
    """Rows of a stack of equal layers: the frames, what each layer makes of them, and the outputs."""
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
    """The cells of each row that an output depends on; padding cells are negative, and what they copy is seen too."""
    seen = [{output}]
    for row in reversed(rows[:-1]):
        first = [j * stride - len(row.copies) for j in seen[0] if j >= 0]
        cells = {start + tap * dilation for start in first for tap in range(kernel_size)}
        seen.insert(0, cells | {row.copies[cell] for cell in cells if cell < 0} - {None})
    return seen


def padding_diagram(
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    num_frames: int = 6,
    pad_mode: str = "constant",
    output: int | None = None,
    layers: int = 1,
):
    """A matplotlib Figure of causal convolutions along time: padding, frames, and what every output sees.

    output: the output frame whose window is shown in full colour; the last one where it is None.
    layers: of the same convolution, one after another.
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
    figure, axis = _figure(
        min(12, 2.2 + 0.55 * total),
        0.9 + 0.55 * layers + 0.38 * line * outputs,
        total,
        2.4 + 1.8 * layers + line * outputs,
    )
    seen = [_seen(rows, j, kernel_size, stride, dilation) for j in range(outputs)]
    for r, row in enumerate(rows):
        width, top = stride**r, 1.8 * r
        for cell in range(-len(row.copies), row.size):
            copy = row.copies[cell] if cell < 0 else None
            text = cell if cell >= 0 else "" if copy is None else f"={copy}"
            colour = "padding" if cell < 0 else "latent" if r else "input"
            _cell(axis, left + cell * width, top, width, 1, colour, text, cell not in seen[output][r])
        name = "padding, frames" if r == 0 else "outputs" if r == layers else f"after layer {r - 1}"
        axis.text(-0.3, top + 0.5, name, ha="right", va="center", fontsize=9)
    for j in range(outputs):
        top = 1.8 * layers + 1.8 + line * j
        for cell in seen[j][0]:
            _cell(axis, left + cell, top, 1, line - 0.1, "input" if cell >= 0 else "padding", "", j != output)
        axis.text(-0.3, top + line / 2, f"output {j} sees", ha="right", va="center", fontsize=8)
    stack = f", {layers} layers" if layers > 1 else ""
    axis.set_title(
        f"kernel {kernel_size}, stride {stride}, dilation {dilation}, {pad_mode}{stack}: {count(num_frames, 'frame')} "
        f"and {len(rows[0].copies)} of padding give {count(outputs, 'output')}",
        fontsize=10,
    )
    return figure


def size_diagram(
    num_frames: int, temporal_ratio: int = 4, micro_frame_size: int | None = 17, latent: int | None = None
):
    """A matplotlib Figure of which frames go into which latent frame, chunk by chunk, padding included.

    latent: the latent frame whose frames are shown in full colour; all of them where it is None.
    """
    lengths = chunk_lengths(num_frames, micro_frame_size)
    groups = frame_groups(num_frames, temporal_ratio, micro_frame_size)
    if latent is not None and not 0 <= latent < len(groups):
        raise ValueError(f"latent must be from 0 to {len(groups) - 1}, got {latent}")
    gap = 0.6
    total = num_frames + sum(front_padding(n, temporal_ratio) for n in lengths) + gap * (len(lengths) - 1)
    figure, axis = _figure(min(12, 2 + 0.5 * total), 1.7, total, 3)
    every = 1 if total <= 30 else 4
    start, left, index = 0, 0.0, 0
    for length in lengths:
        padding = front_padding(length, temporal_ratio)
        for position in range(padding + length):
            frame = start + position - padding
            mine = index + position // temporal_ratio
            text = "" if position < padding else frame if frame % every == 0 else ""
            colour = "padding" if position < padding else "input"
            _cell(axis, left + position, 0, 1, 1, colour, text, latent not in (None, mine))
        for step in range(0, padding + length, temporal_ratio):
            _cell(axis, left + step, 1.5, temporal_ratio, 1, "latent", index, latent not in (None, index))
            index += 1
        start, left = start + length, left + padding + length + gap
    axis.text(-0.3, 0.5, "frames", ha="right", va="center", fontsize=9)
    axis.text(-0.3, 2.0, "latents", ha="right", va="center", fontsize=9)
    chunks = "no chunks" if micro_frame_size is None else f"chunks of {micro_frame_size}"
    axis.set_title(f"{count(num_frames, 'frame')}, {chunks}, ratio {temporal_ratio}: "
                   f"{count(len(groups), 'latent frame')}", fontsize=10)  # fmt: skip
    return figure


def dependency_diagram(moved: Mapping[str, np.ndarray], groups: Sequence[range]):
    """A matplotlib Figure of which changed frame moves which latent, one matrix beside another.

    Args:
        moved: title -> bool (frames, latent frames): whether a change of the frame moved the latent.
        groups: the frames that each latent frame stands for; outlined in the latents' colour.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    num_frames = groups[-1].stop
    figure = Figure(figsize=(4.6 * len(moved), 1.2 + 0.28 * len(groups)), layout="constrained")
    for axis, (title, matrix) in zip(figure.subplots(1, len(moved), squeeze=False)[0], moved.items(), strict=True):
        matrix = np.asarray(matrix)
        if matrix.shape != (num_frames, len(groups)):
            raise ValueError(f"moved[{title!r}] must be ({num_frames}, {len(groups)}), got {matrix.shape}")
        axis.imshow(np.where(matrix.T, 0.55, 1.0), cmap="gray", vmin=0, vmax=1, aspect="auto")
        for latent, group in enumerate(groups):
            corner = (group.start - 0.5, latent - 0.5)
            axis.add_patch(Rectangle(corner, len(group), 1, fill=False, linewidth=2.2, edgecolor=COLOURS["latent"]))
        every = max(1, num_frames // 17)
        axis.set(xlabel="changed frame t", ylabel="latent frame", xticks=range(0, num_frames, every))
        axis.set_yticks(range(len(groups)))
        axis.set_title(title, fontsize=10, parse_math=False)
    return figure
