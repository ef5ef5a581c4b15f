"""Collect the photographs and cut-outs that train_lab.py learns from: `python scripts/lab_photos.py OUT`.

data/lab_8/photos.tsv lists them: Debian bookworm's packages, which `apt-get download` fetches, and pictures inside
scikit-image. OUT then has the folders photos, cutouts and held (photographs for the run's own checks). Photographs are
shrunk until the shorter side has at most 1024 pixels, cut-outs until the longer one has 448.
"""

import argparse
import csv
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from vae_lab.video.clips import photo

LIST = Path(__file__).parents[1] / "data" / "lab_8" / "photos.tsv"
SHORTER, CUTOUT = 1024, 448  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for name in ("photos", "cutouts", "held"):
        (out / name).mkdir(parents=True, exist_ok=True)
    with LIST.open() as file:
        rows = [row[:3] for row in csv.reader(file, delimiter="\t")]
    with tempfile.TemporaryDirectory() as folder:
        for package in sorted({row[2] for row in rows} - {"scikit-image"}):
            unpacked = Path(folder, package)
            unpacked.mkdir()
            subprocess.run(["apt-get", "download", "-q", package], cwd=unpacked, check=True)
            subprocess.run(["dpkg", "-x", *map(str, unpacked.glob("*.deb")), str(unpacked)], check=True)
        for name, use, package in rows:
            stem = name.removeprefix("skimage__").removeprefix(f"{package}__")
            if package == "scikit-image":
                image = Image.fromarray(photo(stem))
            else:
                image = Image.open(_file(Path(folder, package), stem))
            if use == "train cut-out":
                cutout = image.convert("RGBA")
                cutout.thumbnail((CUTOUT, CUTOUT))
                cutout.save(out / "cutouts" / f"{name}.webp", quality=92)
            else:
                image = image.convert("RGB")
                share = min(1, SHORTER / min(image.size))
                image = image.resize([round(side * share) for side in image.size], Image.Resampling.LANCZOS)
                image.save(out / ("photos" if use == "train" else "held") / f"{name}.jpg", quality=90)
    for name in ("photos", "cutouts", "held"):
        print(len(list((out / name).iterdir())), name)


def _file(folder: Path, stem: str) -> Path:
    """Return the largest picture of this name, or, of wallpapers in several sizes, in the folder of this name."""
    pictures = [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png") and path.is_file()]
    found = [path for path in pictures if path.stem == stem]
    found = found or [path for path in pictures if path.parent.name == "images" and path.parents[2].name == stem]
    if not found:
        raise FileNotFoundError(f"no picture {stem!r} in the package {folder.name}")
    return max(found, key=lambda path: path.stat().st_size)


if __name__ == "__main__":
    main()
