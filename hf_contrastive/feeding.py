"""How processes that may run out of data apart stay together: when all of them stop, and that no row counts twice."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import find_batch_size, recursively_apply, send_to_device
from torch import Tensor
from transformers.utils import logging

from hf_contrastive.distributed import rank, world_size


logger = logging.get_logger(__name__)

# What a process brings to an agreement instead of a number of rows.
NOTHING_YET, FAILED = -1, -2


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

    def lend(self, value: Any, source: int) -> Any:
        """The value that process `source` has."""
        values = [value]
        dist.broadcast_object_list(values, src=source, group=self._gloo())
        return values[0]

    def _gloo(self) -> Any:
        if self.group is None:
            self.group = dist.new_group(backend="gloo", timeout=self.timeout)
        return self.group


class TrainingFeed:
    """Full batches of a stream, on all processes or on none.

    Where one process has no full batch left, the pass ends for all, and what each of them leaves unused is logged. An
    error of one process while it reads is raised on all.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self._pass: Iterator[Any] | None = None
        self._ended = False
        self._used = 0

    def take(self, iterator: Iterator[Any], num_batches: int, batch_size: int, *, first: bool) -> list[Any]:
        """
        The batches of one update, or none at the end of a pass.

        Args:
            iterator (`Iterator`): Batches of this process.
            num_batches (`int`): How many an update accumulates.
            batch_size (`int`): Rows of a full batch.
            first (`bool`): Whether this is the first update of all, so that there must be one.
        """
        if iterator is not self._pass:
            self._pass, self._ended, self._used = iterator, False, 0
        if self._ended:
            return []
        batches, error = [], None
        try:
            batches = list(islice(iterator, num_batches))
        except Exception as raised:  # whatever it is, the others must hear of it before it is raised
            error = raised
        sizes = [find_batch_size(batch) or 0 for batch in batches]
        full = sizes == [batch_size] * num_batches
        if self.agreement.least(FAILED if error else int(full)) == 1:
            self._used += sum(sizes)
            return batches
        self._ended = True
        self._report(sum(sizes), full, error, first)
        return []

    def _report(self, rows: int, full: bool, error: Exception | None, first: bool) -> None:
        states = self.agreement.gather(FAILED if error else rows, int(full), self._used)
        _raise_together(error, [state[0] for state in states], "training")
        unused = [f"at least {rows}" if full else str(rows) for rows, full, _ in states]
        used = sum(state[2] for state in states)
        if first and used == 0:
            raise ValueError(
                f"The stream has no update of full batches for each of {len(states)} processes: they read "
                f"{', '.join(unused)} rows. Lower `per_device_train_batch_size` or `gradient_accumulation_steps`, split by "
                "examples, or add data."
            )
        if rank() == 0 and any(state[0] for state in states):
            logger.warning(
                f"A pass over the training stream ended after {used} rows. Rows that each process left unused: "
                f"{', '.join(unused)}."
            )


class EvaluationFeed:
    """Batches of this process, for as many steps as the process with most of them has.

    A process that has run out repeats a batch, since models whose parameters are sharded run together, and brings none
    of its rows to [`gather`].

    Args:
        loader: Batches of this process.
        agreement: How processes agree on the end.
        collect: Stacks tensors of equal shape from all processes in rank order.
        by_example: Whether neighbouring examples went to different processes, rather than neighbouring batches.
    """

    def __init__(
        self, loader: Any, agreement: Agreement, collect: Callable[[Tensor], Tensor], *, by_example: bool
    ) -> None:
        self.loader, self.agreement, self.collect, self.by_example = loader, agreement, collect, by_example
        self.dataset = loader.dataset
        self.counts: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        batches, spare = iter(self.loader), None
        while True:
            batch, error = None, None
            try:
                batch = next(batches, None)
            except Exception as raised:  # whatever it is, the others must hear of it before it is raised
                error = raised
            rows = (find_batch_size(batch) or 0) if batch is not None else NOTHING_YET if spare is None else 0
            self.counts = [count for (count,) in self.agreement.gather(FAILED if error else rows)]
            _raise_together(error, self.counts, "evaluation")
            if max(self.counts) <= 0:
                return
            if min(self.counts) == NOTHING_YET:
                source = self.counts.index(max(self.counts))
                lent = self.agreement.lend(send_to_device(batch, "cpu") if rank() == source else None, source)
                spare = lent if spare is None else spare
            spare = spare if batch is None else batch
            yield spare

    def gather(self, tensors: Any) -> Any:
        """Rows of all processes, each example once and in the order of the data."""
        return recursively_apply(self._gather_one, tensors)

    def _gather_one(self, x: Tensor) -> Tensor:
        counts = torch.tensor(self.counts, device=x.device).clamp(min=0)
        most = int(counts.max())
        padded = x.new_zeros(most, *x.shape[1:])
        padded[: len(x)] = x[:most]
        rows = self.collect(padded).view(len(counts), most, *x.shape[1:])
        counted = torch.arange(most, device=x.device) < counts.unsqueeze(1)
        return rows.transpose(0, 1)[counted.T] if self.by_example else rows[counted]


def _raise_together(error: Exception | None, states: list[int], what: str) -> None:
    if error is not None:
        raise error
    if FAILED in states:
        raise RuntimeError(
            f"Process {states.index(FAILED)} could not read its next batch for {what}, so all stop. Its own error says "
            "why."
        )
