"""Numbers that a dataset and its copies in the workers of data loaders share."""

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
        worker = get_worker_info()
        self._slots[0 if worker is None else 1 + worker.id % (SLOTS - 1)] += 1

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


def skipped_rows(dataset: Any) -> dict[str, int]:
    """What a log says of the bad rows that a dataset has replaced so far; nothing of datasets that replace none."""
    count = getattr(dataset, "skipped_rows", None)
    return {} if count is None else {"data/skipped_rows": int(count)}


def _shared(size: int) -> Tensor:
    numbers = torch.zeros(size, dtype=torch.long)
    return numbers.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
