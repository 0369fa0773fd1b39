"""Full batches of a stream in the data loader's workers, and with each the position behind it."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers.utils import logging

from hf_contrastive.data.replay import seed_data
from hf_contrastive.data.skipped import SharedPass
from hf_contrastive.data.streams import State, Stream, bad_rows_before, to_rows


logger = logging.get_logger(__name__)

# What a batch of a training loader says of itself. The trainer takes it out.
POSITION = "stream_position"


class StreamBatches(IterableDataset[dict[str, Any]]):
    """
    The rows of a stream, as many as fill batches, for a [`~torch.utils.data.DataLoader`].

    Each of the loader's workers reads a part of the stream, its lane, and batches come from the lanes in turn. After each
    batch `position` tells the lane and where in it the next batch begins.

    Args:
        stream (`Stream`):
            The stream.
        batch_size (`int`):
            Rows of a batch.
        is_split (`bool`, *optional*, defaults to `False`):
            Whether the stream is this process's part, not that of all.
        seed (`int`, *optional*, defaults to 0):
            Seed of what is drawn while a batch is read and collated, which depends on it and on the batch's place alone.
        rank (`int`, *optional*, defaults to 0):
            Number of this process, which draws for itself.
    """

    def __init__(
        self, stream: Stream, batch_size: int, *, is_split: bool = False, seed: int = 0, rank: int = 0
    ) -> None:
        self.stream, self.batch_size, self.is_split, self.seed, self.rank = stream, batch_size, is_split, seed, rank
        # Shared with workers that outlive a pass.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._bad_rows = SharedPass()
        self._resumed: State | None = None
        self._first_epoch = 0
        self.position = ""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of a pass, counted from where the run began or was resumed."""
        self._epoch.fill_(self._first_epoch + epoch)

    def resume(self, state: State) -> None:
        """Begin at a position, which the next pass goes on from."""
        self._resumed, self._first_epoch = state, state["epoch"]

    def bad_rows_of(self, epoch: int) -> int:
        """Bad rows that were skipped in a pass, once the loader is at its end, also after the last full batch."""
        return self._bad_rows.of(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        lanes = 1 if worker is None else min(worker.num_workers, self.stream.num_shards)
        if worker is not None and worker.id >= lanes:
            return
        epoch = int(self._epoch)
        resumed = self._resumed if self._resumed is not None and self._resumed["epoch"] == epoch else None
        # A loader asks worker 0 first, so that one takes the lane whose turn it is.
        lane = ((0 if worker is None else worker.id) + (resumed["next_lane"] if resumed else 0)) % lanes
        stream = self.stream if lanes == 1 else self.stream.shard(lanes, lane, contiguous=False)
        start = (resumed["lanes"].get(str(lane)) if resumed else None) or {"batches": 0, "state": None}
        stream.set_epoch(epoch)
        stream.load_state_dict(start["state"])
        batches = stream.iter(self.batch_size)
        for number in count(start["batches"]):
            # Not left to the generators of the process, which a resumed run would have to find as they were.
            seed_data(self.seed, epoch, f"{self.rank}/{lane}/{number}".encode())
            rows = to_rows(next(batches, {}))
            if len(rows) < self.batch_size:
                self._bad_rows.tell(bad_rows_before(stream.state_dict()), epoch)
                if rows:
                    logger.warning_once(
                        f"{len(rows)} rows at the end of the stream fill no batch of {self.batch_size} and are left out."
                    )
                return
            state = {"batches": number + 1, "state": stream.state_dict()}
            self.position = json.dumps({"epoch": epoch, "lane": lane, "of": lanes, "state": state})
            yield from rows


class PositionCollator:
    """
    A collator that adds the position of the stream, which is in the same process, to each batch.

    Args:
        collator (`Callable`):
            Collator of the batch.
        batches (`StreamBatches`):
            The stream.
    """

    # Any: beartype 0.23 takes no annotation by torch's IterableDataset, a deprecated `typing.Iterable`.
    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]], batches: Any) -> None:
        self.collator, self.batches = collator, batches

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        """The collator's batch and the position behind it."""
        return {**self.collator(examples), POSITION: self.batches.position}
