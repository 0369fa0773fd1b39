"""Where a query's match stands among all keys.

Dimension key: q = queries, k = keys, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width


class Ranks(NamedTuple):
    """The place of each query's best match.

    Args:
        better: Wrong keys with a higher score than the match.
        tied: Wrong keys with the same score. They share places: a collapsed model must not look perfect.
    """

    better: Int[Tensor, "q"]
    tied: Int[Tensor, "q"]

    def recall(self, k: int) -> Float[Tensor, ""]:
        """Share of queries whose match is among the first k keys, in expectation if ties are broken at random."""
        if k < 1:
            raise ValueError(f"`k` must be at least 1, but got {k}.")
        return ((k - self.better) / (self.tied + 1)).clamp(0, 1).mean()

    def median(self) -> Float[Tensor, ""]:
        """Median place of the match, counted from 1; ties take the mean of the places that they share."""
        places = 1 + self.better + self.tied / 2
        return places.quantile(0.5) if len(places) < 2**24 else places.median()


def retrieval_ranks(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    *,
    query_ids: Int[Tensor, "q"] | None = None,
    key_ids: Int[Tensor, "k"] | None = None,
    normalize: bool = True,
    chunk_size: int = 1024,
) -> Ranks:
    """Rank of each query's best match among `keys` by cosine similarity.

    Args:
        queries: Rows that search.
        keys: Rows that are searched.
        query_ids: Item of each query. By default row i matches row i, and there are as many queries as keys.
        key_ids: Item of each key. Keys with the query's item are matches, however many.
        normalize: Whether to scale rows to unit length first.
        chunk_size: Queries whose scores are held at a time.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or a query has no match.
    """
    queries = as_embeddings(queries, "queries", normalize=normalize)
    keys = as_embeddings(keys, "keys", normalize=normalize)
    check_same_width(queries, keys, "`queries` and `keys`")
    query_ids, key_ids = _ids(len(queries), len(keys), query_ids, key_ids)
    better, tied = [], []
    for start in range(0, len(queries), chunk_size):
        ids = query_ids[start : start + chunk_size].to(queries.device)
        scores = queries[start : start + chunk_size] @ keys.T
        matches = ids.unsqueeze(1) == key_ids.to(keys.device)
        if not (found := matches.any(dim=1)).all():
            raise ValueError(f"Every query needs a match among the keys, but none has the id {int(ids[~found][0])}.")
        # The match's score is read from the same product as its rivals': another rounding would make or break ties.
        best = scores.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
        better.append(((scores > best) & ~matches).sum(dim=1))
        tied.append(((scores == best) & ~matches).sum(dim=1))
    return Ranks(torch.cat(better), torch.cat(tied))


def _ids(num_queries: int, num_keys: int, query_ids: Tensor | None, key_ids: Tensor | None) -> tuple[Tensor, Tensor]:
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
