"""Groups of rows in which no two share a value, as many and as full as there can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


Integers = npt.NDArray[np.int64]


def codes_of(values: Sequence[Any]) -> Integers:
    """One integer per value, equal where the values are.

    >>> codes_of(["cat", "dog", "cat"]).tolist()
    [0, 1, 0]

    Raises:
        ValueError: A value is neither an integer nor a string.
    """
    known: dict[int | str, int] = {}
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(
                f"Rows are told apart by integers or strings, one per row, but row {row} has {value!r}. Name another "
                "column, or drop the rows without a value."
            )
        known.setdefault(value, len(known))
    return np.fromiter((known[value] for value in values), dtype=np.int64, count=len(values))


def count_distinct_groups(codes: Integers, size: int) -> int:
    r"""
    The largest number of groups of `size` rows in which no code is twice.

    With $c_i$ rows of code $i$ it is the largest $G$ with $\sum_i \min(c_i, G) \ge G \cdot \mathrm{size}$: a group holds
    at most one row of each code. It depends on the codes alone, so every epoch has as many.

    >>> count_distinct_groups(np.array([0, 0, 0, 1, 2]), size=2)
    2
    """
    counts = np.bincount(codes)
    low, high = 0, len(codes) // size
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() >= middle * size:
            low = middle
        else:
            high = middle - 1
    return low


def distinct_groups(codes: Integers, size: int, rng: np.random.Generator) -> Integers:
    r"""
    Random rows in as many groups as [`count_distinct_groups`] promises, of shape (groups, size).

    Rows of one code are laid side by side, codes in random order, at most $G$ of each; position $p$ goes to group
    $p \bmod G$. Neighbours go to different groups, so no group has a code twice, and all groups are full: the wrap-around
    rule of McNaughton 1959. One sort of the rows.

    Args:
        codes (`numpy.ndarray`):
            What each row shows.
        size (`int`):
            Rows of a group.
        rng (`numpy.random.Generator`):
            Source of the order.
    """
    groups = count_distinct_groups(codes, size)
    if groups == 0:
        return np.empty((0, size), dtype=np.int64)
    order = rng.permutation(len(codes))
    rank = rng.permutation(int(codes.max()) + 1)
    order = order[np.argsort(rank[codes[order]], kind="stable")]
    sorted_codes = codes[order]
    starts = np.flatnonzero(np.r_[True, sorted_codes[1:] != sorted_codes[:-1]])
    occurrence = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    kept = order[occurrence < groups][: groups * size]
    table = kept.reshape(size, groups).T[rng.permutation(groups)]
    # Codes that were laid out late would otherwise always be the last of their group, the same process's rows.
    return rng.permuted(table, axis=1)
