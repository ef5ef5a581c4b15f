"""Seams: where a map that works in chunks or tiles is worse, or jumps, at their borders.

Takes clips and callables, knows no model. A chunk (or tile) begins at each of `starts`; a *border* lies between the
sample before a start and the one at it. Samples are frames along time, rows along height, columns along width, and
they are numbered from 0.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..metrics import psnr_of_rms, rms
from ..utils.checks import check_video, positive_int
from ..utils.text import count, listed
from .chunks import FLAT, Periodogram, border_samples, chunk_starts, crossings, inside_samples, periodogram

AXES = {"time": 2, "height": 3, "width": 4}  # dimension of (B, C, T, H, W)
SAMPLES = {"time": "frame", "height": "row", "width": "column"}


class SeamProfile(NamedTuple):
    """What `seam_profile` returns: two curves along the axis, and the borders to read them by."""

    error: np.ndarray
    """(N,) root mean square of y - x in each sample, in units of the clip."""
    jump: np.ndarray
    """(N - 1,) root mean square change of y - x from sample i to sample i + 1."""
    starts: tuple[int, ...]
    """Where chunks begin; the first is 0."""
    axis: str
    data_range: float

    @property
    def border_samples(self) -> tuple[int, ...]:
        """The last sample before every border and the first after it."""
        return border_samples(self.starts)

    @property
    def inside_samples(self) -> tuple[int, ...]:
        """All others, less the clip's own first and last, which are ends and not seams."""
        return inside_samples(self.starts, len(self.error))

    @property
    def _rounding(self) -> float:
        """What is no larger is taken for none at all: float32 pixels are rounded to a tenth of it."""
        return FLAT * self.data_range

    @property
    def error_borders(self) -> float:
        return rms(self.error[list(self.border_samples)])

    @property
    def error_inside(self) -> float:
        return rms(self.error[list(self.inside_samples)])

    @property
    def ratio(self) -> float:
        """RMS error at the borders for 1 inside. 1.0: no seam, also where there is no error but rounding at all."""
        return _ratio(self.error_borders, self.error_inside, self._rounding)

    @property
    def psnr_borders(self) -> float:
        """dB, from the mean squared error over all border samples (not the mean of each frame's dB); inf if none."""
        return psnr_of_rms(self.error_borders, self.data_range)

    @property
    def psnr_inside(self) -> float:
        """As `psnr_borders`, inside: it is higher by 20 * log10(ratio)."""
        return psnr_of_rms(self.error_inside, self.data_range)

    @property
    def by_place(self) -> np.ndarray:
        """(longest chunk,) RMS error at each place in the chunk, over all chunks that reach there."""
        chunks = np.split(self.error, self.starts[1:])
        return np.array([rms([c[p] for c in chunks if p < len(c)]) for p in range(max(map(len, chunks)))])

    @property
    def jump_borders(self) -> float:
        return rms(self.jump[crossings(self.starts)])

    @property
    def jump_inside(self) -> float:
        return rms(np.delete(self.jump, crossings(self.starts)))

    @property
    def jump_ratio(self) -> float:
        """Change of the error across a border for 1 inside. 1.0: no seam, also where the error never changes."""
        return _ratio(self.jump_borders, self.jump_inside, self._rounding)

    @property
    def excess_jump(self) -> float:
        """The step at the borders in units of the clip: sqrt(jump_borders**2 - jump_inside**2), not below 0.

        Squares add where a step comes on top of changes that know nothing of it; so a step of d gives d.
        """
        return float(np.sqrt(max(self.jump_borders**2 - self.jump_inside**2, 0.0)))

    @property
    def period(self) -> int | None:
        """Samples in a chunk where all but the last have as many and the last no more; else None."""
        lengths = np.diff([*self.starts, len(self.error)])
        return int(lengths[0]) if (lengths[:-1] == lengths[0]).all() and lengths[-1] <= lengths[0] else None

    @property
    def error_periodogram(self) -> Periodogram | None:
        """Of `error`; None without a period, or with fewer than two whole ones."""
        return self.period and periodogram(self.error, self.period, self._rounding)

    @property
    def jump_periodogram(self) -> Periodogram | None:
        """Of `jump`, which is one sample shorter; None as above."""
        return self.period and periodogram(self.jump, self.period, self._rounding)

    def __repr__(self) -> str:
        noun, spectra = SAMPLES[self.axis], (self.error_periodogram, self.jump_periodogram)
        shares = [
            f"{name} {spectrum.share:.0%} ({spectrum.chance:.0%} by chance)"
            for name, spectrum in zip(("error", "jump"), spectra, strict=True)
            if spectrum
        ]
        return "\n".join(
            [
                f"SeamProfile along {self.axis}: {count(len(self.error), noun)}, "
                f"{count(len(self.starts) - 1, 'border')}, before {noun} {listed(self.starts[1:])}",
                f"  error  {self.error_borders:.3g} at borders, {self.error_inside:.3g} inside: ratio {self.ratio:.2f}",
                f"  PSNR   {self.psnr_borders:.2f} dB at borders, {self.psnr_inside:.2f} dB inside",
                f"  jump   {self.jump_borders:.3g} across borders, {self.jump_inside:.3g} inside: "
                f"excess {self.excess_jump:.3g}",
            ]
            + ["  power at the period: " + ", ".join(shares)] * bool(shares)
        )

    def table(self):
        """pandas DataFrame: a row for the borders, for either side of them, and for the inside.

        A jump belongs to a border as a whole, so either side alone has none (NaN).
        """
        import pandas as pd

        first = np.array(self.starts[1:])
        places = {"borders": self.border_samples, "last before": first - 1, "first after": first}
        errors = {where: self.error[list(samples)] for where, samples in places.items()}
        errors["inside"] = self.error[list(self.inside_samples)]
        rows = {where: (len(e), rms(e), psnr_of_rms(rms(e), self.data_range)) for where, e in errors.items()}
        columns = [f"{SAMPLES[self.axis]}s", "RMS error", "PSNR in dB"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("where")
        return table.assign(**{"RMS jump": pd.Series({"borders": self.jump_borders, "inside": self.jump_inside})})

    def plot(self):
        """A matplotlib Figure: error and jump along the axis, error by place in the chunk, periodogram."""
        from ..figures.probes import seam_curves

        spectrum = self.error_periodogram
        return seam_curves(
            self.error, self.jump, self.starts, self.by_place, SAMPLES[self.axis],
            spectrum and (spectrum.frequencies, spectrum.power, spectrum.harmonics),
        )  # fmt: skip


class StaticVideo(NamedTuple):
    """What `static_video_test` returns: how much of a clip in which nothing moves moves in the output."""

    mean: np.ndarray
    """(T - 1,) mean absolute change from frame t to frame t + 1 of the output, in its units."""
    largest: np.ndarray
    """(T - 1,) largest absolute change of one number."""
    starts: tuple[int, ...]
    """Output frames at which chunks begin; (0,) where none were given."""
    tolerance: float

    @property
    def largest_change(self) -> float:
        return float(self.largest.max())

    @property
    def mean_change(self) -> float:
        return float(self.mean.mean())

    @property
    def first_moving(self) -> int | None:
        """The first output frame that differs from the one before by more than the tolerance; None: all stand still."""
        moving = np.flatnonzero(self.largest > self.tolerance)
        return int(moving[0]) + 1 if len(moving) else None

    @property
    def mean_borders(self) -> float | None:
        """Mean absolute change across the borders; None where there are none."""
        return float(self.mean[crossings(self.starts)].mean()) if len(self.starts) > 1 else None

    @property
    def mean_inside(self) -> float | None:
        """Mean absolute change between other neighbours; None where there are none."""
        inside = np.delete(self.mean, crossings(self.starts))
        return float(inside.mean()) if len(inside) else None

    def __repr__(self) -> str:
        first = "nothing moves" if self.first_moving is None else f"the first to move is frame {self.first_moving}"
        lines = [
            f"StaticVideo: {len(self.mean) + 1} frames, {first}",
            f"  change  {self.largest_change:.3g} at most, {self.mean_change:.3g} in the mean",
        ]
        if self.mean_borders is not None and self.mean_inside is not None:
            lines += [f"  mean change  {self.mean_borders:.3g} across borders, {self.mean_inside:.3g} inside"]
        return "\n".join(lines)

    def table(self):
        """pandas DataFrame: a row for each output frame from 1 on, with its change from the frame before."""
        import pandas as pd

        border = np.zeros(len(self.mean), bool)
        border[crossings(self.starts)] = True
        frames = pd.RangeIndex(1, len(self.mean) + 1, name="frame")
        return pd.DataFrame(
            {"mean change": self.mean, "largest change": self.largest, "begins a chunk": border}, frames
        )

    def plot(self):
        """A matplotlib Figure of the change into each frame, borders marked."""
        from ..figures.probes import static_changes

        return static_changes(self.mean, self.largest, self.starts)


def seam_profile(
    x: Tensor,
    y: Tensor,
    period: int | None = None,
    *,
    starts: Sequence[int] | None = None,
    axis: str = "time",
    data_range: float = 2.0,
) -> SeamProfile:
    """How much worse, and how much less steady, a reconstruction is at the borders of its chunks or tiles.

    Errors follow the content too: one clip whose motion changes or that has a cut can look like a seam, or hide one.
    Compare two maps on the same clips, or look at many clips.

    Args:
        x, y: original and reconstruction, (B, C, T, H, W) of the same shape, in any units.
        period: samples in a chunk; the last chunk may be shorter.
        starts: instead, where chunks begin, rising, from 0; with uneven chunks, for instance.
        axis: "time", "height" or "width".
        data_range: largest value less smallest, for PSNR: 2.0 for pixels in [-1, 1].

    Raises:
        ValueError: shapes that differ; not exactly one of period and starts; no border in the clip; chunks so short
            that no sample is inside; values that are not finite.
    """
    check_video("x", x)
    check_video("y", y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    if not 0 < data_range < float("inf"):
        raise ValueError(f"data_range must be above 0 and finite, got {data_range}")
    if period is None and starts is None:
        raise ValueError("one of period and starts must be given: there is no seam without a border")
    dim = AXES[axis]
    size = x.shape[dim]
    found = chunk_starts(period, starts, size, SAMPLES[axis])
    if not inside_samples(found, size):
        raise ValueError(
            f"chunks must leave a {SAMPLES[axis]} inside, away from borders and ends, to compare with; "
            f"with starts {listed(found)} of {size} there is none"
        )
    # one sample after another: in double precision a whole clip would be large
    error, jump, before = [], [], None
    for xs, ys in zip(x.detach().unbind(dim), y.detach().unbind(dim), strict=True):
        difference = ys.double() - xs.double()
        error.append(difference.square().mean().sqrt().item())
        if before is not None:
            jump.append((difference - before).square().mean().sqrt().item())
        before = difference
    return SeamProfile(np.array(error), np.array(jump), found, axis, float(data_range))


def static_video_test(
    f: Callable[[Tensor], Tensor],
    frame: Tensor,
    num_frames: int,
    period: int | None = None,
    *,
    starts: Sequence[int] | None = None,
    output_frames: int | None = None,
    tolerance: float = 0.0,
) -> StaticVideo:
    """Run `f` on one frame, repeated: what moves in the output is the map's own doing. A perfect map gives exactly 0.

    Args:
        f: clip (B, C, T, H, W) -> (B, C', T', H', W'): a reconstruction, or an encoder.
        frame: (B, C, 1, H, W).
        num_frames: T, at least 2.
        period, starts: of the chunks, as in `seam_profile`, counted in frames of the *output*; or neither.
        output_frames: T', where it is not num_frames: latent frames of an encoder.
        tolerance: the largest change that still counts as standing still, in units of the output.

    Raises:
        ValueError: a frame that is none; an output with another number of frames, or that is not finite.
    """
    check_video("frame", frame)
    if frame.shape[2] != 1:
        raise ValueError(f"frame must be (B, C, 1, H, W), one frame, got shape {tuple(frame.shape)}")
    expected = num_frames if output_frames is None else output_frames
    for name, value in (("num_frames", num_frames), ("output_frames", expected)):
        if positive_int(name, value) < 2:
            raise ValueError(f"{name} must be at least 2 to see a change, got {value}")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be at least 0 and finite, got {tolerance}")
    found = (0,) if period is None and starts is None else chunk_starts(period, starts, expected, "frame")
    with torch.no_grad():
        output = f(frame.repeat(1, 1, num_frames, 1, 1))
    check_video("f(clip)", output)
    if output.shape[2] != expected:
        raise ValueError(f"f(clip) must have {expected} frames, got {output.shape[2]} (shape {tuple(output.shape)})")
    change = ((after.double() - before.double()).abs() for before, after in pairwise(output.unbind(2)))
    mean, largest = np.array([(c.mean().item(), c.amax().item()) for c in change]).T
    return StaticVideo(mean, largest, found, float(tolerance))


def _ratio(borders: float, inside: float, rounding: float) -> float:
    if max(borders, inside) <= rounding:
        return 1.0
    return borders / inside if inside else float("inf")
