"""Results as tables."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame


def table_of(columns: Mapping[Any, Any], rows: str, labels: Iterable | None = None) -> "DataFrame":
    """Return a DataFrame of columns (name -> values). Its index, named `rows`, holds `labels` or counts from 0."""
    from pandas import DataFrame, Index  # here, because it takes half a second

    table = DataFrame(columns)
    table.index = table.index if labels is None else Index(labels)
    return table.rename_axis(rows)
