"""Winograd's convolution: kernels of 3x3 and (k, 3, 3) by fewer multiplications, on CPUs with oneDNN.

F(m, 3) computes m outputs of a kernel of 3 with m + 2 products instead of 3 m: input and kernel, as polynomials, are
evaluated at m + 1 numbers and at infinity, multiplied there, and interpolated. Along height and width that is
((m + 2) / 3 m)^2 of the products: 0.44 for F(2, 3), 0.25 for F(4, 3).

Sources: S. Winograd, "Arithmetic Complexity of Computations" (SIAM, 1980); A. Lavin and S. Gray, "Fast Algorithms for
Convolutional Neural Networks" (arXiv:1509.09308); for how points are chosen, B. Barabasz et al., "Error Analysis and
Improving the Accuracy of Winograd Convolution for Deep Neural Networks" (arXiv:1803.10986).
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

POINTS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (0.5**0.5, 2.0**0.5)}
"""m -> the positive points: beside 0 and infinity, each stands for itself and its negative. For F(4, 3), the square
roots of 1/2 and 2 have less than half the rounding error of the usual 1 and 2."""
SCRATCH = 6 * 2**20  # bytes of products a strip holds for each frame of a kernel, if that is a row of tiles or more
SUMMED = 256  # channels that oneDNN adds up in one go: longer sums in float32 lose digits, shorter ones take time
FEWEST = 64  # tiles from which on oneDNN reads kernels of one frame in the order in which they are packed


class Matrices(NamedTuple):
    """What F(m, 3) multiplies by, in float64: outputs = a @ ((g @ kernel) * (b @ inputs))."""

    a: Tensor  # (m, m + 2)
    b: Tensor  # (m + 2, m + 2)
    g: Tensor  # (m + 2, 3)


def matrices(m: int) -> Matrices:
    """Derive the matrices of F(m, 3) from POINTS[m] (Cook-Toom).

    Rows of g evaluate the kernel at 0, p, -p, ... and infinity, each divided by the product of its distances to the
    other points. Rows of b are the coefficients of M(x) / (x - point), and of M(x) for infinity, where M(x) is the
    product of all x - point.
    """
    points = torch.tensor([0.0, *(sign * p for p in POINTS[m] for sign in (1, -1))], dtype=torch.float64)
    n = m + 2
    a, b, g = (torch.zeros(size, dtype=torch.float64) for size in ((m, n), (n, n), (n, 3)))
    a[:, :-1] = points ** torch.arange(m).view(-1, 1)
    for row, point in enumerate(points):
        others = points[torch.arange(m + 1) != row]
        b[row, :-1] = _coefficients(others)
        g[row] = point ** torch.arange(3) / (point - others).prod()
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = _coefficients(points)
    return Matrices(a, b, g)


def _coefficients(roots: Tensor) -> Tensor:
    """The coefficients of the product of all x - root, the constant first."""
    result = torch.ones(1, dtype=torch.float64)
    for root in roots:
        result = torch.cat([result.new_zeros(1), result]) - root * torch.cat([result, result.new_zeros(1)])
    return result


class _Transform:
    """The two transforms of F(m, 3) along one axis, on lists of slices.

    The points p and -p share their even and odd powers, which halves the additions.
    """

    def __init__(self, m: int):
        a, b, _ = matrices(m)
        self.pairs = range(1, m + 1, 2)  # the row of p; that of -p is the next
        self.ends = [b[0].tolist(), b[-1].tolist()]
        self.even = [((b[row] + b[row + 1]) / 2).tolist() for row in self.pairs]
        self.odd = [((b[row] - b[row + 1]) / 2).tolist() for row in self.pairs]
        self.outputs = [[line[0], *line[1:-1:2], line[-1]] for line in a.tolist()]

    def to_points(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Evaluate m + 2 slices at m + 2 points."""
        for weights, out in zip(self.ends, (outputs[0], outputs[-1]), strict=True):
            _combine(weights, inputs, out)
        for row, even, odd in zip(self.pairs, self.even, self.odd, strict=True):
            first, (second, factor) = _combine(even, inputs)[0], _combine(odd, inputs)
            torch.add(first, second, alpha=factor, out=outputs[row])
            torch.add(first, second, alpha=-factor, out=outputs[row + 1])

    def from_points(self, products: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Interpolate m slices from products at m + 2 points."""
        sums = [products[row] + products[row + 1] for row in self.pairs]
        differences = [products[row] - products[row + 1] for row in self.pairs]
        for power, (weights, out) in enumerate(zip(self.outputs, outputs, strict=True)):
            _combine(weights, [products[0], *(differences if power % 2 else sums), products[-1]], out)


def _combine(weights: Sequence[float], slices: Sequence[Tensor], out: Tensor | None = None) -> tuple[Tensor, float]:
    """Add up weighted slices in as few passes as torch allows: (sum / factor, factor), or the sum itself in `out`."""
    terms = [(weight, x) for weight, x in zip(weights, slices, strict=True) if weight]
    terms.sort(key=lambda term: term[0] != 1)  # a weight of 1 needs no multiplication
    (factor, first), *rest = terms
    total = first
    for number, (weight, x) in enumerate(rest):
        if number:
            total.add_(x, alpha=weight / factor)
        else:
            total = torch.add(first, x, alpha=weight / factor, out=out)
    if out is not None and factor != 1:
        out.mul_(factor)
    return total, factor


_TRANSFORMS = {m: _Transform(m) for m in POINTS}


class Kernel(NamedTuple):
    """A kernel at the points, in the order in which oneDNN reads it."""

    m: int
    parts: tuple[Tensor, ...]  # for each SUMMED input channels
    shape: tuple[int, ...]  # (O, C, k, 3, 3)


def kernel_at_points(weight: Tensor, m: int) -> Kernel:
    """Transform a kernel (O, C, 3, 3) or (O, C, k, 3, 3) for `winograd`: (m + 2)^2 / 9 times its memory."""
    weight = weight.detach()
    weight = weight.unsqueeze(2) if weight.ndim == 4 else weight
    outputs, _, length = weight.shape[:3]
    points, g = (m + 2) ** 2, matrices(m).g.to(weight.device)
    parts = []
    for part in weight.split(SUMMED, dim=1):
        at = (torch.kron(g, g) @ part.reshape(-1, 9).double().T).to(weight.dtype)
        at = at.view(points * outputs, -1, length, 1)
        size = [1, points * part.shape[1], 8, 64]  # of typical inputs: what is packed fits all
        parts.append(torch.ops.mkldnn._reorder_convolution_weight(at, (0, 0), (1, 1), (1, 1), points, size))
    return Kernel(m, tuple(parts), tuple(weight.shape))


def winograd(
    x: Tensor,
    kernel: Kernel,
    bias: Tensor | None = None,
    padding: tuple[int, int] = (0, 0),
    front: int = 0,
    behind: int = 0,
    stride: int = 1,
    scratch: int | None = None,
) -> Tensor:
    """Convolve (C, T, H, W) float32 to (O, T', H', W'), which lies in memory with the channels last.

    padding: zeros at both ends of height and of width. front, behind: zero frames at the ends of time. stride: in time,
    1 for a kernel of one frame. The work is done in strips of rows, so that each temporary tensor stays around
    `scratch` bytes (default: SCRATCH for each frame of the kernel).
    """
    outputs, channels, length = kernel.shape[:3]
    m, n = kernel.m, kernel.m + 2
    transform = _TRANSFORMS[m]
    _, num_frames, height, width = x.shape
    below, right = height + 2 * padding[0] - 2, width + 2 * padding[1] - 2  # the size of the output
    num_outputs = (num_frames + front + behind - length) // stride + 1
    tiles_down, tiles_across = -(-below // m), -(-right // m)
    y = x.new_empty(num_outputs, tiles_down * m, tiles_across * m, outputs)
    source = x.permute(1, 2, 3, 0)
    summed = kernel.parts[0].shape[1]
    cell = n * n * max(summed, outputs) * x.element_size()  # bytes of a tile
    scratch = SCRATCH * length if scratch is None else scratch
    rows = max(1, min(tiles_down, scratch // (cell * tiles_across * (num_frames + front + behind))))
    rows = -(-tiles_down // -(-tiles_down // rows))  # strips of the same height
    frames = max(1, min(num_outputs, (scratch // (cell * tiles_across * rows) - length) // stride + 1))
    for t in range(0, num_outputs, frames):
        count = min(frames, num_outputs - t)
        taken = (count - 1) * stride + length
        for top in range(0, tiles_down, rows):
            down = min(rows, tiles_down - top)
            size = (taken, down * m + 2, tiles_across * m + 2)
            corner = (front - t * stride, padding[0] - top * m, padding[1])
            products: Tensor | None = None
            for part, channel in zip(kernel.parts, range(0, channels, summed), strict=True):
                strip = _padded(source[..., channel : channel + summed], size, corner)
                depth = strip.shape[-1]
                along = x.new_empty(taken, down, n, size[2], depth)
                transform.to_points([strip[:, i : i + (down - 1) * m + 1 : m] for i in range(n)], along.unbind(2))
                tiles = down * tiles_across
                spare = max(0, FEWEST - taken * tiles) if length == 1 else 0
                at = x.new_empty(taken * tiles + spare, n, n, depth)
                at[taken * tiles :] = 0
                columns = [along[:, :, :, j : j + (tiles_across - 1) * m + 1 : m] for j in range(n)]
                used = at[: taken * tiles].view(taken, down, tiles_across, n, n, depth)
                transform.to_points(columns, [point.transpose(2, 3) for point in used.unbind(4)])
                at = at.view(1, 1 if length == 1 else taken, -1, n * n * depth).permute(0, 3, 1, 2)
                products = _multiply(at, part, n * n, stride if length > 1 else 1, products)
            p = cast(Tensor, products).permute(0, 2, 3, 1).reshape(-1, n, n, outputs)
            p = p[: count * tiles].view(count, down, tiles_across, n, n, outputs)
            half = x.new_empty(count, down, tiles_across, n, m, outputs)
            transform.from_points(p.unbind(4), half.unbind(4))
            done = y[t : t + count, top * m : (top + down) * m]
            transform.from_points(half.unbind(3), done.view(count, down, m, tiles_across, m, outputs).unbind(2))
            if bias is not None:
                done += bias
    return y[:, :below, :right].contiguous().permute(3, 0, 1, 2)


def _padded(source: Tensor, size: tuple[int, int, int], corner: tuple[int, int, int]) -> Tensor:
    """A window (size, C) of frames (T, H, W, C), whose first frame is at `corner` of it; zeros around them."""
    window = source.new_zeros(*size, source.shape[3])
    into, out_of = [], []
    for at, wanted, available in zip(corner, size, source.shape, strict=False):
        first, last = max(at, 0), max(min(at + available, wanted), max(at, 0))
        into.append(slice(first, last))
        out_of.append(slice(first - at, last - at))
    window[tuple(into)] = source[tuple(out_of)]
    return window


def _multiply(at: Tensor, kernel: Tensor, points: int, stride: int, total: Tensor | None) -> Tensor:
    """Convolve in time and over channels, separately at every point, and add that to `total`."""
    shape = (0, 0), (stride, 1), (1, 1), points
    if total is None:
        return torch.ops.mkldnn._convolution_pointwise(at, kernel, None, *shape, "none", [], "")
    return torch.ops.mkldnn._convolution_pointwise_.binary(total, at, kernel, None, *shape, "add", 1.0, None, [], None)
