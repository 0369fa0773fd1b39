"""Full batches of a stream in the data loader's workers, and with each the position behind it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers.utils import logging

from hf_contrastive.data.streams import State, Stream, to_rows


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
    """

    def __init__(self, stream: Stream, batch_size: int, *, is_split: bool = False) -> None:
        self.stream, self.batch_size, self.is_split = stream, batch_size, is_split
        # Shared with workers that outlive a pass.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._resumed: State | None = None
        self._first_epoch = 0
        self.position = ""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of a pass, counted from where the run began or was resumed."""
        self._epoch.fill_(self._first_epoch + epoch)

    def resume(self, state: State) -> None:
        """Begin at a position, which the next pass goes on from."""
        self._resumed, self._first_epoch = state, state["epoch"]

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
        stream.set_epoch(epoch)
        stream.load_state_dict(resumed["lanes"].get(str(lane)) if resumed else None)
        for columns in stream.iter(self.batch_size):
            rows = to_rows(columns)
            if len(rows) < self.batch_size:
                logger.warning_once(
                    f"{len(rows)} rows at the end of the stream fill no batch of {self.batch_size} and are left out."
                )
                return
            self.position = json.dumps({"epoch": epoch, "lane": lane, "of": lanes, "state": stream.state_dict()})
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
