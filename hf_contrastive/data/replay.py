"""Reads of training data whose randomness depends on seed, epoch and rows alone, so that any batch can be read again.

Left to the generators of the process, what a batch draws (one of several captions, a crop) would depend on the dropout
before it, on the number of workers, and on how far the loader reads ahead: a resumed run would draw something else.
"""

import hashlib
import random
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from hf_contrastive.data.columns import read_rows
from hf_contrastive.data.modalities import ROWS


class ReplayableReads(TorchDataset[Any]):
    """A map-style dataset that seeds Python's, numpy's and torch's generators from the rows that it is asked for.

    The seeds hold for the collator too, which runs next in the same process.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        # Shared: workers that live on from epoch to epoch have copies of all else.
        self._epoch: Tensor = torch.zeros((), dtype=torch.long).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, row: Any) -> Any:
        return self.dataset[row]

    def __getitems__(self, rows: Sequence[Any]) -> list[Any]:
        seed_data(self.seed, int(self._epoch), np.asarray(rows).tobytes())
        return Examples(read_rows(self.dataset, rows), rows)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew."""
        self._epoch.fill_(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class Examples(list[Any]):
    """Examples that know their rows."""

    def __init__(self, examples: Sequence[Any], rows: Sequence[Any]) -> None:
        super().__init__(examples)
        self.rows = rows


class CollatorWithRows:
    """A collator that adds the row numbers of examples to its batch, for messages; they never reach the model."""

    def __init__(self, collator: Callable[[list[Any]], Any]) -> None:
        self.collator = collator

    def __call__(self, examples: list[Any]) -> Any:
        batch = self.collator(examples)
        rows = getattr(examples, "rows", None)
        if rows is None or not isinstance(batch, Mapping) or not all(isinstance(row, int) for row in rows):
            return batch
        # No tensor: an accelerator would be waited for, to send it what nobody there needs.
        return {**batch, ROWS: np.array(rows)}


def replayable(dataset: Any, seed: int) -> Any:
    """The dataset with reads that can be repeated. Streams, which are read from their start again, stay as they are."""
    if dataset is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return dataset
    return ReplayableReads(dataset, seed)


def seed_data(seed: int, epoch: int, what: bytes) -> None:
    """Seed the generators of the CPU; an accelerator's are the model's and none of the data's business."""
    digest = hashlib.blake2b(what, digest_size=8, key=f"{seed}/{epoch}".encode()).digest()
    value = int.from_bytes(digest, "big") >> 1
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)


class DataGenerators:
    """Random state of the data, apart from that of the model.

    Args:
        seed: Seed of the run's data.
        rank: Index of this process.
        dataset: What the loader reads, to be told each pass.
    """

    def __init__(self, seed: int, rank: int, dataset: Any = None) -> None:
        self.seed, self.rank, self.dataset = seed, rank, dataset
        self._pass: Any = None
        self._passes = 0
        self._state: Any = None
        # Reads that are seeded each leave no state behind that the next one needs.
        self._numpy = np.random.MT19937() if isinstance(dataset, ReplayableReads) else None

    @contextmanager
    def reading(self, loader: Iterator[Any], first_pass: int) -> Iterator[None]:
        """Have the generators of the data in place while batches are read from `loader`, one iterator per pass.

        Args:
            loader: What is read from; another one than before begins the next pass.
            first_pass: Number of the pass that the first iterator is, 0 unless earlier ones are skipped.
        """
        model = _state(self._numpy)
        try:
            if self._pass is None or self._pass() is not loader:
                self._begin(loader, first_pass)
            elif self._numpy is None:
                _restore(self._state)
            yield
        finally:
            if self._numpy is None:
                self._state = _state()
            _restore(model)

    def drop_spare(self) -> None:
        """Drop the second of two normal numbers, if the model has drawn one: the next read does, so no file may keep it."""
        if self._numpy is not None:
            set_bit_generator(get_bit_generator())

    def _begin(self, loader: Iterator[Any], first_pass: int) -> None:
        self._passes = first_pass if self._pass is None else self._passes + 1
        # Weak: the workers of a loader end with its iterator.
        self._pass = weakref.ref(loader)
        if isinstance(self.dataset, ReplayableReads):
            # Loaders of accelerate (1.15) tell either the sampler or the dataset, which depends on how they resume.
            self.dataset.set_epoch(self._passes)
        # Where reads are seeded by their rows, what is left to draw is the order, which all processes must draw alike.
        own = "order" if isinstance(self.dataset, ReplayableReads) else f"rank {self.rank}"
        seed_data(self.seed, self._passes, own.encode())


def _state(numpy: np.random.BitGenerator | None = None) -> Any:
    """Where the generators stand. With `numpy` to draw from instead, numpy's is set aside: its state takes long to copy."""
    others = random.getstate(), torch.default_generator.get_state()
    if numpy is None:
        return *others, np.random.get_state()
    aside = get_bit_generator()
    set_bit_generator(numpy)
    return *others, aside


def _restore(state: Any) -> None:
    random.setstate(state[0])
    torch.default_generator.set_state(state[1])
    if isinstance(state[2], np.random.BitGenerator):
        set_bit_generator(state[2])
    else:
        np.random.set_state(state[2])
