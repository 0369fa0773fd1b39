"""Decoupled contrastive learning: softmax losses without the positive in the denominator."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import check_positive
from hf_contrastive.functional.decoupled import decoupled_contrastive, von_mises_fisher_weights
from hf_contrastive.functional.tiles import KEEP_BYTES, paired_logits
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.sums import both_directions


@register_loss(
    "dcl",
    paper="2110.06848",
    formula=r"-\mathrm{E}_i\, s\, x_i \cdot y_i + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, x_i \cdot y_j} + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, y_i \cdot x_j}",
)
@dataclass(frozen=True, kw_only=True)
class DCL:
    """InfoNCE whose denominator leaves the positive out, so that easy positives do not weaken the push of negatives.

    Yeh et al. 2021, Equation 6: useful with small batches. Both directions, averaged over all pairs of modalities. A
    row without negatives is only pulled to its positive.

    Args:
        within: Whether the other rows of a query's own modality are negatives too, in one sum with those of the other
            modality: the paper's form for two views.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    within: bool = False
    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        directions = both_directions(
            batch, batch.pairs(), within=self.within, without_positives=True, keep_bytes=self.keep_bytes
        )
        values = []
        for query, key, negatives in directions:
            rows = decoupled_contrastive(
                batch.positive_logits(query, key), negatives, self._weights(batch, query, key)
            )
            values.append(batch.mean(rows, query, key))
        return {self._name: torch.stack(values).mean()}

    @property
    def _name(self) -> str:
        return "dcl"

    def _weights(self, batch: ContrastiveBatch, query: str, key: str) -> Float[Tensor, "b"] | float:
        return 1.0


@register_loss(
    "dclw",
    paper="2110.06848",
    formula=r"-\mathrm{E}_i\, w_i\, s\, x_i \cdot y_i + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, x_i \cdot y_j} + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, y_i \cdot x_j}, \quad w_i = 2 - \frac{e^{x_i \cdot y_i / \sigma}}{\mathrm{E}_k\, e^{x_k \cdot y_k / \sigma}}",
)
@dataclass(frozen=True, kw_only=True)
class DCLW(DCL):
    r"""`dcl` with positives weighted down where they already are near.

    Yeh et al. 2021: negative von Mises-Fisher weights $2 - e^{c_i/\sigma} / \mathrm{mean}_j\, e^{c_j/\sigma}$ of the
    cosines c, whose mean over the complete rows of all processes is 1. They are constants to the gradient.

    Args:
        within: See `dcl`.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
        sigma: Width $\sigma$; small ones tell near and far positives apart more sharply.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self.sigma, "sigma")

    @property
    def _name(self) -> str:
        return "dclw"

    def _weights(self, batch: ContrastiveBatch, query: str, key: str) -> Float[Tensor, "b"] | float:
        both = batch.complete(query, key)
        cosines = paired_logits(batch.world[query].detach(), batch.world[key].detach(), 1.0)
        weights = torch.ones_like(cosines)
        weights[both] = von_mises_fisher_weights(cosines[both], self.sigma)
        return weights[batch.rows]
