"""Sum of softplus over all pairs of two sets of rows: the sigmoid loss, with its gradient made in the forward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_scalar, check_same_width
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.partition import autocast_to_bfloat16, once_differentiable
from hf_contrastive.functional.tiles import TILE, add_product, blocks, inner_product, logits_


# Below it softplus(z) = p + p^2/2 + p^3/3 with p = sigmoid(z) is exact in single precision.
SMALL = 0.01


def sigmoid_loss(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, "..."] | float,
    bias: Float[Tensor, "..."] | float,
    *,
    weights: Float[Tensor, "q"] | None = None,
    mask: PairMask | None = None,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy of every pair, $-\sum_i w_i \sum_j \log \sigma(z_{ij} (s\, q_i \cdot k_j + b))$.

    The label $z_{ij}$ is 1 for a query and its own key and -1 for any other pair. The paper's loss has weights 1 / q.
    No sum has to be known before the gradient, so both are made in one pass over tiles: three products of matrices,
    O((q + k) d) memory. It can be differentiated once.

    Dimension key: q = queries, k = keys, d = embedding width.

    Source: Zhai et al. 2023, Algorithm 1, https://huggingface.co/papers/2303.15343.

    Args:
        queries: Rows to classify.
        keys: Rows that each query accepts or rejects.
        positives: Row of `keys` that matches each query.
        scale: Inverse temperature $s$, already exponentiated.
        bias: Added to every logit; about $-\log k$ where a query has one positive among k keys.
        weights: Weight of each query, constants. By default 1 / q.
        mask: Pairs to leave out. The weight of a query whose positive is left out must be zero.
    """
    dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
    check_same_width(queries, keys, "`queries` and `keys`")
    if mask is not None:
        mask.check(len(queries), len(keys))
    like = queries.new_empty((), dtype=dtype)
    scale, bias = as_scalar(scale, "scale", like), as_scalar(bias, "bias", like)
    if weights is None:
        weights = queries.new_full((len(queries),), 1 / max(len(queries), 1), dtype=dtype)
    given = (queries.to(dtype), keys.to(dtype), scale, bias)
    fixed = (positives, weights.detach().to(dtype), mask or PairMask(), autocast_to_bfloat16())
    return _sigmoid_loss(*given, *fixed)


@torch.compiler.disable
def _sigmoid_loss(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *fixed: Any) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return _SigmoidLoss.apply(x, y, scale, bias, *fixed, torch.is_grad_enabled())[0]  # type: ignore[no-untyped-call]


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        bias: Tensor,
        positives: Tensor,
        weights: Tensor,
        mask: PairMask,
        half_gradients: bool,
        with_gradient: bool,
    ) -> tuple[Tensor, ...]:
        x, y, scale, bias = (z.detach() for z in (x, y, scale, bias))
        positive = scale * (x * y[positives]).sum(1) + bias
        value = -(weights @ positive)
        # Gradients of rows in units of the scale.
        like = (x, y, bias) if with_gradient else (x.new_empty(0), x.new_empty(0), bias)
        dx, dy, dbias = (torch.zeros_like(z) for z in like)
        low, own = torch.bfloat16 if half_gradients else x.dtype, PairMask(positives=positives)
        buffers = x.new_empty(2, min(TILE, len(x)) * min(TILE, len(y)))
        for i in blocks(len(x), TILE):
            weighted, rows = (x[i] * weights[i].unsqueeze(1)).to(low), torch.zeros_like(x[i])
            for j in blocks(len(y), TILE):
                shape = (i.stop - i.start, j.stop - j.start)
                tile, chance = (z[: shape[0] * shape[1]].view(shape) for z in buffers)
                logits_(tile, x, y, scale, mask, i, j)
                torch.sigmoid(tile.add_(bias), out=chance)
                value = value + weights[i] @ _softplus_rows(tile, chance)
                if with_gradient:
                    if (place := own.positives_inside(i, j)) is not None:
                        # A positive's gradient is near zero while its chance is near one: never half precision.
                        exact = ((chance[place] - 1) * weights[i][place[0]]).unsqueeze(1)
                        chance[place] = 0
                        dx[i].index_add_(0, place[0], exact * y[j][place[1]])
                        dy[j].index_add_(0, place[1], exact * x[i][place[0]])
                        dbias = dbias + exact.sum()
                    accepted = chance.to(low)
                    add_product(rows, accepted, y[j].to(low))
                    add_product(dy[j], accepted.T, weighted)
                    dbias = dbias + weights[i] @ chance.sum(1)
            if with_gradient:
                dx[i] += rows * weights[i].unsqueeze(1)
        return value, dx, dy, dbias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:4], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, bias, dx, dy, dbias = ctx.saved_tensors
        inputs = (x, y, scale, bias)
        with torch.no_grad():
            grads = (dx * (scale * grad), dy * (scale * grad), inner_product(x, dx) * grad, dbias * grad)
        return (*(once_differentiable(g, *inputs) for g in grads), None, None, None, None, None)


def _softplus_rows(logits: Float[Tensor, "r c"], chance: Float[Tensor, "r c"]) -> Float[Tensor, "r"]:
    """Sum of softplus over each row of a tile, whose sigmoid is `chance`. Overwrites `logits`."""
    if logits.dtype == torch.float32 and bool(chance.amax() < SMALL):
        powers = torch.mul(chance, chance, out=logits)
        rows = chance.sum(1) + powers.sum(1) / 2
        return rows + powers.mul_(chance).sum(1) / 3
    # By default torch leaves out e^-20 and less, which double precision sees.
    return F.softplus(logits, threshold=40).sum(1)
