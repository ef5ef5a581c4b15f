"""The statistics and relations of a latent viewer, as JSON within a budget of bytes."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..latents.statistics import ACTIVE_VARIANCE, LatentReport, Spectrum
from ..utils.text import count

MOST_FRAMES = 256  # for one latent frame: eight times the ratio of any known model
NUMBERS = 200_000  # bytes of pictures.ROOM for statistics; the picture and the script have the rest


def numbers_within(report: LatentReport, room: int, max_bytes: int) -> tuple[dict[str, Any], list[str], int]:
    """Return statistics and relations as JSON, notes about what is left out of them, and their bytes.

    Raises ValueError if they cannot fit into `room` bytes of max_bytes.
    """
    correlation, every, notes = None, 1, []
    if len("0, ") * report.correlation.size < room // 2:
        correlation = _numbers(report.correlation)
    if correlation is None or len(json.dumps(correlation)) > room // 2:
        correlation = None
        notes.append(f"The correlations between {len(report.correlation)} channels are left out: they are too many.")
    while True:
        numbers = {"statistics": _statistics(report, every), "relations": _relations(report, correlation, every)}
        size = len(json.dumps(numbers))
        if size <= room:
            break
        if every >= max(report.shape[1:]):
            raise ValueError(
                f"max_bytes ({max_bytes}) must be larger: it leaves {room} bytes for statistics, and those of "
                f"{count(report.shape[0], 'channel')} have {size}"
            )
        every = max(every + 1, every * size // room)  # nearly in proportion
    if every > 1:
        notes.append(f"The curves of the statistics have one of {every} latent frames, lags and frequencies.")
    return numbers, [" ".join([*notes, f"So all stays under {max_bytes / 1e6:.3g} MB."])] if notes else [], size


def _statistics(report: LatentReport, every: int) -> dict[str, Any]:
    rows = report.table().to_dict("records")
    notes = []
    if report.scale:
        verdict = repr(report.scale).splitlines()[0].removeprefix("ScaleCheck: ")
        totals = ", ".join(f"{name} {short(total)}" for name, total in report.scale.total.items())
        if not report.warning:
            notes.append(f"Shift and scale: {verdict}.")
        notes.append(f"Distance from what each use of shift and scale gives, in nats over all channels: {totals}.")
    else:
        notes.append("Shift and scale are not checked: neither latents_mean and latents_std nor a vae give them.")
    if report.posterior:
        verdict = repr(report.posterior).splitlines()[0].removeprefix("PosteriorStatistics: ")
        rule = f"its posterior mean varies by more than {ACTIVE_VARIANCE} over the cells (Burda et al. 2016)"
        notes.append(f"{verdict}. Active: {rule}.")
    return {
        "warning": report.warning,
        "rows": [{key: _number(value) for key, value in row.items()} for row in rows],
        "frames": {name: _numbers(values[:, ::every]) for name, values in report.frames._asdict().items()},
        "every": every,
        "notes": notes,
    }


def _relations(report: LatentReport, correlation: list | None, every: int) -> dict[str, Any]:
    return {
        "correlation": correlation,
        "autocorrelation": _numbers(report.time_correlation[:, ::every]),
        "every": every,
        "spatial": _spectrum(report.spatial, every),
        "temporal": _spectrum(report.temporal, every),
        "notes": [
            "Correlations are over all cells. Power is the mean squared Fourier coefficient: white noise of variance v "
            "has v at every frequency. In space the mean of each latent frame is removed, in time that of each cell."
        ],
    }


def _spectrum(spectrum: Spectrum, every: int) -> dict[str, Any]:
    frequency, power = spectrum.frequency[::every].tolist(), _numbers(spectrum.power[:, ::every])
    return {"frequency": frequency, "power": power, "unit": spectrum.unit}


def short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _number(value) -> float | bool | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[Sequence]:
    return [[_number(value) for value in row] for row in values]
