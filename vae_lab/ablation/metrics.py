"""What is measured of a trial, and how it is called, everywhere."""

from typing import NamedTuple

UNDECIDED, SAME = "cannot tell", "the same"


class Metric(NamedTuple):
    """One of METRICS."""

    name: str
    """In a sentence."""
    meaning: str
    unit: str = ""
    better: int = 0
    """1: more of it is better, -1: less of it; 0: neither."""
    one: str = ""
    """Where it has no unit: what has the value 1."""

    @property
    def label(self) -> str:
        """At an axis."""
        if self.one:
            return f"{self.name} (1: {self.one})"
        return f"{self.name} in {self.unit}" if self.unit else self.name

    @property
    def directions(self) -> tuple[str, str]:
        """What a larger and a smaller value are called: "better" and "worse", or "more" and "less" of the others."""
        return {1: ("better", "worse"), -1: ("worse", "better"), 0: ("more", "less")}[self.better]

    def verdict(self, low: float, high: float) -> str:
        """What the interval of a difference from the base says: one of the `directions`, SAME where it is 0 alone,
        UNDECIDED where 0 is in it or it is NaN.
        """
        if low == high == 0:
            return SAME
        if not (low > 0 or high < 0):
            return UNDECIDED
        return self.directions[low < 0]


METRICS = {  # what is not of a model is NaN
    "time_error": Metric(
        "time error",
        "RMS error of 2D latents that went through the temporal half, where their standard deviation is 1: what "
        "compressing time costs, without what the 2D half loses",
        better=-1,
        one="std of 2D latents",
    ),
    "psnr": Metric("PSNR", "mean over the frames of all measured clips", "dB", better=1),
    "image_psnr": Metric("PSNR of images", "of single frames, each encoded alone", "dB", better=1),
    "identity": Metric(
        "squared distance from 2D latents",
        "mean squared distance of an image's latent from its 2D latent (of stacks whose channels are as many)",
    ),
    "kl": Metric("KL", "divergence of the posterior from N(0, 1)", "nats per element"),
    "active_channels": Metric(
        "active channels",
        "latent channels whose posterior mean varies over the clips by more than latent_moments.ACTIVE_VARIANCE",
    ),
    "latent_std": Metric("std of latents", "of all raw latents"),
    "compression": Metric("compression", "numbers of a measured clip for one of its latent"),
    "leak": Metric(
        "leak", "largest effect of a frame on a latent that may not see it, for the largest that is allowed"
    ),
    "parameters": Metric("parameters", "that are trained"),
    "training_gflop": Metric(
        "training", "floating point operations of the training, forward and backward, in 1e9", "GFLOP"
    ),
}
METRICS_BY_FRAME = ("time_error", "psnr")  # of these, also frame by frame
