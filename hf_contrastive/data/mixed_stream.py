"""Several streams as one, in random turns that are the same on all processes."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hf_contrastive.data.modalities import DATASET_NAME
from hf_contrastive.data.samplers import normalized
from hf_contrastive.data.shuffling import as_resumable
from hf_contrastive.data.streams import (
    BAD_ROWS,
    Columns,
    RowStream,
    State,
    Stream,
    bad_rows_before,
    to_columns,
    to_rows,
)


class MixedStream(RowStream):
    """
    Streams in random turns, without end; see [`mix_datasets`].

    Which stream comes next depends on seed, epoch and step alone, and one at its end begins again in its next epoch. So
    all processes, each with its part of every stream, take the same stream at the same step.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        *,
        weights: Mapping[str, float],
        seed: int = 0,
        homogeneous_batches: bool = False,
    ) -> None:
        super().__init__([as_resumable(stream) for stream in streams.values()])
        self.names = list(streams)
        self.weights = normalized(weights, self.names)
        self.seed, self.homogeneous_batches = seed, homogeneous_batches

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "MixedStream":
        """One of `num_shards` parts, with a part of each stream."""
        parts = [source.shard(num_shards, index, contiguous) for source in self.sources]
        return MixedStream(
            dict(zip(self.names, parts, strict=True)),
            weights=self.weights,
            # The same turns in all parts: processes that each read one must take the same stream at a step.
            seed=self.seed,
            homogeneous_batches=self.homogeneous_batches,
        )

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Columns]:
        """Batches of columns, all full."""
        start = self.start()
        # Bad rows are those of streams that have begun again, whose states count from there.
        at: State = {"states": {}, "epochs": {}, BAD_ROWS: 0} | start
        at |= {"states": dict(at["states"]), "epochs": dict(at["epochs"])}
        readers: dict[int, Iterator[Columns]] = {}
        size = batch_size if self.homogeneous_batches else 1
        batch: list[dict[str, Any]] = []
        turns: set[int] = set()
        for step, turn in self._turns(start.get("step", 0)):
            rows = to_rows(self._next(turn, size, readers, at))
            batch += [{**row, DATASET_NAME: self.names[turn]} for row in rows]
            turns.add(turn)
            if len(batch) == batch_size:
                at["states"] |= {self.names[turn]: self.sources[turn].state_dict() for turn in turns}
                copies = {"states": dict(at["states"]), "epochs": dict(at["epochs"])}
                self._state = at | copies | {"epoch": self.epoch, "step": step + 1}
                yield to_columns(batch)
                batch, turns = [], set()

    def _turns(self, step: int) -> Iterator[tuple[int, int]]:
        """Steps with the number of the stream whose turn it is, drawn by the thousand."""
        while True:
            rng = np.random.default_rng((self.seed, self.epoch, step // 1000))
            drawn = rng.choice(len(self.names), size=1000, p=list(self.weights.values()))
            for place in range(step % 1000, 1000):
                yield step, int(drawn[place])
                step += 1

    def _next(self, turn: int, size: int, readers: dict[int, Iterator[Columns]], at: State) -> Columns:
        name, source = self.names[turn], self.sources[turn]
        if turn not in readers:
            source.set_epoch(at["epochs"].setdefault(name, self.epoch))
            source.load_state_dict(at["states"].get(name))
            readers[turn] = source.iter(size, drop_last_batch=True)
        columns = next(readers[turn], None)
        if columns is None:
            at["epochs"][name] += 1
            at[BAD_ROWS] += bad_rows_before(source.state_dict())
            source.set_epoch(at["epochs"][name])
            source.load_state_dict(None)
            readers[turn] = source.iter(size, drop_last_batch=True)
            columns = next(readers[turn], None)
        if columns is None:
            raise ValueError(
                f"Stream {name!r} of a mix has fewer than the {size} rows that are taken from it at a time."
            )
        return columns
