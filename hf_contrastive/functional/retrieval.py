"""Where a query's match stands among all keys.

Dimension key: q = queries, k = keys, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width


class Ranks(NamedTuple):
    """The place of each query's best match. Keys that tie share their places: a collapsed model must not look perfect.

    Args:
        better: Wrong keys with a higher score than the best match.
        tied: Wrong keys with the same score.
        matches: Matches with that score, at least one.
    """

    better: Int[Tensor, "q"]
    tied: Int[Tensor, "q"]
    matches: Int[Tensor, "q"]

    def recall(self, k: int) -> Float[Tensor, ""]:
        """Share of queries with a match among the first k keys, in expectation if ties are broken at random."""
        if k < 1:
            raise ValueError(f"`k` must be at least 1, but got {k}.")
        places, tied = (k - self.better).clamp(min=0).double(), self.tied.double()
        # Chance that no match is among the places that are left: C(tied, places) / C(tied + matches, places).
        misses = _log_choose(tied, places) - _log_choose(tied + self.matches, places)
        return torch.where(places > tied, 1.0, 1 - misses.exp()).mean()

    def median(self) -> Float[Tensor, ""]:
        """Median place of the best match, counted from 1; among ties the expected place of the first match."""
        places = self.better + (self.tied + self.matches + 1) / (self.matches + 1)
        middle = places.sort().values[[(len(places) - 1) // 2, len(places) // 2]]
        return middle.mean()


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
    better, tied, matched = [], [], []
    for start in range(0, len(queries), chunk_size):
        ids = query_ids[start : start + chunk_size].to(queries.device)
        scores = queries[start : start + chunk_size] @ keys.T
        matches = ids.unsqueeze(1) == key_ids.to(keys.device)
        if not (found := matches.any(dim=1)).all():
            raise ValueError(f"Every query needs a match among the keys, but none has the id {int(ids[~found][0])}.")
        distances = scores - scores.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
        # Equal keys may differ in the last bits of their scores: products round otherwise at the edge of a matrix.
        ties = distances.abs() <= 8 * torch.finfo(scores.dtype).eps
        better.append(((distances > 0) & ~ties & ~matches).sum(dim=1))
        tied.append((ties & ~matches).sum(dim=1))
        matched.append((ties & matches).sum(dim=1))
    return Ranks(torch.cat(better), torch.cat(tied), torch.cat(matched))


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Log of the binomial coefficient; meaningless, but finite or infinite, for k > n."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)


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
