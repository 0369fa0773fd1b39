"""The family that leads from CLIP to its decoupled form."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import log_density_ratio
from hf_contrastive.losses.info_nce import direction
from hf_contrastive.losses.registry import register_loss
from hf_contrastive.losses.schedule import Schedule, Weight, as_schedule


# Found by the sweeps of recipes/README.md.
CLOSING = Schedule(start=0.0, end=0.25, begin=0.5)


@register_loss("clip_divergence", paper="2601.19597")
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
        chunk_size: Rows of logits held in memory at a time. By default all.
    """

    weight: Weight = CLOSING
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        schedule = as_schedule(self.weight, "weight")
        if not (0 <= schedule.start <= 1 and 0 <= schedule.end <= 1):
            raise ValueError(f"`weight` leads from CLIP at 0 to the decoupled objective at 1, but got {self.weight}.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        ways = [way for first, second in batch.pairs() for way in ((first, second), (second, first))]
        clip = torch.stack([direction(batch, *way, self.chunk_size) for way in ways]).mean()
        divergence = torch.stack([self._ratio(batch, *way) for way in ways]).mean()
        return {"clip": clip, "divergence": as_schedule(self.weight, "weight").at(batch.progress) * divergence}

    def _ratio(self, batch: ContrastiveBatch, own: str, other: str) -> Float[Tensor, ""]:
        both = batch.complete(own, other)
        rows = log_density_ratio(
            batch.local[own],
            batch.world[own],
            batch.world[other],
            batch.positives,
            batch.logit_scale,
            own_candidates=both,
            other_candidates=both,
            chunk_size=self.chunk_size,
        )
        return batch.mean(rows, own, other)
