"""The trained weights that come with the lab."""

from pathlib import Path

from ..utils.checks import check_one_of

LAB_WEIGHTS = {
    "lab": "lab", "lab-frame-group": "lab_frame_group", "lab-8": "lab_8", "lab-magvit": "lab_magvit",
    "lab-generator": "lab_generator", "lab-generator-factorised": "lab_generator_factorised",
}  # fmt: skip
"""Names for `load`, and their folders in data/. The last two are transformers, for `generation.load_generator`."""


def lab_weights(name: str = "lab") -> Path:
    """Return the folder of the weights: in data/ beside the package, or inside an installed wheel."""
    check_one_of("name", name, LAB_WEIGHTS)
    package = Path(__file__).parents[1]
    for data in (package / "data", package.parent / "data"):
        if (data / LAB_WEIGHTS[name] / "config.json").is_file():
            return data / LAB_WEIGHTS[name]
    raise FileNotFoundError(f"the weights {name!r} are neither in {package / 'data'} nor in {package.parent / 'data'}")
