"""The model's temperature and bias: where they start, how far they may go, how they are optimized."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_contrastive.sharding import clamp_max, full_value, whole


SCALE, BIAS = "logit_scale", "logit_bias"


def set_logit_scale(model: nn.Module, *, scale: float | None, learn: bool) -> None:
    """Start the model's inverse temperature at `scale` (where it is, if None) and train it or not."""
    parameter = getattr(model, SCALE)
    if scale is not None:
        with torch.no_grad(), whole(parameter, write=True):
            parameter.fill_(math.log(scale))
    parameter.requires_grad_(learn)


def scale_and_bias(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The model's inverse temperature and bias (None where it has none), on the CPU and without a graph.

    Every process must call it: they may be sharded.
    """
    scale, bias = getattr(model, SCALE), getattr(model, BIAS, None)
    return full_value(scale).exp().squeeze().cpu(), None if bias is None else full_value(bias).squeeze().cpu()


def is_scale_or_bias(name: str) -> bool:
    """Whether a parameter of this name is the temperature or bias of the logits, which weight decay must leave alone."""
    return name.rpartition(".")[2] in (SCALE, BIAS)


class ClampLogitScale(TrainerCallback):
    """Keep the inverse temperature at or below `max_logit_scale`.

    After the optimizer step rather than in the forward pass: a scale beyond the bound would get no gradient there and
    never come back.
    """

    def __init__(self, max_logit_scale: float) -> None:
        self.bound = math.log(max_logit_scale)

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self._clamp(model)

    def on_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self._clamp(model)

    def _clamp(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] == SCALE:
                clamp_max(parameter, self.bound)
