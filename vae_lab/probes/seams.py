"""Seams: a map that works in chunks or tiles can be worse, or jump, at their borders.

A chunk (or tile) begins at each of `starts`; a *border* lies between the sample before a start and the sample at it.
Samples are frames along time, rows along height and columns along width. They are numbered from 0.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..figures import probes as pictures
from ..metrics import check_pair, psnr_of_rms, rms
from ..utils.checks import check_at_least, check_one_of, check_video, is_number, positive_int
from ..utils.tables import DataFrame, Figure, table_of
from ..utils.text import count, listed
from .chunks import FLAT, Periodogram, periodogram
from .maps import AXES


class SeamProfile(NamedTuple):
    """The result of `seam_profile`: two curves along the axis, and the borders on it."""

    error: np.ndarray  # (N,) root mean square of y - x in each sample, in units of the clip
    jump: np.ndarray  # (N - 1,) root mean square change of y - x from sample i to sample i + 1
    starts: tuple[int, ...]  # where chunks begin; the first is 0
    axis: str  # "time", "height" or "width"
    data_range: float  # largest possible value of the clip minus the smallest

    @property
    def border_samples(self) -> tuple[int, ...]:
        """The last sample before every border and the first after it."""
        return tuple(sorted({sample for start in self.starts[1:] for sample in (start - 1, start)}))

    @property
    def inside_samples(self) -> tuple[int, ...]:
        """All others, without the first and the last of the clip, which are no seams."""
        return tuple(sorted(set(range(1, len(self.error) - 1)) - set(self.border_samples)))

    @property
    def error_borders(self) -> float:
        """RMS error of the border samples."""
        return rms(self.error[list(self.border_samples)])

    @property
    def error_inside(self) -> float:
        """RMS error of the samples inside."""
        return rms(self.error[list(self.inside_samples)])

    @property
    def ratio(self) -> float:
        """RMS error at the borders divided by that inside. 1.0 is no seam, and also the value for mere rounding."""
        borders, inside = self.error_borders, self.error_inside
        if max(borders, inside) <= FLAT * self.data_range:  # float32 rounds pixels to a tenth of it
            return 1.0
        return borders / inside if inside else float("inf")

    @property
    def psnr_borders(self) -> float:
        """dB, of the mean squared error over all border samples (not the mean of their dB); infinite for no error."""
        return psnr_of_rms(self.error_borders, self.data_range)

    @property
    def psnr_inside(self) -> float:
        """dB, as `psnr_borders`, of the samples inside; higher than it by 20 * log10(ratio)."""
        return psnr_of_rms(self.error_inside, self.data_range)

    @property
    def by_place(self) -> np.ndarray:
        """(longest chunk,) RMS error at each place in the chunk, over all chunks that are long enough."""
        chunks = np.split(self.error, self.starts[1:])
        return np.array([rms([c[p] for c in chunks if p < len(c)]) for p in range(max(map(len, chunks)))])

    @property
    def jump_borders(self) -> float:
        """RMS change of the error across the borders."""
        return rms(self.jump[_crossings(self.starts)])

    @property
    def jump_inside(self) -> float:
        """RMS change of the error between other neighbours."""
        return rms(np.delete(self.jump, _crossings(self.starts)))

    @property
    def excess_jump(self) -> float:
        """The step at the borders in units of the clip: sqrt(jump_borders**2 - jump_inside**2), not below 0.

        The squares of a step and of changes independent of it add up, so a step of d gives d.
        """
        return float(np.sqrt(max(self.jump_borders**2 - self.jump_inside**2, 0.0)))

    @property
    def period(self) -> int | None:
        """The chunk length if all chunks are equal (the last may be shorter), else None."""
        lengths = np.diff([*self.starts, len(self.error)])
        return int(lengths[0]) if (lengths[:-1] == lengths[0]).all() and lengths[-1] <= lengths[0] else None

    @property
    def error_periodogram(self) -> Periodogram | None:
        """Periodogram of `error`; None without a period, or with fewer than two whole periods."""
        return periodogram(self.error, self.period, FLAT * self.data_range) if self.period else None

    @property
    def jump_periodogram(self) -> Periodogram | None:
        """Periodogram of `jump`, which is one sample shorter; None as above."""
        return periodogram(self.jump, self.period, FLAT * self.data_range) if self.period else None

    def __repr__(self) -> str:
        noun, spectra = AXES[self.axis], {"error": self.error_periodogram, "jump": self.jump_periodogram}
        borders = f"{count(len(self.starts) - 1, 'border')}, before {noun} {listed(self.starts[1:])}"
        jump = f"{self.jump_borders:.3g} across borders, {self.jump_inside:.3g} inside: excess {self.excess_jump:.3g}"
        lines = [
            f"SeamProfile along {self.axis}: {count(len(self.error), noun)}, {borders}",
            f"  error  {self.error_borders:.3g} at borders, {self.error_inside:.3g} inside: ratio {self.ratio:.2f}",
            f"  PSNR   {self.psnr_borders:.2f} dB at borders, {self.psnr_inside:.2f} dB inside",
            f"  jump   {jump}",
        ]
        if shares := [f"{name} {s.share:.0%} ({s.chance:.0%} by chance)" for name, s in spectra.items() if s]:
            lines.append("  power at the period: " + ", ".join(shares))
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """Return a row for the borders, for the samples on either side of them, and for the samples inside.

        A jump belongs to a border as a whole, so either side alone has none (NaN).
        """
        first = np.array(self.starts[1:])
        samples = self.border_samples, first - 1, first, self.inside_samples
        error = [rms(self.error[list(place)]) for place in samples]
        columns = {
            f"{AXES[self.axis]}s": [len(place) for place in samples],
            "RMS error": error,
            "PSNR in dB": psnr_of_rms(error, self.data_range),
            "RMS jump": [self.jump_borders, np.nan, np.nan, self.jump_inside],
        }
        return table_of(columns, "where", ["borders", "last before", "first after", "inside"])

    def plot(self) -> Figure:
        """Draw error and jump along the axis, error by place in the chunk, and the periodogram of the error."""
        spectrum = self.error_periodogram
        curves = spectrum and (spectrum.frequencies, spectrum.power, spectrum.harmonics)
        return pictures.seam_curves(self.error, self.jump, self.starts, self.by_place, AXES[self.axis], curves)


class StaticVideo(NamedTuple):
    """The result of `static_video_test`: how much the output moves for a clip in which nothing moves."""

    mean: np.ndarray  # (T - 1,) mean absolute change from frame t to frame t + 1 of the output, in its units
    largest: np.ndarray  # (T - 1,) largest absolute change of one number
    starts: tuple[int, ...]  # output frames at which chunks begin; (0,) if none were given
    tolerance: float  # largest change that counts as none, in units of the output

    @property
    def largest_change(self) -> float:
        """Largest absolute change of any number between two frames."""
        return float(self.largest.max())

    @property
    def mean_change(self) -> float:
        """Mean absolute change of all numbers between two frames."""
        return float(self.mean.mean())

    @property
    def first_moving(self) -> int | None:
        """The first output frame that differs from the one before by more than the tolerance; None: nothing moves."""
        moving = np.flatnonzero(self.largest > self.tolerance)
        return int(moving[0]) + 1 if len(moving) else None

    @property
    def mean_borders(self) -> float | None:
        """Mean absolute change across the borders; None if there are none."""
        return float(self.mean[_crossings(self.starts)].mean()) if len(self.starts) > 1 else None

    @property
    def mean_inside(self) -> float | None:
        """Mean absolute change between other neighbours; None if there are none."""
        inside = np.delete(self.mean, _crossings(self.starts))
        return float(inside.mean()) if len(inside) else None

    def __repr__(self) -> str:
        first = "nothing moves" if self.first_moving is None else f"the first to move is frame {self.first_moving}"
        lines = [
            f"StaticVideo: {len(self.mean) + 1} frames, {first}",
            f"  change  {self.largest_change:.3g} at most, {self.mean_change:.3g} on average",
        ]
        if self.mean_borders is not None and self.mean_inside is not None:
            lines += [f"  mean change  {self.mean_borders:.3g} across borders, {self.mean_inside:.3g} inside"]
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """Return a row for each output frame from 1 on, with its change from the frame before."""
        frames = np.arange(1, len(self.mean) + 1)
        begins = np.isin(frames, self.starts)
        columns = {"mean change": self.mean, "largest change": self.largest, "begins a chunk": begins}
        return table_of(columns, "frame", frames)

    def plot(self) -> Figure:
        """Draw the change into each frame, with the borders marked."""
        return pictures.static_changes(self.mean, self.largest, self.starts)


def seam_profile(
    x: Tensor,
    y: Tensor,
    period: int | None = None,
    *,
    starts: Sequence[int] | None = None,
    axis: str = "time",
    data_range: float = 2.0,
) -> SeamProfile:
    """Measure how much worse, and how much less steady, a reconstruction is at the borders of its chunks or tiles.

    Errors depend on the content too: a cut or a change of motion can look like a seam, or hide one. Compare two maps on
    the same clips, or measure many clips.

    Args:
        x, y: original and reconstruction, (B, C, T, H, W) of the same shape, in any units.
        period: samples in a chunk; the last chunk may be shorter.
        starts: where chunks begin, rising, from 0; instead of a period, if chunks are uneven.
        axis: "time", "height" or "width".
        data_range: largest possible value minus the smallest, for PSNR: 2.0 for pixels in [-1, 1].

    Raises ValueError if the shapes differ, values are not finite, not exactly one of period and starts is given, the
    clip has no border, or chunks are so short that no sample is inside.
    """
    check_pair(x, y, data_range)
    check_one_of("axis", axis, AXES)
    noun, dim = AXES[axis], 2 + list(AXES).index(axis)
    size = x.shape[dim]
    starts = _chunk_starts(period, starts, size, noun)
    # one sample after another: a whole clip in double precision would take much memory
    error, jump, before = [], [], None
    for xs, ys in zip(x.detach().unbind(dim), y.detach().unbind(dim), strict=True):
        difference = ys.double() - xs.double()
        error.append(difference.square().mean().sqrt().item())
        if before is not None:
            jump.append((difference - before).square().mean().sqrt().item())
        before = difference
    profile = SeamProfile(np.array(error), np.array(jump), starts, axis, float(data_range))
    if not profile.inside_samples:
        raise ValueError(
            f"chunks must leave a {noun} inside, away from borders and ends, to compare with; "
            f"with starts {listed(starts)} of {size} there is none"
        )
    return profile


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
    """Run `f` on a clip that repeats one frame: any motion in the output comes from f. A perfect map gives exactly 0.

    Args:
        f: clip (B, C, T, H, W) -> (B, C', T', H', W'): a reconstruction, or an encoder.
        frame: (B, C, 1, H, W).
        num_frames: T, at least 2; output_frames: T', if it differs, as for latent frames of an encoder.
        period, starts: of the chunks, as in `seam_profile`, counted in frames of the *output*; or neither.
        tolerance: the largest change that counts as none, in units of the output.

    Raises ValueError if `frame` is not one frame, or the output has another number of frames or is not finite.
    """
    check_video("frame", frame)
    if frame.shape[2] != 1:
        raise ValueError(f"frame must be (B, C, 1, H, W), one frame, got shape {tuple(frame.shape)}")
    expected = num_frames if output_frames is None else output_frames
    for name, value in (("num_frames", num_frames), ("output_frames", expected)):
        if positive_int(name, value) < 2:
            raise ValueError(f"{name} must be at least 2 to see a change, got {value}")
    check_at_least("tolerance", tolerance, 0)
    starts = (0,) if period is None and starts is None else _chunk_starts(period, starts, expected, "frame")
    with torch.no_grad():
        output = f(frame.repeat(1, 1, num_frames, 1, 1))
    check_video("f(clip)", output)
    if output.shape[2] != expected:
        raise ValueError(f"f(clip) must have {expected} frames, got {output.shape[2]} (shape {tuple(output.shape)})")
    change = ((after.double() - before.double()).abs() for before, after in pairwise(output.unbind(2)))
    mean, largest = np.array([(c.mean().item(), c.amax().item()) for c in change]).T
    return StaticVideo(mean, largest, starts, float(tolerance))


def _chunk_starts(period: int | None, starts: Sequence[int] | None, size: int, noun: str) -> tuple[int, ...]:
    """Where chunks begin, from exactly one of period and starts."""
    if period is not None and starts is not None:
        raise ValueError(f"only one of period and starts may be given, got period {period} and starts {starts}")
    if period is not None:
        if positive_int("period", period) >= size:
            clip = count(size, noun)
            raise ValueError(f"period ({period}) must be smaller than the clip's {clip}: there is no border")
        return tuple(range(0, size, period))
    if starts is None:
        raise ValueError("one of period and starts must be given: there is no seam without a border")
    starts = tuple(starts)
    if not all(is_number(start, Integral) for start in starts):
        raise ValueError(f"starts must be integers, got {starts}")
    if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        raise ValueError(f"starts must begin with 0 and rise, got {listed(starts)}")
    if starts[-1] >= size or len(starts) < 2:
        raise ValueError(f"starts must have a second one, and all below {size}, got {listed(starts)}")
    return tuple(map(int, starts))


def _crossings(starts: Sequence[int]) -> list[int]:
    """Indices of the changes across a border, in a list of changes from sample i to i + 1."""
    return [start - 1 for start in starts[1:]]
