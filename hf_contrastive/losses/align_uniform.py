"""Alignment and uniformity as a training objective."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import alignment, uniformity
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "align_uniform",
    paper="2005.10242",
    formula=r"w_a\, \mathrm{E}_i \lVert x_i - y_i \rVert^\alpha + \tfrac{w_u}{2} \sum_{z \in \{x, y\}} \log \mathrm{E}_{i \neq j}\, e^{-t \lVert z_i - z_j \rVert^2}",
)
@dataclass(frozen=True, kw_only=True)
class AlignUniform:
    """Pull matching embeddings together and spread each modality over the sphere, as two separate terms.

    Wang & Isola 2020, Section 5: `align_weight` * alignment + `uniform_weight` * uniformity, alignment averaged over
    pairs of modalities and uniformity over modalities. It does not use the model's temperature.

    Args:
        alpha: Power of the distance between matching embeddings.
        t: Sharpness of the potential that pushes embeddings apart; half an inverse temperature.
        align_weight: Weight of the first term. Above 4 times the other, embeddings tend to collapse.
        uniform_weight: Weight of the second term.
    """

    alpha: float = 2.0
    t: float = 2.0
    align_weight: float = 1.0
    uniform_weight: float = 1.0

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        align = torch.stack([pair_alignment(batch, *pair, alpha=self.alpha) for pair in batch.pairs()]).mean()
        spread = torch.stack([modality_uniformity(batch, m, t=self.t) for m in batch.modalities]).mean()
        return {"alignment": self.align_weight * align, "uniformity": self.uniform_weight * spread}


# Both terms are of the whole world on every process, so each process's share is the world's value itself.


def pair_alignment(batch: ContrastiveBatch, first: str, second: str, *, alpha: float = 2.0) -> Float[Tensor, ""]:
    """Alignment of two modalities over the world's rows that have both; zero where none has."""
    both = batch.complete(first, second)
    x, y = batch.world[first][both], batch.world[second][both]
    return alignment(x, y, alpha=alpha, normalize=False) if len(x) else batch.world[first].sum() * 0


def modality_uniformity(batch: ContrastiveBatch, modality: str, *, t: float) -> Float[Tensor, ""]:
    """Uniformity of the world's rows that have `modality`; zero where fewer than two have."""
    x = batch.world[modality][batch.present[modality]]
    return uniformity(x, t=t, normalize=False) if len(x) > 1 else batch.world[modality].sum() * 0
