"""Numbers that a dataset and its copies in the workers of data loaders share."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


# Workers write into slots of their own, so that none overwrites another's count. More workers than slots share them.
SLOTS = 256


class SharedCount:
    """A number that workers increase and that the process of the dataset reads."""

    def __init__(self) -> None:
        self._slots = _shared(SLOTS)

    def add_one(self) -> None:
        """Increase it, from a worker or from the process itself."""
        self._slots[_slot()] += 1

    def __int__(self) -> int:
        return int(self._slots.sum())


class SharedEpoch:
    """The epoch that a dataset draws for, also in workers that live on from one epoch to the next."""

    def __init__(self) -> None:
        self._epoch = _shared(1)

    def set(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch.fill_(epoch)

    def __int__(self) -> int:
        return int(self._epoch)


class SharedPass:
    """A number of the latest pass, of which each worker tells its share when it ends that pass."""

    def __init__(self) -> None:
        # And the pass that it is of: some workers end it while others are in the next.
        self._slots, self._epochs = _shared(SLOTS), _shared(SLOTS).fill_(-1)

    def tell(self, share: int, epoch: int) -> None:
        """Note the share of a worker, or of the process itself."""
        self._slots[_slot()], self._epochs[_slot()] = share, epoch

    def of(self, epoch: int) -> int:
        """The sum of the shares of a pass."""
        return int(self._slots[self._epochs == epoch].sum())


def sum_of_skipped(datasets: Iterable[Any]) -> int | None:
    """How many bad rows datasets have skipped or replaced, or `None` if none of them does."""
    counts = [getattr(dataset, "skipped_rows", None) for dataset in datasets]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def skipped_rows(dataset: Any) -> dict[str, int]:
    """What a log says of the bad rows that a dataset has left out so far; nothing of datasets that leave out none."""
    count = getattr(dataset, "skipped_rows", None)
    return {} if count is None else {"data/skipped_rows": int(count)}


def _slot() -> int:
    worker = get_worker_info()
    return 0 if worker is None else 1 + worker.id % (SLOTS - 1)


def _shared(size: int) -> Tensor:
    numbers = torch.zeros(size, dtype=torch.long)
    return numbers.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
