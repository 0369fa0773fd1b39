import pytest
import torch
from datasets import Dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from hf_contrastive.data.modalities import ROWS
from hf_contrastive.data.numbering import NumberedCollator, NumberedRows, NumberedStream
from tests.conftest import make_pairs


def test_numbers_travel_with_the_examples_in_any_order():
    data = NumberedRows(make_pairs(5))
    assert len(data) == 5
    row, example = data[3]
    assert (row, example["caption"]) == (3, make_pairs(5)[3]["caption"])
    assert [row for row, _ in data.__getitems__([4, 0])] == [4, 0]


def test_a_list_will_do_for_a_dataset():
    assert NumberedRows(["a", "b", "c"]).__getitems__([2, 0]) == [(2, "c"), (0, "a")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_is_counted(workers: int):
    stream = NumberedStream(Dataset.from_dict({"x": [5, 6, 7]}).to_iterable_dataset(num_shards=3))
    loader = DataLoader(stream, batch_size=2, collate_fn=list, num_workers=workers)
    assert [item for batch in loader for item in batch] == [(0, {"x": 5}), (1, {"x": 6}), (2, {"x": 7})]


def test_a_stream_that_is_split_already_is_refused():
    stream = split_dataset_by_node(Dataset.from_dict({"x": [5, 6]}).to_iterable_dataset(), rank=0, world_size=2)
    with pytest.raises(ValueError, match="has been split over processes already"):
        NumberedStream(stream)


def test_the_collator_sees_the_examples_alone():
    batch = NumberedCollator(lambda examples: {"x": torch.tensor(examples)})([(4, 1.5), (2, 2.5)])
    assert {name: value.tolist() for name, value in batch.items()} == {"x": [1.5, 2.5], ROWS: [4, 2]}
