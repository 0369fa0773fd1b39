"""Contrastive learning with several positives."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import working_dtype
from hf_contrastive.functional.groups import sums_of_ids
from hf_contrastive.functional.tiles import KEEP_BYTES, paired_logits
from hf_contrastive.losses.nt_xent import sums_over_views
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.sums import both_directions


@register_loss(
    "sup_con",
    paper="2004.11362",
    formula=r"\mathrm{E}_i \Big( \log \sum_a e^{s\, z_i \cdot z_a} - \mathop{\mathrm{mean}}_{p \in P(i)} s\, z_i \cdot z_p \Big)",
)
@dataclass(frozen=True, kw_only=True)
class SupCon:
    r"""Softmax with every row of the same `ids` as a positive.

    Khosla et al. 2020, Equation 2 (the sum over positives outside the logarithm):
    $\log \sum_{a} e^{s\, z_i \cdot z_a} - \mathrm{mean}_{p \in P(i)}\, s\, z_i \cdot z_p$ with all candidates a,
    positives among them. Averaged over all ordered pairs of modalities. Without `ids` it equals `clip`, and `nt_xent`
    if `within`. A margin is not used, nor are queued rows, of which some would have to be positives.

    Args:
        within: Whether rows of all modalities, the query's own included, are compared in one softmax: the paper's form,
            whose views are modalities. Positives are then all other rows of the same id in any modality, and a row that
            has none is a negative only.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    within: bool = False
    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        batch = replace(batch, queue={}, margin=None)
        values = self._over_views(batch) if self.within else self._across(batch)
        return {"sup_con": torch.stack(values).mean()}

    def _across(self, batch: ContrastiveBatch) -> list[Float[Tensor, ""]]:
        # Positives stay in the sums, so ids must not take them out.
        unnamed = replace(batch, ids=None)
        values = []
        for query, key, sums in both_directions(unnamed, batch.pairs(), keep_bytes=self.keep_bytes):
            positives, number = _positives(batch, query, key)
            logits = paired_logits(batch.local[query], positives, batch.scale_of(query, key))
            values.append(batch.mean(sums - logits / number[batch.rows].clamp(min=1), query, key))
        return values

    def _over_views(self, batch: ContrastiveBatch) -> list[Float[Tensor, ""]]:
        sums = sums_over_views(batch, false_negatives=True, keep_bytes=self.keep_bytes)
        values = []
        for m in batch.modalities:
            found = {other: _positives(batch, m, other) for other in batch.modalities}
            scales = {other: batch.scale_of(m, other) for other in batch.modalities}
            # The row itself is in the sum over its own modality.
            positives = torch.stack([scales[other] * rows for other, (rows, _) in found.items()]).sum(dim=0)
            number = torch.stack([count for _, count in found.values()]).sum(dim=0) - 1
            own = batch.local[m].to(positives.dtype)
            logits = paired_logits(own, positives - scales[m] * own, 1.0)
            rows = sums[m] - logits / number[batch.rows].clamp(min=1)
            values.append(batch.mean_over(number > 0, rows))
        return values


def _positives(batch: ContrastiveBatch, query: str, key: str) -> tuple[Float[Tensor, "b d"], Float[Tensor, "B"]]:
    """Sum of the rows of `key` that show what each local row of `query` does; how many each row of the world has."""
    both = batch.complete(query, key)
    dtype = working_dtype(batch.world[key])
    if batch.ids is None:
        # Rows that lack one are zeros or do not count.
        return batch.local[key].to(dtype), both.to(batch.logit_scale.dtype)
    sums, number = sums_of_ids(batch.world[key].to(dtype), batch.ids, both)
    return sums[batch.rows], number
