"""The Cauchy-Schwarz divergence of pairs of modalities."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import check_positive
from hf_contrastive.functional.hoelder import cauchy_schwarz_of_densities
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.losses.hoelder_divergence import enough_rows, log_densities, zero
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "cauchy_schwarz",
    paper="2502.17028",
    formula=r"-\log \frac{(\int p_x p_y)^2}{\int p_x^2 \int p_y^2}",
)
@dataclass(frozen=True, kw_only=True)
class CauchySchwarz:
    r"""How differently the two modalities of a pair are spread over the sphere, to be made small.

    Yin et al. 2025 (CS-Aligner): $-\log \frac{(\int p q)^2}{\int p^2 \int q^2}$, with kernel densities p and q. With S
    modalities, the mean over all pairs; a pair with a modality that has too few rows counts as zero. The paper adds it
    to CLIP, which `weighted_sum` does. It is twice the `hoelder_divergence` of two modalities, which explains the
    choice between leave-one-out densities and V-statistics (the paper's) and what is not used.

    Args:
        t: Sharpness of the kernel, half an inverse temperature. A kernel of standard deviation $\sigma$ has
            $t = 1/(2\sigma^2)$.
        leave_one_out: Whether rows are left out of their own density.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    t: float = 2.0
    leave_one_out: bool = True
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        check_positive(self.t, "t")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        enough = enough_rows(batch, self.leave_one_out)
        pairs = [(x, y) for x, y in batch.pairs() if x in enough and y in enough]
        if not pairs:
            return {"cauchy_schwarz": zero(batch)}
        log = log_densities(batch, pairs, t=self.t, leave_one_out=self.leave_one_out, keep_bytes=self.keep_bytes)
        values = [cauchy_schwarz_of_densities(log[x, x], log[y, y], log[x, y]) for x, y in pairs]
        return {"cauchy_schwarz": torch.stack(values).sum() / len(batch.pairs())}
