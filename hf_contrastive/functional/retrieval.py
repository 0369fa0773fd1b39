"""Where a query's match stands among all keys.

Dimension key: q = queries, k = keys, d = embedding width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width


# Scores that a chunk of queries may hold at a time: 16 MiB in single precision.
CHUNK_SCORES = 2**22


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

    def hits(self, k: int) -> Float[Tensor, "q"]:
        """Chance that a match of each query is among the first k keys, if ties are broken at random."""
        if k < 1:
            raise ValueError(f"`k` must be at least 1, but got {k}.")
        places, tied = (k - self.better).clamp(min=0).double(), self.tied.double()
        # Chance that no match is among the places that are left: C(tied, places) / C(tied + matches, places).
        misses = _log_choose(tied, places) - _log_choose(tied + self.matches, places)
        return torch.where(places > tied, 1.0, 1 - misses.exp())

    def places(self) -> Float[Tensor, "q"]:
        """Place of each query's best match, counted from 1; among ties the expected place of the first match."""
        return self.better + (self.tied + self.matches + 1) / (self.matches + 1)

    def recall(self, k: int) -> Float[Tensor, ""]:
        """Share of queries with a match among the first k keys, in expectation if ties are broken at random."""
        return self.hits(k).mean()

    def median(self) -> Float[Tensor, ""]:
        """Median place of the best match, counted from 1; among ties the expected place of the first match."""
        places = self.places()
        middle = places.sort().values[[(len(places) - 1) // 2, len(places) // 2]]
        return middle.mean()

    def mean(self) -> Float[Tensor, ""]:
        """Mean place of the best match, counted from 1; among ties the expected place of the first match."""
        return self.places().double().mean()

    def mean_reciprocal(self) -> Float[Tensor, ""]:
        """Mean of 1 over the place of the best match (MRR). Ties take their expected place, which is never flattering."""
        return self.places().double().reciprocal().mean()


class Relevance(NamedTuple):
    """How early all matches of each query come, not only the best. Each match takes the mean place among its ties.

    Args:
        average_precision: Mean over a query's matches of the share of matches among the keys up to each.
        gain: Normalized discounted cumulative gain of the first keys, 1 where all matches come first.
    """

    average_precision: Float[Tensor, "q"]
    gain: Float[Tensor, "q"]


def retrieval_ranks(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    *,
    query_ids: Int[Tensor, "q"] | None = None,
    key_ids: Int[Tensor, "k"] | None = None,
    normalize: bool = True,
    chunk_size: int | None = None,
) -> Ranks:
    """Rank of each query's best match among `keys` by cosine similarity.

    Args:
        queries: Rows that search.
        keys: Rows that are searched.
        query_ids: Item of each query. By default row i matches row i, and there are as many queries as keys.
        key_ids: Item of each key. Keys with the query's item are matches, however many.
        normalize: Whether to scale rows to unit length first.
        chunk_size: Queries whose scores are held at a time. By default as many as fit 16 MiB.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or a query has no match.
    """
    ranks = torch.empty(3, len(queries), dtype=torch.long, device=queries.device)
    for rows, scores, matches in _scored(queries, keys, query_ids, key_ids, normalize, chunk_size):
        # In place: small results that outlive big scores would pin the memory of every chunk.
        ranks[:, rows] = torch.stack(_ranks(scores, matches))
    return Ranks(*ranks.unbind())


def retrieval_relevance(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    *,
    query_ids: Int[Tensor, "q"] | None = None,
    key_ids: Int[Tensor, "k"] | None = None,
    k: int = 10,
    normalize: bool = True,
    chunk_size: int | None = None,
) -> tuple[Ranks, Relevance]:
    """[`retrieval_ranks`] and, from the same scores, average precision and NDCG over all matches of each query.

    Args:
        queries: Rows that search.
        keys: Rows that are searched.
        query_ids: Item of each query. By default row i matches row i, and there are as many queries as keys.
        key_ids: Item of each key. Keys with the query's item are matches, however many.
        k: Places that count for the gain.
        normalize: Whether to scale rows to unit length first.
        chunk_size: Queries whose scores are held at a time. By default as many as fit 16 MiB.

    Raises:
        ValueError: As [`retrieval_ranks`], or `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1, but got {k}.")
    ranks = torch.empty(3, len(queries), dtype=torch.long, device=queries.device)
    relevance = torch.empty(2, len(queries), dtype=torch.double, device=queries.device)
    for rows, scores, matches in _scored(queries, keys, query_ids, key_ids, normalize, chunk_size):
        ranks[:, rows] = torch.stack(_ranks(scores, matches))
        relevance[:, rows] = torch.stack(_relevance(scores, matches, k))
    return Ranks(*ranks.unbind()), Relevance(*relevance.unbind())


def _scored(
    queries: Tensor,
    keys: Tensor,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
    normalize: bool,
    chunk_size: int | None,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunks of queries: which rows they are, their scores with all keys, and which of these match."""
    queries = as_embeddings(queries, "queries", normalize=normalize)
    keys = as_embeddings(keys, "keys", normalize=normalize)
    check_same_width(queries, keys, "`queries` and `keys`")
    query_ids, key_ids = _ids(len(queries), len(keys), query_ids, key_ids)
    key_ids = key_ids.to(keys.device)
    step = chunk_size or max(1, CHUNK_SCORES // len(keys))
    for start in range(0, len(queries), step):
        ids = query_ids[start : start + step].to(queries.device)
        matches = ids.unsqueeze(1) == key_ids
        if not (found := matches.any(dim=1)).all():
            raise ValueError(f"Every query needs a match among the keys, but none has the id {int(ids[~found][0])}.")
        yield slice(start, start + step), queries[start : start + step] @ keys.T, matches


def tie_tolerance(scores: Tensor) -> float:
    """Difference up to which two scores of unit rows are a tie."""
    # Equal keys may differ in the last bits of their scores: products round otherwise at the edge of a matrix.
    return 8 * torch.finfo(scores.dtype).eps


def _ranks(scores: Tensor, matches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    distances = scores - scores.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
    ties = distances.abs() <= tie_tolerance(scores)
    better = ((distances > 0) & ~ties & ~matches).sum(dim=1)
    return better, (ties & ~matches).sum(dim=1), (ties & matches).sum(dim=1)


def _relevance(scores: Tensor, matches: Tensor, k: int) -> tuple[Tensor, Tensor]:
    counts = matches.sum(dim=1)
    most = int(counts.max())
    # Scores of the matches from worst to best; rows with fewer are filled up with what no key can beat.
    found = scores.masked_fill(~matches, -torch.inf).topk(most, dim=1).values
    found = found.masked_fill(found == -torch.inf, torch.inf).sort(dim=1).values
    # A wrong key that beats the first j of them stands before these and no others. Halves: a tie is both, on average.
    wrong, ahead = (~matches).to(torch.float32), torch.zeros(len(scores), most, device=scores.device)
    for margin, right in ((-tie_tolerance(scores), False), (tie_tolerance(scores), True)):
        beaten = torch.searchsorted(found + margin, scores.contiguous(), right=right)
        histogram = torch.zeros(len(scores), most + 1, device=scores.device).scatter_add_(1, beaten, wrong)
        ahead = ahead + histogram.flip(1).cumsum(dim=1).flip(1)[:, 1:] / 2
    order = counts.unsqueeze(1) - torch.arange(most, device=scores.device)  # the worst comes last among the matches
    real = order > 0
    places = torch.where(real, order + ahead, torch.inf).double()
    average = torch.where(real, order / places, 0.0).sum(dim=1) / counts
    gain = torch.where(places <= k, 1 / torch.log2(1 + places), 0.0).sum(dim=1)
    ideal = torch.where(real & (order <= k), 1 / torch.log2(1 + order.clamp(min=1).double()), 0.0).sum(dim=1)
    return average, gain / ideal


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
