"""CLIP without the push between modalities."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.decoupled import log_sum_or_zero
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "decoupled_info_nce",
    paper="2601.19597",
    formula=r"-\mathrm{E}_i\, s\, x_i \cdot y_i + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, x_i \cdot x_j} + \tfrac12 \mathrm{E}_i \log \sum_{j \neq i} e^{s\, y_i \cdot y_j}",
)
@dataclass(frozen=True, kw_only=True)
class DecoupledInfoNCE:
    r"""Pull matching embeddings together across modalities and push embeddings apart within each.

    $$-\mathrm{E}_i\, s\, x_i \cdot y_i + \tfrac12 \mathrm{E}_i \log \textstyle\sum_{j \neq i} e^{s\, x_i \cdot x_j}
    + \tfrac12 \mathrm{E}_i \log \textstyle\sum_{j \neq i} e^{s\, y_i \cdot y_j}$$

    This is what the theory of Cai et al. 2026 (Section 4) leaves of CLIP once the divergence between modalities is
    added back: nothing pushes one modality away from another. It equals `clip_divergence` with `weight=1` less the
    constant $\log \frac{B}{B-1}$ of B rows, for half of its products of matrices. With S modalities, the mean over all
    pairs. A row without others is only pulled to its partner.

    Args:
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    keep_bytes: int = KEEP_BYTES

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        align, spread = [], []
        for pair in batch.pairs():
            align.append(batch.mean(-batch.positive_logits(*pair), *pair))
            for modality, other in (pair, reversed(pair)):
                rows = batch.self_log_partition(modality, other, keep_bytes=self.keep_bytes)
                spread.append(batch.mean(log_sum_or_zero(rows), *pair))
        return {"alignment": torch.stack(align).mean(), "uniformity": torch.stack(spread).mean()}
