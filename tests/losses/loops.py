"""Losses of the softmax family written as loops over items, as papers write them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses import ContrastiveLoss
from hf_contrastive.testing import NUM_ROWS
from tests.losses.dense import Formula, Rows, masks


# Items 0, 2 and 7 show the same thing, as do 1 and 5.
IDS = [0, 1, 0, 2, 3, 1, 4, 0]
OWN_IDS = list(range(NUM_ROWS))


@dataclass(frozen=True)
class WithIds:
    """A loss that sees a batch whose rows have `IDS`."""

    loss: ContrastiveLoss

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        return self.loss(replace(batch, ids=torch.tensor(IDS, device=batch.logit_scale.device)))


@dataclass(frozen=True)
class Items:
    """Embeddings by modality and item, of the items that have them."""

    embeds: dict[str, dict[int, Tensor]]
    scale: Tensor
    ids: list[int]

    def logit(self, first: tuple[str, int], second: tuple[str, int]) -> Tensor:
        return self.scale * self.embeds[first[0]][first[1]] @ self.embeds[second[0]][second[1]]

    def with_all(self, *modalities: str) -> list[int]:
        return [i for i in range(NUM_ROWS) if all(i in self.embeds[m] for m in modalities)]

    def negatives(self, query: str, key: str, item: int, *, within: bool) -> list[Tensor]:
        """Logits of one query with rows of another id: of the items that have both, and of its own modality."""
        others = [j for j in self.with_all(query, key) if j != item and self.ids[j] != self.ids[item]]
        logits = [self.logit((query, item), (key, j)) for j in others]
        if within:
            own = [j for j in self.embeds[query] if j != item and self.ids[j] != self.ids[item]]
            logits += [self.logit((query, item), (query, j)) for j in own]
        return logits


# The value of one query from its modality to another.
Value = Callable[[Items, str, str, int], Tensor]


def formula(
    modalities: tuple[str, ...],
    missing: dict[str, list[int]],
    value: Callable[[Items], Tensor],
    ids: list[int] = OWN_IDS,
) -> Formula:
    """What `assert_matches` takes, of a value of all items."""
    present = masks(modalities, missing)

    def whole(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        embeds = {}
        for m in modalities:
            there = present[m].nonzero().flatten().tolist()
            embeds[m] = dict(zip(there, rows(m)[0], strict=True))
        return value(Items(embeds, scale, ids))

    return whole


def over_directions(modalities: tuple[str, ...], value: Value) -> Callable[[Items], Tensor]:
    """Mean over ordered pairs of modalities of the mean over the items that have both."""

    def whole(items: Items) -> Tensor:
        ways = list(permutations(modalities, 2))
        return sum(mean(value(items, q, k, i) for i in items.with_all(q, k)) for q, k in ways) / len(ways)

    return whole


def mean(values: Iterator[Tensor]) -> Tensor:
    found = list(values)
    return sum(found) / len(found)


def log_sum(logits: list[Tensor]) -> Tensor:
    return torch.stack(logits).exp().sum().log()
