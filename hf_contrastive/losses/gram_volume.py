"""Contrast of an anchor with whole tuples, by the volume that they span."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import check_positive
from hf_contrastive.functional.volume import EPS, volume_partitions
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "gram_volume",
    paper="2412.11959",
    formula=r"\tfrac12 \mathrm{E}_i \log \frac{\sum_j e^{-s V_{ij}}}{e^{-s V_{ii}}} + \tfrac12 \mathrm{E}_i \log \frac{\sum_j e^{-s V_{ji}}}{e^{-s V_{ii}}}, \quad V_{ij} = \sqrt{\det G_{ij} + \epsilon}",
)
@dataclass(frozen=True, kw_only=True)
class GramVolume:
    r"""Softmax classification by volume: an item's embeddings of all modalities together should span little.

    Cicchetti et al. 2025 (GRAM): InfoNCE whose logit for the anchor of item i and the other
    modalities' embeddings of item j is $-s V_{ij}$. $V_{ij} = \sqrt{\det G_{ij} + \epsilon}$ is the volume of their
    parallelotope and G their Gram matrix. The mean of both directions, which are logged. Only items with every
    modality take part.

    Volumes lie in [0, 1]. They do not tell an embedding from its opposite: of two modalities the volume is the sine of
    their angle. Nor do they tell which modality is off once two of the others coincide, since all volumes of that item
    then vanish. A `margin` of the batch is of cosines and does not apply, and queued rows are not used.

    Args:
        anchor: Modality that is compared with tuples of the others; the paper takes text. By default each in turn,
            which costs as many times the products, and the mean.
        eps: Added to the determinant. The root has an infinite slope at zero, where the volumes of aligned tuples are:
            its slope is at most $1 / (2 \sqrt\epsilon)$, and no volume is below $\sqrt\epsilon$.
    """

    anchor: str | None = None
    eps: float = EPS

    def __post_init__(self) -> None:
        check_positive(self.eps, "eps")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        if self.anchor is not None:
            batch.check_modality(self.anchor, "anchor")
            anchors = [self.anchor]
        else:
            # The volume of two does not depend on which of them is called the anchor.
            anchors = batch.modalities if len(batch.modalities) > 2 else batch.modalities[:1]
        to_tuples, to_anchors = zip(*(self._anchored(batch, anchor) for anchor in anchors), strict=True)
        return {
            "anchor_to_tuple": torch.stack(to_tuples).mean() / 2,
            "tuple_to_anchor": torch.stack(to_anchors).mean() / 2,
        }

    def _anchored(self, batch: ContrastiveBatch, anchor: str) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        others = [m for m in batch.modalities if m != anchor]
        rows, part, positive = volume_partitions(
            batch.local[anchor],
            torch.stack([batch.world[m] for m in others], dim=1),
            batch.positives,
            batch.logit_scale,
            eps=self.eps,
            mask=replace(batch.mask(anchor, *others), ceiling=None),
        )
        # Each process has summed its own anchors of every tuple.
        columns = batch.gather_values(part.unsqueeze(0)).logsumexp(dim=0)[batch.rows]
        return batch.mean(rows - positive, *batch.modalities), batch.mean(columns - positive, *batch.modalities)
