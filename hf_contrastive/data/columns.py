"""One column of a dataset, or several rows, whatever kind of dataset it is."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset


def column_values(dataset: Any, column: str) -> list[Any]:
    """
    The values of a column, one per row, without decoding others.

    Args:
        dataset ([`~datasets.Dataset`] or any with a `column_values` method):
            The dataset.
        column (`str`):
            The column.

    Raises:
        ValueError: There is no such column.
    """
    if hasattr(dataset, "column_values"):
        values: list[Any] = dataset.column_values(column)
        return values
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"The values of column {column!r} are needed, which a {type(dataset).__name__} cannot give. Use a "
            "`datasets.Dataset`, a `PairDataset`, or give yours a method `column_values(column)`."
        )
    if column not in dataset.column_names:
        raise ValueError(f"The dataset has no column {column!r}. Its columns: {dataset.column_names}.")
    return list(dataset.with_format(None)[column])


def read_rows(dataset: Any, rows: Sequence[Any]) -> list[Any]:
    """Several rows of a dataset, in one read where it can do that."""
    read = getattr(dataset, "__getitems__", None)
    return list(read(list(rows))) if read is not None else [dataset[row] for row in rows]
