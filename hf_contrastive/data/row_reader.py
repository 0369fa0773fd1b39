"""Several rows of a dataset at once, without a Python object for each sample of a sound."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset


class RowReader:
    """
    Reads rows of a dataset as `datasets` does, but lists of numbers in structs, such as the `array` of a sound, as arrays.

    Args:
        dataset ([`~datasets.Dataset`]):
            The data, with the Python format.
    """

    def __init__(self, dataset: Dataset) -> None:
        structs = [column for column in dataset.column_names if _holds_structs(dataset.data.schema.field(column).type)]
        self._structs = dataset.select_columns(structs).with_format("arrow") if structs else None
        self._rest = dataset.select_columns([c for c in dataset.column_names if c not in structs])

    def __call__(self, rows: Sequence[int]) -> dict[str, list[Any]]:
        """The columns of these rows, in their order."""
        # One without columns has no rows either.
        columns = dict(self._rest[list(rows)]) if self._rest.column_names else {}
        if self._structs is not None:
            table = self._structs[list(rows)]
            columns |= {c: [_value(x) for x in table.column(c)] for c in table.column_names}
        return columns


def _holds_structs(kind: pa.DataType) -> bool:
    """Whether values are structs with lists in them, or lists of such."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_structs(kind.value_type)
    return pa.types.is_struct(kind) and any(_is_numbers(field.type) for field in kind)


def _is_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _value(scalar: pa.Scalar) -> Any:
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StructScalar):
        return {name: _numbers(entry) for name, entry in scalar.items()}
    return [_value(entry) for entry in scalar.values]


def _numbers(scalar: pa.Scalar) -> Any:
    if not scalar.is_valid or not _is_numbers(scalar.type) or scalar.values.null_count:
        return scalar.as_py()
    # A copy: what is made of a row may be written to, and must not keep the rows beside it.
    return scalar.values.to_numpy(zero_copy_only=False).copy()
