"""The trained weights that come with the lab."""

from pathlib import Path

from ..utils.checks import check_one_of
from ..utils.files import bundled_file

LAB_WEIGHTS = {
    "lab": "lab", "lab-frame-group": "lab_frame_group", "lab-8": "lab_8", "lab-magvit": "lab_magvit",
    "lab-generator": "lab_generator", "lab-generator-factorised": "lab_generator_factorised",
}  # fmt: skip
"""Names for `load`, and their folders in data/. The last two are transformers, for `generation.load_generator`."""


def lab_weights(name: str = "lab") -> Path:
    """Return the folder of the weights: in data/ beside the package, or inside an installed wheel."""
    check_one_of("name", name, LAB_WEIGHTS)
    return bundled_file(LAB_WEIGHTS[name], "config.json").parent
