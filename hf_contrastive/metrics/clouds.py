"""Clouds of several modalities, made ready once for all measures of them."""

from collections.abc import Mapping
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional import one_row_per_id
from hf_contrastive.functional.checks import as_embeddings


class Clouds:
    """
    Embeddings by modality, of unit length, and what each row shows.

    A modality whose rows coincide within every id, such as images that stand beside each of their captions, is taken once
    per id; others are taken whole.

    Args:
        embeds: Matching embeddings by modality, row i of each the same example.
        ids: What each row shows. By default every row is its own.
        max_rows: Rows of a sample that stands for all where every pair of rows counts. By default all.
        seed: Seed of the sample.
    """

    def __init__(
        self,
        embeds: Mapping[str, Float[Tensor, "n d"]],
        ids: Int[Tensor, "n"] | None = None,
        *,
        max_rows: int | None = None,
        seed: int = 0,
    ) -> None:
        if max_rows is not None and max_rows < 2:
            raise ValueError(f"`max_rows` must be at least 2, but got {max_rows}.")
        # Sorted, so that names of pairs do not depend on the order in which a model returns its embeddings.
        self.rows = {m: as_embeddings(x, f"embeds[{m!r}]") for m, x in sorted(embeds.items())}
        pools = {m: (x, ids) if ids is None else pool_of(x, ids) for m, x in self.rows.items()}
        self.whole = {m: x for m, (x, _) in pools.items()}
        self.ids = {m: own for m, (_, own) in pools.items()}
        first = next(iter(self.rows.values()))
        self.num_items = len(first) if ids is None else len(torch.unique(ids))
        # Clouds of one size have one sample, so that pairs stay together.
        self.places = {m: sample(len(x), max_rows, seed, x.device) for m, x in self.whole.items()}
        self.sampled = {m: x if (i := self.places[m]) is None else x[i] for m, x in self.whole.items()}

    def quadratic_rows(self) -> dict[str, float]:
        """How many rows stand for all of each modality, of those that are sampled."""
        return {f"quadratic_rows_{m}": float(len(i)) for m, i in self.places.items() if i is not None}

    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of modalities."""
        return list(combinations(self.rows, 2))

    def sampled_ids(self, modality: str) -> Int[Tensor, "r"] | None:
        """Ids of the rows of a sample."""
        ids, places = self.ids[modality], self.places[modality]
        return ids if ids is None or places is None else ids[places]


def pool_of(x: Float[Tensor, "n d"], ids: Int[Tensor, "n"]) -> tuple[Float[Tensor, "m d"], Int[Tensor, "m"]]:
    """One row of each id where all rows of it coincide, else all rows; and their ids."""
    rows = one_row_per_id(x, ids)
    return (x, ids) if len(rows) == len(ids) else (x[rows], ids[rows])


def sample(num: int, most: int | None, seed: int, device: torch.device) -> Int[Tensor, "r"] | None:
    """Places of `most` of `num` rows, drawn on the CPU so that one seed is one sample everywhere; None for all rows."""
    if most is None or num <= most:
        return None
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))[:most].sort().values.to(device)
