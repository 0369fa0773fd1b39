"""Barlow Twins: the cross-correlation of coordinates should be the identity."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import check_positive, working_dtype
from hf_contrastive.functional.redundancy import barlow_twins
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "barlow_twins",
    paper="2103.03230",
    formula=r"\sum_a (1 - C_{aa})^2 + \lambda \sum_{a \neq b} C_{ab}^2, \quad C = \mathrm{corr}(x, y)",
)
@dataclass(frozen=True, kw_only=True)
class BarlowTwins:
    r"""Make each coordinate agree with itself across modalities and with no other coordinate.

    Zbontar et al. 2021, Equation 1: $\sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2$ with C the
    cross-correlation over the rows of the world that have both modalities. With S modalities, the mean over all pairs.
    No embedding is compared with another item's, and no temperature is used. Like C, the value grows with the width d.

    What a loss sees are unit embeddings; they are multiplied by $\sqrt d$, so that `eps` weighs as little as in the
    paper's batch normalization. C does not depend on it otherwise.

    Args:
        off_diagonal_weight: Weight $\lambda$ of the redundancy between coordinates.
        eps: Added to variances, so that coordinates that do not vary divide by no zero.
    """

    off_diagonal_weight: float = 5e-3
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        return {"barlow_twins": torch.stack([self._pair(batch, *pair) for pair in batch.pairs()]).mean()}

    def _pair(self, batch: ContrastiveBatch, first: str, second: str) -> Float[Tensor, ""]:
        # Of the whole world on every process, so each process's share is the world's value itself.
        both = batch.complete(first, second)
        x, y = (z[both].to(working_dtype(z)) for z in (batch.world[first], batch.world[second]))
        if len(x) < 2:
            return batch.world[first].sum() * 0
        root = math.sqrt(x.shape[1])
        return barlow_twins(root * x, root * y, off_diagonal_weight=self.off_diagonal_weight, eps=self.eps)
