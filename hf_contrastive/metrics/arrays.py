"""What users give as rows, as tensors: arrays, tensors, nested lists, in batches, of several processes."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_embeddings(value: Any, name: str) -> Tensor:
    """A matrix of embeddings from an array, tensor or nested list."""
    tensor = _as_tensor(value, name, "rows of numbers, all of one length")
    if tensor.dim() != 2:
        raise ValueError(f"`{name}` must have shape (rows, width), but got shape {list(tensor.shape)}.")
    # Whole numbers would be refused; single precision is what embeddings have.
    return tensor if tensor.is_floating_point() else tensor.float()


def as_numbers(value: Any, name: str) -> Tensor:
    """Whole numbers, such as ids or classes, from an array, tensor or list."""
    tensor = _as_tensor(value, name, "whole numbers, one for each row")
    if tensor.dim() != 1 or (tensor.is_floating_point() and len(tensor)):
        raise ValueError(
            f"`{name}` must hold whole numbers, one for each row, but got shape {list(tensor.shape)} of {tensor.dtype}."
        )
    return tensor.long()


def _as_tensor(value: Any, name: str, content: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    try:
        if isinstance(value, (list, tuple)) and value and all(isinstance(row, Tensor) for row in value):
            return torch.stack([row.detach() for row in value])
        array = np.asarray(value)
        # A copy of what a tensor cannot share: views that run backwards, foreign bytes, memory that is not to be written.
        plain = array.dtype.isnative and array.flags.writeable and min(array.strides, default=0) >= 0
        return torch.from_numpy(array if plain else array.astype(array.dtype.newbyteorder("="), order="C"))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold {content}: {error}") from error


def joined(batches: list[Tensor], name: str) -> Tensor:
    """All rows of batches of one width."""
    widths = {batch.shape[1:] for batch in batches}
    if len(widths) > 1:
        raise ValueError(
            f"`{name}` must have one width in all batches, but got {sorted(int(width[0]) for width in widths)}."
        )
    return batches[0] if len(batches) == 1 else torch.cat(batches)


def stacked(processes: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of all processes, in their order, where the first has its own."""
    names = dict.fromkeys(name for rows in processes for name in rows)
    batches = {name: [rows[name] for rows in processes if name in rows] for name in names}
    return {name: joined([batch.to(parts[0].device) for batch in parts], name) for name, parts in batches.items()}


def of_one_precision(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Embeddings in the highest precision among them: lists are double, arrays often single or half."""
    dtype = reduce(torch.promote_types, (x.dtype for x in rows.values() if x.is_floating_point()))
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in rows.items()}
