"""Row numbers that travel with the examples, so that a row which a sampler repeats counts once and in its place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from hf_contrastive.data.columns import read_rows
from hf_contrastive.data.mixed_stream import MixedStream
from hf_contrastive.data.modalities import ROWS
from hf_contrastive.data.skipped import sum_of_skipped


Numbered = tuple[int, Any]


class NumberedRows(Dataset[Numbered]):
    """
    The rows of a dataset, each with its number.

    Args:
        dataset (`torch.utils.data.Dataset`):
            Data with a length.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Numbered:
        return row, self.dataset[row]

    def __getitems__(self, rows: Sequence[int]) -> list[Numbered]:
        """Several rows in one read, as PyTorch's data loader asks for them."""
        return list(zip(rows, read_rows(self.dataset, rows), strict=True))


class NumberedStream(IterableDataset[Numbered]):
    """
    The examples of a stream, each with its number.

    Args:
        dataset (`torch.utils.data.IterableDataset`):
            The whole stream, the same on every process.

    Raises:
        ValueError: The stream has been split over processes already, so that numbers would not be those of the whole.
    """

    def __init__(self, dataset: Any) -> None:
        if getattr(dataset, "_distributed", None) is not None:
            raise ValueError(
                "The evaluation stream has been split over processes already (`split_dataset_by_node`). Pass the whole "
                "stream: each process embeds its share of the examples."
            )
        if isinstance(dataset, MixedStream):
            raise ValueError(
                "A mix of streams has no end, so it cannot be evaluated: evaluate its streams one by one."
            )
        self.dataset = dataset

    @property
    def skipped_rows(self) -> int | None:
        """How many bad rows the stream has skipped, or `None` if none may be."""
        return sum_of_skipped([self.dataset])

    def __iter__(self) -> Iterator[Numbered]:
        return enumerate(self.dataset)


@dataclass(frozen=True)
class NumberedCollator:
    """
    A collator of numbered examples: the batch of `collator`, and the examples' numbers as one more input.

    Args:
        collator (`Callable`):
            Collator of the examples themselves.
    """

    collator: Callable[[list[Any]], Mapping[str, Tensor]]

    def __call__(self, numbered: list[Numbered]) -> dict[str, Tensor]:
        """Model inputs of the examples, and `row_numbers`."""
        rows, examples = zip(*numbered, strict=True)
        return {**self.collator(list(examples)), ROWS: torch.tensor(rows)}
