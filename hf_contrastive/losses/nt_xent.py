"""The loss of SimCLR."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.registry import register_loss


FORMULA = r"-\mathrm{E}_{(z, z^+)} \log \frac{e^{s\, z \cdot z^+}}{\sum_{z' \neq z} e^{s\, z \cdot z'}}, \quad z, z^+, z' \text{ of all views}"


@register_loss(
    "simclr",
    paper="2002.05709",
    formula=FORMULA,
)
@register_loss(
    "nt_xent",
    paper="2002.05709",
    formula=FORMULA,
)
@dataclass(frozen=True, kw_only=True)
class NTXent:
    """Pick each row's other views among all other rows of all views.

    Chen et al. 2020, Equation 1. Views are the modalities. With two views it equals `info_nce` with `within=True`. With
    more, a row's positives are its rows in the other views, averaged, each in the same denominator: all rows of all
    views but the row itself. A row in a single view is a negative only.

    Args:
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        sums = sums_over_views(batch, keep_bytes=self.keep_bytes)
        values = []
        for m in batch.modalities:
            positive, paired = _mean_positive(batch, m)
            values.append(batch.mean_over(paired, sums[m] - positive))
        return {"nt_xent": torch.stack(values).mean()}


def sums_over_views(
    batch: ContrastiveBatch, *, false_negatives: bool = False, keep_bytes: int
) -> dict[str, Float[Tensor, "b"]]:
    """Log sum of each local row of each modality over all other rows of all modalities.

    Between two modalities it takes rows that have both.

    Args:
        batch: The batch.
        false_negatives: Whether rows that `ids` or a margin declare alike stay in the sum.
        keep_bytes: Logits to keep for the backward pass.
    """
    sums = {
        m: batch.self_log_partition(m, false_negatives=false_negatives, keep_bytes=keep_bytes)
        for m in batch.modalities
    }
    for pair in batch.pairs():
        across = batch.log_partitions(*pair, false_negatives=false_negatives, keep_bytes=keep_bytes)
        for m, rows in zip(pair, across, strict=True):
            sums[m] = torch.logaddexp(sums[m], rows)
    return sums


def _mean_positive(batch: ContrastiveBatch, modality: str) -> tuple[Float[Tensor, "b"], Bool[Tensor, "B"]]:
    """Mean logit of local rows with their other views, and which rows of the world have another view."""
    others = [m for _, m in batch.pairs(modality)]
    # Absent rows hold zeros, so they add nothing.
    total = torch.stack([batch.positive_logits(modality, m) for m in others]).sum(dim=0)
    number = torch.stack([batch.present[m] for m in others]).sum(dim=0)
    return total / number[batch.rows].clamp(min=1), batch.present[modality] & (number > 0)
