"""InfoNCE with hard negatives weighted up."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.debiased import check_tau_plus, mean_debiased
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.sums import Direction, both_directions, count_negatives


@register_loss(
    "hard_negative",
    paper="2010.04592",
    formula=r"\tfrac12 \ell(x, y) + \tfrac12 \ell(y, x), \quad \ell(x, y) = -\mathrm{E}_i \log \frac{e^{s\, x_i \cdot y_i}}{e^{s\, x_i \cdot y_i} + N g_i}, \quad g_i = \max\Big( \frac{1}{1 - \tau^+} \Big( \frac{\sum_{j \neq i} e^{(1 + \beta) s\, x_i \cdot y_j}}{\sum_{j \neq i} e^{\beta s\, x_i \cdot y_j}} - \tau^+ e^{s\, x_i \cdot y_i} \Big),\, e^{-s} \Big)",
)
@dataclass(frozen=True, kw_only=True)
class HardNegative:
    r"""InfoNCE whose negatives count the more the nearer they are to the query.

    Robinson et al. 2020: the sum over N negatives becomes
    $N \sum_j e^{(1+\beta) l_j} / \sum_j e^{\beta l_j}$ with logits l, and is then corrected as in `debiased`. Gradients
    flow through the weights, as in the authors' code. Both directions, averaged over all pairs of modalities.

    Args:
        beta: How much hard negatives are preferred, at least 0, which is `debiased`.
        tau_plus: Chance that a row matches a query, in [0, 1), see `debiased`.
        within: Whether the other rows of a query's own modality are negatives too: the paper's form for two views.
        keep_bytes: Logits to keep for the backward pass of each of two sums; the others are computed again there.
    """

    beta: float = 1.0
    tau_plus: float = 0.1
    within: bool = False
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        check_tau_plus(self.tau_plus)
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"`beta` must be at least 0 and finite, but got {self.beta}.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        counts = count_negatives(batch, batch.pairs(), within=self.within)
        negatives = self._sums(batch, 1 + self.beta)
        if self.beta:
            weights = self._sums(batch, self.beta)
            negatives = [
                Direction(hard.query, hard.key, num.log() + hard.log_sums - weight.log_sums)
                for hard, weight, num in zip(negatives, weights, counts, strict=True)
            ]
        return {"hard_negative": mean_debiased(batch, negatives, counts, self.tau_plus)}

    def _sums(self, batch: ContrastiveBatch, power: float) -> list[Direction]:
        return both_directions(
            batch,
            batch.pairs(),
            within=self.within,
            without_positives=True,
            power=power,
            keep_bytes=self.keep_bytes,
        )
