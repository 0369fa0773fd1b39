"""Mean Gaussian potential of distinct rows, with its gradient made in the forward pass."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.partition import autocast_to_bfloat16, once_differentiable
from hf_contrastive.functional.tiles import TILE, Plan, add_product


def log_mean_potential(x: Float[Tensor, "n d"], t: float) -> Float[Tensor, ""]:
    r"""$\log \mathrm{E}_{i \neq j}\, e^{-t \lVert x_i - x_j \rVert^2}$ of at least two rows of any length.

    Half of the tiles tell all, and only one number must be known before the gradient, which is made in the same pass:
    one and a half products of matrices, O(n d) memory. It can be differentiated once.
    """
    return _log_mean_potential(x, t, autocast_to_bfloat16())


@torch.compiler.disable
def _log_mean_potential(x: Tensor, t: float, half_gradients: bool) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return _LogMeanPotential.apply(x, t, half_gradients, torch.is_grad_enabled())[0]  # type: ignore[no-untyped-call]


class _LogMeanPotential(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, t: float, half_gradients: bool, with_gradient: bool) -> tuple[Tensor, Tensor]:
        x = x.detach()
        n = len(x)
        # Distances do not see where the cloud lies, but products would round far from the origin.
        scaled = (x - x.mean(dim=0)).mul_(math.sqrt(2 * t))
        penalty = torch.linalg.vector_norm(scaled, dim=1).square() / 2
        plan = Plan(symmetric=True)
        buffer = x.new_empty(min(TILE, n) ** 2)
        largest = _largest(scaled, penalty, plan, buffer)
        total = x.new_zeros((), dtype=torch.float64)
        dx, row_sums = (torch.zeros_like(x), x.new_zeros(n)) if with_gradient else (x.new_empty(0), x.new_empty(0))
        low = scaled.bfloat16() if half_gradients else scaled
        for i, j in plan.tiles(n, n):
            tile = _exponents(scaled, penalty, i, j, buffer)
            tile = (tile if largest is None else tile.sub_(largest)).exp_()
            sums = tile.sum(1)
            total += sums.sum(dtype=torch.float64) * (1 if i.start == j.start else 2)
            if with_gradient:
                row_sums[i] += sums
                tile = tile.to(low.dtype)
                add_product(dx[i], tile, low[j])
                if i.start != j.start:
                    row_sums[j] += tile.sum(0, dtype=x.dtype)
                    add_product(dx[j], tile.T, low[i])
        if with_gradient:
            # d/dx_i of the sum over ordered pairs is -4t sum_j e_ij (x_i - x_j), and 2t is the square of the root.
            dx.addcmul_(scaled, row_sums.unsqueeze(1), value=-1).mul_((2 * math.sqrt(2 * t) / total).to(x.dtype))
        log_total = total.log() if largest is None else total.log() + largest
        return (log_total - math.log(n * (n - 1))).to(x.dtype), dx

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, dx = ctx.saved_tensors
        with torch.no_grad():
            dx = dx * grad
        return once_differentiable(dx, x), None, None, None


def _exponents(scaled: Tensor, penalty: Tensor, i: slice, j: slice, buffer: Tensor) -> Tensor:
    """Exponents of the potentials of a tile; those of a row and itself are minus infinity."""
    shape = (i.stop - i.start, j.stop - j.start)
    tile = buffer[: shape[0] * shape[1]].view(shape)
    torch.add(-penalty[i].unsqueeze(1), -penalty[j], out=tile).addmm_(scaled[i], scaled[j].T)
    return tile.fill_diagonal_(-torch.inf) if i.start == j.start else tile


def _largest(scaled: Tensor, penalty: Tensor, plan: Plan, buffer: Tensor) -> Tensor | None:
    """What to measure exponents from: nothing where even the farthest rows' potential is a normal number, else the largest."""
    span = 4 * penalty.amax()
    if bool(span < -math.log(torch.finfo(scaled.dtype).tiny) / 2):
        return None
    tiles = plan.tiles(len(scaled), len(scaled))
    return torch.stack([_exponents(scaled, penalty, i, j, buffer).amax() for i, j in tiles]).amax()
