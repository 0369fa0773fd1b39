import pytest
from datasets import Dataset, IterableDataset

from hf_contrastive.data.streams import Stream, to_columns, to_rows

from .streams import assert_resumes_anywhere, numbers


PIPELINES = {
    "plain": numbers,
    "map": lambda: numbers().map(lambda row: {"b": row["a"] + 1}),
    "batched map": lambda: numbers().map(lambda rows: {"a": [x for x in rows["a"] for _ in "ab"]}, batched=True),
    "filter": lambda: numbers().filter(lambda row: row["a"] % 3),
    "take": lambda: numbers().take(17),
    "skip": lambda: numbers().skip(5),
    "repeat": lambda: numbers().repeat(2),
    "columns": lambda: numbers().select_columns(["a"]),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("epoch", [0, 1])
def test_streams_of_datasets_resume_anywhere(name: str, epoch: int):
    # We rely on it, and later releases of `datasets` might change it.
    assert_resumes_anywhere(PIPELINES[name], epoch=epoch)


def test_streams_of_datasets_are_streams_and_maps_are_not():
    assert isinstance(numbers(), Stream)
    assert isinstance(numbers(), IterableDataset)
    assert not isinstance(Dataset.from_dict({"a": [1]}), Stream)


def test_rows_and_columns_are_each_others_inverse():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert to_rows(to_columns(rows)) == rows
