"""Which rows of two clouds match, and the cosines of those that do and of those that do not.

Dimension key: n, m = rows, d = embedding width, p = matched pairs.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.tiles import blocks, tile_size


class Matches:
    """
    Two clouds and which of their rows show the same item. Products are in double precision.

    Args:
        x: First cloud.
        y: Second cloud.
        x_ids: Item of each row of `x`. By default row i matches row i.
        y_ids: Item of each row of `y`.
        normalize: Whether to scale rows to unit length.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or all pairs match, or none.
    """

    def __init__(
        self,
        x: Float[Tensor, "n d"],
        y: Float[Tensor, "m d"],
        x_ids: Int[Tensor, "_"] | None,
        y_ids: Int[Tensor, "_"] | None,
        *,
        normalize: bool = True,
    ) -> None:
        x, y = as_embeddings(x, "x", normalize=normalize), as_embeddings(y, "y", normalize=normalize)
        check_same_width(x, y, "`x` and `y`")
        self.x, self.y = x, y
        self.x_ids, self.y_ids = as_ids(x, y, x_ids, y_ids)
        self.rows, self.columns = _matched_pairs(self.x_ids, self.y_ids)
        self.num_unmatched = len(x) * len(y) - len(self.rows)
        if len(self.rows) == 0 or self.num_unmatched == 0:
            kind = "no rows match" if len(self.rows) == 0 else "all rows match"
            raise ValueError(f"There must be matched and unmatched pairs of `x` and `y` to compare, but {kind}.")

    def matched(self) -> Float[Tensor, "p"]:
        """Inner products of all pairs that match."""
        parts = []
        for i in blocks(len(self.rows), 8 * tile_size(self.x)):
            left, right = self.x[self.rows[i]].double(), self.y[self.columns[i]].double()
            parts.append((left * right).sum(dim=1))
        return torch.cat(parts)

    def unmatched(self) -> Iterator[Float[Tensor, "_"]]:
        """Inner products of all pairs that do not match, a tile at a time."""
        size = tile_size(self.x)
        with torch.autocast(self.x.device.type, enabled=False):
            for i in blocks(len(self.x), size):
                rows = self.x[i].double()
                for j in blocks(len(self.y), size):
                    yield (rows @ self.y[j].double().mT)[self.x_ids[i].unsqueeze(1) != self.y_ids[j]]


def as_ids(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    x_ids: Int[Tensor, "_"] | None,
    y_ids: Int[Tensor, "_"] | None,
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The item of each row: as given, after a check, or the row's number."""
    if x_ids is None and y_ids is None:
        if len(x) != len(y):
            raise ValueError(
                f"Without `x_ids` and `y_ids` row i matches row i, so there must be as many rows of `x` as of `y`, but "
                f"got {len(x)} and {len(y)}. Pass the item that each row belongs to."
            )
        return torch.arange(len(x), device=x.device), torch.arange(len(y), device=y.device)
    if x_ids is None or y_ids is None:
        raise ValueError("`x_ids` and `y_ids` go together, but only one of them was given.")
    for name, ids, rows in (("x_ids", x_ids, len(x)), ("y_ids", y_ids, len(y))):
        if ids.shape != (rows,):
            raise ValueError(f"`{name}` must hold one id for each of {rows} rows, but got shape {list(ids.shape)}.")
    return x_ids.to(x.device), y_ids.to(y.device)


def item_numbers(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    x_ids: Int[Tensor, "_"] | None,
    y_ids: Int[Tensor, "_"] | None,
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The item of each row, counted from 0. Rows of clouds of different sizes show different ones unless ids say so."""
    if x_ids is None and y_ids is None and len(x) != len(y):
        return torch.arange(len(x), device=x.device), torch.arange(len(x), len(x) + len(y), device=y.device)
    _, items = torch.unique(torch.cat(as_ids(x, y, x_ids, y_ids)), return_inverse=True)
    return items[: len(x)], items[len(x) :]


def folds_of_items(
    items_x: Int[Tensor, "n"], items_y: Int[Tensor, "m"], folds: int, seed: int
) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The part of each row, from 0, after the items were dealt to parts by a seeded shuffle.

    Items of both clouds, of the first alone and of the second alone are dealt in turn, so that each part has its share.

    Raises:
        ValueError: A part has no row of one of the clouds.
    """
    num = int(max(items_x.amax(), items_y.amax())) + 1
    in_x, in_y = (torch.zeros(num, dtype=torch.bool).index_fill(0, items.cpu(), True) for items in (items_x, items_y))
    fold_of = torch.empty(num, dtype=torch.long)
    for kind in (in_x & in_y, in_x & ~in_y, in_y & ~in_x):
        fold_of[kind] = torch.randperm(int(kind.sum()), generator=torch.Generator().manual_seed(seed)) % folds
    both = fold_of[items_x.cpu()], fold_of[items_y.cpu()]
    for name, fold in zip(("x", "y"), both, strict=True):
        if len(parts := torch.unique(fold)) < folds:
            raise ValueError(
                f"Rows of one item stay together, so `{name}` must show enough items for {folds} parts, but its rows "
                f"fill {len(parts)} of them."
            )
    return both[0].to(items_x.device), both[1].to(items_y.device)


def _matched_pairs(x_ids: Int[Tensor, "n"], y_ids: Int[Tensor, "m"]) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"]]:
    """Places in both of all pairs with one id, in the order of the first."""
    ids, order = y_ids.sort(stable=True)
    first = torch.searchsorted(ids, x_ids)
    counts = torch.searchsorted(ids, x_ids, right=True) - first
    rows = torch.arange(len(x_ids), device=x_ids.device).repeat_interleave(counts)
    # How many pairs of its row come before each pair.
    place = torch.arange(len(rows), device=x_ids.device) - (counts.cumsum(0) - counts)[rows]
    return rows, order[first[rows] + place]
