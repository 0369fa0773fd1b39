"""The sums that contrastive objectives and density estimates share: log-sum-exps of scaled inner products.

All are exact, differentiable once (for rows and scale; few pairs, see `dense`, any number of times), hold O((q + k) d)
numbers beside the logits that a stated budget keeps, and stand any temperature. Half-precision rows are summed in single
precision. Inside an `autocast` region to bfloat16 the products that make gradients are in bfloat16, the logits stay in
single precision.

Dimension key: q = queries, k = keys, d = embedding width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.autograd import autocast_to_bfloat16, once_differentiable
from hf_contrastive.functional.checks import as_scalar, check_same_width, working_dtype
from hf_contrastive.functional.dense import dense_log_sums, is_small
from hf_contrastive.functional.log_sums import gradient_products, log_sums
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.tiles import KEEP_BYTES, Kept, Plan, add_paired_, inner_products


def log_partition(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    scale: Float[Tensor, "..."] | float,
    *,
    mask: PairMask | None = None,
    hardness: float = 0.0,
    keep_bytes: int = KEEP_BYTES,
) -> Float[Tensor, "q"]:
    r"""Log partition of each query, $\log \sum_j e^{s\, q_i \cdot k_j}$ over the keys that `mask` leaves it.

    With unit rows and $s = 1/\tau$ it is, up to a constant, the log of a von Mises-Fisher kernel density estimate of
    the keys at each query.

    Args:
        queries: Where the sum is evaluated.
        keys: What is summed over.
        scale: Inverse temperature $s$, already exponentiated.
        mask: Pairs to leave out. By default none.
        hardness: Weights each key by $e^{h\, q_i \cdot k_j}$, a constant to the gradient, so that near keys count more.
        keep_bytes: Logits to keep for the backward pass; others are computed again there, a product in four more.

    Returns:
        One value per query. A query left without keys gets a very negative finite number, and no gradient.
    """
    plan = _plan(mask, hardness=hardness, keep_bytes=keep_bytes)
    return _apply(queries, keys, scale, plan)[0]


def log_partitions(
    x: Float[Tensor, "q d"],
    y: Float[Tensor, "k d"],
    scale: Float[Tensor, "..."] | float,
    *,
    mask: PairMask | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> tuple[Float[Tensor, "q"], Float[Tensor, "k"]]:
    r"""Log partitions in both directions, $\log \sum_j e^{s\, x_i \cdot y_j}$ and $\log \sum_i e^{s\, x_i \cdot y_j}$.

    Each tile of logits serves both, so it costs what one direction does. Arguments as in [`log_partition`].
    """
    return _apply(x, y, scale, _plan(mask, columns=True, keep_bytes=keep_bytes))[:2]


def paired_log_partitions(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    scale: Float[Tensor, "..."] | float,
    *,
    mask: PairMask | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"]]:
    r"""[`log_partitions`] of rows that belong together, and their logits $s\, x_i \cdot y_i$.

    The same as both apart, but all gradients are made in one place, which saves half of the memory beside the rows.
    """
    return _apply(x, y, scale, _plan(mask, columns=True, paired=True, keep_bytes=keep_bytes))


def self_log_partition(
    x: Float[Tensor, "n d"],
    scale: Float[Tensor, "..."] | float,
    *,
    mask: PairMask | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> Float[Tensor, "n"]:
    r"""Log partition of each row among all other rows, $\log \sum_{j \neq i} e^{s\, x_i \cdot x_j}$.

    The matrix of logits is symmetric, so that half of its tiles do: half of what [`log_partition`] costs.

    Args:
        x: Rows that are compared with each other.
        scale: Inverse temperature $s$, already exponentiated.
        mask: Further pairs to leave out, symmetric: its `queries` and `keys`, and their ids, must be the same.
        keep_bytes: As in [`log_partition`].
    """
    mask = mask or PairMask()
    if mask.skip is not None or mask.positives is not None:
        raise ValueError(
            "The `mask` of rows among themselves leaves out each row itself, so takes no `skip` and no `positives`."
        )
    if mask.queries is not mask.keys or mask.query_ids is not mask.key_ids or mask.ceiling is not None:
        raise ValueError(
            "The `mask` of rows among themselves must be symmetric: one tensor for queries and keys, no ceiling."
        )
    own = torch.arange(len(x), device=x.device)
    mask = PairMask(queries=mask.queries, keys=mask.keys, query_ids=mask.query_ids, key_ids=mask.key_ids, skip=own)
    return _apply(x, x, scale, _plan(mask, symmetric=True, keep_bytes=keep_bytes))[0]


def _plan(mask: PairMask | None, **options: Any) -> Plan:
    return Plan(mask=mask or PairMask(), half_gradients=autocast_to_bfloat16(), **options)


@torch.compiler.disable
def _apply(x: Tensor, y: Tensor, scale: Tensor | float, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    check_same_width(x, y, "Queries and keys")
    plan.mask.check(len(x), len(y))
    dtype = working_dtype(x, y)
    scale = as_scalar(scale, "scale", x.new_empty((), dtype=dtype))
    if is_small(x, y, plan):
        # Rows that are compared with themselves are converted once: two gradients would be added in half precision.
        queries = x.to(dtype)
        return dense_log_sums(queries, queries if y is x else y.to(dtype), scale, plan)
    needs_grad = torch.is_grad_enabled() and any(z.requires_grad for z in (x, y, scale))
    kept = Kept() if needs_grad else None
    with torch.autocast(x.device.type, enabled=False):
        rows, columns, paired = _LogPartitions.apply(x.to(dtype), y.to(dtype), scale, plan, kept)  # type: ignore[no-untyped-call]
    return rows, columns, paired


class _LogPartitions(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, y: Tensor, scale: Tensor, plan: Plan, kept: Kept | None) -> tuple[Tensor, Tensor, Tensor]:
        x, y, scale = x.detach(), y.detach(), scale.detach()
        paired = inner_products(x, y) * scale if plan.paired else x.new_empty(0)
        return *log_sums(x, y, scale, plan, kept), paired

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, y, scale, ctx.plan, kept = inputs
        ctx.packed, tiles = (kept or Kept()).pack()
        ctx.save_for_backward(x, y, scale, *output[:2], *tiles)

    @staticmethod
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor, paired_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, rows, columns, *tiles = ctx.saved_tensors
        with torch.no_grad():
            both = ctx.plan.columns
            dx, dy = gradient_products(
                x,
                y,
                scale,
                ctx.plan,
                ctx.packed.unpack(iter(tiles)),
                row_grad=row_grad,
                row_sums=rows,
                column_grad=column_grad if both else None,
                column_sums=columns if both else None,
                need_y=ctx.needs_input_grad[1] or ctx.plan.paired,
            )
            if ctx.plan.paired and dy is not None:
                add_paired_(dx, dy, x, y, paired_grad)
            dscale = inner_products(x, dx).sum()
            if ctx.plan.symmetric:
                # Each pair's gradient stands in dx at both of its places.
                dscale = dscale / 2
            dx = dx.mul_(scale)
            dy = None if dy is None else dy.mul_(scale)
        return (
            once_differentiable(dx, x, y, scale),
            None if dy is None else once_differentiable(dy, x, y, scale),
            once_differentiable(dscale, x, y, scale),
            None,
            None,
        )
