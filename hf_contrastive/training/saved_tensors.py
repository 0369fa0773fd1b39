"""How much memory a forward pass keeps for its backward pass."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """
    Context that counts what autograd saves inside it, beside weights and inputs.

    Args:
        model: Its parameters and buffers are there anyway.
        inputs: So are these.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        super().__init__(self._count, lambda x: x)
        tensors = (x for x in inputs.values() if isinstance(x, Tensor))
        self._known = {x.untyped_storage().data_ptr() for x in chain(model.parameters(), model.buffers(), tensors)}
        self._found: dict[int, int] = {}

    def total(self) -> int:
        """Bytes saved so far; memory that several tensors share counts once."""
        return sum(self._found.values())

    def _count(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._found[storage.data_ptr()] = storage.nbytes()
        return x
