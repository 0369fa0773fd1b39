"""What reductions with gradients of their own share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def autocast_to_bfloat16() -> bool:
    """Whether products are meant to be in bfloat16 here."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
            return True
    return False


class Forwarded:
    """Gradients that a forward pass has made on the way.

    The first backward pass takes them and may overwrite them, so that there is no copy beside them. A further one, through
    a retained graph, makes them again.
    """

    def __init__(self) -> None:
        self._made: Sequence[Tensor] | None = None

    def keep(self, *gradients: Tensor) -> None:
        """Leave gradients for the backward pass."""
        self._made = gradients

    def take(self, make: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """The gradients, which now belong to the caller; from `make` where they have been taken."""
        made, self._made = self._made, None
        return make() if made is None else made


def scaled(gradient: Tensor, factor: Tensor) -> Tensor:
    """`gradient * factor`, in the memory of `gradient` where that can be."""
    # Transforms of `torch.func` do not write into tensors from outside of them.
    return gradient * factor if torch._C._are_functorch_transforms_active() else gradient.mul_(factor)


def once_differentiable(grad: Tensor, *inputs: Tensor) -> Tensor:
    """`grad`, which raises when somebody differentiates it as a function of `inputs`."""
    return _Once.apply(grad, *inputs) if torch.is_grad_enabled() else grad  # type: ignore[no-untyped-call]


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise RuntimeError(
            "Sums over tiles of pairs can be differentiated once: their second derivatives are not implemented. For "
            "those (`create_graph=True`, Hessians), write the loss with `torch.logsumexp` over all logits."
        )
