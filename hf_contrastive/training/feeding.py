"""How processes that may run out of data apart stay together: when all of them stop."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import find_batch_size
from transformers.utils import logging

from hf_contrastive.data.skipped import sum_of_skipped
from hf_contrastive.distributed import rank, world_size


logger = logging.get_logger(__name__)

# What a process brings to an agreement instead of a number of rows.
FAILED = -1


class Agreement:
    """Numbers that all processes tell each other, over gloo: an accelerator need not wait for its work to end."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timedelta(seconds=timeout)
        self.group: Any = None

    def gather(self, *numbers: int) -> list[list[int]]:
        """The numbers of every process, in rank order."""
        mine = torch.tensor(numbers, dtype=torch.long)
        if world_size() == 1:
            return [mine.tolist()]
        everyone = [torch.zeros_like(mine) for _ in range(world_size())]
        dist.all_gather(everyone, mine, group=self._gloo())
        return [x.tolist() for x in everyone]

    def least(self, number: int) -> int:
        """The least of the numbers of all processes."""
        mine = torch.tensor(number, dtype=torch.long)
        if world_size() > 1:
            dist.all_reduce(mine, op=dist.ReduceOp.MIN, group=self._gloo())
        return int(mine)

    def _gloo(self) -> Any:
        if self.group is None:
            self.group = dist.new_group(backend="gloo", timeout=self.timeout)
        return self.group


class TrainingFeed:
    """Full batches of a stream, on all processes or on none.

    Where one process has no full batch left, the pass ends for all, and what each of them leaves unused is logged: the
    Trainer would add the gradient of a cut update, wrongly scaled, to that of the next pass's first step. An error of one
    process while it reads is raised on all.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self._pass: Iterator[Any] | None = None
        self._ended = False
        self._used = 0
        # Whether this process had no full batch left in its pass.
        self.ran_out = False

    def take(
        self, iterator: Iterator[Any], num_batches: int, batch_size: int, *, first: bool, dataset: Any = None
    ) -> list[Any]:
        """
        The batches of one update, or none at the end of a pass.

        Args:
            iterator (`Iterator`): Batches of this process.
            num_batches (`int`): How many an update accumulates.
            batch_size (`int`): Rows of a full batch.
            first (`bool`): Whether this is the first update of all, so that there must be one.
            dataset: What is read, to be asked how many bad rows it has skipped where there is no update.
        """
        if iterator is not self._pass:
            self._pass, self._ended, self._used, self.ran_out = iterator, False, 0, False
        if self._ended:
            return []
        batches, error = [], None
        try:
            batches = list(islice(iterator, num_batches))
        except Exception as raised:  # whatever it is, the others must hear of it before it is raised
            error = raised
        sizes = [find_batch_size(batch) or 0 for batch in batches]
        full = sizes == [batch_size] * num_batches
        self.ran_out = not full
        if self.agreement.least(FAILED if error else int(full)) == 1:
            self._used += sum(sizes)
            return batches
        self._ended = True
        self._report(sum(sizes), full, error, first, sum_of_skipped([dataset]) or 0)
        return []

    def _report(self, rows: int, full: bool, error: Exception | None, first: bool, skipped: int) -> None:
        states = self.agreement.gather(FAILED if error else rows, int(full), self._used, skipped)
        _raise_together(error, [state[0] for state in states], "training")
        unused = [f"at least {rows}" if full else str(rows) for rows, full, *_ in states]
        used = sum(state[2] for state in states)
        if first and used == 0:
            bad = _and_skipped([state[3] for state in states])
            raise ValueError(
                f"The stream has no update of full batches for each of {len(states)} processes: they read "
                f"{', '.join(unused)} rows{bad}. Lower `per_device_train_batch_size` or "
                "`gradient_accumulation_steps`, split by examples, or add data."
            )
        if rank() == 0 and any(state[0] for state in states):
            logger.warning(
                f"A pass over the training stream ended after {used} rows. Rows that each process left unused: "
                f"{', '.join(unused)}."
            )


def _and_skipped(counts: list[int]) -> str:
    return f" and skipped {', '.join(map(str, counts))} bad ones" if any(counts) else ""


def _raise_together(error: Exception | None, states: list[int], what: str) -> None:
    if error is not None:
        raise error
    if FAILED in states:
        raise RuntimeError(
            f"Process {states.index(FAILED)} could not read its next batch for {what}, so all stop. Its own error says "
            "why."
        )
