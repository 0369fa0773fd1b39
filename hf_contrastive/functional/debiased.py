"""Contrastive losses that expect positives among the negatives, one value per query row.

Dimension key: q = queries.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def debiased_info_nce(
    positive_logits: Float[Tensor, "q"],
    log_negatives: Float[Tensor, "q"],
    num_negatives: Float[Tensor, "q"],
    scale: Float[Tensor, ""],
    tau_plus: float,
) -> Float[Tensor, "q"]:
    r"""InfoNCE with the negatives corrected for those that are positives unawares.

    $\log (e^{p_i} + g_i) - p_i$ with the estimate of what true negatives would sum to

    $$g_i = \max\left(\frac{\sum_j e^{s\, q_i \cdot k_j} - N_i \tau^+ e^{p_i}}{1 - \tau^+},\ N_i e^{-s}\right).$$

    At least zero. Computed in logarithms, so for any scale. `tau_plus=0` is InfoNCE. Where $N_i = 0$ it is zero.

    Source: Chuang et al. 2020, their estimator g with one positive (M = 1), https://huggingface.co/papers/2007.00224.

    Args:
        positive_logits: Logit $p_i$ of each query with its own key.
        log_negatives: Log of the sum over the negatives of each query.
        num_negatives: How many these are, $N_i$.
        scale: Inverse temperature $s$, already exponentiated, of unit rows.
        tau_plus: Chance $\tau^+$ that a negative is a positive, in [0, 1).
    """
    odds = log_negatives - positive_logits
    log_num = num_negatives.log()
    floor = log_num - scale - positive_logits
    # Above the floor: e^odds > N (tau + (1 - tau) e^(-s - p)).
    share = torch.tensor(tau_plus, dtype=odds.dtype, device=odds.device)
    above = odds > torch.logaddexp(share.log() + log_num, torch.log1p(-share) + floor)

    # 1 + g/e^p = (e^odds + 1 - tau - N tau) / (1 - tau), its larger term taken out. Rows at the floor get a harmless
    # value here, so that no NaN reaches their gradients.
    odds = torch.where(above, odds, torch.log1p(num_negatives))
    shift = odds.detach().clamp(min=0)
    rest = 1 - share - num_negatives * share
    corrected = shift + ((odds - shift).exp() + rest * (-shift).exp()).log() - torch.log1p(-share)
    return torch.where(above, corrected, F.softplus(floor))
