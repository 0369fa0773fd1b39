"""Streams for tests: rows of one number each."""

from collections.abc import Callable
from typing import Any

from datasets import Dataset, IterableDataset

from hf_contrastive.data.streams import Stream, to_rows


def numbers(size: int = 23, shards: int = 4, start: int = 0) -> IterableDataset:
    return Dataset.from_dict({"a": list(range(start, start + size))}).to_iterable_dataset(num_shards=shards)


def read(stream: Any, batch_size: int = 3) -> list[list[int]]:
    return [[row["a"] for row in to_rows(columns)] for columns in stream.iter(batch_size)]


def assert_resumes_anywhere(
    make: Callable[[], Stream], *, epoch: int = 0, batch_size: int = 3, limit: int = 40
) -> None:
    """From the position after each batch, a new stream brings exactly the batches that were to come."""
    stream = make()
    stream.set_epoch(epoch)
    batches, states = [], []
    for columns, _ in zip(stream.iter(batch_size), range(limit), strict=False):
        batches.append(to_rows(columns))
        states.append(stream.state_dict())
    assert len(batches) > 3
    for number, state in enumerate(states, start=1):
        again = make()
        again.set_epoch(epoch)
        again.load_state_dict(state)
        rest = zip(again.iter(batch_size), batches[number:], strict=False)
        found = [to_rows(columns) for columns, _ in rest]
        assert found == batches[number:]
