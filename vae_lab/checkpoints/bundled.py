"""Where the trained weights that come with the lab lie."""

from pathlib import Path

# Trained weights that come with the lab, by the name `load` knows them under: their folders in data/
LAB_WEIGHTS = {"lab": "lab", "lab-frame-group": "lab_frame_group"}


def lab_weights(name: str = "lab") -> Path:
    """The folder of trained weights that come with the lab: in data/ beside the package, or inside a wheel."""
    package = Path(__file__).parents[1]
    for data in (package / "data", package.parent / "data"):
        if (data / LAB_WEIGHTS[name] / "config.json").is_file():
            return data / LAB_WEIGHTS[name]
    raise FileNotFoundError(f"the weights {name!r} are neither in {package / 'data'} nor in {package.parent / 'data'}")
