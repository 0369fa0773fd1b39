"""VICReg: variance, invariance and covariance."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import check_positive, working_dtype
from hf_contrastive.functional.redundancy import covariance_penalty, variance_hinge
from hf_contrastive.losses.align_uniform import pair_alignment
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "vicreg",
    paper="2105.04906",
    formula=r"\lambda\, \mathrm{E}_i \lVert x_i - y_i \rVert^2 + \mu \big( v(x) + v(y) \big) + \nu \big( c(x) + c(y) \big)",
)
@dataclass(frozen=True, kw_only=True)
class VICReg:
    r"""Pull matching embeddings together, keep every coordinate varying, and different coordinates uncorrelated.

    Bardes et al. 2022, Equation 6: $\lambda s(Z, Z') + \mu (v(Z) + v(Z')) + \nu (c(Z) + c(Z'))$, each term logged. No
    embedding is compared with another item's, and no temperature is used. With S modalities, s is averaged over pairs
    and v and c over modalities, doubled.

    What a loss sees are unit embeddings; they are multiplied by $\sqrt d$, so that the target of 1 is just what evenly
    spread ones reach. The distance s is divided by d, as in the authors' code and unlike their Equation 5: of these
    embeddings it is the squared distance of the unit ones, 2 - 2 cos.

    Args:
        invariance_weight: Weight $\lambda$ of the distance of matching embeddings.
        variance_weight: Weight $\mu$ of the shortfall of standard deviations below 1.
        covariance_weight: Weight $\nu$ of the covariances.
        eps: Added to variances, so that the slope of their root stays finite.
    """

    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    eps: float = 1e-4

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        invariance = torch.stack([pair_alignment(batch, *pair) for pair in batch.pairs()]).mean()
        variance, covariance = zip(*(self._spread(batch, m) for m in batch.modalities), strict=True)
        return {
            "invariance": self.invariance_weight * invariance,
            "variance": self.variance_weight * 2 * torch.stack(variance).mean(),
            "covariance": self.covariance_weight * 2 * torch.stack(covariance).mean(),
        }

    def _spread(self, batch: ContrastiveBatch, modality: str) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        # Of the whole world on every process, so each process's share is the world's value itself.
        x = batch.world[modality][batch.present[modality]]
        if len(x) < 2:
            return batch.world[modality].sum() * 0, batch.world[modality].sum() * 0
        x = math.sqrt(x.shape[1]) * x.to(working_dtype(x))
        return variance_hinge(x, eps=self.eps), covariance_penalty(x)
