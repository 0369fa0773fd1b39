"""Several datasets as one, in given shares, with each row's origin known."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from hf_contrastive.data.columns import column_values
from hf_contrastive.data.distinct import codes_of
from hf_contrastive.data.modalities import IDS
from hf_contrastive.data.samplers import MixedSampler, normalized
from hf_contrastive.data.shuffling import as_resumable
from hf_contrastive.data.skipped import sum_of_skipped
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


# Names the dataset that a row is from. The trainer takes it out of a batch.
DATASET_NAME = "dataset_name"


class MixedDataset(TorchDataset[dict[str, Any]]):
    """
    Map datasets one after the other. Rows have a `dataset_name`; see [`mix_datasets`] for the arguments.

    The trainer reads it in the order of `sampler`.
    """

    def __init__(
        self,
        datasets: Mapping[str, Any],
        *,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        homogeneous_batches: bool = False,
        stopping: str = "all_exhausted",
    ) -> None:
        self.datasets = dict(datasets)
        self.weights, self.seed, self.stopping = weights, seed, stopping
        self.homogeneous_batches = homogeneous_batches
        self.offsets = np.cumsum([0, *(len(dataset) for dataset in self.datasets.values())])
        # Whether examples say by themselves what they show; if those of one dataset do, those of all.
        self.gives_ids = any(_gives_ids(dataset) for dataset in self.datasets.values())
        if weights is not None:
            normalized(weights, list(self.datasets))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows, in one read per dataset."""
        indices = np.asarray(rows)
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"Rows of a mix are 0 to {len(self) - 1}, but {list(rows)} were asked for.")
        found: list[dict[str, Any]] = [{} for _ in rows]
        origins = np.searchsorted(self.offsets, indices, side="right") - 1
        for origin, (name, dataset) in enumerate(self.datasets.items()):
            places = np.flatnonzero(origins == origin)
            wanted = (indices[places] - self.offsets[origin]).tolist()
            for place, row, example in zip(places, wanted, _read(dataset, wanted), strict=True):
                found[place] = {**example, DATASET_NAME: name}
                if self.gives_ids:
                    # Of one dataset alone: another's row of the same number shows something else.
                    shown = example.get(IDS, example.get("id", f"row {row}"))
                    if shown is None:
                        raise ValueError(f"Row {row} of the dataset {name!r} of a mix has no id.")
                    found[place][IDS] = f"{name}/{shown}"
        return found

    def set_epoch(self, epoch: int) -> None:
        """Have all datasets draw anew, those that draw."""
        for dataset in self.datasets.values():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    @property
    def skipped_rows(self) -> int | None:
        """How often a bad row of any dataset was replaced, or `None` if none may be."""
        return sum_of_skipped(self.datasets.values())

    def column_values(self, column: str) -> list[Any]:
        """A column of all datasets. Values of different datasets are never equal, so that a shared number means nothing."""
        values = []
        for name, dataset in self.datasets.items():
            values += [f"{name}/{code}" for code in codes_of(column_values(dataset, column))]
        return values

    def sampler(self, group_size: int, no_duplicates: str | None = None) -> MixedSampler:
        """The order of rows for global batches of `group_size`."""
        return MixedSampler(
            {name: len(dataset) for name, dataset in self.datasets.items()},
            group_size,
            weights=self.weights,
            homogeneous=self.homogeneous_batches,
            stopping=self.stopping,
            values=None if no_duplicates is None else self.column_values(no_duplicates),
            seed=self.seed,
        )


def _gives_ids(dataset: Any) -> bool:
    """Whether a dataset, or the one that it is a part of, gives its examples ids."""
    own, inner = getattr(dataset, "gives_ids", None), getattr(dataset, "dataset", None)
    return bool(own) if own is not None else inner is not None and _gives_ids(inner)


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


def mix_datasets(
    datasets: Mapping[str, Any],
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    seed: int = 0,
    homogeneous_batches: bool = False,
    stopping: str = "all_exhausted",
) -> MixedDataset | MixedStream:
    r"""
    Several datasets as one to train on, in given shares.

    Args:
        datasets (`dict[str, Dataset]` or `dict[str, IterableDataset]`):
            Datasets by name, all of them maps or all of them streams. Where the collator reads an `id_column`, ids of
            different datasets must differ.
        weights (`dict[str, float]`, *optional*):
            Share of each dataset, up to a factor. By default each row of maps comes once per epoch, and streams come in
            equal shares.
        temperature (`float`, *optional*):
            Instead of weights, shares proportional to $\mathrm{rows}^{1 / \mathrm{temperature}}$: 1 leaves the sizes as they
            are, more gives small datasets more. Of maps only.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order, another one in each epoch.
        homogeneous_batches (`bool`, *optional*, defaults to `False`):
            Whether all rows of a global batch, on all processes, are of one dataset, so that negatives are as hard as they
            are within it.
        stopping (`str`, *optional*, defaults to `"all_exhausted"`):
            End of an epoch of maps. `"all_exhausted"`: every row was there; datasets with more than their share of weight
            repeat theirs. `"first_exhausted"`: as long as no row comes twice. A mix of streams has no end (set `max_steps`):
            a stream that is exhausted begins again.

    Returns:
        [`MixedDataset`] or [`MixedStream`]: Rows have a `dataset_name`, which the trainer counts per log.

    Raises:
        ValueError: There are no datasets, or maps as well as streams, or weights that are not positive.

    Example:
    ```python
    mixed = mix_datasets({"coco": coco, "cc3m": cc3m}, weights={"coco": 1, "cc3m": 4}, homogeneous_batches=True)
    trainer = ContrastiveTrainer(model, args, train_dataset=mixed, ...)
    ```
    """
    if not datasets:
        raise ValueError("`datasets` must name at least one dataset, but is empty.")
    streams = [name for name, dataset in datasets.items() if not hasattr(dataset, "__len__")]
    if streams and len(streams) < len(datasets):
        raise ValueError(
            f"`datasets` must be all maps or all streams, but only {streams} are streams. Make the others streams with "
            "`dataset.to_iterable_dataset()`."
        )
    if temperature is not None:
        if weights is not None or streams or not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive and takes the place of `weights`, for maps, but got {temperature} with "
                f"weights {weights} and streams {streams}."
            )
        weights = {name: len(dataset) ** (1 / temperature) for name, dataset in datasets.items()}
    if streams:
        shares = dict.fromkeys(datasets, 1.0) if weights is None else weights
        return MixedStream(datasets, weights=shares, seed=seed, homogeneous_batches=homogeneous_batches)
    return MixedDataset(
        datasets, weights=weights, seed=seed, homogeneous_batches=homogeneous_batches, stopping=stopping
    )


def _read(dataset: Any, rows: list[int]) -> list[dict[str, Any]]:
    read: Callable[[list[int]], list[dict[str, Any]]] | None = getattr(dataset, "__getitems__", None)
    return (read(rows) if read else [dataset[row] for row in rows]) if rows else []
