"""Sums of exponentials that cannot overflow, and the gradients of their logarithms, for one tile of logits at a time."""

import torch
from torch import Tensor


def floored(log_sums: Tensor) -> Tensor:
    """Log sums with the most negative finite number for those without terms."""
    return log_sums.clamp(min=torch.finfo(log_sums.dtype).min)


def is_empty(log_sums: Tensor) -> Tensor:
    """Which log sums have no terms."""
    return log_sums <= torch.finfo(log_sums.dtype).min / 2


class Sums:
    """Sums of exponentials, each relative to the largest exponent that it has met."""

    def __init__(self, like: Tensor, n: int) -> None:
        self.sums = like.new_zeros(n)
        self.largest: Tensor | None = None

    def add(self, tile: Tensor, place: slice, dim: int, spare: Tensor) -> None:
        """Add the exponentials of a tile of logits, summed along `dim`."""
        if self.largest is None:
            # Finite, so that a sum without pairs has exponentials of minus infinity and not of a difference of two.
            self.largest = torch.full_like(self.sums, torch.finfo(self.sums.dtype).min)
        before = self.largest[place]
        now = torch.maximum(before, tile.amax(dim))
        shifted = torch.sub(tile, now.unsqueeze(dim), out=spare[: tile.numel()].view(tile.shape)).exp_()
        self.sums[place] = self.sums[place] * (before - now).exp() + shifted.sum(dim)
        self.largest[place] = now

    def log(self) -> Tensor:
        logs = self.sums.log()
        if self.largest is not None:
            logs += self.largest
        return floored(logs)


class Weigh:
    """Turns a tile into the gradient with respect to its logits."""

    def __init__(
        self,
        bounded: bool,
        row_grad: Tensor,
        row_sums: Tensor,
        column_grad: Tensor | None,
        column_sums: Tensor | None,
        *,
        may_be_empty: bool = True,
    ) -> None:
        self.bounded = bounded
        self.rows = _weights(bounded, row_grad, row_sums, may_be_empty)
        self.columns = None
        if column_grad is not None and column_sums is not None:
            self.columns = _weights(bounded, column_grad, column_sums, may_be_empty)

    def __call__(self, tile: Tensor, i: slice, j: slice, out: Tensor) -> Tensor:
        grads, sums = (z[i].unsqueeze(1) for z in self.rows)
        if self.bounded:
            if self.columns is None:
                return torch.mul(tile, grads, out=out)
            torch.add(grads, self.columns[0][j], out=out)
            return out.mul_(tile)
        torch.sub(tile, sums, out=out).exp_().mul_(grads)
        if self.columns is not None:
            # A new tile, only where logits are too large for the shorter way.
            out.add_((tile - self.columns[1][j]).exp_().mul_(self.columns[0][j]))
        return out


def _weights(bounded: bool, grad: Tensor, sums: Tensor, may_be_empty: bool) -> tuple[Tensor, Tensor]:
    """Gradient and log-sum of each row; of a row without pairs, which has no gradient, zeros."""
    if may_be_empty:
        empty = is_empty(sums)
        grad, sums = grad.masked_fill(empty, 0), sums.masked_fill(empty, 0)
    return (grad * (-sums).exp() if bounded else grad), sums
