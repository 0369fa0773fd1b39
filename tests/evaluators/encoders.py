"""Encoders for tests: no model, known embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Lookup:
    """An encoder that embeds each value by a function of it, and counts what it was asked."""

    def __init__(self, **functions: Callable[[Any], Sequence[float]]) -> None:
        self.functions = functions
        self.asked: list[tuple[str, list[Any]]] = []

    def __call__(self, modality: str, values: Sequence[Any]) -> Tensor:
        values = list(values)
        self.asked.append((modality, values))
        return F.normalize(torch.tensor([list(self.functions[modality](value)) for value in values]).float(), dim=1)
