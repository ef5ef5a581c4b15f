"""The questions of notebook 00: the whole model."""

from .. import shapes
from .quiz import Question, Questions, choice

QUESTIONS: Questions = {
    "latent frames of an image": Question(
        shapes.latent_frames(1),
        "One: three frames of zeros go in front of the image, and these four become one latent frame.",
        "A quarter of a frame is rounded up, because no frame is thrown away.",
        [(0, "Rounded down, an image would have no latent at all. The model rounds up."),
         (0.25, "There are whole latent frames only."),
         (6, "That is the number for 18 frames.")],
    ),
    "photograph or noise": choice(
        "photograph",
        ("photograph", "noise"),
        "The photograph: its pixels depend on each other, and the weights have learnt how. Random numbers have nothing "
        "that a latent with fewer numbers could keep.",
        "Measure both with psnr: the higher value is the better one.",
    ),
}  # fmt: skip
