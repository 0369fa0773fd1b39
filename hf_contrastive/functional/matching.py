"""Scores of two sets of rows, tile by tile, with rows of the same item side by side.

Dimension key: q = queries, k = keys, n = rows of one side, d = embedding width, r x c = a tile.
"""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.ranks import RankCounts, Ranks
from hf_contrastive.functional.tiles import blocks, shaped, tile_size


# Rows that are brought to unit length at a time and kept while all tiles beside them are made: 8 MiB at width 512.
STRIPE = 4096
# Pairs that are scored in double precision at a time.
EXACT_PAIRS = 512


@torch.no_grad()
def count_ranks(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k e"],
    query_ids: Int[Tensor, "q"],
    key_ids: Int[Tensor, "k"],
    *,
    both_ways: bool,
    normalize: bool,
    chunk_size: int | None,
) -> list[Ranks]:
    """Ranks of the queries among the keys and, if `both_ways`, of the keys among the queries, from the same products.

    Memory beside ids and ranks is that of a stripe of rows and of a few tiles.
    """
    check_same_width(queries, keys, "`queries` and `keys`")
    sides = _Side(queries, query_ids, "queries", normalize), _Side(keys, key_ids, "keys", normalize)
    size = chunk_size or tile_size(queries)
    like = sides[0].rows(slice(0, 1))
    counts = [RankCounts(len(query_ids), 1, like, partial(_exact, *sides), sides[0].score_sizes(sides[1]))]
    if both_ways:
        back = sides[::-1]
        counts.append(RankCounts(len(key_ids), 0, like, partial(_exact, *back), back[0].score_sizes(back[1])))
    for tile, i, j in _tiles(*sides, size, matching_only=True):
        for count, own, other in zip(counts, (i, j), (j, i), strict=False):
            count.see_matches(tile, own, other, sides[0].matches(i, sides[1], j))
    spare = like.new_empty(min(size, len(queries)) * min(size, len(keys)))
    for tile, i, j in _tiles(*sides, size, matching_only=False):
        matches = sides[0].matches(i, sides[1], j) if sides[0].meets(i, sides[1], j) else None
        for count, own, other in zip(counts, (i, j), (j, i), strict=False):
            count.add(tile, own, other, matches, shaped(spare, i, j))
    return [side.in_order_given(count.ranks()) for side, count in zip(sides, counts, strict=False)]


def checked_ids(
    num_queries: int, num_keys: int, query_ids: Int[Tensor, "q"] | None, key_ids: Int[Tensor, "k"] | None
) -> tuple[Int[Tensor, "q"], Int[Tensor, "k"]]:
    """Ids of both sides, numbers of rows where none are given.

    Raises:
        ValueError: Only one kind of ids is given, or their number is wrong.
    """
    if query_ids is None and key_ids is None:
        if num_queries != num_keys:
            raise ValueError(
                f"Without `query_ids` and `key_ids` row i matches row i, so there must be as many queries as keys, but "
                f"got {num_queries} and {num_keys}. Pass the item that each row belongs to."
            )
        return torch.arange(num_queries), torch.arange(num_keys)
    if query_ids is None or key_ids is None:
        raise ValueError("`query_ids` and `key_ids` go together, but only one of them was given.")
    for name, ids, rows in (("query_ids", query_ids, num_queries), ("key_ids", key_ids, num_keys)):
        if ids.shape != (rows,):
            raise ValueError(f"`{name}` must hold one id for each of {rows} rows, but got shape {list(ids.shape)}.")
    return query_ids, key_ids


def refuse_unmatched(ids: Int[Tensor, "q"], others: Int[Tensor, "k"], row: str, place: str) -> None:
    """Raise a ValueError that names the first of the ids of some rows that no row of the other side has."""
    missing = ~torch.isin(ids, others.to(ids.device))
    if missing.any():
        raise ValueError(f"Every {row} needs a match among the {place}, but none has the id {int(ids[missing][0])}.")


class _Side:
    """Rows of one side by item, those of the same item side by side."""

    def __init__(self, x: Shaped[Tensor, "n d"], ids: Int[Tensor, "n"], name: str, normalize: bool) -> None:
        self.x, self.name, self.normalize = x, name, normalize
        lengths = []
        for rows in blocks(len(x), STRIPE):
            # Refuses bad rows by the number that the user knows.
            checked = as_embeddings(x[rows], name, normalize=normalize, first=rows.start)
            lengths.append(torch.linalg.vector_norm(checked, dim=1))
        ids = ids.to(x.device)
        ordered = bool((ids.diff() >= 0).all())
        self.order = None if ordered else ids.argsort(stable=True)
        self.ids = ids if self.order is None else ids[self.order]
        self.lengths = torch.cat(lengths) if self.order is None else torch.cat(lengths)[self.order]
        # Looked at once a tile, which an accelerator would have to wait for.
        self._ids = self.ids.cpu()

    def rows(self, place: slice | Int[Tensor, "r"], dtype: torch.dtype | None = None) -> Float[Tensor, "r d"]:
        """Rows as they are scored, in their own precision unless another is given."""
        x = self.x[place] if self.order is None else self.x[self.order[place]]
        return as_embeddings(x.to(dtype or x.dtype), self.name, normalize=self.normalize)

    def score_sizes(self, other: "_Side") -> Float[Tensor, "n"]:
        """Largest score that each row can have: its length times that of the longest row of the other side."""
        return self.lengths * other.lengths.amax()

    def meets(self, i: slice, other: "_Side", j: slice) -> bool:
        """Whether rows i can match rows j of the other side."""
        mine, others = self._ids[[i.start, i.stop - 1]].tolist(), other._ids[[j.start, j.stop - 1]].tolist()
        return bool(mine[0] <= others[1] and others[0] <= mine[1])

    def matches(self, i: slice, other: "_Side", j: slice) -> Bool[Tensor, "r c"]:
        """Which of rows i match which of rows j of the other side."""
        return self.ids[i].unsqueeze(1) == other.ids[j]

    def in_order_given(self, ranks: Ranks) -> Ranks:
        """Ranks in the order in which the user gave the rows."""
        if self.order is None:
            return ranks
        return Ranks(*(torch.empty_like(values).index_copy_(0, self.order, values) for values in ranks))


def _tiles(
    queries: _Side, keys: _Side, size: int, *, matching_only: bool
) -> Iterator[tuple[Float[Tensor, "r c"], slice, slice]]:
    """Scores with their queries and keys, of all tiles or of those that may hold a match."""
    per_stripe = max(1, STRIPE // size) * size
    for stripe in blocks(len(queries.ids), per_stripe):
        inside = [
            slice(stripe.start + i.start, stripe.start + i.stop) for i in blocks(stripe.stop - stripe.start, size)
        ]
        left = None
        for j in blocks(len(keys.ids), size):
            wanted = [i for i in inside if not matching_only or queries.meets(i, keys, j)]
            if wanted:
                left = queries.rows(stripe) if left is None else left
                right = keys.rows(j)
                for i in wanted:
                    yield row_products(left[i.start - stripe.start : i.stop - stripe.start], right), i, j


def _exact(queries: _Side, keys: _Side, i: Int[Tensor, "p"], j: Int[Tensor, "p"]) -> Float[Tensor, "p"]:
    """Scores of single pairs in double precision."""
    pairs = zip(torch.split(i, EXACT_PAIRS), torch.split(j, EXACT_PAIRS), strict=True)
    return torch.cat([(queries.rows(a, torch.float64) * keys.rows(b, torch.float64)).sum(dim=1) for a, b in pairs])
