"""The CLIP loss."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses.info_nce import direction
from hf_contrastive.losses.registry import register_loss


@register_loss("clip", paper="2103.00020")
@dataclass(frozen=True, kw_only=True)
class CLIP:
    """Symmetric InfoNCE of every pair of modalities, each direction logged.

    Radford et al. 2021, Figure 3: the mean of the cross-entropies of both directions. With S modalities, the mean over
    all pairs.

    Args:
        chunk_size: Rows of logits held in memory at a time. By default all.
    """

    chunk_size: int | None = None

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        ways = [pair for first, second in batch.pairs() for pair in ((first, second), (second, first))]
        return {
            f"clip_{query}_to_{key}": direction(batch, query, key, self.chunk_size) / len(ways) for query, key in ways
        }
