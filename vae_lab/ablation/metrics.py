"""The metrics of a trial: their names, meanings and units, and the words for a difference."""

from typing import NamedTuple

UNDECIDED, SAME = "cannot tell", "the same"


class Metric(NamedTuple):
    """A metric of a trial: how it is called, and what its values mean."""

    name: str  # in a sentence
    meaning: str
    unit: str = ""
    better: int = 0  # 1: more is better, -1: less is better, 0: neither
    one: str = ""  # for a metric without unit: what has the value 1

    @property
    def label(self) -> str:
        """Its name at an axis."""
        note = f" (1: {self.one})" if self.one else f" in {self.unit}" if self.unit else ""
        return self.name + note

    @property
    def directions(self) -> tuple[str, str]:
        """The words for a larger and for a smaller value: "better" and "worse" or, if neither is, "more" and "less"."""
        return {1: ("better", "worse"), -1: ("worse", "better"), 0: ("more", "less")}[self.better]

    def verdict(self, low: float, high: float) -> str:
        """Return what the interval of a difference from the base says: one of the `directions`, SAME if both ends are
        0, UNDECIDED if it includes 0 or is NaN.
        """
        if low == high == 0:
            return SAME
        return self.directions[low < 0] if low > 0 or high < 0 else UNDECIDED


METRICS = {  # the metrics of a trial that trains a VAE; one that does not apply to a model is NaN
    "time_error": Metric(
        "time error",
        "RMS error of 2D latents that went through the temporal half, in their standard deviations: what compressing "
        "time costs, without what the 2D half loses",
        better=-1,
        one="std of 2D latents",
    ),
    "psnr": Metric("PSNR", "mean over the frames of all measured clips", "dB", better=1),
    "image_psnr": Metric("PSNR of images", "PSNR of single frames, each encoded alone", "dB", better=1),
    "identity": Metric(
        "squared distance from 2D latents",
        "mean squared distance of an image's latent from its 2D latent (if both have the same number of channels)",
    ),
    "kl": Metric("KL", "divergence of the posterior from N(0, 1)", "nats per element"),
    "active_channels": Metric(
        "active channels",
        "latent channels whose posterior mean has a variance over the clips above latents.ACTIVE_VARIANCE",
    ),
    "latent_std": Metric("std of latents", "standard deviation of all raw latents"),
    "compression": Metric("compression", "numbers in a measured clip per number in its latent"),
    "leak": Metric(
        "leak",
        "largest effect of a frame on a latent that must not see it, as a fraction of the largest permitted effect",
    ),
    "still_drift": Metric(
        "drift of a still picture",
        "largest difference between the latents of one picture that stands still, in their standard deviations",
        better=-1,
        one="std of its latents",
    ),
    "parameters": Metric("parameters", "number of trained parameters"),
    "training_gflop": Metric(
        "training", "floating point operations of the training, forward and backward, in 1e9", "GFLOP"
    ),
}
GENERATION_METRICS = {  # the metrics of a trial that trains a generator; the judge (`generation.judge`) reads its clips
    "score": Metric("score", "mean of the five shares below", better=1, one="everything right"),
    "colour": Metric("right colours", "share of clips", better=1, one="all clips"),
    "shape": Metric("right shapes", "share of clips", better=1, one="all clips"),
    "direction": Metric("right directions", "share of clips", better=1, one="all clips"),
    "speed": Metric("right speeds", "share of clips", better=1, one="all clips"),
    "one_object": Metric("one object", "share of clips with one object in every frame", better=1, one="all clips"),
    "held_out_loss": Metric(
        "loss",
        "mean squared error of the velocity on held-out clips, at evenly spaced timesteps; to be compared only between "
        "latents of one VAE and scale",
        better=-1,
    ),
    "parameters": METRICS["parameters"],
    "training_gflop": METRICS["training_gflop"],
}
METRICS_BY_FRAME = ("time_error", "psnr")  # those of METRICS that are also measured frame by frame
