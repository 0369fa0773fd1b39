"""Hard negatives: further rows of a modality that belong to an example and yet do not match it.

They are inputs of their modality's own tower. Inside the model's forward they follow the batch's rows through it in one
pass, so each of them is an embedding like any other: gathered from all processes, with gradients.

Dimension key: b = rows of this process, k = hard negatives of each row, d = embedding width.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


# Inputs are called `hard_negatives__<modality>__<input>` and embeddings `hard_negatives__<modality>__<number>`.
PREFIX, SEPARATOR = "hard_negatives__", "__"


class HardNegatives:
    """
    Embeddings of the hard negatives of all processes, by modality, that knows whether a loss has read any.

    Args:
        rows: Unit-norm embeddings of shape (n, d), by modality. Gradients flow back to the process that computed them.
    """

    def __init__(self, rows: Mapping[str, Tensor] | None = None) -> None:
        self._rows = dict(rows or {})
        self._readers: list[str] = []

    def read(self, modality: str) -> Tensor:
        """Rows of a modality that has some."""
        self._readers.append(modality)
        return self._rows[modality]

    def count(self, modality: str) -> int:
        """Number of rows of a modality, 0 where it has none. To count is not to read."""
        return len(self._rows[modality]) if modality in self._rows else 0

    def __contains__(self, modality: object) -> bool:
        return modality in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_read(self) -> bool:
        """Whether anybody has read rows, from these or from what [`map`] made of them."""
        return bool(self._readers)

    def map(self, function: Callable[[Tensor], Tensor]) -> "HardNegatives":
        """The same rows changed by `function`. Who reads them has read these."""
        changed = HardNegatives({m: function(x) for m, x in self._rows.items()})
        changed._readers = self._readers
        return changed


def input_name(modality: str, name: str) -> str:
    """What the input `name` of a modality's tower is called for its hard negatives, of shape (b, k, ...)."""
    return f"{PREFIX}{modality}{SEPARATOR}{name}"


def without_hard_negatives(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, or embeddings, of the batch's own rows."""
    return {name: x for name, x in inputs.items() if not name.startswith(PREFIX)}


def numbers_of_hard_negatives(inputs: Mapping[str, Any]) -> dict[str, int]:
    """How many hard negatives each row has, by modality, without those that have none."""
    names = [name for name in inputs if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX).split(SEPARATOR, 1)[0]: inputs[name].shape[1] for name in names}


def join_rows(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Inputs of each tower with its hard negatives after the batch's rows, and how many rows the batch has itself."""
    joined, own_rows = without_hard_negatives(inputs), {}
    for name in [name for name in inputs if name.startswith(PREFIX)]:
        modality, target = name.removeprefix(PREFIX).split(SEPARATOR, 1)
        if target not in joined:
            raise ValueError(f"The batch has {name!r}, hard negatives for the input {target!r}, but no such input.")
        own_rows[modality] = len(joined[target])
        joined[target] = torch.cat([joined[target], inputs[name].flatten(0, 1)])
    return joined, own_rows


def split_rows(embeds: Mapping[str, Tensor], own_rows: Mapping[str, int]) -> dict[str, Tensor]:
    """Embeddings of the batch's rows, and of their first, second, ... hard negatives, all of shape (b, d)."""
    if unknown := sorted(set(own_rows) - set(embeds)):
        raise ValueError(f"There are hard negatives of {unknown}, but the model returned {sorted(embeds)}.")
    found = {m: x[: own_rows.get(m, len(x))] for m, x in embeds.items()}
    for m, rows in own_rows.items():
        numbered = embeds[m][rows:].reshape(rows, -1, embeds[m].shape[1]).unbind(dim=1)
        found |= {input_name(m, str(number)): x for number, x in enumerate(numbered)}
    return found


def collect(embeds: Mapping[str, Tensor]) -> HardNegatives:
    """All hard negatives among the embeddings that [`split_rows`] named, by modality."""
    rows: dict[str, list[Tensor]] = {}
    for name in [name for name in embeds if name.startswith(PREFIX)]:
        rows.setdefault(name.removeprefix(PREFIX).rpartition(SEPARATOR)[0], []).append(embeds[name])
    return HardNegatives({m: torch.cat(parts) for m, parts in rows.items()})
