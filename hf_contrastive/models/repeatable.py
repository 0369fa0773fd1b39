"""Inputs that depend on nothing but their values: not on chance, not on the rest of a batch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor


# The numbers of NumPy are those of all threads.
_ONE_AT_A_TIME = Lock()


def repeatable_inputs(processor: Any, modality: str, values: Sequence[Any]) -> Mapping[str, Tensor]:
    """
    What a [`Modality`] makes of values, each as it would alone.

    CLAP's feature extractor crops long sounds at random and, to train all parameters, now and then calls a short one
    long. Here it crops each sound where it did the last time, and short ones are short.
    """
    extractor = processor.processor
    if getattr(extractor, "truncation", None) not in ("rand_trunc", "fusion"):
        found: Mapping[str, Tensor] = processor.inputs(modality, values)
        return found
    parts = []
    for value in values:
        with _same_numbers():
            part = processor.inputs(modality, [value])
        is_long = len(value["array"]) > extractor.nb_max_samples
        parts.append({name: x & is_long if name.endswith("is_longer") else x for name, x in part.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def _same_numbers() -> Iterator[None]:
    with _ONE_AT_A_TIME:
        state = np.random.get_state()
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(state)
