"""Activations that are computed again, in towers whose first layer returns more than a tensor."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


class CheckpointingMixin:
    """[`~transformers.PreTrainedModel.enable_input_require_grads`] for models with several towers."""

    def enable_input_require_grads(self) -> None:
        """Let gradients start at the embeddings of each tower, as adapters with checkpointing want it."""
        model: Any = self
        model._require_grads_hooks = [first.register_forward_hook(_require_grad) for first in _first_layers(model)]


def _first_layers(model: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for module in model.modules():
        if module is model or not isinstance(module, PreTrainedModel):
            continue
        try:
            first = module.get_input_embeddings()
        except NotImplementedError:
            continue
        if first is not None:
            found[id(first)] = first
    return list(found.values())


def _require_grad(module: Any, inputs: Any, output: Any) -> None:
    # Swin's and others return the shape of their map of patches as well.
    for x in output if isinstance(output, (tuple, list)) else [output]:
        if isinstance(x, Tensor) and x.is_floating_point():
            x.requires_grad_(True)
