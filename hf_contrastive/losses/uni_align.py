"""UniAlign: uniformity within each modality, alignment to an anchor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import alignment, gram_determinant, uniformity
from hf_contrastive.functional.volume import gram_volume
from hf_contrastive.losses.align_uniform import modality_uniformity, pair_alignment
from hf_contrastive.losses.chance import step_random
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "uni_align",
    paper="2602.09507",
    formula=r"\lambda_{uni} \sum_m U(Z_m) + \lambda_{align} L_{align} + \lambda_{vol} \big( L_{vol} + U(C) \big), \quad U(Z) = \log \mathrm{E}_{i \neq j}\, e^{-t \lVert z_i - z_j \rVert^2}",
)
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
        anchor: What embeddings are aligned to: a modality, `"centroid"` (the normalized mean of an item's embeddings),
            `"all"` (every pair of modalities) or `"random"` (a modality drawn anew at each step, from `seed` and the
            batch's progress, alike on every process; in the mean over steps it is `"all"`).
        t: Sharpness of the potential, half an inverse temperature. The paper's $\tau$ is $1/\sqrt{2t}$. A blunt one
            (2, a temperature of 0.25) does not tell near neighbors apart and costs retrieval: recipes/README.md.
        uniform_weight: $\lambda_{uni}$, on the sum over modalities.
        align_weight: $\lambda_{align}$.
        volume_weight: $\lambda_{vol}$. The paper takes 1 for retrieval and 0.1 for generation.
        volume: What $L_{vol}$ is the mean of: the Gram `"determinant"`, as in the paper, or its `"root"`, the volume
            itself. The determinant's slope vanishes as embeddings align, that of the root does not.
        preset: `"hoelder"` sets both other weights for S modalities to $\lambda_{uni} = 1/S$ and $\lambda_{align} =
            (S - 1) / (2 \tau^2) = (S - 1)\, t$, with which the loss bounds the `hoelder_divergence` from above (up to a
            constant). They must then be left alone.
        seed: Of the random anchor.
    """

    anchor: str = "all"
    t: float = 10.0
    uniform_weight: float = 1.0
    align_weight: float = 10.0
    volume_weight: float = 0.0
    volume: str = "determinant"
    preset: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.volume not in ("determinant", "root"):
            raise ValueError(f"`volume` must be 'determinant' or 'root', but got {self.volume!r}.")
        if self.preset not in (None, "hoelder"):
            raise ValueError(f"`preset` must be 'hoelder' or None, but got {self.preset!r}.")
        own = (self.uniform_weight, self.align_weight)
        if self.preset and own != (UniAlign.uniform_weight, UniAlign.align_weight):
            raise ValueError(
                f"`preset` 'hoelder' sets `uniform_weight` and `align_weight`, but got {own[0]} and {own[1]} too. Drop "
                "either the preset or the weights."
            )

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        uniform_weight, align_weight = self.uniform_weight, self.align_weight
        if self.preset == "hoelder":
            uniform_weight, align_weight = hoelder_weights(len(batch.modalities), self.t)
        spread = torch.stack([modality_uniformity(batch, m, t=self.t) for m in batch.modalities]).sum()
        terms = {"uniformity": uniform_weight * spread, "alignment": align_weight * self._alignment(batch)}
        if self.volume_weight:
            volume, centroids = _volume(batch, self.t, gram_volume if self.volume == "root" else gram_determinant)
            terms |= {"volume": self.volume_weight * volume, "centroid_uniformity": self.volume_weight * centroids}
        return terms

    def _alignment(self, batch: ContrastiveBatch) -> Float[Tensor, ""]:
        if self.anchor == "centroid":
            return torch.stack([_to_centroid(batch, m) for m in batch.modalities]).mean()
        if self.anchor not in ("all", "random", *batch.modalities):
            raise ValueError(
                f"`anchor` must be 'all', 'centroid', 'random' or one of the modalities {batch.modalities}, but got "
                f"{self.anchor!r}."
            )
        anchor = step_random(batch, self.seed).choice(batch.modalities) if self.anchor == "random" else self.anchor
        pairs = batch.pairs() if anchor == "all" else batch.pairs(anchor)
        return torch.stack([pair_alignment(batch, *pair) for pair in pairs]).mean()


def hoelder_weights(num_modalities: int, t: float) -> tuple[float, float]:
    r"""Weights of uniformity and alignment in the bound of the Hölder divergence, $1/S$ and $(S - 1)\, t$."""
    return 1 / num_modalities, (num_modalities - 1) * t


def _centroids(batch: ContrastiveBatch) -> Float[Tensor, "B d"]:
    # Absent rows hold zeros, so the sum is over present ones, and its direction is that of their mean.
    return F.normalize(torch.stack([batch.world[m] for m in batch.modalities]).sum(dim=0), dim=1)


def _to_centroid(batch: ContrastiveBatch, modality: str) -> Float[Tensor, ""]:
    # A row's only embedding is its own centroid, and says nothing of alignment.
    present = batch.present[modality] & (torch.stack(list(batch.present.values())).sum(dim=0) > 1)
    x = batch.world[modality][present]
    return alignment(x, _centroids(batch)[present], normalize=False) if len(x) else batch.world[modality].sum() * 0


def _volume(
    batch: ContrastiveBatch, t: float, measure: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean measure of an item's embeddings and uniformity of centroids, over the rows that have every modality."""
    complete = batch.complete(*batch.modalities)
    tuples = torch.stack([batch.world[m][complete] for m in batch.modalities], dim=1)  # (B, S, d)
    if len(tuples) < 2:
        return tuples.sum() * 0, tuples.sum() * 0
    centroids = _centroids(batch)[complete]
    return measure(tuples).mean(), uniformity(centroids, t=t, normalize=False)
