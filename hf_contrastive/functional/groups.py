"""Sums over the rows that show the same thing.

Dimension key: n = rows, d = embedding width.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def sums_of_ids(
    x: Float[Tensor, "n d"], ids: Int[Tensor, "n"], taken: Bool[Tensor, "n"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
    """For each row the sum of the rows with its id, itself included, and their number. O(n d) memory.

    Args:
        x: Rows.
        ids: What each row shows.
        taken: Rows that count. The others get zeros.

    >>> sums_of_ids(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([7, 3, 7]), torch.tensor([True, True, True]))
    (tensor([[5.],
            [2.],
            [5.]]), tensor([2., 1., 2.]))
    """
    _, group = torch.unique(ids, return_inverse=True)
    x = torch.where(taken.unsqueeze(1), x, torch.zeros_like(x))
    counts = taken.to(x.dtype)
    sums = torch.zeros_like(x).index_add(0, group, x)[group]
    numbers = torch.zeros_like(counts).index_add(0, group, counts)[group]
    return sums * counts.unsqueeze(1), numbers * counts
