import io
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from tests.helpers import ROOT
from vae_lab.figures.frames import frame_curves
from vae_lab.figures.latents import spectrum_curves
from vae_lab.figures.probes import module_changes, receptive_field_mass
from vae_lab.figures.style import STYLE, new_axis, styled


@styled
def draw(fail: bool = False):
    assert all(matplotlib.rcParams[name] == value for name, value in STYLE.items())
    if fail:
        raise RuntimeError("stop")
    return new_axis(2, 3)


def test_the_style_holds_while_a_picture_is_drawn_and_no_longer():
    before = {name: matplotlib.rcParams[name] for name in STYLE}
    figure, axis = draw()
    assert {name: matplotlib.rcParams[name] for name in STYLE} == before != STYLE
    with pytest.raises(RuntimeError, match="stop"):
        draw(fail=True)
    assert {name: matplotlib.rcParams[name] for name in STYLE} == before
    assert figure.get_size_inches().tolist() == [3, 2] and figure.get_constrained_layout()
    figure.draw_without_rendering()
    grid = axis.get_xgridlines()
    assert grid[0].get_visible() and {line.get_alpha() for line in grid} == {STYLE["grid.alpha"]}
    assert draw.__name__ == "draw"


def as_text(figure) -> str:
    """The words of a drawn picture, with powers of ten as 10−4."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return re.sub(r"<[^>]*>|\s", "", re.sub(r"<!--.*?-->", "", buffer.getvalue()))


def test_dollars_in_names_are_dollars_and_powers_of_ten_are_typeset():
    assert "$5and$6" in as_text(frame_curves({"$5 and $6": [1.0, 2.0]}, "frame", "PSNR in dB"))
    assert "a$x$b" in as_text(module_changes({"a $x$ b": 1.0}))
    mass = as_text(receptive_field_mass(np.array([1e-4, 1.0]), (0, 1), (0, 1), title="$x$"))
    spectrum = as_text(spectrum_curves(np.array([0.1, 0.5]), np.array([[1e-4, 1.0]]), "cycles"))
    assert "$x$" in mass and "10−4" in mass and "10−4" in spectrum
    assert "mathdefault" not in mass + spectrum


def test_figures_are_imported_without_matplotlib():
    code = "import sys, vae_lab.figures.{}; assert 'matplotlib' not in sys.modules"
    modules = "arithmetic as a, vae_lab.figures.frames, vae_lab.figures.latents, vae_lab.figures.probes"
    subprocess.run([sys.executable, "-c", code.format(modules)], cwd=ROOT, check=True)


def test_the_style_has_one_home():
    by_hand = re.compile(r"layout=.constrained|grid\(alpha|parse_math=|import pyplot|Figure\(figsize")
    files = [path for path in (ROOT / "vae_lab").rglob("*.py") if by_hand.search(path.read_text())]
    assert [path.name for path in files] == ["style.py"]
