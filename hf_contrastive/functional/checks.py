"""What the functional core demands of embeddings, and how it says so."""

import math
from collections.abc import Mapping
from functools import reduce

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


class NonFiniteError(ValueError):
    """A NaN or an infinity where numbers must be finite."""


def as_embeddings(
    x: Shaped[Tensor, "..."], name: str, *, min_rows: int = 1, normalize: bool = True, first: int = 0
) -> Shaped[Tensor, "n d"]:
    """Rows of `x` after a check, in at least single precision, and of unit length if `normalize`.

    Args:
        x: Embeddings, of shape (n, d).
        name: What the caller's user calls `x`, for messages.
        min_rows: Fewest rows that the caller's formula is defined for.
        normalize: Whether to divide each row by its length. Rows of length zero are then refused.
        first: Number of the first row, for messages about a part of the user's rows.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: `x` is not a matrix, has too few rows, or holds a row that is not finite or (if `normalize`) zero.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`{name}` must be a floating-point tensor of embeddings, but got {kind}.")
    if x.dim() != 2:
        raise ValueError(f"`{name}` must have shape (rows, width), but got shape {list(x.shape)}.")
    if len(x) < min_rows:
        raise ValueError(f"`{name}` must have at least {min_rows} rows, but got shape {list(x.shape)}.")
    x = x.to(working_dtype(x))
    if not normalize:
        refuse_nonfinite(x, name, first=first)
        return x
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    shortest, longest = lengths.detach().aminmax()
    # One pass finds every fault: squares of a row's entries overflow, vanish or are not a number with its length.
    if not (shortest > torch.finfo(x.dtype).tiny ** 0.5 and longest < torch.inf):
        refuse_nonfinite(x, name, first=first)
        x = x / x.detach().abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if (zero := lengths.detach().squeeze(1).eq(0)).any():
        raise ValueError(
            f"`{name}` holds rows of zeros, which have no direction to normalize: row {first + _first(zero)} is the first of "
            f"{int(zero.sum())}. Drop them, or pass `normalize=False` where raw lengths are meant."
        )
    return x / lengths


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """What to compute in: the most precise type among the tensors, and at least single precision."""
    return reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)


def refuse_nonfinite(x: Shaped[Tensor, "n ..."], name: str, *, first: int = 0) -> None:
    """Raise a [`NonFiniteError`] that names the first row of `x` with a NaN or an infinity."""
    # The sum is finite only if every entry is (or if finite entries overflow, which the exact test then clears).
    if len(x) == 0 or math.isfinite(x.detach().sum()):
        return
    bad = ~x.detach().flatten(start_dim=1).isfinite().all(dim=1)
    if bad.any():
        raise NonFiniteError(
            f"`{name}` holds rows that are not finite: row {first + _first(bad)} is the first of {int(bad.sum())}."
        )


def refuse_any_nonfinite(named: Mapping[str, Shaped[Tensor, "n ..."]]) -> None:
    """[`refuse_nonfinite`] of several tensors by name, for which an accelerator is waited for once."""
    if named and not math.isfinite(sum(x.detach().sum() for x in named.values())):
        for name, x in named.items():
            refuse_nonfinite(x, name)


def check_same_width(x: Shaped[Tensor, "n d"], y: Shaped[Tensor, "m e"], names: str) -> None:
    """Raise a ValueError unless both matrices have rows of one width."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{names} must have the same width, but got shapes {list(x.shape)} and {list(y.shape)}.")


def check_paired(x: Shaped[Tensor, "n d"], y: Shaped[Tensor, "m e"], names: str) -> None:
    """Raise a ValueError unless row i of `x` can be matched with row i of `y`."""
    if x.shape != y.shape:
        raise ValueError(
            f"{names} must match row by row, so have one shape, but got {list(x.shape)} and {list(y.shape)}."
        )


def as_scalar(value: Tensor | float, name: str, like: Shaped[Tensor, "..."]) -> Shaped[Tensor, ""]:
    """`value` as a tensor without dimensions, of the type and on the device of `like`; models keep theirs in shape (1,)."""
    # By default torch would round a Python number to single precision.
    scalar = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if scalar.numel() != 1:
        raise ValueError(f"`{name}` must be a single number, but got shape {list(scalar.shape)}.")
    return scalar.reshape(())


def check_positive(value: float, name: str) -> None:
    """Raise a ValueError unless `value` is above zero and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be positive and finite, but got {value}.")


def check_labels(labels: Int[Tensor, "..."], num_rows: int, num_classes: int) -> None:
    """Raise a ValueError unless `labels` are classes from 0, one for each row."""
    if labels.shape != (num_rows,):
        raise ValueError(f"`labels` must be one for each of {num_rows} rows, but got shape {list(labels.shape)}.")
    if (wrong := (labels < 0) | (labels >= num_classes)).any():
        row = _first(wrong)
        raise ValueError(f"`labels` must be from 0 to {num_classes - 1}, but row {row} has {int(labels[row])}.")


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0, 0])
