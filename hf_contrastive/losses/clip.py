"""The CLIP loss."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.info_nce import directions
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "clip",
    paper="2103.00020",
    formula=r"-\tfrac12 \mathrm{E}_i \log \frac{e^{s\, x_i \cdot y_i}}{\sum_j e^{s\, x_i \cdot y_j}} - \tfrac12 \mathrm{E}_i \log \frac{e^{s\, x_i \cdot y_i}}{\sum_j e^{s\, y_i \cdot x_j}}",
)
@dataclass(frozen=True, kw_only=True)
class CLIP:
    """Symmetric InfoNCE of every pair of modalities, each direction logged.

    Radford et al. 2021, Figure 3: the mean of the cross-entropies of both directions. With S modalities, the mean over
    all pairs.

    Args:
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        terms = {}
        pairs = batch.pairs()
        for first, second in pairs:
            forward, backward = directions(batch, first, second, keep_bytes=self.keep_bytes)
            terms[f"clip_{first}_to_{second}"] = forward / (2 * len(pairs))
            terms[f"clip_{second}_to_{first}"] = backward / (2 * len(pairs))
        return terms
