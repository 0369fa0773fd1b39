"""A regularizer towards an isotropic Gaussian, by two moments."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.gaussian import gaussian_kl
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "gaussian_kl",
    paper="2602.24012",
    formula=r"\frac{2 s (1 - \eta_2)}{d}\, \mathrm{KL}\big( N(m_z, \Sigma_z) \,\Vert\, N(0, I / d) \big), \quad \text{the mean over } z \in \{x, y\}",
)
@dataclass(frozen=True, kw_only=True)
class GaussianKL:
    r"""Pull each modality's covariance to that of evenly spread embeddings, with a weight that vanishes in high width.

    Betser et al. 2026 add $\beta\, (-H(\rho) + \lambda\, \mathrm{E} \lVert z \rVert^2)$ to InfoNCE, which up to a
    constant is $\beta$ times the divergence of the law $\rho$ of embeddings from $N(0, I / (2\lambda))$, and prove that
    some $\beta$ of order $\alpha (1 - \eta_2) / d$ makes the uniform distribution optimal, $\alpha$ being the inverse
    temperature.

    **What a loss sees are unit embeddings.** Their lengths say nothing: the norm term is the constant $\lambda$, and
    what is left of the regularizer is the divergence from the uniform distribution on the sphere. The paper gives no
    estimator of it. This one is the divergence of the Gaussian with the embeddings' mean and covariance from N(0, I/d)
    (so $\lambda = d/2$), see [`~hf_contrastive.functional.gaussian.gaussian_kl`]: O(B d^2) and no temperature. It obeys
    the bound $\frac d2 \lVert m \rVert^2$ that the paper's proof rests on, with the sharp constant, hence

    $$\beta = 2 \alpha (1 - \eta_2) / d,$$

    with which it outweighs what InfoNCE gains from a mean m off the center. It sees no more than two moments; for an
    entropy by a kernel density, which sees clusters, add `align_uniform` with `align_weight=0`. The mean over
    modalities. It knows nothing of pairs, so add it to a loss that does, by `weighted_sum`.

    Args:
        eta2: Augmentation mildness $\eta_2$ in [0, 1], the squared maximal correlation of an example and its views. It
            cannot be measured in general; near 1, views say all and little regularization is due.
        shrinkage: Share of the target's covariance mixed into the batch's, which is singular up to d rows.
    """

    eta2: float = 0.5
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.eta2 <= 1:
            raise ValueError(f"`eta2` is a squared correlation, between 0 and 1, but got {self.eta2}.")
        if not 0 < self.shrinkage < 1:
            raise ValueError(f"`shrinkage` must be between 0 and 1, both excluded, but got {self.shrinkage}.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        value = torch.stack([self._modality(batch, m) for m in batch.modalities]).mean()
        width = batch.world[batch.modalities[0]].shape[1]
        # A weight, so a constant: with its gradient the model would lower the scale to escape the regularizer.
        beta = 2 * batch.logit_scale.detach() * (1 - self.eta2) / width
        return {"gaussian_kl": beta * value}

    def _modality(self, batch: ContrastiveBatch, modality: str) -> Float[Tensor, ""]:
        # Of the whole world on every process, so each process's share is the world's value itself.
        x = batch.world[modality][batch.present[modality]]
        if len(x) < 2:
            return batch.world[modality].sum() * 0
        return gaussian_kl(x, shrinkage=self.shrinkage, normalize=False)
