"""What an evaluation must not leave behind: a model that later training would not distribute, or in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn


# How accelerate marks what it prepared, and then hands back as it is.
MARK = "_is_accelerate_prepared"


@contextmanager
def unprepared_after(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Let a model that is prepared for evaluation in here be prepared anew for training.

    Otherwise training after it would find the mark and go without DDP: each process by the gradient of its own examples,
    without an error.
    """
    was_prepared = getattr(model, MARK, False)
    try:
        yield
    finally:
        whole = accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        if accelerator.num_processes > 1 and whole and not was_prepared and getattr(model, MARK, False):
            # Takes automatic mixed precision off the forward, which preparing puts on again.
            accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            setattr(model, MARK, False)
            accelerator._models = [other for other in accelerator._models if other is not model]


@contextmanager
def unrounded_after(model: nn.Module) -> Iterator[None]:
    """Give a model that is cast in here, as by `bf16_full_eval`, the weights again that it had.

    Otherwise training after it would begin from rounded weights and go on in half precision, and what is saved would be
    in that, without a word.
    """
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [(module, name, x) for module in model.modules() for name, x in module.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, name, x in buffers:
            setattr(module, name, x)
