"""The precision of inputs and of embeddings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def precision(given: torch.dtype | str | None) -> torch.dtype | None:
    """A precision, or the one of a name such as `"bfloat16"`; None and `"auto"` leave it open."""
    if given is None or given == "auto":
        return None
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype):
        raise ValueError(f"`dtype` must be a precision such as torch.bfloat16, or its name, but got {given!r}.")
    return found


def as_dtype(x: Any, module: nn.Module) -> Any:
    """Numbers in the precision of a module's weights."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    if dtype is None or not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    return x.to(dtype)


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, in single precision at least."""
    # Cosines of half-precision rows are off in their third digit.
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
