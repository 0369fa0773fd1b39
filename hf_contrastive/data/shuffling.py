"""Streams in random order: one that can be resumed where it was, and one that is read again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import IterableDataset
from transformers.utils import logging

from hf_contrastive.data.streams import RowStream, State, Stream, to_rows


logger = logging.get_logger(__name__)


class ShuffledStream(RowStream):
    """
    A stream in random order, block by block, that can be resumed.

    Rows are read in blocks of `buffer_size`, and each block is permuted. The position is where the block began and how much
    of it was used, so a resumed run reads at most one block again.

    Args:
        source (`Stream`):
            The stream.
        buffer_size (`int`):
            Rows of a block, which are held in memory.
        seed (`int`):
            Seed of the order, together with the epoch.
    """

    def __init__(self, source: Stream, buffer_size: int, seed: int) -> None:
        if buffer_size < 1:
            raise ValueError(f"`buffer_size` must be at least 1 row, but got {buffer_size}.")
        super().__init__([source])
        self.buffer_size, self.seed = buffer_size, seed

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "ShuffledStream":
        """One of `num_shards` parts, in an order of its own."""
        part = self.sources[0].shard(num_shards, index, contiguous)
        return ShuffledStream(part, self.buffer_size, self.seed * num_shards + index)

    def rows(self, start: State) -> Iterator[tuple[dict[str, Any], State]]:
        """Rows, each with the position behind it."""
        (source,) = self.sources
        before, block, used = start.get("source"), start.get("block", 0), start.get("used", 0)
        source.load_state_dict(before)
        for columns in source.iter(self.buffer_size):
            rows = to_rows(columns)
            order = np.random.default_rng((self.seed, self.epoch, block)).permutation(len(rows))
            behind = source.state_dict()
            for place in range(used, len(rows)):
                state = {"epoch": self.epoch, "source": before, "block": block, "used": place + 1}
                if place + 1 == len(rows):
                    state |= {"source": behind, "block": block + 1, "used": 0}
                yield rows[order[place]], state
            before, block, used = behind, block + 1, 0


class ReplayedStream(RowStream):
    """
    A stream that is resumed by reading again what was read, for those whose own state leaves something out.

    Args:
        source (`Stream`):
            The stream. It must bring the same rows in every run.
    """

    def __init__(self, source: Stream) -> None:
        super().__init__([source])

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "ReplayedStream":
        """One of `num_shards` parts."""
        return ReplayedStream(self.sources[0].shard(num_shards, index, contiguous))

    def rows(self, start: State) -> Iterator[tuple[dict[str, Any], State]]:
        """Rows, each with the position behind it."""
        self.sources[0].load_state_dict(None)
        rows = (row for columns in self.sources[0].iter(1) for row in to_rows(columns))
        for number, row in enumerate(rows, start=1):
            if number > start.get("rows", 0):
                yield row, {"epoch": self.epoch, "rows": number}


def shuffle_stream(stream: Stream, *, buffer_size: int = 10_000, seed: int = 0) -> ShuffledStream:
    """
    The stream in random order, resumable without losing or repeating a row.

    `stream.shuffle(buffer_size=...)` of `datasets` can be trained on too, but its buffer is not part of its state: a resumed
    run reads the stream again up to where it was.

    Args:
        stream ([`~datasets.IterableDataset`]):
            The stream.
        buffer_size (`int`, *optional*, defaults to 10,000):
            Rows that are shuffled with each other. Those of images are better not decoded yet:
            `stream.cast_column("image", Image(decode=False))`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order, another one in each epoch.
    """
    return ShuffledStream(as_resumable(stream), buffer_size, seed)


def as_resumable(stream: Stream) -> Stream:
    """The stream itself, or, where `datasets` would lose the content of a shuffle buffer, one that is read again."""
    if not isinstance(stream, IterableDataset) or not _has_shuffle_buffer(stream._ex_iterable):
        return stream
    logger.info(
        "The stream has a shuffle buffer, whose content `datasets` does not save: resuming will read it again from its "
        "beginning. `hf_contrastive.data.shuffle_stream` shuffles a stream so that it is resumed where it was."
    )
    return ReplayedStream(stream)


def _has_shuffle_buffer(part: Any) -> bool:
    # No public way to ask. The name is that of datasets 4.0 to 5.2.
    if type(part).__name__ == "BufferShuffledExamplesIterable":
        return True
    parts = [getattr(part, "ex_iterable", None), *getattr(part, "ex_iterables", [])]
    return any(_has_shuffle_buffer(inner) for inner in parts if inner is not None)


def random_settings(stream: Any) -> list[Any]:
    """All that the random orders inside a stream depend on, by which a run knows whether it repeats another's."""
    found: list[Any] = []
    for name in ("sources", "_ex_iterable", "ex_iterable", "ex_iterables"):
        inner = getattr(stream, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            found += [] if part is None else random_settings(part)
    found += [
        getattr(stream, name)
        for name in ("seed", "buffer_size", "weights", "homogeneous_batches")
        if hasattr(stream, name)
    ]
    generator = getattr(stream, "generator", None)
    return [*found, generator.bit_generator.state] if isinstance(generator, np.random.Generator) else found
