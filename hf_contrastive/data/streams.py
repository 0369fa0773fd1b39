"""Streams whose position can be saved, and from which a later run goes on with exactly the rows that were to come."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from hf_contrastive.data.skipped import sum_of_skipped


Columns = dict[str, list[Any]]
State = dict[str, Any]
# In the state of a stream that skips bad rows: how many it has skipped in this pass.
BAD_ROWS = "bad_rows"


@runtime_checkable
class Stream(Protocol):
    """What this package asks of a stream: what [`~datasets.IterableDataset`] does, and nothing more."""

    @property
    def num_shards(self) -> int:
        """Into how many parts it can be split."""

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "Stream":
        """One of `num_shards` parts."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of a pass."""

    def state_dict(self) -> State:
        """The position after the latest batch, as JSON."""

    def load_state_dict(self, state_dict: State | None) -> None:
        """Begin the next pass at a position, if it is of the same epoch."""

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Columns]:
        """Batches of columns."""


class RowStream:
    """
    A stream made of others. What differs is how rows come from theirs.

    Args:
        sources (`list[Stream]`):
            The streams it reads.
    """

    def __init__(self, sources: Sequence[Stream]) -> None:
        self.sources, self.epoch = list(sources), 0
        self._start: State | None = None
        self._state: State = {}

    @property
    def num_shards(self) -> int:
        """Into how many parts it can be split."""
        return min(source.num_shards for source in self.sources)

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "RowStream":
        """One of `num_shards` parts."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of a pass."""
        self.epoch = epoch
        for source in self.sources:
            source.set_epoch(epoch)

    def state_dict(self) -> State:
        """The position after the latest batch, as JSON."""
        return self._state

    def load_state_dict(self, state_dict: State | None) -> None:
        """Begin the next pass at a position, if it is of the same epoch."""
        self._start, self._state = state_dict, state_dict or {}

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Columns]:
        """Batches of columns, after each of which the position is that behind it."""
        batch: list[dict[str, Any]] = []
        for row, state in self.rows(self.start()):
            batch.append(row)
            if len(batch) == batch_size:
                self._state = state
                yield to_columns(batch)
                batch = []
        if batch and not drop_last_batch:
            self._state = state
            yield to_columns(batch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows of a pass, from its beginning."""
        self.load_state_dict(None)
        for columns in self.iter(1):
            yield from to_rows(columns)

    @property
    def skipped_rows(self) -> int | None:
        """How many bad rows the streams that it reads have skipped, or `None` if none may be."""
        return sum_of_skipped(self.sources)

    def start(self) -> State:
        """Where this pass begins: empty at its beginning."""
        return self._start if self._start and self._start["epoch"] == self.epoch else {}

    def rows(self, start: State) -> Iterator[tuple[dict[str, Any], State]]:
        """Rows, each with the position behind it."""
        raise NotImplementedError


def bad_rows_before(state: Any) -> int:
    """
    How many bad rows were skipped before a position, by a stream and those inside of it.

    >>> bad_rows_before({"epoch": 0, "bad_rows": 2, "states": {"one": {"epoch": 1, "bad_rows": 1}}})
    3
    """
    if not isinstance(state, dict):
        return 0
    # A stream has an epoch; what a mix has of each of its streams, by name, has none.
    counted = state.get(BAD_ROWS) if "epoch" in state else None
    return sum(map(bad_rows_before, state.values())) + (counted if isinstance(counted, int) else 0)


def to_rows(columns: Columns) -> list[dict[str, Any]]:
    """
    Rows of a batch of columns.

    >>> to_rows({"text": ["a", "b"]})
    [{'text': 'a'}, {'text': 'b'}]
    """
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def to_columns(rows: list[dict[str, Any]]) -> Columns:
    """
    Columns of rows. What a row lacks is None.

    >>> to_columns([{"text": "a"}, {"text": "b", "id": 1}])
    {'text': ['a', 'b'], 'id': [None, 1]}
    """
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
