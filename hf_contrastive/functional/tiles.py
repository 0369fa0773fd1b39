"""Log-sum-exps over all pairs of two sets of rows, one tile of logits at a time: the machine behind the reductions.

A pass over tiles holds two tiles and never the q x k logits. Sums of rows and of columns share each tile, so both
directions of a loss cost one product of matrices. The gradient needs every sum first, so it computes the tiles again,
unless they were kept: three products where they fit the budget, four where not.

Logits are single precision even for half-precision rows. Where no logit can overflow (|s| |x| |y| is bounded, as for
unit rows up to a scale of about 57), tiles hold exponentials as they are; else each row and column has its maximum.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.exponentials import Sums, Weigh
from hf_contrastive.functional.pairs import PairMask


TILE = 1024
# What a reduction may keep for its backward pass: single-precision logits of 8,192 x 8,192 pairs.
KEEP_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    How to go over the tiles.

    Args:
        mask: Pairs that are left out.
        columns: Whether sums over queries are wanted beside those over keys.
        paired: Whether row i of the queries belongs to row i of the keys, and the logits of such pairs are wanted as well.
        symmetric: Whether queries and keys are the same rows under a symmetric mask, so that half of the tiles tell all.
        hardness: A constant added to the scale in the exponent only, which weights each pair by exp(hardness x . y).
        keep_bytes: Tiles to keep for the backward pass, in bytes.
        half_gradients: Whether gradients are products of bfloat16 numbers, summed in single precision. All but those of
            the mask's positives: near one, a positive's softmax is all but cancelled by the gradient of its logit.
        tile: Rows and columns of a tile.
    """

    mask: PairMask = field(default_factory=PairMask)
    columns: bool = False
    paired: bool = False
    symmetric: bool = False
    hardness: float = 0.0
    keep_bytes: int = KEEP_BYTES
    half_gradients: bool = False
    tile: int = field(default_factory=lambda: TILE)

    def tiles(self, num_queries: int, num_keys: int) -> Iterator[tuple[slice, slice]]:
        for rows in blocks(num_queries, self.tile):
            for columns in blocks(num_keys, self.tile):
                if not self.symmetric or columns.start >= rows.start:
                    yield rows, columns


@dataclass
class Kept:
    """Tiles that the forward pass leaves for the backward pass, and whether they hold exponentials or logits."""

    tiles: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    bounded: bool = True

    def pack(self) -> "tuple[Packed, list[Tensor]]":
        """Where the tiles belong, and the tiles, as tensors for autograd to save: it lets go of them after the backward
        pass.
        """
        return Packed(tuple(self.tiles), self.bounded), list(self.tiles.values())


class Packed(NamedTuple):
    """[`Kept`] without its tiles."""

    places: tuple[tuple[int, int], ...]
    bounded: bool

    def unpack(self, tiles: Iterator[Tensor]) -> Kept:
        """With the next tiles of those that autograd saved."""
        return Kept({place: next(tiles) for place in self.places}, self.bounded)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover n."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


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
    scale = scale + plan.hardness
    bounded = is_bounded(x, y, scale)
    rows, columns = Sums(x, len(x)), Sums(x, len(y) if plan.columns else 0)
    if plan.symmetric:
        columns = rows
    budget = plan.keep_bytes if kept is not None else 0
    buffer = x.new_empty(min(plan.tile, len(x)) * min(plan.tile, len(y)))
    spare = None if bounded else torch.empty_like(buffer)
    for i, j in plan.tiles(len(x), len(y)):
        size = (i.stop - i.start) * (j.stop - j.start)
        half = plan.half_gradients and bounded and plan.mask.positives_inside(i, j) is None
        stays = budget >= size * (2 if half else x.element_size())
        whole = stays and not half
        # A tile that stays is computed where it stays.
        tile = (x.new_empty(size) if whole else buffer[:size]).view(i.stop - i.start, j.stop - j.start)
        logits_(tile, x, y, scale, plan.mask, i, j)
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
    scale = scale + plan.hardness
    weigh = Weigh(kept.bounded, row_grad, row_sums, column_grad, column_sums)
    both = need_y or plan.symmetric
    dx = torch.zeros_like(x)
    dy = dx if plan.symmetric else (torch.zeros_like(y) if need_y else None)
    buffer = x.new_empty(min(plan.tile, len(x)) * min(plan.tile, len(y)))
    spare = torch.empty_like(buffer)
    low = (x.bfloat16(), y.bfloat16()) if plan.half_gradients else (x, y)
    for i, j in plan.tiles(len(x), len(y)):
        shape = (i.stop - i.start, j.stop - j.start)
        tile = kept.tiles.get((i.start, j.start))
        if tile is None:
            tile = buffer[: shape[0] * shape[1]].view(shape)
            logits_(tile, x, y, scale, plan.mask, i, j)
            if kept.bounded:
                tile.exp_()
        grad = weigh(tile, i, j, spare[: shape[0] * shape[1]].view(shape))
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


def paired_logits(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "n"]:
    """`scale * (x * y).sum(1)`, without the product of all rows at once."""
    return torch.cat([(x[i] * y[i]).sum(1) for i in blocks(len(x), TILE)] or [x.new_empty(0)]) * scale


def inner_product(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """`(x * y).sum()`, without the product of all rows at once."""
    return paired_logits(x, y, 1.0).sum()


def add_paired_(dx: Float[Tensor, "n d"], dy: Float[Tensor, "n d"], x: Tensor, y: Tensor, grad: Tensor) -> None:
    """Add the products that the gradient of [`paired_logits`] is made of, in place."""
    dx.addcmul_(y, grad.unsqueeze(1))
    dy.addcmul_(x, grad.unsqueeze(1))


def logits_(
    tile: Float[Tensor, "r c"],
    x: Float[Tensor, "q d"],
    y: Float[Tensor, "k d"],
    scale: Tensor,
    mask: PairMask,
    i: slice,
    j: slice,
) -> None:
    """Write the logits of queries i and keys j into `tile`."""
    torch.mm(x[i] * scale, y[j].T, out=tile)
    mask.fill_(tile, i, j, scale)


@torch.no_grad()
def count_masked(x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], mask: PairMask) -> int:
    """How many of the pairs of `x` and `y` `mask` leaves out."""
    one, count = x.new_ones(()), 0
    for i, j in Plan().tiles(len(x), len(y)):
        tile = x.new_empty(i.stop - i.start, j.stop - j.start)
        logits_(tile, x, y, one, mask, i, j)
        count += int(tile.isneginf().sum())
    return count


def add_product(out: Float[Tensor, "n d"], a: Float[Tensor, "n m"], b: Float[Tensor, "m d"]) -> None:
    """Add a product of matrices, which may be of lower precision than `out`, to it."""
    if a.dtype == out.dtype:
        out.addmm_(a, b)
    else:
        out += a @ b
