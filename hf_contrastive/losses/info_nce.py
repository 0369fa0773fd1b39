"""InfoNCE over any number of modalities."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import info_nce
from hf_contrastive.losses.registry import register_loss


@register_loss("info_nce", paper="1807.03748")
@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Softmax classification of each embedding's own partner among all embeddings of the other modality.

    Van den Oord et al. 2018, Equation 4, in both directions. With two modalities it equals `clip`. With S it is the
    mean over all S(S-1) directions, over the 2(S-1) that involve `anchor`, or over the S-1 that start there.

    Args:
        anchor: Modality that all others are compared with. By default every modality is compared with every other.
        symmetric: Whether each pair is read in both directions. If not, only from `anchor` (required) to the others.
        chunk_size: Rows of logits held in memory at a time. By default all.
    """

    anchor: str | None = None
    symmetric: bool = True
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        if not self.symmetric and self.anchor is None:
            raise ValueError("`symmetric=False` compares in one direction, so it needs `anchor`, where that starts.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        directions = []
        for first, second in batch.pairs(self.anchor):
            directions.append(direction(batch, first, second, self.chunk_size))
            if self.symmetric:
                directions.append(direction(batch, second, first, self.chunk_size))
        return {"info_nce": torch.stack(directions).mean()}


def direction(batch: ContrastiveBatch, query: str, key: str, chunk_size: int | None) -> Float[Tensor, ""]:
    """Share of InfoNCE from `query` to `key`, among the rows that have both."""
    rows = info_nce(
        batch.local[query],
        batch.world[key],
        batch.positives,
        batch.logit_scale,
        candidates=batch.complete(query, key),
        chunk_size=chunk_size,
    )
    return batch.mean(rows, query, key)
