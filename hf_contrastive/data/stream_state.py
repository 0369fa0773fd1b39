"""Where a training run is in its stream, in a file per process of each checkpoint."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_contrastive.data.shuffling import random_settings
from hf_contrastive.data.stream_batches import POSITION
from hf_contrastive.data.streams import bad_rows_before


logger = logging.get_logger(__name__)


# Each process has one of its own, with its number.
STREAM_FILE = "stream_state.json"
# Of positions that know how many rows were skipped before them.
FORMAT = 2


class StreamState:
    """
    What a process has trained on of its stream, to go on from there.

    A loader reads ahead, so the position is taken from the batches that training takes, not from the stream.

    Args:
        batches (`StreamBatches`):
            The stream as the loader reads it.
        rank (`int`):
            Number of this process.
        num_processes (`int`):
            Number of processes.
        num_workers (`int`):
            The loader's workers.
    """

    def __init__(self, batches: Any, *, rank: int, num_processes: int, num_workers: int) -> None:
        self.batches, self.rank = batches, rank
        self.epoch, self.num_batches, self.next_lane = 0, 0, 0
        self.lanes: dict[str, Any] = {}
        self.ended = False
        # Bad rows of the passes before this one, and of this one once all of it was read.
        self._skipped_before = 0
        self._skipped_now: int | None = None
        # Batches of its first pass that a resumed run has behind it.
        self.batches_before = 0
        shuffles = hashlib.blake2b(repr(random_settings(batches.stream)).encode(), digest_size=8).hexdigest()
        # A run that differs in one of these would read other rows.
        self.setup = {
            "rows per batch": batches.batch_size,
            "processes": num_processes,
            "dataloader_num_workers": num_workers,
            "random order of the stream": shuffles,
            "format of the position": FORMAT,
        }

    @property
    def skipped_rows(self) -> int:
        """Bad rows that were skipped up to here, since the run began, whatever the loader has read ahead."""
        now = self._skipped_now
        if now is None:
            now = sum(bad_rows_before(lane["state"]) for lane in self.lanes.values())
        return self._skipped_before + now

    def take(self, batches: Sequence[dict[str, Any]], *, last: bool, ran_out: bool = False) -> None:
        """
        Take the position out of batches that are trained on next.

        Args:
            batches (`list[dict]`):
                The batches.
            last (`bool`):
                Whether they are the last ones of a pass.
            ran_out (`bool`, *optional*, defaults to `False`):
                Whether this process has read all of its stream, and not just others of theirs.
        """
        for batch in batches:
            found = json.loads(batch.pop(POSITION))
            if found["epoch"] != self.epoch:
                self._skipped_before, self._skipped_now = self.skipped_rows, None
                self.epoch, self.num_batches, self.lanes = found["epoch"], 0, {}
                self.batches_before = 0
            self.lanes[str(found["lane"])] = found["state"]
            self.next_lane = (found["lane"] + 1) % found["of"]
            self.num_batches += 1
        # None, too, where a pass without a batch has followed the one that is counted.
        if ran_out and (skipped := self.batches.bad_rows_of(self.epoch)):
            self._skipped_now = skipped
        self.ended = last

    def file(self, folder: Path) -> Path:
        """This process's file in a checkpoint."""
        return folder / f"{Path(STREAM_FILE).stem}_{self.rank}.json"

    def save(self, folder: Path) -> None:
        """Write the position; every process calls it."""
        names = ("setup", "epoch", "num_batches", "next_lane", "lanes")
        state = {name: getattr(self, name) for name in names} | {"skipped_rows": self._skipped_before}
        if self.ended:
            # Resumed at its end, a pass would have no batches, which the Trainer takes for the end of training.
            state |= {"epoch": self.epoch + 1, "num_batches": 0, "next_lane": 0, "lanes": {}}
            state["skipped_rows"] = self.skipped_rows
        unfinished = self.file(folder).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state))
        unfinished.replace(self.file(folder))

    def load(self, folder: Path) -> None:
        """
        Go on from the position that [`save`] wrote.

        Raises:
            ValueError: The run has other batches, processes or workers than the one that was saved.
        """
        state = json.loads(self.file(folder).read_text())
        if different := [name for name, value in self.setup.items() if state["setup"].get(name) != value]:
            name = different[0]
            raise ValueError(
                f"{self.file(folder)} cannot be resumed: it was saved with {state['setup'].get(name)} as the {name}, and "
                f"this run has {self.setup[name]}, so it would read other rows. Use the same (streams that are shuffled "
                "need a `seed`), or start anew from the weights alone."
            )
        self.epoch, self.num_batches = state["epoch"], state["num_batches"]
        self.next_lane, self.lanes = state["next_lane"], state["lanes"]
        self.batches_before = self.num_batches
        self._skipped_before, self._skipped_now = state["skipped_rows"], None
        self.batches.resume({name: state[name] for name in ("epoch", "next_lane", "lanes")})
