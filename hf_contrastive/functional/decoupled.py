"""Contrastive losses whose positives are no part of their denominators, one value per query row.

Dimension key: q = queries.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.exponentials import is_empty


def log_sum_or_zero(log_sums: Float[Tensor, "q"]) -> Float[Tensor, "q"]:
    """Log sums, with zero and no gradient in place of the log of a sum without terms."""
    return log_sums.masked_fill(is_empty(log_sums), 0)


def decoupled_contrastive(
    positive_logits: Float[Tensor, "q"],
    log_negatives: Float[Tensor, "q"],
    weights: Float[Tensor, "q"] | float = 1.0,
) -> Float[Tensor, "q"]:
    r"""Decoupled contrastive loss, $\log \sum_{j \neq i} e^{s\, q_i \cdot k_j} - w_i\, s\, q_i \cdot k_i$.

    Any real number, as the positive is no part of the sum. A query without negatives is only pulled.

    Source: Yeh et al. 2021, Equation 6, and its weighted form (DCLW), https://huggingface.co/papers/2110.06848.

    Args:
        positive_logits: Logit of each query with its own key.
        log_negatives: Log of the sum over the negatives of each query.
        weights: What each positive counts.

    >>> decoupled_contrastive(torch.tensor([2.0]), torch.tensor([3.0]))
    tensor([1.])
    """
    return log_sum_or_zero(log_negatives) - weights * positive_logits


def von_mises_fisher_weights(cosines: Float[Tensor, "q"], sigma: float = 0.5) -> Float[Tensor, "q"]:
    r"""Weights of positives, low for those already near: $2 - e^{c_i/\sigma} / \mathrm{mean}_j\, e^{c_j/\sigma}$.

    Their mean is 1, the largest is below 2, and that of a pair much nearer than all others can be far below zero.

    Source: Yeh et al. 2021, the negative von Mises-Fisher weights of DCLW, https://huggingface.co/papers/2110.06848.

    Args:
        cosines: Cosine of each positive pair.
        sigma: How sharply weights depend on it.

    >>> von_mises_fisher_weights(torch.tensor([0.5, 0.5]))
    tensor([1., 1.])
    """
    return 2 - len(cosines) * torch.softmax(cosines / sigma, dim=0)
