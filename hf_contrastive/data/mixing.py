"""Several datasets as one, in given shares, with each row's origin known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from hf_contrastive.data.columns import column_values, read_rows
from hf_contrastive.data.distinct import codes_of
from hf_contrastive.data.mixed_stream import MixedStream
from hf_contrastive.data.modalities import DATASET_NAME, IDS
from hf_contrastive.data.samplers import MixedSampler, normalized
from hf_contrastive.data.skipped import sum_of_skipped


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
        self.datasets, self.names = dict(datasets), list(datasets)
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
            for place, row, example in zip(places, wanted, read_rows(dataset, wanted) if wanted else [], strict=True):
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
