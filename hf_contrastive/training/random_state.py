"""Run something a second time with the random numbers of the first."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """Where all generators stand that a model may draw from: dropout draws from torch's, masks of audio from NumPy's."""

    python: Any
    numpy: Any
    cpu: Tensor
    accelerators: dict[torch.device, Tensor]

    @classmethod
    def now(cls, devices: Iterable[torch.device]) -> "RandomState":
        """The present state, on the CPU and on those of `devices` that are accelerators."""
        accelerators = {
            device: _module(device).get_rng_state(*_index(device)) for device in devices if _is_other(device)
        }
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), accelerators)

    def restore(self) -> None:
        """Go on from here."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for device, state in self.accelerators.items():
            _module(device).set_rng_state(state, *_index(device))

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw from this state for a while, then go on where the generators were."""
        before = RandomState.now(self.accelerators)
        self.restore()
        try:
            yield
        finally:
            before.restore()


def _is_other(device: torch.device) -> bool:
    return device.type not in ("cpu", "meta")


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device.type)


def _index(device: torch.device) -> tuple[torch.device, ...]:
    # Apple's have one device and take no argument.
    return () if device.type == "mps" else (device,)
