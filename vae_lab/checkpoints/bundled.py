"""The trained weights that come with the lab."""

from pathlib import Path

from ..utils.checks import check_one_of

LAB_WEIGHTS = {"lab": "lab", "lab-frame-group": "lab_frame_group", "lab-magvit": "lab_magvit"}
"""Names for `load`, and their folders in data/."""
LAB_GENERATORS = {"lab-generator": "lab_generator", "lab-generator-factorised": "lab_generator_factorised"}
"""Names for `generation.load_generator`, and their folders in data/."""


def lab_weights(name: str = "lab") -> Path:
    """Return the folder of the weights: in data/ beside the package, or inside an installed wheel."""
    folders = LAB_WEIGHTS | LAB_GENERATORS
    check_one_of("name", name, folders)
    package = Path(__file__).parents[1]
    for data in (package / "data", package.parent / "data"):
        if (data / folders[name] / "config.json").is_file():
            return data / folders[name]
    raise FileNotFoundError(f"the weights {name!r} are neither in {package / 'data'} nor in {package.parent / 'data'}")
