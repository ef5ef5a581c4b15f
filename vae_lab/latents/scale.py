"""Check from the statistics of one clip whether shift and scale of its latents are used the right way round."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from ..figures import latents as pictures
from ..utils.tables import table_of
from .arrays import LARGEST, check_latent, per_channel
from .moments import Moments, moments_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

HYPOTHESES = {
    "raw": "as the encoder gives them: (z - latents_mean) / latents_std is standard",
    "normalised": "normalised already: (raw - latents_mean) / latents_std",
    "normalised twice": "normalised twice: normalize was called instead of denormalize",
    "denormalised": "raw * latents_std + latents_mean: denormalize was called instead of normalize",
    "multiplied": "(raw - latents_mean) * latents_std: multiplied instead of divided",
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
# The rule of `decisive`, in nats. A clip's std is often smaller than the data's, by up to ten times, but hardly ever
# larger in all channels: so a hypothesis that explains wider latents needs less evidence. Chosen on 59 clips (17 frames
# of 22 photographs, synthetic clips, data/*.mp4), encoded by the lab's weights: none is warned of when used rightly
# with their shift and scale, Open-Sora's, or the scale of SD, SDXL, SD 3, FLUX, CogVideoX or HunyuanVideo. With
# Open-Sora's shift and scale 28 of the 59 normalised ones are noticed and 21 of the denormalised ones; with the lab's
# own scale, below 2, none and 7.
FITS = 0.35  # mean over the channels of the other hypothesis, at most
BETTER = 0.5  # by how much it must beat "raw": mean over the channels, at least
BETTER_EVERYWHERE = 0.1  # and in each channel
BETTER_WIDER = 0.2  # instead of BETTER if it assumes a larger std than "raw" in each channel


class ScaleCheck(NamedTuple):
    """The result of `scale_check`."""

    mean: np.ndarray
    """(C,), measured"""
    std: np.ndarray
    """(C,), measured"""
    latents_mean: np.ndarray
    """(C,), assumed of raw latents"""
    latents_std: np.ndarray
    """(C,), assumed of raw latents"""
    divergence: dict[str, np.ndarray]
    """Hypothesis (key of HYPOTHESES) -> (C,): KL divergence of the channel's Gaussian from the expected one, in nats.

    It equals the divergence from N(0, 1) after undoing what the hypothesis says. Infinite for a constant channel.
    """

    @property
    def total(self) -> dict[str, float]:
        """Hypothesis -> the divergence summed over the channels, in nats."""
        return {name: float(values.sum()) for name, values in self.divergence.items()}

    @property
    def best(self) -> str:
        """The hypothesis with the smallest total, the first one among equals: "raw" if nothing tells them apart."""
        total = self.total
        return min(total, key=total.__getitem__)

    @property
    def decisive(self) -> bool:
        """Whether this one clip is enough to say that the latents are what `best` says, and not raw.

        A clip is no data set: a uniform one can have a tenth of the data's std. So the other hypothesis must fit well,
        and better than "raw" in every channel. With latents_std between about 0.5 and 2 most clips cannot tell.
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
        """One sentence if `decisive` says that the latents are not raw, otherwise empty."""
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

    def table(self) -> "DataFrame":
        """One row a hypothesis: total, one column a channel (nats), and its meaning."""
        columns = {"total": list(self.total.values())}
        columns |= {f"channel {c}": values for c, values in enumerate(np.stack(list(self.divergence.values())).T)}
        return table_of(columns | {"meaning": [HYPOTHESES[name] for name in self.total]}, "hypothesis", self.total)

    def plot(self) -> "Figure":
        """Mean and std of every channel, and where each hypothesis expects them."""
        return pictures.scale_picture(self.mean, self.std, expectations(self.latents_mean, self.latents_std))


def expectations(latents_mean: np.ndarray, latents_std: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hypothesis -> (mean, std) of latents, each (C,), if raw ones are N(latents_mean, latents_std**2)."""
    m, s = latents_mean, latents_std
    return {
        "raw": (m, s),
        "normalised": (np.zeros_like(m), np.ones_like(s)),
        "normalised twice": (-m / s, 1 / s),
        "denormalised": (m * s + m, s * s),
        "multiplied": (np.zeros_like(m), s * s),
    }


def scale_check(z: Tensor | np.ndarray, latents_mean: Any, latents_std: Any) -> ScaleCheck:
    """Compare the channels of latents with what shift and scale assume of raw ones, and with four mistakes.

    Args:
        z: (1, C, L, h, w), which should be raw.
        latents_mean, latents_std: of raw latents: a number, C of them, or a tensor such as `vae.shift`, `vae.scale`.
          For diffusers' scaling_factor: 0 and 1 / scaling_factor.

    The KL divergence of N(mean, std**2) from the expected N(m, s**2) is (std**2 + (mean - m)**2) / (2 s**2) - 1/2 -
    log(std / s) nats. If latents_mean is 0, "denormalised" and "multiplied" are the same.
    """
    return scale_check_of(moments_of(check_latent(z), (1, 2, 3)), latents_mean, latents_std)


def scale_check_of(moments: Moments, latents_mean: Any, latents_std: Any) -> ScaleCheck:
    """Check the moments of each channel, arrays (C,), as `scale_check` does."""
    mean, std, _ = moments
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
