"""Are shift and scale of latents used the right way round? What the statistics of one clip can tell of it."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from .arrays import LARGEST, per_channel
from .moments import channel_moments

HYPOTHESES = {
    "raw": "as the encoder gives them: (z - latents_mean) / latents_std is standard",
    "normalised": "normalised already: (raw - latents_mean) / latents_std",
    "normalised twice": "normalised twice, as if normalize had been called for denormalize",
    "denormalised": "raw * latents_std + latents_mean, as if denormalize had been called for normalize",
    "multiplied": "(raw - latents_mean) * latents_std, multiplied where it should be divided",
}
MISTAKES = {
    "normalised": ("look normalised already", "give raw ones, latents * latents_std + latents_mean"),
    "normalised twice": ("look normalised twice", "to denormalise is latents * latents_std + latents_mean"),
    "denormalised": (
        "look multiplied by latents_std, the wrong way round",
        "to normalise is (raw - latents_mean) / latents_std, and diffusers' scaling_factor is 1 / latents_std",
    ),
}
MISTAKES["multiplied"] = MISTAKES["denormalised"]  # one clip hardly tells the two apart
# The rule of `decisive`, in nats. Content makes the std of a clip smaller by as much as ten times, and hardly ever
# larger in all channels: what explains wider latents needs less. The numbers are chosen so that none of 59 clips (17
# frames of 22 photographs, synthetic clips, data/*.mp4), encoded by the lab's weights, is warned of when it is used
# rightly: with their shift and scale, Open-Sora's, or the scale of SD, SDXL, SD 3, FLUX, CogVideoX or HunyuanVideo.
# Of normalised ones with Open-Sora's shift and scale 28 are noticed, of denormalised ones 21; with the lab's own
# scale, below 2, none and 7.
FITS = 0.35  # the other hypothesis: mean over the channels, at most
BETTER = 0.5  # than "raw" by so much: mean over the channels, at least
BETTER_EVERYWHERE = 0.1  # and in each channel
BETTER_WIDER = 0.2  # where it assumes a larger std than "raw" in each channel: mean over the channels, at least


class ScaleCheck(NamedTuple):
    """What `scale_check` returns."""

    mean: np.ndarray
    """(C,): measured,"""
    std: np.ndarray
    """(C,)"""
    latents_mean: np.ndarray
    """(C,): and assumed."""
    latents_std: np.ndarray
    """(C,)"""
    divergence: dict[str, np.ndarray]
    """Hypothesis (key of HYPOTHESES) -> (C,): KL divergence of the channel's Gaussian from the one that is expected.

    In nats. It is the same as that from N(0, 1) after what the hypothesis says has been undone. Infinite for a channel
    that is constant.
    """

    @property
    def total(self) -> dict[str, float]:
        """Hypothesis -> the divergence summed over the channels, in nats."""
        return {name: float(values.sum()) for name, values in self.divergence.items()}

    @property
    def best(self) -> str:
        """The hypothesis of the smallest total; of equals the first, so "raw" where there is nothing to tell."""
        return min(self.total, key=self.total.get)

    @property
    def decisive(self) -> bool:
        """Whether one clip is enough to say that the latents are not raw but what `best` says.

        A clip is no data set: a dull one has a tenth of the std that the data have. So the other hypothesis must fit
        by itself, and better than "raw" in every channel. Where latents_std is between about 0.5 and 2, most clips
        cannot tell.
        """
        best, raw = self.divergence[self.best], self.divergence["raw"]
        if not (np.isfinite(best).all() and best.mean() <= FITS):
            return False
        expected = expectations(self.latents_mean, self.latents_std)
        wider = (expected[self.best][1] > expected["raw"][1]).all()
        better = raw - best
        if wider:
            return bool(better.mean() >= BETTER_WIDER and better.min() > 0)
        return bool(better.mean() >= BETTER and better.min() >= BETTER_EVERYWHERE)

    @property
    def warning(self) -> str:
        """One sentence where the latents are not raw by `decisive`, otherwise empty."""
        if not self.decisive:
            return ""
        number, (what, remedy) = len(self.mean), MISTAKES[self.best]
        return (
            f"These latents {what} ({self.total[self.best] / number:.2f} nats a channel from what that gives, "
            f"{self.total['raw'] / number:.2f} from raw latents of this latents_mean and latents_std): {remedy}."
        )

    def __repr__(self) -> str:
        verdict = self.warning or (
            "consistent with raw latents" if self.best == "raw" else f"{self.best} fits best, but one clip cannot tell"
        )
        totals = [f"  {name}: {total:.2f} nats" for name, total in self.total.items()]
        return "\n".join([f"ScaleCheck: {verdict}", *totals])

    def table(self):
        """A pandas DataFrame, one row a hypothesis: total, one column a channel (nats), and what it means."""
        from pandas import DataFrame

        rows = {
            name: {"total": values.sum()}
            | {f"channel {channel}": value for channel, value in enumerate(values)}
            | {"meaning": HYPOTHESES[name]}
            for name, values in self.divergence.items()
        }
        return DataFrame.from_dict(rows, orient="index").rename_axis("hypothesis")

    def plot(self):
        """A matplotlib Figure: mean and std of every channel, and where each hypothesis expects them."""
        from ..figures.latents import scale_picture

        return scale_picture(self.mean, self.std, expectations(self.latents_mean, self.latents_std))


def expectations(latents_mean: np.ndarray, latents_std: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hypothesis -> (mean, std), each (C,): of latents whose raw ones are N(latents_mean, latents_std**2)."""
    m, s = latents_mean, latents_std
    return {
        "raw": (m, s),
        "normalised": (np.zeros_like(m), np.ones_like(s)),
        "normalised twice": (-m / s, 1 / s),
        "denormalised": (m * s + m, s * s),
        "multiplied": (np.zeros_like(m), s * s),
    }


def scale_check(z: Tensor | np.ndarray, latents_mean, latents_std) -> ScaleCheck:
    """Compare the channels of latents with what shift and scale assume of raw ones, and with four mistakes.

    Args:
        z: (1, C, L, h, w), said to be raw.
        latents_mean, latents_std: of raw latents: a number, C of them, or a tensor such as `vae.shift`, `vae.scale`.
          For diffusers' scaling_factor 0 and 1 / scaling_factor.

    The KL divergence of N(mean, std**2) from the expected N(m, s**2) is (std**2 + (mean - m)**2) / (2 s**2) - 1/2 -
    log(std / s) nats. With a latents_mean of 0 "denormalised" and "multiplied" are the same.
    """
    mean, std, _ = channel_moments(z)
    latents_mean = per_channel("latents_mean", latents_mean, len(mean))
    latents_std = per_channel("latents_std", latents_std, len(mean))
    if latents_std.min() <= 0:
        raise ValueError(f"latents_std must be above 0, got {latents_std.min()}")
    if np.abs(latents_mean).max() > LARGEST or latents_std.max() > LARGEST or latents_std.min() < 1 / LARGEST:
        raise ValueError(
            f"latents_mean and latents_std must be within float32, at most {LARGEST:.3g}, latents_std at least "
            f"{1 / LARGEST:.3g}, got {latents_mean} and {latents_std}"
        )
    constant = std == 0
    divergence = {}
    for name, (m, s) in expectations(latents_mean, latents_std).items():
        logarithm = np.where(constant, np.inf, np.log(s / np.where(constant, 1, std)))
        divergence[name] = (std**2 + (mean - m) ** 2) / (2 * s**2) - 0.5 + logarithm
    return ScaleCheck(mean, std, latents_mean, latents_std, divergence)
