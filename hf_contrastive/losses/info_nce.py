"""InfoNCE over any number of modalities."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import PairMask, log_partition, mean_info_nce
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.sums import Direction, both_directions


@register_loss(
    "info_nce",
    paper="1807.03748",
    formula=r"\tfrac12 \ell(x, y) + \tfrac12 \ell(y, x), \quad \ell(x, y) = -\mathrm{E}_i \log \frac{e^{s\, x_i \cdot y_i}}{\sum_j e^{s\, x_i \cdot y_j}}",
)
@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Softmax classification of each embedding's own partner among all embeddings of the other modality.

    Van den Oord et al. 2018, Equation 4, in both directions. With two modalities it equals `clip`. With S it is the
    mean over all S(S-1) directions, over the 2(S-1) that involve `anchor`, or over the S-1 that start there.

    Args:
        anchor: Modality that all others are compared with. By default every modality is compared with every other.
        symmetric: Whether each pair is read in both directions. If not, only from `anchor` (required) to the others.
        within: Whether the other rows of a query's own modality are negatives too, in the same softmax, as for text
            embeddings by Li et al. 2023 (GTE, https://huggingface.co/papers/2308.03281).
        hard_negatives: Modalities that are only negatives, never queries or positives: texts written to be mistaken for
            an item's own, for example. All their present rows are further keys to the queries of `anchor`, or to all
            queries where there is none.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    anchor: str | None = None
    symmetric: bool = True
    within: bool = False
    hard_negatives: Sequence[str] = ()
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        if not self.symmetric and self.anchor is None:
            raise ValueError("`symmetric=False` compares in one direction, so it needs `anchor`, where that starts.")
        if isinstance(self.hard_negatives, str):
            raise ValueError(
                f"`hard_negatives` must be a list of modalities, but got {self.hard_negatives!r}. Write "
                f"[{self.hard_negatives!r}]."
            )
        # YAML gives a list, which could not be hashed.
        object.__setattr__(self, "hard_negatives", tuple(self.hard_negatives))
        if self.anchor is not None and self.anchor in self.hard_negatives:
            raise ValueError(f"`anchor` must not be one of `hard_negatives`, but {self.anchor!r} is both.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        pairs = self._pairs(batch)
        if not (self.symmetric or self.within or self.hard_negatives) and batch.is_plain:
            return {"info_nce": torch.stack([self._one_way(batch, query, key) for query, key in pairs]).mean()}
        directions = both_directions(batch, pairs, within=self.within, keep_bytes=self.keep_bytes)
        values = []
        for direction in directions:
            query, key, sums = direction
            if query == self.anchor or self.symmetric:
                rows = self._with_hard_negatives(batch, direction) if self.hard_negatives else sums
                values.append(batch.mean(rows - batch.positive_logits(query, key), query, key))
        return {"info_nce": torch.stack(values).mean()}

    def _one_way(self, batch: ContrastiveBatch, query: str, key: str) -> Float[Tensor, ""]:
        given = batch.local[query], batch.local[key], batch.positives, batch.scale_of(query, key)
        return mean_info_nce(*given, keep_bytes=self.keep_bytes)

    def _pairs(self, batch: ContrastiveBatch) -> list[tuple[str, str]]:
        for m in self.hard_negatives:
            batch.check_modality(m, "hard_negatives")
        pairs = [pair for pair in batch.pairs(self.anchor) if not set(pair) & set(self.hard_negatives)]
        if not pairs:
            raise ValueError(
                f"`hard_negatives` must leave two modalities to compare, but are {list(self.hard_negatives)} of "
                f"{batch.modalities}."
            )
        return pairs

    def _with_hard_negatives(self, batch: ContrastiveBatch, direction: Direction) -> Float[Tensor, "b"]:
        query, key, sums = direction
        if self.anchor not in (None, query):
            return sums
        # No ids: a hard negative belongs to an item and yet does not match it.
        ceiling = batch.mask(query, key).ceiling
        for m in self.hard_negatives:
            further = log_partition(
                batch.local[query],
                batch.world[m],
                batch.scale_of(query, key),
                mask=PairMask(keys=batch.present[m], ceiling=ceiling),
                keep_bytes=self.keep_bytes,
            )
            sums = torch.logaddexp(sums, further)
        return sums


def directions(
    batch: ContrastiveBatch, first: str, second: str, *, keep_bytes: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Shares of InfoNCE from `first` to `second` and back, among the rows that have both."""
    rows, columns, positive = batch.paired_log_partitions(first, second, keep_bytes=keep_bytes)
    return batch.mean(rows - positive, first, second), batch.mean(columns - positive, first, second)
