"""The family that leads from CLIP to its decoupled form."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import log_density_ratio
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.hard_negatives import HardNegatives
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.schedule import Schedule, Weight, as_schedule


# Found by the sweeps of recipes/README.md.
CLOSING = Schedule(start=0.0, end=0.25, begin=0.5)


@register_loss(
    "clip_divergence",
    paper="2601.19597",
    formula=r"L_{\mathrm{CLIP}} + \lambda \Big( \tfrac12 \mathrm{E}_i \log \frac{p_x(x_i)}{p_y(x_i)} + \tfrac12 \mathrm{E}_i \log \frac{p_y(y_i)}{p_x(y_i)} \Big), \quad p_z(u) = \mathop{\mathrm{mean}}_{z_j \neq u} e^{s\, u \cdot z_j}",
)
@dataclass(frozen=True, kw_only=True)
class CLIPDivergence:
    r"""CLIP plus a weight times the divergence between the modalities, which closes the gap that CLIP leaves.

    Cai et al. 2026 show that CLIP's population energy holds *minus* the symmetric divergence of the two modalities'
    smoothed densities, so that minimizing it can push them apart. Adding the divergence back, $L_{CLIP} + \lambda D$,
    weakens that push. At `weight=1` it is gone: what is left is alignment of pairs and uniformity *within* each
    modality, the decoupled objective

    $$-\mathrm{E}_i\, s\, x_i \cdot y_i + \tfrac12 \mathrm{E}_i \log \textstyle\sum_{j \neq i} e^{s\, x_i \cdot x_j}
    + \tfrac12 \mathrm{E}_i \log \textstyle\sum_{j \neq i} e^{s\, y_i \cdot y_j} + \log \tfrac{B}{B-1}.$$

    With S modalities, the mean over all pairs. Densities are smoothed at the model's temperature.

    Args:
        weight: Weight $\lambda$ of the divergence, a number or a [`Schedule`]; 0 is CLIP, 1 the decoupled objective. By
            default it rises from 0 to 0.25 in the second half of training: CLIP learns to retrieve, then the gap closes.
            A constant weight closes the gap too, but costs retrieval: recipes/README.md.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    weight: Weight = CLOSING
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        schedule = as_schedule(self.weight, "weight")
        if not (0 <= schedule.start <= 1 and 0 <= schedule.end <= 1):
            raise ValueError(f"`weight` leads from CLIP at 0 to the decoupled objective at 1, but got {self.weight}.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        clip, divergence = zip(*(self._pair(batch, *pair) for pair in batch.pairs()), strict=True)
        weight = as_schedule(self.weight, "weight").at(batch.progress)
        return {"clip": torch.stack(clip).mean(), "divergence": weight * torch.stack(divergence).mean()}

    def _pair(self, batch: ContrastiveBatch, first: str, second: str) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """CLIP and the divergence of two modalities, which share the sums over the other modality."""
        # A density is of a modality as it is: false negatives belong to it and rows of past steps do not.
        further = any(m in batch.queue for m in (first, second)) or len(batch.hard_negatives) > 0
        is_plain = batch.ids is None and batch.margin is None and not further
        plain = batch
        if not is_plain:
            plain = replace(batch, ids=None, margin=None, queue={}, hard_negatives=HardNegatives())
        *across, positive = plain.paired_log_partitions(first, second, keep_bytes=self.keep_bytes)
        outside = across if is_plain else batch.log_partitions(first, second, keep_bytes=self.keep_bytes)
        inside = [
            plain.self_log_partition(*pair, keep_bytes=self.keep_bytes) for pair in ((first, second), (second, first))
        ]
        clip = (outside[0] + outside[1]) / 2 - positive
        n = batch.complete(first, second).sum()
        ratios = [log_density_ratio(own, other, n, n) for own, other in zip(inside, across, strict=True)]
        return batch.mean(clip, first, second), batch.mean((ratios[0] + ratios[1]) / 2, first, second)
