"""Forward passes that are others for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside this context, calling `module` calls `forward`; outside, nothing has changed."""
    # A forward that somebody has put on the instance already, or None where it is the class's.
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Inside this context, no part of `module` is in training mode; afterwards, those that were are again."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
