"""UniAlign: uniformity within each modality, alignment to an anchor."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import alignment, gram_determinant, uniformity
from hf_contrastive.losses.align_uniform import modality_uniformity, pair_alignment
from hf_contrastive.losses.registry import register_loss


@register_loss("uni_align", paper="2602.09507")
@dataclass(frozen=True, kw_only=True)
class UniAlign:
    r"""Spread each modality over the sphere on its own and pull each item's embeddings to an anchor.

    Yin et al. 2026: $\lambda_{uni} \sum_m U(Z_m) + \lambda_{align} L_{align} + \lambda_{vol} (L_{vol} + U(C))$, with U
    the log mean potential of [`~hf_contrastive.functional.uniformity`], $L_{align}$ the mean squared distance to the
    anchor, $L_{vol}$ the mean Gram determinant of an item's embeddings and C their normalized means. No embedding is
    compared with another item's embedding of another modality, so nothing pushes modalities apart. With two modalities
    and `volume_weight=0` it is `align_uniform` with weights `align_weight` and 2 * `uniform_weight`. It does not use
    the model's temperature.

    Args:
        anchor: What embeddings are aligned to: a modality, `"centroid"` (the normalized mean of an item's embeddings)
            or `"all"` (every pair of modalities).
        t: Sharpness of the potential, half an inverse temperature. The paper's $\tau$ is $1/\sqrt{2t}$. A blunt one
            (2, a temperature of 0.25) does not tell near neighbors apart and costs retrieval: recipes/README.md.
        uniform_weight: $\lambda_{uni}$, on the sum over modalities.
        align_weight: $\lambda_{align}$.
        volume_weight: $\lambda_{vol}$. The paper takes 1 for retrieval and 0.1 for generation.
    """

    anchor: str = "all"
    t: float = 10.0
    uniform_weight: float = 1.0
    align_weight: float = 10.0
    volume_weight: float = 0.0

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        spread = torch.stack([modality_uniformity(batch, m, t=self.t) for m in batch.modalities]).sum()
        terms = {"uniformity": self.uniform_weight * spread, "alignment": self.align_weight * self._alignment(batch)}
        if self.volume_weight:
            volume, centroids = _volume(batch, self.t)
            terms |= {"volume": self.volume_weight * volume, "centroid_uniformity": self.volume_weight * centroids}
        return terms

    def _alignment(self, batch: ContrastiveBatch) -> Float[Tensor, ""]:
        if self.anchor == "centroid":
            return torch.stack([_to_centroid(batch, m) for m in batch.modalities]).mean()
        if self.anchor not in ("all", *batch.modalities):
            raise ValueError(
                f"`anchor` must be 'all', 'centroid' or one of the modalities {batch.modalities}, but got "
                f"{self.anchor!r}."
            )
        pairs = batch.pairs() if self.anchor == "all" else batch.pairs(self.anchor)
        return torch.stack([pair_alignment(batch, *pair) for pair in pairs]).mean()


def _centroids(batch: ContrastiveBatch) -> Float[Tensor, "B d"]:
    # Absent rows hold zeros, so the sum is over present ones, and its direction is that of their mean.
    return F.normalize(torch.stack([batch.world[m] for m in batch.modalities]).sum(dim=0), dim=1)


def _to_centroid(batch: ContrastiveBatch, modality: str) -> Float[Tensor, ""]:
    # A row's only embedding is its own centroid, and says nothing of alignment.
    present = batch.present[modality] & (torch.stack(list(batch.present.values())).sum(dim=0) > 1)
    x = batch.world[modality][present]
    return alignment(x, _centroids(batch)[present], normalize=False) if len(x) else batch.world[modality].sum() * 0


def _volume(batch: ContrastiveBatch, t: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean Gram determinant and uniformity of centroids, over the rows that have every modality."""
    complete = batch.complete(*batch.modalities)
    tuples = torch.stack([batch.world[m][complete] for m in batch.modalities], dim=1)  # (B, S, d)
    if len(tuples) < 2:
        return tuples.sum() * 0, tuples.sum() * 0
    centroids = _centroids(batch)[complete]
    return gram_determinant(tuples).mean(), uniformity(centroids, t=t, normalize=False, chunk_size=None)
