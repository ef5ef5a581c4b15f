"""Results as tables, and the types of results and pictures whose libraries are imported when they are first needed."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis as Axis
    from matplotlib.figure import Figure as Figure, SubFigure as SubFigure
    from matplotlib.image import AxesImage as AxesImage
    from pandas import DataFrame as DataFrame
else:  # each library takes half a second
    Axes = AxesImage = Axis = DataFrame = Figure = SubFigure = Any


def table_of(columns: Mapping[Any, Any], rows: str, labels: Iterable | None = None) -> DataFrame:
    """Return a DataFrame of columns (name -> values). Its index, named `rows`, holds `labels` or counts from 0."""
    import pandas

    table = pandas.DataFrame(columns)
    table.index = table.index if labels is None else pandas.Index(labels)
    return table.rename_axis(rows)
