"""Columns of a dataset, read when they are needed, and the class labels among them."""

from collections.abc import Sequence
from typing import Any, overload

import torch
from jaxtyping import Int
from torch import Tensor

from hf_contrastive.data.columns import read_rows


class Column(Sequence[Any]):
    """
    The values of one column of a dataset with a length, decoded slice by slice.

    Args:
        dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Data whose examples are dictionaries.
        name (`str`):
            The column.
        argument (`str`):
            What the user calls the column, for messages.

    Raises:
        ValueError: The dataset is empty or has no such column.
    """

    def __init__(self, dataset: Any, name: str, argument: str) -> None:
        if len(dataset) == 0:
            raise ValueError("The dataset of an evaluator is empty.")
        columns = getattr(dataset, "column_names", None) or list(dataset[0])
        if name not in columns:
            raise ValueError(f"`{argument}` is {name!r}, but the dataset has the columns {list(columns)}.")
        # Other columns need not be decoded.
        self.dataset = dataset.select_columns([name]) if hasattr(dataset, "select_columns") else dataset
        self.name = name

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [row[self.name] for row in read_rows(self.dataset, range(len(self))[place])]
        return self.dataset[range(len(self))[place]][self.name]


def read_labels(dataset: Any, column: str, class_names: Sequence[str] | None) -> Int[Tensor, "n"]:
    """
    Class numbers of all rows.

    Args:
        dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Data whose examples are dictionaries.
        column (`str`):
            Column of class numbers from 0, or of class names.
        class_names (`list[str]`, *optional*):
            The classes. By default numbers from 0 up.

    Raises:
        ValueError: A label is none of the classes; the message names its row.
    """
    numbers = {name: number for number, name in enumerate(class_names or ())}
    labels = []
    for row, value in enumerate(Column(dataset, column, "label_column")[:]):
        value = value.item() if hasattr(value, "item") else value
        label = numbers.get(value) if isinstance(value, str) else value
        allowed = len(class_names) if class_names is not None else None
        if not isinstance(label, int) or isinstance(label, bool) or label < 0 or (allowed and label >= allowed):
            names = "a number from 0" if allowed is None else f"a number from 0 to {allowed - 1} or a class name"
            raise ValueError(f"Row {row} has the label {value!r} in column {column!r}, which should be {names}.")
        labels.append(label)
    return torch.tensor(labels)
