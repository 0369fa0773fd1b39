"""The model's temperature and bias: where they start, how far they may go, how they are optimized."""

import math
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerState
from transformers.utils import logging

from hf_contrastive.distributed import rank
from hf_contrastive.losses.schedule import Schedule
from hf_contrastive.pair_scales import BIAS, SCALE
from hf_contrastive.sharded_parameters import clamp_max, fill, full_value, reshard


logger = logging.get_logger(__name__)


def set_logit_scale(model: nn.Module, *, scale: float | None, learn: bool) -> None:
    """Start the model's inverse temperature at `scale` (where it is, if None) and train it or not."""
    parameter = getattr(model, SCALE)
    if scale is not None:
        fill(parameter, math.log(scale))
    parameter.requires_grad_(learn)


def set_logit_bias(model: nn.Module, bias: float | str | None, *, batch_size: int, used: bool) -> None:
    """Start the model's bias at a number, or with `"auto"` where so many rows want it.

    With N candidates of which one matches, the chance of a match is 1/N: a sigmoid loss whose bias says so, about
    -log N, starts by learning which pair matches rather than that most do not. A bias that is not exactly zero, the
    untrained value of `transformers`, has been trained or chosen, and `"auto"` leaves it alone.

    Args:
        model: The model, changed in place.
        bias: The number, `"auto"`, or None to leave it as it is.
        batch_size: Rows of the world's batch.
        used: Whether the loss uses a bias.

    Raises:
        ValueError: A number is given for a model without bias.
    """
    parameter = getattr(model, BIAS, None)
    if bias is None or (bias == "auto" and (parameter is None or not used or full_value(parameter).any())):
        return
    if parameter is None:
        raise ValueError(f"`logit_bias` is {bias}, but {type(model).__name__} has no `logit_bias`.")
    if bias == "auto":
        bias = -math.log(batch_size)
        if rank() == 0:
            logger.warning(
                f"`logit_bias` was 0, untrained, and starts at {bias:.2f} = -log({batch_size}): one of the "
                f"{batch_size} candidates of the global batch matches."
            )
    fill(parameter, float(bias))


def scale_and_bias(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The model's inverse temperature and bias (None where it has none), on the CPU and without a graph.

    Every process must call it: they may be sharded.
    """
    reshard(model, recurse=False)
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
        # Found once: to walk through a model takes longer than to bound a number.
        self._scales: list[nn.Parameter] = []

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self._scales = []
        self.on_optimizer_step(model=model)

    def on_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self._scales = self._scales or _scales_of(model)
        for parameter in self._scales:
            clamp_max(parameter, self.bound)


class ScheduleLogitScale(TrainerCallback):
    """Let the inverse temperature follow `schedule`.

    It is set before the first step and after each one, so a checkpoint holds what the next step uses, the last one the
    end.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._scales: list[nn.Parameter] = []

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, model: nn.Module, **__: Any) -> None:
        self._scales = []
        self.on_step_end(args, state, model=model)

    def on_step_end(self, _: Any, state: TrainerState, *__: Any, model: nn.Module, **___: Any) -> None:
        self._scales = self._scales or _scales_of(model)
        scale = self.schedule.at(state.global_step / state.max_steps)
        for parameter in self._scales:
            fill(parameter, math.log(scale))


def _scales_of(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[2] == SCALE]
