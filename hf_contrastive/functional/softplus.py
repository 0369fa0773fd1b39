"""Sum of softplus over all pairs of two sets of rows: the sigmoid loss, with its gradient made in the forward pass."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.autograd import Forwarded, autocast_to_bfloat16, once_differentiable, scaled
from hf_contrastive.functional.checks import as_scalar, check_same_width, working_dtype
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.tiles import Plan, add_product, inner_products, shaped


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
    dtype = working_dtype(queries, keys)
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
    made = Forwarded() if torch.is_grad_enabled() and any(z.requires_grad for z in (x, y, scale, bias)) else None
    with torch.autocast(x.device.type, enabled=False):
        value: Tensor = _SigmoidLoss.apply(x, y, scale, bias, _Fixed(*fixed), made)  # type: ignore[no-untyped-call]
    return value


class _Fixed(NamedTuple):
    """What the loss takes beside what it can be differentiated by."""

    positives: Tensor
    weights: Tensor
    mask: PairMask
    half_gradients: bool


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, fixed: _Fixed, made: Forwarded | None) -> Tensor:
        x, y, scale, bias = (z.detach() for z in (x, y, scale, bias))
        value, *gradients = _value_and_gradients(x, y, scale, bias, fixed, with_gradient=made is not None)
        if made is not None:
            made.keep(*gradients)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.fixed, ctx.made = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, bias = ctx.saved_tensors
        with torch.no_grad():
            dx, dy, dbias = ctx.made.take(
                lambda: _value_and_gradients(x, y, scale, bias, ctx.fixed, with_gradient=True)[1:]
            )
            dscale = inner_products(x, dx).sum() * grad
            grads = (scaled(dx, scale * grad), scaled(dy, scale * grad), dscale, dbias * grad)
        return (*(once_differentiable(g, x, y, scale, bias) for g in grads), None, None)


def _value_and_gradients(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, fixed: _Fixed, *, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and its gradients with respect to x and y in units of the scale, and to the bias."""
    positives, weights, mask, half_gradients = fixed
    value = -(weights @ (inner_products(x, y[positives]) * scale + bias))
    like = (x, y, bias) if with_gradient else (x.new_empty(0), x.new_empty(0), bias)
    dx, dy, dbias = (torch.zeros_like(z) for z in like)
    low, own = torch.bfloat16 if half_gradients else x.dtype, PairMask(positives=positives)
    plan = Plan(mask=mask)
    logits = plan.logits(x, y, scale)
    spare = logits.spare_tile()
    for i, j in plan.tiles(x, y):
        tile, chance = logits(i, j), shaped(spare, i, j)
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
            weighted = chance.mul_(weights[i].unsqueeze(1))
            dbias = dbias + weighted.sum()
            weighted = weighted.to(low)
            add_product(dx[i], weighted, y[j].to(low))
            add_product(dy[j], weighted.T, x[i].to(low))
    return value, dx, dy, dbias


def _softplus_rows(logits: Float[Tensor, "r c"], chance: Float[Tensor, "r c"]) -> Float[Tensor, "r"]:
    """Sum of softplus over each row of a tile, whose sigmoid is `chance`. Overwrites `logits`."""
    # An accelerator would be waited for to answer, and is as fast either way.
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and bool(chance.amax() < SMALL):
        powers = torch.mul(chance, chance, out=logits)
        rows = chance.sum(1) + powers.sum(1) / 2
        return rows + powers.mul_(chance).sum(1) / 3
    # By default torch leaves out e^-20 and less, which double precision sees.
    return F.softplus(logits, threshold=40).sum(1)
