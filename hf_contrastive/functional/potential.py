"""Mean Gaussian potential of distinct rows, with its gradient made in the forward pass."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.autograd import Forwarded, autocast_to_bfloat16, once_differentiable, scaled
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.tiles import add_product, blocks, tile_size


def log_mean_potential(x: Float[Tensor, "n d"], t: float) -> Float[Tensor, ""]:
    r"""$\log \mathrm{E}_{i \neq j}\, e^{-t \lVert x_i - x_j \rVert^2}$ of at least two rows of any length.

    Half of the tiles tell all, and only one number must be known before the gradient, which is made in the same pass:
    one and a half products of matrices, O(n d) memory. It can be differentiated once.
    """
    return _log_mean_potential(x, t, autocast_to_bfloat16())


@torch.compiler.disable
def _log_mean_potential(x: Tensor, t: float, half_gradients: bool) -> Tensor:
    made = Forwarded() if torch.is_grad_enabled() and x.requires_grad else None
    with torch.autocast(x.device.type, enabled=False):
        value: Tensor = _LogMeanPotential.apply(x, t, half_gradients, made)  # type: ignore[no-untyped-call]
    return value


class _LogMeanPotential(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, t: float, half_gradients: bool, made: Forwarded | None) -> Tensor:
        value, dx = _value_and_gradient(x.detach(), t, half_gradients, with_gradient=made is not None)
        if made is not None:
            made.keep(dx)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.t, ctx.half_gradients, ctx.made = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            (dx,) = ctx.made.take(lambda: _value_and_gradient(x, ctx.t, ctx.half_gradients, with_gradient=True)[1:])
            dx = scaled(dx, grad)
        return once_differentiable(dx, x), None, None, None


def _value_and_gradient(x: Tensor, t: float, half_gradients: bool, *, with_gradient: bool) -> tuple[Tensor, Tensor]:
    n = len(x)
    exponents = _Exponents(x, t)
    largest = exponents.largest()
    total = x.new_zeros((), dtype=torch.float64)
    dx, row_sums = (torch.zeros_like(x), x.new_zeros(n)) if with_gradient else (x.new_empty(0), x.new_empty(0))
    low = torch.bfloat16 if half_gradients else x.dtype
    for i, j in exponents.places():
        tile, left, right = exponents(i, j)
        tile = (tile if largest is None else tile.sub_(largest)).exp_()
        sums = tile.sum(1)
        total += sums.sum(dtype=torch.float64) * (1 if i.start == j.start else 2)
        if with_gradient:
            row_sums[i] += sums
            if i.start != j.start:
                row_sums[j] += tile.sum(0)
                add_product(dx[j], tile.to(low).T, left.to(low))
            add_product(dx[i], tile.to(low), right.to(low))
    if with_gradient:
        # d/dx_i of the sum over ordered pairs is -4t sum_j e_ij (x_i - x_j), and 2t is the square of the root.
        factor = (2 * exponents.root / total).to(x.dtype)
        for i in blocks(n, exponents.size):
            dx[i].addcmul_(exponents.left(i), row_sums[i].unsqueeze(1), value=-1).mul_(factor)
    log_total = total.log() if largest is None else total.log() + largest
    return (log_total - math.log(n * (n - 1))).to(x.dtype), dx


class _Exponents:
    """Exponents of the potentials of one tile after another, in memory that is taken once."""

    def __init__(self, x: Tensor, t: float) -> None:
        self.x, self.root, self.size = x, math.sqrt(2 * t), tile_size(x)
        # Distances do not see where the cloud lies, but products would round far from the origin.
        self.center = x.mean(dim=0)
        size = min(self.size, len(x))
        self._rows = x.new_empty(2, size, x.shape[1])
        self._left = -1
        norms = [torch.linalg.vector_norm(self.left(i), dim=1) for i in blocks(len(x), self.size)]
        self.penalty = torch.cat(norms).square() / 2

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the tiles on and above the diagonal: the matrix is symmetric."""
        for i in blocks(len(self.x), self.size):
            yield from ((i, j) for j in blocks(len(self.x), self.size) if j.start >= i.start)

    def left(self, i: slice) -> Tensor:
        """Rows i, centered and scaled."""
        if i.start != self._left:
            self._scaled(i, self._rows[0])
            self._left = i.start
        return self._rows[0, : i.stop - i.start]

    def _scaled(self, i: slice, out: Tensor) -> Tensor:
        return torch.sub(self.x[i], self.center, out=out[: i.stop - i.start]).mul_(self.root)

    def __call__(self, i: slice, j: slice) -> tuple[Tensor, Tensor, Tensor]:
        """A tile and its rows on both sides. Exponents of a row and itself are minus infinity."""
        left = self.left(i)
        right = left if i.start == j.start else self._scaled(j, self._rows[1])
        tile = row_products(left, right).sub_(self.penalty[i].unsqueeze(1)).sub_(self.penalty[j])
        return (tile.fill_diagonal_(-torch.inf) if right is left else tile), left, right

    def largest(self) -> Tensor | None:
        """What to measure from: nothing where even the farthest rows' potential is a normal number, else the largest."""
        span = 4 * self.penalty.amax()
        if bool(span < -math.log(torch.finfo(self.x.dtype).tiny) / 2):
            return None
        return torch.stack([self(i, j)[0].amax() for i, j in self.places()]).amax()
