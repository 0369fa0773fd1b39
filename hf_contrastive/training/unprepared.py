"""Evaluation before training must not keep training from being distributed."""

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
