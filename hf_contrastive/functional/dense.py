"""Sums over so few pairs that calls cost more than arithmetic: the definitions themselves, left to autograd.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.tiles import Plan, tile_size


# Pairs up to which a matrix of logits and autograd's own nodes are faster than tiles with their bookkeeping. An
# accelerator takes longer to be told of a tile than to compute it.
FEW_PAIRS, ACCELERATOR_FEW_PAIRS = 2**14, 2**22


def is_small(x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], plan: Plan) -> bool:
    """Whether the pairs are few, lie in one tile, and none is left out but each row itself.

    Not inside an `autocast` region, where a backward pass of autograd's own might run too and would round.
    """
    if torch.is_autocast_enabled(x.device.type):
        return False
    most = FEW_PAIRS if x.device.type == "cpu" else ACCELERATOR_FEW_PAIRS
    few = 0 < len(x) * len(y) <= most and max(len(x), len(y)) <= (plan.tile or tile_size(x))
    # A row alone has no other one, and a sum without pairs is for tiles to define.
    every = len(x) > 1 if plan.symmetric else plan.mask.skip is None
    return few and every and plan.mask.is_full and plan.hardness == 0


def dense_log_sums(
    x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], scale: Float[Tensor, ""], plan: Plan
) -> tuple[Float[Tensor, "q"], Float[Tensor, "columns"], Float[Tensor, "paired"]]:
    """Log-sum-exps of `scale * x @ y.T` over keys and, where `plan` asks for them, over queries, and paired logits."""
    logits = (x * scale) @ y.T
    empty = x.new_empty(0)
    paired = logits.diagonal() if plan.paired else empty
    if plan.symmetric:
        logits = logits.fill_diagonal_(-torch.inf)
    return logits.logsumexp(1), logits.logsumexp(0) if plan.columns else empty, paired
