"""The sigmoid loss of SigLIP."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import sigmoid_loss
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "siglip",
    paper="2303.15343",
    formula=r"\mathrm{E}_i \sum_j \log \big( 1 + e^{-m_{ij} (s\, x_i \cdot y_j + b)} \big), \quad m_{ii} = 1,\; m_{i \neq j} = -1",
)
@dataclass(frozen=True, kw_only=True)
class SigLIP:
    """Every pair of rows judged on its own: does it match? No softmax over the batch.

    Zhai et al. 2023, Algorithm 1. With S modalities, the mean over all pairs of modalities. The model must have a
    `logit_bias`; start it near -log(batch size) and the scale near 10, as the paper does, or the first steps only learn
    that most pairs do not match. `logit_bias: auto` and `logit_scale: 10` among the training arguments do so.
    """

    uses_bias: ClassVar[bool] = True

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        pairs = [self._pair(batch, query, key) for query, key in batch.pairs()]
        return {"siglip": torch.stack(pairs).mean()}

    def _pair(self, batch: ContrastiveBatch, query: str, key: str) -> Float[Tensor, ""]:
        bias = batch.bias_of(query, key)
        if bias is None:
            raise ValueError(
                "`siglip` adds a bias to the logits, but the model has no `logit_bias`. Use a SigLIP model, or add "
                "`logit_bias` to yours as an `nn.Parameter` of shape (1,)."
            )
        return sigmoid_loss(
            batch.local[query],
            batch.world[key],
            batch.positives,
            batch.scale_of(query, key),
            bias,
            weights=batch.weights(query, key),
            mask=batch.mask(query, key),
        )
