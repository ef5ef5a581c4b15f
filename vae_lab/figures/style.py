"""The look of every picture: what a thing is decides its colour, and one style holds for all of matplotlib.

The colours are from Okabe and Ito's colour-blind safe set ("Color Universal Design", 2008). They can be read on light
and on dark ground.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from ..utils.tables import Axes, AxesImage, Figure

COLOURS = {
    "input": "#0072B2",  # input frames: blue
    "padding": "#999999",  # padding: grey
    "latent": "#E69F00",  # latents: orange
    "spatial": "#56B4E9",  # through the 2D half only: sky blue
    "output": "#009E73",  # through both halves: green
    "error": "#D55E00",  # error: vermilion
}
SPATIAL_ONLY, FULL = "2D only", "full"  # titles of a reconstruction through the 2D half only, and through both halves
RECONSTRUCTION_COLOURS = {SPATIAL_ONLY: COLOURS["spatial"], FULL: COLOURS["output"]}
OTHER_COLOURS = ("#CC79A7", "#8C6D31", "#6A51A3")  # for things without a colour in COLOURS
LINE = "#777777"  # lines that are not data: borders of chunks, zero
WIDTH = 9  # inches, of a picture across a notebook's page

STYLE: dict[str, Any] = {  # matplotlib's rcParams
    "figure.constrained_layout.use": True,
    "figure.titlesize": 10,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 8,
    "text.parse_math": False,  # names may contain $; powers of ten are drawn later, by matplotlib's default
}

Draw = TypeVar("Draw", bound=Callable)


def styled(draw: Draw) -> Draw:
    """Decorate a function that draws: STYLE holds while it runs. Matplotlib is first imported then."""

    @wraps(draw)
    def draw_in_style(*args, **kwargs):
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_in_style  # type: ignore[return-value]


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty Figure, sides in inches; pyplot does not know it, so nobody has to close it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def new_axis(height: float, width: float = WIDTH, **labels: Any) -> tuple[Figure, Axes]:
    """Return a Figure, sides in inches, and its only axis, on which properties such as xlabel and title are set."""
    figure = new_figure(height, width)
    axis = figure.subplots()
    axis.set(**labels)
    return figure, axis


def colour_map(*colours: Any) -> Any:
    """Return a matplotlib colormap that runs through colours, from the lowest value to the highest."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("", colours)


def mark_borders(axis: Axes, starts: Iterable[float]) -> None:
    """Draw a dashed line before each start but 0, which begins the clip."""
    for start in starts:
        if start:
            axis.axvline(start - 0.5, color=LINE, linestyle="--", linewidth=1)


def show_image(axis: Axes, values: np.ndarray, **options: Any) -> AxesImage:
    """Draw an image or a matrix on an axis: hard-edged cells without grid lines, numbered by whole numbers."""
    axis.grid(False)
    axis.locator_params(integer=True)
    return axis.imshow(values, interpolation="nearest", **options)
