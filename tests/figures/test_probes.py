import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from pandas import DataFrame
from PIL import Image

from vae_lab.figures.probes import (
    chunk_differences,
    dependency_heatmap,
    module_changes,
    property_grid,
    reach_grid,
    receptive_field_mass,
)
from vae_lab.figures.style import COLOURS


def picture(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return np.asarray(Image.open(buffer).convert("RGB"))


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_dependency_heatmap_tells_leaks_from_what_is_allowed():
    matrix = np.array([[1.0, 0.5], [1e-6, 2.0], [0.0, 1e-12]])
    figure = dependency_heatmap(matrix, [0, 1], "largest change", "title")
    axis, *scales = figure.axes
    leaked, allowed = axis.images
    assert to_hex(leaked.cmap(1.0)) == COLOURS["error"].lower()
    assert to_hex(allowed.cmap(1.0)) == COLOURS["input"].lower()
    shown = lambda image: np.ma.filled(image.get_array(), 0).T  # noqa: E731
    assert np.array_equal(shown(leaked), [[0, 0], [1e-6, 0], [0, 1e-12]])
    assert np.array_equal(shown(allowed), [[1, 0.5], [0, 2], [0, 0]])  # the exact zero is in neither, and white
    assert min(leaked.cmap(leaked.norm(1e-12))[:3]) < 0.95  # the smallest is not
    assert (leaked.norm.vmin, leaked.norm.vmax) == (2e-8, 2)  # and no scale spans more than eight decades
    assert [scale.get_ylabel() for scale in scales] == ["largest change, leaked", "largest change"]
    (stairs,) = axis.lines
    assert stairs.get_color() == COLOURS["latent"]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("input frame", "output frame", "title")
    assert axis.get_ylim() == (1.5, -0.5)
    assert picture(figure).std() > 5


def test_dependency_heatmap_without_a_rule_or_without_dependence():
    figure = dependency_heatmap(np.eye(3))
    assert len(figure.axes[0].images) == 1 and not figure.axes[0].lines and not figure.legends
    empty = dependency_heatmap(np.zeros((3, 2)), [0, 0])
    assert not empty.axes[0].images and len(empty.axes) == 1
    picture(empty)
    with pytest.raises(ValueError, match="last_seen must have one entry for each of 3 output frames, got 2"):
        dependency_heatmap(np.eye(3), [0, 1])
    for matrix in (-np.eye(3), np.ones(3), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="matrix must be .* and not negative, got shape"):
            dependency_heatmap(matrix)


def test_the_staircase_runs_along_the_last_frame_that_may_be_seen():
    (stairs,) = dependency_heatmap(np.ones((6, 3)), [0, 2, 5]).axes[0].lines
    corners = list(zip(stairs.get_xdata(), stairs.get_ydata(), strict=True))
    # the right end of row 0, down; then along the lower edge of row 0 to the right end of row 1, and so on
    assert corners == [(0.5, -0.5), (0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (5.5, 1.5), (5.5, 2.5)]


def test_chunk_differences():
    figure = chunk_differences({"5+7": np.array([0, 0, 3.0, 1.0]), "12": np.zeros(4)}, "6+6")
    (axis,) = figure.axes
    assert labels(axis) == ["chunks of 5+7", "chunks of 12: no difference"]
    assert np.array_equal(axis.lines[0].get_ydata(), [np.nan, np.nan, 3, 1], equal_nan=True)
    assert (axis.get_yscale(), axis.get_xlabel()) == ("log", "output frame")
    assert axis.get_title() == "compared with chunks of 6+6"
    picture(figure)
    picture(chunk_differences({}, "6"))
    assert len(chunk_differences({str(i): np.ones(2) for i in range(9)}, "6").axes[0].lines) == 9


def test_module_changes():
    figure = module_changes({"a.norm1 GroupNorm": 0.25, "b.conv Conv3d": 1e-3})
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [0.25, 1e-3]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a.norm1 GroupNorm", "b.conv Conv3d"]
    low, high = axis.get_ylim()
    assert low > high  # the first on top
    picture(figure)
    assert "no module moved its past" in [text.get_text() for text in module_changes({}).axes[0].texts]


def test_receptive_field_mass():
    mass = np.array([0, 1e-12, 0.005, 0.9, 0.095, 0])
    figure = receptive_field_mass(mass, (3, 4), (1, 4), "input row", 0.95, chunk=3, title="what output 2 sees")
    (axis,) = figure.axes
    assert labels(axis) == ["95% of the gradient: 2", "any gradient: 4", "one chunk: 3"]
    window, *bars = axis.patches
    assert (window.get_x(), window.get_width()) == (2.5, 2)
    assert [bar.get_height() for bar in bars] == [0, 0.9e-8, 0.005, 0.9, 0.095, 0]  # small ones still show
    first, last, chunk = axis.lines
    assert (first.get_xdata()[0], last.get_xdata()[0]) == (0.5, 4.5)
    assert list(chunk.get_xdata()) == [1.5, 4.5]
    assert (axis.get_xlabel(), axis.get_title()) == ("input row", "what output 2 sees")
    picture(figure)
    assert labels(receptive_field_mass(mass, (3, 4), (1, 4)).axes[0])[0] == "99% of the gradient: 2"
    picture(receptive_field_mass(np.zeros(3), (0, -1), (0, -1)))


def test_reach_grid_tells_the_future_from_the_past():
    groups = [range(1), range(1, 5)]
    panels = {f"model {n}": ([range(5), range(1, 5)], groups) for n in range(6)}
    figure = reach_grid(panels, columns=4)
    assert [axis.get_title() for axis in figure.axes[:6]] == list(panels) and len(figure.axes) == 8
    (image,) = figure.axes[0].images
    assert image.get_array().tolist() == [[1, 2, 2, 2, 2], [0, 1, 1, 1, 1]]
    assert [to_hex(image.to_rgba(value)) for value in (1, 2)] == [COLOURS["input"].lower(), COLOURS["error"].lower()]
    assert not figure.axes[7].axison
    with pytest.raises(ValueError, match="panels must hold at least one encoder, got none"):
        reach_grid({})


def test_property_grid_leaves_missing_answers_empty():
    table = DataFrame({"causal": [True, False], "image": [None, np.True_]}, ["a", "b"])
    (axis,) = property_grid(table).axes
    assert [text.get_text() for text in axis.texts] == ["yes", "", "no", "yes"]
    (image,) = axis.images
    assert image.get_array().tolist() == [[1, 0], [-1, 1]]
    assert [to_hex(image.cmap(value)) for value in (0.0, 1.0)] == [COLOURS["error"].lower(), COLOURS["output"].lower()]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
