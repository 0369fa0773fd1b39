"""Debiased InfoNCE."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.debiased import debiased_info_nce
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.sums import Direction, both_directions, count_negatives


@register_loss(
    "debiased",
    paper="2007.00224",
    formula=r"\tfrac12 \ell(x, y) + \tfrac12 \ell(y, x), \quad \ell(x, y) = -\mathrm{E}_i \log \frac{e^{s\, x_i \cdot y_i}}{e^{s\, x_i \cdot y_i} + N g_i}, \quad g_i = \max\Big( \frac{\frac1N \sum_{j \neq i} e^{s\, x_i \cdot y_j} - \tau^+ e^{s\, x_i \cdot y_i}}{1 - \tau^+},\, e^{-s} \Big)",
)
@dataclass(frozen=True, kw_only=True)
class Debiased:
    r"""InfoNCE whose negatives are corrected for the positives that hide among them.

    Chuang et al. 2020, with one positive: if a random row matches a query with chance $\tau^+$, the sum over
    N negatives holds about $N \tau^+$ positives, which are taken out; what is left is at least $N e^{-s}$. Both
    directions, averaged over all pairs of modalities. Where `ids` tell which rows match, use those instead.

    Args:
        tau_plus: Chance $\tau^+$ that a row matches a query, in [0, 1). 0 is InfoNCE. 0.1 is that of ten equal
            classes; for captions of a large collection it is far smaller.
        within: Whether the other rows of a query's own modality are negatives too: the paper's form for two views.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    tau_plus: float = 0.1
    within: bool = False
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        check_tau_plus(self.tau_plus)

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        negatives = both_directions(
            batch, batch.pairs(), within=self.within, without_positives=True, keep_bytes=self.keep_bytes
        )
        counts = count_negatives(batch, batch.pairs(), within=self.within)
        return {"debiased": mean_debiased(batch, negatives, counts, self.tau_plus)}


def check_tau_plus(tau_plus: float) -> None:
    """Raise a ValueError unless `tau_plus` is a chance below one."""
    if not 0 <= tau_plus < 1:
        raise ValueError(f"`tau_plus` is the chance that a negative is a positive, in [0, 1), but got {tau_plus}.")


def mean_debiased(
    batch: ContrastiveBatch, negatives: list[Direction], counts: list[Float[Tensor, "b"]], tau_plus: float
) -> Float[Tensor, ""]:
    """Share of the debiased loss, given the sums over negatives and their numbers."""
    values = []
    for (query, key, sums), num in zip(negatives, counts, strict=True):
        positives, scale = batch.positive_logits(query, key), batch.scale_of(query, key)
        rows = debiased_info_nce(positives, sums, num, scale, tau_plus)
        values.append(batch.mean(rows, query, key))
    return torch.stack(values).mean()
