"""Log-sum-exps over all pairs of two sets of rows, and their gradients: the machine behind the reductions.

A pass over tiles holds two tiles and never the q x k logits. Sums of rows and of columns share each tile, so both
directions of a loss cost one product of matrices. The gradient needs every sum first, so it computes the tiles again,
unless they were kept: three products where they fit the budget, four where not.

Logits are single precision even for half-precision rows. Where no logit can overflow (|s| |x| |y| is bounded, as for
unit rows up to a scale of about 57), tiles hold exponentials as they are; else each row and column has its maximum.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.exponentials import Sums, Weigh
from hf_contrastive.functional.tiles import Kept, Plan, add_product, shaped


def is_bounded(x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], scale: Tensor) -> bool:
    """Whether the exponential of any logit, and any sum of them, is a normal number, with room for gradients.

    A quarter of the exponents is left to the product with the gradient that comes in, from 1e-9 to 1e9 in single
    precision: loss scalers and small weights.
    """
    longest = [torch.linalg.vector_norm(z, dim=1).amax() if len(z) else z.new_zeros(()) for z in (x, y)]
    room = 0.75 * math.log(torch.finfo(x.dtype).max) - math.log(max(len(x), len(y), 1)) - 1
    return bool(scale.abs() * longest[0] * longest[1] < room)


def log_sums(
    x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], scale: Float[Tensor, ""], plan: Plan, kept: Kept | None
) -> tuple[Float[Tensor, "q"], Float[Tensor, "columns"]]:
    """Log-sum-exp of `scale * x @ y.T` over keys and, if planned, over queries (else empty).

    A sum without pairs is the most negative finite number. Tiles are left in `kept`, unless it is None.
    """
    logits = plan.logits(x, y, scale)
    bounded = is_bounded(x, y, logits.scale)
    rows, columns = Sums(x, len(x)), Sums(x, len(y) if plan.columns else 0)
    if plan.symmetric:
        columns = rows
    budget = plan.keep_bytes if kept is not None else 0
    spare = None if bounded else logits.spare_tile()
    for i, j in plan.tiles(x, y):
        size = (i.stop - i.start) * (j.stop - j.start)
        half = plan.half_gradients and bounded and plan.mask.positives_inside(i, j) is None
        stays = budget >= size * (2 if half else x.element_size())
        whole = stays and not half
        # A tile that stays is computed where it stays.
        tile = logits(i, j, out=x.new_empty(size) if whole else None)
        # The tiles on the diagonal of a symmetric matrix hold both of each pair's places.
        twice = columns is not rows or i.start != j.start
        if bounded:
            tile.exp_()
            rows.sums[i] += tile.sum(1)
            if len(columns.sums) and twice:
                columns.sums[j] += tile.sum(0)
        elif spare is not None:
            rows.add(tile, i, 1, spare)
            if len(columns.sums) and twice:
                columns.add(tile, j, 0, spare)
        if kept is not None and stays:
            kept.tiles[i.start, j.start] = tile if whole else tile.bfloat16()
            budget -= kept.tiles[i.start, j.start].nbytes
    if kept is not None:
        kept.bounded = bounded
    return rows.log(), x.new_empty(0) if plan.symmetric else columns.log()


def gradient_products(
    x: Float[Tensor, "q d"],
    y: Float[Tensor, "k d"],
    scale: Float[Tensor, ""],
    plan: Plan,
    kept: Kept,
    *,
    row_grad: Float[Tensor, "q"],
    row_sums: Float[Tensor, "q"],
    column_grad: Float[Tensor, "k"] | None,
    column_sums: Float[Tensor, "k"] | None,
    need_y: bool = True,
) -> tuple[Float[Tensor, "q d"], Float[Tensor, "k d"] | None]:
    """Products $G y$ and $G^T x$ of the gradient G with respect to the logits, which is each sum's softmax times its grad.

    Args:
        x: Queries.
        y: Keys.
        scale: Inverse temperature.
        plan: As in [`log_sums`].
        kept: What that left.
        row_grad: Gradient of the sums over keys.
        row_sums: Their values.
        column_grad: Gradient of the sums over queries, where they were planned.
        column_sums: Their values.
        need_y: Whether the second product is wanted. For a symmetric plan it is part of the first.
    """
    if plan.symmetric:
        column_grad, column_sums = row_grad, row_sums
    logits = plan.logits(x, y, scale)
    weigh = Weigh(kept.bounded, row_grad, row_sums, column_grad, column_sums, may_be_empty=not plan.mask.is_open)
    both = need_y or plan.symmetric
    dx = torch.zeros_like(x)
    dy = dx if plan.symmetric else (torch.zeros_like(y) if need_y else None)
    spare = logits.spare_tile()
    low = (x.bfloat16(), y.bfloat16()) if plan.half_gradients else (x, y)
    for i, j in plan.tiles(x, y):
        tile = kept.tiles.get((i.start, j.start))
        if tile is None:
            tile = logits(i, j)
            if kept.bounded:
                tile.exp_()
        grad = weigh(tile, i, j, shaped(spare, i, j))
        transposed = both and not (plan.symmetric and i.start == j.start)
        if plan.half_gradients and (place := plan.mask.positives_inside(i, j)) is not None:
            exact = grad[place].unsqueeze(1)
            grad[place] = 0
            dx[i].index_add_(0, place[0], exact * y[j][place[1]])
            if transposed and dy is not None:
                dy[j].index_add_(0, place[1], exact * x[i][place[0]])
        grad = grad.to(low[0].dtype)
        add_product(dx[i], grad, low[1][j])
        if transposed and dy is not None:
            add_product(dy[j], grad.T, low[0][i])
    return dx, None if plan.symmetric else dy
