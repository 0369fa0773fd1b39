"""Which rows of a stream each process reads."""

from typing import Any

import datasets
import pytest
from datasets.distributed import split_dataset_by_node

from hf_contrastive.training import stream_loader
from hf_contrastive.training.stream_loader import split_stream
from tests.training.stream_checks import PlainStream, make_stream_trainer, stream


@pytest.fixture(params=[0, 1])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rank of a process that believes to be one of two."""
    monkeypatch.setattr(stream_loader, "world_size", lambda: 2)
    monkeypatch.setattr(stream_loader, "rank", lambda: request.param)
    return request.param


def ids(data: Any) -> list[int]:
    return [row["example_ids"] for row in data]


def test_one_process_reads_the_stream_as_it_is():
    data = stream(3, 2)
    assert split_stream(data, "auto") is data


def test_shards_go_to_processes_where_all_get_equally_many(place: int):
    for split in ("auto", "shards"):
        assert ids(split_stream(stream(3, 2), split)) == [[0, 1, 2], [3, 4]][place]
    assert ids(split_stream(stream(1, 1, 1), "auto")) == [[0, 2], [1]][place]


def test_examples_go_to_processes_in_turn(place: int):
    for data in (stream(3, 2), PlainStream(5)):
        assert ids(split_stream(data, "examples")) == [[0, 2, 4], [1, 3]][place]


def test_a_stream_that_is_split_already_is_not_split_again(place: int):
    assert ids(split_stream(PlainStream(3), "none")) == [0, 1, 2]
    data = split_dataset_by_node(stream(3, 2), place, 2)
    assert split_stream(data, "auto") is data


def test_shards_that_are_not_there_are_named(place: int):
    with pytest.raises(ValueError, match="'shards', but a PlainStream has none"):
        split_stream(PlainStream(3), "shards")
    with pytest.raises(ValueError, match="1 shards do not reach for 2 processes"):
        split_stream(stream(3), "shards")


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="stream_split must be one of auto, shards, examples, none, but got 'rows'"):
        make_stream_trainer(PlainStream(8), stream_split="rows")


def test_the_epoch_reaches_the_stream(place: int):
    data = datasets.IterableDataset.from_generator(lambda: iter([{"x": 1}])).shuffle(seed=0)
    part = stream_loader._EveryNth(data, place, 2)
    part.set_epoch(3)
    assert data.epoch == 3
