"""Outputs of frozen towers, to stand in for a second run of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_contrastive.towers.forwards import replaced_forward
from hf_contrastive.towers.frozen import is_frozen
from hf_contrastive.training.random_state import RandomState


class Call(NamedTuple):
    """One call of a frozen tower: what it returned, and where random numbers stood afterwards."""

    tower: nn.Module
    output: Any
    after: RandomState


class FrozenTowers:
    """
    The towers and heads of a model that have no trainable parameter.

    Args:
        model: The unwrapped model. Its towers are its children; wrappers with a single child, module lists and module
            dicts are looked into.
        devices: Where its random numbers come from.
    """

    def __init__(self, model: nn.Module, devices: Iterable[torch.device]) -> None:
        self._devices = list(devices)
        self._towers = [tower for tower in _children(model) if is_frozen(tower)]

    @contextmanager
    def recorded(self) -> Iterator[list[Call]]:
        """The calls that are made inside."""
        calls: list[Call] = []

        def recording(tower: nn.Module) -> Any:
            native = tower.forward

            def forward(*args: Any, **kwargs: Any) -> Any:
                output = native(*args, **kwargs)
                calls.append(Call(tower, _copied(output), RandomState.now(self._devices)))
                return output

            return forward

        with ExitStack() as stack:
            for tower in self._towers:
                stack.enter_context(replaced_forward(tower, recording(tower)))
            yield calls

    @contextmanager
    def replayed(self, calls: list[Call]) -> Iterator[None]:
        """Inside, towers return what they returned when `calls` were recorded, and compute nothing."""
        remaining = iter(calls)

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = next(remaining)
            # What comes after draws the numbers that it drew then.
            call.after.restore()
            return _copied(call.output)

        with ExitStack() as stack:
            for tower in self._towers:
                stack.enter_context(replaced_forward(tower, forward))
            yield

    def clear(self) -> None:
        """Forget all towers: they run again."""
        self._towers = []

    def keep_those_without_graph(self, calls: list[Call]) -> int:
        """Forget towers that a gradient passed through in `calls`, recorded with gradients; bytes of the others' outputs.

        Frozen weights below trained ones, as in prompt tuning, must run again.
        """
        passed = {id(call.tower) for call in calls if any(x.requires_grad for x in _tensors(call.output))}
        self._towers = [tower for tower in self._towers if id(tower) not in passed]
        kept = [x for call in calls if id(call.tower) not in passed for x in _tensors(call.output)]
        return sum(x.nbytes for x in kept)


def _children(model: nn.Module) -> Iterator[nn.Module]:
    children = list(model.children())
    for child in children:
        if len(children) == 1 or isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _children(child)
        else:
            yield child


def _copied(value: Any) -> Any:
    # Models of transformers write projections into the outputs of their towers.
    return copy(value) if isinstance(value, (Mapping, list)) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
