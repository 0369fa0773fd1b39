"""Rows of a stream that something can be learned from, with those that are bad named, and skipped and counted on request."""

from collections.abc import Iterator
from typing import Any

from transformers.utils import logging

from hf_contrastive.data.rows import NAMED, BadRowError, check_on_bad_row
from hf_contrastive.data.skipped import SharedCount
from hf_contrastive.data.streams import BAD_ROWS, Columns, RowStream, State, Stream, to_columns, to_rows


logger = logging.get_logger(__name__)

# Number of a row, as a column of its own until the row is read.
ROW_NUMBER = "__row_number__"
# Bad rows without a good one between them after which a stream is given up, lest one without end be read for ever.
MAX_IN_A_ROW = 10_000


class CountedRows(RowStream):
    """
    A stream whose rows know their number, from 0 at the beginning of each pass, however they are shuffled later.

    Args:
        source (`Stream`):
            The stream.
    """

    def __init__(self, source: Stream) -> None:
        super().__init__([source])

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "CountedRows":
        """One of `num_shards` parts, whose rows are counted from 0."""
        return CountedRows(self.sources[0].shard(num_shards, index, contiguous))

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Columns]:
        """Batches of columns, with the numbers of their rows as one more."""
        start, source = self.start(), self.sources[0]
        source.load_state_dict(start.get("source"))
        number = start.get("rows", 0)
        for columns in source.iter(batch_size, drop_last_batch):
            size = len(next(iter(columns.values())))
            self._state = {"epoch": self.epoch, "rows": number + size, "source": source.state_dict()}
            yield {**columns, ROW_NUMBER: list(range(number, number + size))}
            number += size


class GoodRows(RowStream):
    """
    Examples of a stream's rows. Batches are filled from the rows that follow bad ones, so that they keep their size.

    The position behind a batch has the number of bad rows before it, see `bad_rows_before`.

    Args:
        source (`Stream`):
            Raw rows.
        on_bad_row (`str`):
            What becomes of a row of which `example` raises a BadRowError: `"raise"` the error or `"skip"` the row.
        name (`str`):
            What to call the data in messages.

    Raises:
        ValueError: When rows are read: all of them are bad, or 10,000 in a row.
    """

    def __init__(self, source: Stream, *, on_bad_row: str, name: str) -> None:
        super().__init__([source])
        check_on_bad_row(on_bad_row)
        self.on_bad_row, self.name = on_bad_row, name
        # What the stream is a part of: "part 0 of 2 of ".
        self.part = ""
        # Of the whole stream: its parts have the same.
        self._skipped, self._named = SharedCount(), set[str]()

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "GoodRows":
        """One of `num_shards` parts."""
        part: GoodRows = object.__new__(type(self))
        part.__dict__ |= self.__dict__ | {"part": f"part {index} of {num_shards} of {self.part}"}
        RowStream.__init__(part, [self.sources[0].shard(num_shards, index, contiguous)])
        return part

    @property
    def skipped_rows(self) -> int | None:
        """How often this process and its workers have skipped a bad row, also ahead of training, or `None` if none may be."""
        return int(self._skipped) if self.on_bad_row == "skip" else None

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Columns]:
        """Batches of columns, all full but the last."""
        start, source = self.start(), self.sources[0]
        before, used, bad = start.get("source"), start.get("used", 0), start.get(BAD_ROWS, 0)
        source.load_state_dict(before)
        batch: list[dict[str, Any]] = []
        found_any, in_a_row = bool(start), 0
        for columns in source.iter(batch_size):
            rows = to_rows(columns)
            behind = source.state_dict()
            for place in range(used, len(rows)):
                try:
                    batch.append(self.example(rows[place]))
                except BadRowError as error:
                    bad, in_a_row = bad + 1, in_a_row + 1
                    self._skip(rows[place], error, in_a_row)
                    continue
                found_any, in_a_row = True, 0
                if len(batch) == batch_size:
                    at_end = place + 1 == len(rows)
                    self._state = self._position(behind, 0, bad) if at_end else self._position(before, place + 1, bad)
                    yield to_columns(batch)
                    batch = []
            before, used = behind, 0
        self._state = self._position(before, 0, bad)
        if not found_any and bad:
            self._refuse_all(bad)
        if batch and not drop_last_batch:
            yield to_columns(batch)

    def example(self, row: dict[str, Any]) -> dict[str, Any]:
        """
        What is made of a row, which has its number.

        Raises:
            BadRowError: Nothing can be learned from it.
        """
        raise NotImplementedError

    def where(self, row: dict[str, Any]) -> str:
        """The place of a row, for messages."""
        return f"row {row[ROW_NUMBER]} of {self.part}the {self.name}"

    def _position(self, source: State | None, used: int, bad: int) -> State:
        """Behind so many rows of the block that begins where the source was."""
        return {"epoch": self.epoch, "source": source, "used": used, BAD_ROWS: bad}

    def _skip(self, row: dict[str, Any], error: BadRowError, in_a_row: int) -> None:
        if self.on_bad_row == "raise":
            raise error
        self._skipped.add_one()
        if (where := self.where(row)) not in self._named and len(self._named) < NAMED:
            self._named.add(where)
            logger.warning(f"{error} It is skipped, and the rows after it fill its batch.")
        if in_a_row == MAX_IN_A_ROW:
            raise ValueError(
                f"{in_a_row} rows of {self.part}the {self.name} in a row are bad, so there is nothing to skip to. {error}"
            ) from error

    def _refuse_all(self, bad: int) -> None:
        message = f"All rows of {self.part}the {self.name} are bad: {bad} were skipped, and none is left."
        if not self.part:
            raise ValueError(f"{message} Repair the data, or have the first bad row raised: `on_bad_row='raise'`.")
        # Other parts may have good ones; if none has, the trainer refuses the stream.
        logger.warning(message)
