"""Sums over the rows that show the same thing.

Dimension key: n = rows, d = embedding width.
"""

import torch
import torch.nn.functional as F
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


def one_row_per_id(x: Float[Tensor, "n d"], ids: Int[Tensor, "n"], *, tolerance: float = 1e-3) -> Int[Tensor, "u"]:
    """Rows that stand for all: the first row of each id if the rows of every id coincide, otherwise every row.

    An image with five captions fills five rows with one embedding, and is one candidate of a retrieval. Its captions
    differ, so all of them stay, and so do several photos of one product.

    Args:
        x: Rows of any length.
        ids: What each row shows.
        tolerance: One minus the cosine up to which rows coincide; batches of other sizes round otherwise.

    >>> images, ids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([7, 3, 7])
    >>> one_row_per_id(images, ids), one_row_per_id(images[[0, 1, 1]], ids)
    (tensor([0, 1]), tensor([0, 1, 2]))
    """
    values, group = torch.unique(ids, return_inverse=True)
    every = torch.arange(len(ids), device=ids.device)
    first = torch.full_like(values, len(ids)).scatter_reduce(0, group, every, "amin")
    for start in range(0, len(ids), 4096):
        rows = every[start : start + 4096]
        if not (F.cosine_similarity(x[rows], x[first[group[rows]]]) >= 1 - tolerance).all():
            return every
    return first.sort().values
