"""Streams for tests: rows of one number each."""

from collections.abc import Callable, Collection
from typing import Any

from datasets import Dataset, Image, IterableDataset

from hf_contrastive.data import PairStream
from hf_contrastive.data.streams import Stream, to_rows
from tests.conftest import make_pairs


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


def pairs_with_bad(size: int, bad: Collection[int]) -> Dataset:
    """Pairs with ids. Of the bad ones, those with odd numbers have no caption, others a picture that cannot be decoded."""
    pairs = make_pairs(size).cast_column("image", Image(decode=False)).add_column("id", list(range(size)))

    def spoil(row: dict[str, Any], number: int) -> dict[str, Any]:
        if number not in bad:
            return row
        return row | ({"caption": " "} if number % 2 else {"image": {"bytes": b"no picture", "path": None}})

    spoiled = pairs.map(spoil, with_indices=True, features=pairs.features)
    return spoiled.cast_column("image", Image())


def bad_stream(size: int, bad: Collection[int], shards: int = 1, **options: Any) -> PairStream:
    """A stream of such pairs, which skips bad rows."""
    rows = pairs_with_bad(size, bad).to_iterable_dataset(num_shards=shards)
    return PairStream(rows, id_column="id", **({"on_bad_row": "skip"} | options))
