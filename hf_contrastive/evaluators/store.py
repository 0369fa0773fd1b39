"""Embeddings of a whole dataset, on the CPU and in order, from batches of any order on any number of processes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.distributed import from_all, rank, world_size


T = TypeVar("T")
# Rows that processes exchange at a time.
CHUNK = 8192


class StoredEmbeds(NamedTuple):
    """Embeddings of a dataset.

    Dimension key: n = rows of the dataset, d = embedding width.

    Args:
        embeds: Embeddings by modality, in alphabetical order of their names.
        ids: What each row shows, where that is known.
    """

    embeds: dict[str, Float[Tensor, "n d"]]
    ids: Int[Tensor, "n"] | None


class EmbeddingStore:
    """Collects embeddings by row number: one buffer per modality, written in place, and never a second copy.

    Args:
        num_rows: Rows of the dataset. Without it, for a stream, buffers double when they are full.
        many_processes: Whether every process of the group embeds a share. If not, this one embeds all rows.
    """

    def __init__(self, num_rows: int | None = None, *, many_processes: bool = True) -> None:
        self.num_rows = num_rows
        self._shared = many_processes and world_size() > 1
        self._buffers: dict[str, Tensor] = {}
        self._seen = torch.zeros(num_rows or 0, dtype=torch.bool)

    def add(
        self,
        rows: Int[Tensor, "b"] | None,
        embeds: Mapping[str, Float[Tensor, "b d"]],
        ids: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Write a batch.

        Args:
            rows: Numbers of the rows, from 0; one that was there before is written again. By default the next ones.
            embeds: Their embeddings, by modality.
            ids: What each row shows, in every batch or in none.
        """
        size = len(next(iter(embeds.values())))
        if rows is None:
            if self._shared:
                raise ValueError(
                    "Batches of the evaluation carry no row numbers, so their order over several processes is unknown. "
                    "Let the trainer make its data loader, or wrap dataset and collator in `NumberedRows` and "
                    "`NumberedCollator`."
                )
            rows = int(self._seen.sum()) + torch.arange(size)
        rows = rows.cpu()
        columns = dict(sorted(embeds.items())) | ({} if ids is None else {"": ids})
        if self._buffers and columns.keys() != self._buffers.keys():
            raise ValueError(
                f"Every batch must bring the same modalities, with ids or without, but one brings {_names(columns)} "
                f"after {_names(self._buffers)}."
            )
        needed = int(rows.max()) + 1
        if needed > len(self._seen):
            self._grow(max(needed, 2 * len(self._seen)))
        self._seen[rows] = True
        for name, x in columns.items():
            if name not in self._buffers:
                self._buffers[name] = torch.zeros(len(self._seen), *x.shape[1:], dtype=x.dtype)
            self._buffers[name][rows] = x.detach().to("cpu", self._buffers[name].dtype)

    def join(self, device: torch.device | str = "cpu") -> StoredEmbeds | None:
        """All rows in order, the same on every process; None if there are none.

        Args:
            device: Where collectives run, for backends that only do so on an accelerator.

        Raises:
            ValueError: A row is missing.
        """
        length = self._exchange(device) if self._shared else self._length()
        if length == 0:
            return None
        length = max(length, self.num_rows or 0)
        if not self._seen[:length].all():
            missing = (~self._seen[:length]).nonzero()
            raise ValueError(f"{len(missing)} rows were never embedded; the first is row {int(missing[0])}.")
        columns = {name: buffer[:length] for name, buffer in self._buffers.items()}
        ids = columns.pop("", None)
        return StoredEmbeds(columns, ids)

    def _grow(self, capacity: int) -> None:
        extra = capacity - len(self._seen)
        self._seen = torch.cat([self._seen, self._seen.new_zeros(extra)])
        for name in self._buffers:
            buffer = self._buffers[name]
            self._buffers[name] = buffer.new_zeros(capacity, *buffer.shape[1:])
            self._buffers[name][: len(buffer)] = buffer

    def _length(self) -> int:
        return int(self._seen.nonzero().max()) + 1 if self._seen.any() else 0

    def _exchange(self, device: torch.device | str) -> int:
        """Fill in the rows of other processes; each row comes from the first process that has it."""
        shapes = {name: (tuple(x.shape[1:]), x.dtype) for name, x in self._buffers.items()}
        told = from_all((shapes, self._length()))
        length = max(last for _, last in told)
        found = [shapes for shapes, _ in told if shapes]
        if any(shapes != found[0] for shapes in found):
            raise ValueError(f"The processes embed differently: {found}.")
        if length > len(self._seen):
            self._grow(length)
        for name, (shape, dtype) in found[0].items() if found else ():
            self._buffers.setdefault(name, torch.zeros(len(self._seen), *shape, dtype=dtype))
        for start in range(0, length, CHUNK):
            rows = slice(start, min(start + CHUNK, length))
            owner = torch.where(self._seen[rows], rank(), world_size()).to(device)
            dist.all_reduce(owner, dist.ReduceOp.MIN)
            mine = owner == rank()
            for buffer in (self._buffers[name] for name in sorted(self._buffers)):
                part = buffer[rows].to(device)
                # Sums of one value and zeros are exact.
                part = torch.where(mine.view(-1, *[1] * (part.dim() - 1)), part, torch.zeros_like(part))
                dist.all_reduce(part)
                buffer[rows] = part.cpu()
            self._seen[rows] = (owner < world_size()).cpu()
        return length


def on_every_process(work: Callable[[], T]) -> T:
    """The result of `work`, or an error on every process if it fails on any: nobody waits for one that is gone."""
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    if world_size() == 1:
        if failure is not None:
            raise failure
        return result
    told = from_all(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for process, message in enumerate(told):
        if message is not None:
            raise RuntimeError(f"Process {process} failed. {message}")
    return result


def _names(columns: Mapping[str, Tensor]) -> list[str]:
    return [name or "ids" for name in columns]
