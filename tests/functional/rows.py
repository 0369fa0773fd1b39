"""Embeddings for the tests of the numerical core: seeded, in double precision."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rows(n: int, d: int, seed: int = 0) -> Tensor:
    return F.normalize(random_rows(n, d, seed), dim=1)


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)
