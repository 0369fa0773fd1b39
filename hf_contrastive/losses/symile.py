"""Contrastive learning of all modalities at once, by their multilinear inner product."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import PairMask, log_partition
from hf_contrastive.functional.symile import multilinear_inner_product, shifted_products, shifted_rows
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "symile",
    paper="2411.01053",
    formula=r"-\tfrac1S \sum_m \mathrm{E}_i \log \frac{e^{s \langle z^1_i, \dots, z^S_i \rangle}}{\sum_j e^{s \langle z^m_i, \, \text{tuple } j \text{ of the others} \rangle}}, \quad \langle z^1, \dots, z^S \rangle = \sum_k \prod_m z^m_k",
)
@dataclass(frozen=True, kw_only=True)
class Symile:
    r"""Pick each embedding's own tuple of embeddings of all other modalities, by their product, among mixed ones.

    Saporta et al. 2024: a softmax over multilinear inner products $\sum_k \prod_m z^m_k$, averaged over the
    modalities as anchors. It learns what only all modalities together tell, and with two modalities equals `clip`.
    Products of S matching unit vectors of width d are of the order of $d^{1 - S/2}$, so three modalities and more want
    a larger logit scale than `clip`.

    The paper draws the rows of a mixed tuple at random. Here, with n items, key j is item j's row of the first other
    modality times rows that stand n/(S-1), 2n/(S-1), ... places further in an order of the items by the sum of the
    anchor's entries. So keys are of different items, n - 1 are negatives to each query (all but that of its own row, as
    in the authors' O(N) code), and no process, seed or order of examples matters. Only items that have all modalities
    count. A key is a false negative where `ids` say that all its rows show what the query does. Queued rows are not
    used.

    Args:
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        return {"symile": torch.stack([self._from(batch, m) for m in batch.modalities]).mean()}

    def _from(self, batch: ContrastiveBatch, anchor: str) -> Float[Tensor, ""]:
        others = [m for m in batch.modalities if m != anchor]
        complete = batch.complete(*batch.modalities)
        items = complete.nonzero().squeeze(1)
        items = items[batch.world[anchor].detach()[items].sum(dim=1).argsort(stable=True)]
        place = torch.zeros_like(complete, dtype=torch.long)
        place[items] = torch.arange(len(items), device=items.device)

        own = multilinear_inner_product([batch.local[m] for m in batch.modalities])
        ids, key_ids = _ids(batch, items, others)
        mask = PairMask(
            queries=complete[batch.rows],
            skip=place[batch.rows],
            query_ids=ids,
            key_ids=key_ids,
            ceiling=None if batch.margin is None else own.detach() + batch.margin,
        )
        keys = shifted_products([batch.world[m][items] for m in others])
        negatives = log_partition(batch.local[anchor], keys, batch.logit_scale, mask=mask, keep_bytes=self.keep_bytes)
        positives = batch.logit_scale * own
        return batch.mean(torch.logaddexp(negatives, positives) - positives, *batch.modalities)


def _ids(
    batch: ContrastiveBatch, items: Int[Tensor, "n"], others: Sequence[str]
) -> tuple[Int[Tensor, "b"] | None, Int[Tensor, "n"] | None]:
    """What local rows show, and what keys show, which is nothing known where their rows show different things."""
    if batch.ids is None:
        return None, None
    ids = batch.ids[items]
    alike = torch.ones_like(ids, dtype=torch.bool)
    for shift in shifted_rows(len(items), len(others)):
        alike &= ids.roll(-shift) == ids
    return batch.ids[batch.rows], torch.where(alike, ids, batch.ids.min() - 1)
