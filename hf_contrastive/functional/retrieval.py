"""Where a query's match stands among all keys.

Dimension key: q = queries, k = keys, d = embedding width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.matching import checked_ids, count_ranks, refuse_unmatched
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.ranks import Ranks, score_sizes, tolerance


# Scores that a chunk of queries may hold at a time: 16 MiB in single precision.
CHUNK_SCORES = 2**22


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
        chunk_size: Queries and keys whose scores are held at a time. By default as suits the device.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or a query has no match.
    """
    query_ids, key_ids = checked_ids(len(queries), len(keys), query_ids, key_ids)
    refuse_unmatched(query_ids, key_ids, "query", "keys")
    (ranks,) = count_ranks(
        queries, keys, query_ids, key_ids, both_ways=False, normalize=normalize, chunk_size=chunk_size
    )
    return ranks


def two_way_retrieval_ranks(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    *,
    query_ids: Int[Tensor, "q"] | None = None,
    key_ids: Int[Tensor, "k"] | None = None,
    normalize: bool = True,
    chunk_size: int | None = None,
) -> tuple[Ranks, Ranks]:
    """[`retrieval_ranks`] of the queries among the keys, and of the keys among the queries, from the same scores.

    Args:
        queries: Rows of one modality.
        keys: Rows of the other.
        query_ids: Item of each query. By default row i matches row i, and there are as many queries as keys.
        key_ids: Item of each key. Rows with the same item match, however many.
        normalize: Whether to scale rows to unit length first.
        chunk_size: Queries and keys whose scores are held at a time. By default as suits the device.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or a row of either side has no match.

    >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    >>> forth, back = two_way_retrieval_ranks(x, torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    >>> forth.better.tolist(), back.better.tolist()
    ([1, 0], [1, 0])
    """
    query_ids, key_ids = checked_ids(len(queries), len(keys), query_ids, key_ids)
    refuse_unmatched(query_ids, key_ids, "query", "keys")
    refuse_unmatched(key_ids, query_ids, "key", "queries")
    forth, back = count_ranks(
        queries, keys, query_ids, key_ids, both_ways=True, normalize=normalize, chunk_size=chunk_size
    )
    return forth, back


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
    """[`retrieval_ranks`] and average precision and NDCG over all matches of each query.

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
    ranks = retrieval_ranks(queries, keys, query_ids=query_ids, key_ids=key_ids, normalize=normalize)
    relevance = torch.empty(2, len(queries), dtype=torch.double, device=queries.device)
    for rows, scores, matches, sizes in _scored(queries, keys, query_ids, key_ids, normalize, chunk_size):
        # In place: small results that outlive big scores would pin the memory of every chunk.
        relevance[:, rows] = torch.stack(_relevance(scores, matches, sizes, k))
    return ranks, Relevance(*relevance.unbind())


def _scored(
    queries: Tensor,
    keys: Tensor,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
    normalize: bool,
    chunk_size: int | None,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Chunks of queries: which rows they are, their scores with all keys, which of these match, and how large they can be."""
    queries = as_embeddings(queries, "queries", normalize=normalize)
    keys = as_embeddings(keys, "keys", normalize=normalize)
    check_same_width(queries, keys, "`queries` and `keys`")
    query_ids, key_ids = checked_ids(len(queries), len(keys), query_ids, key_ids)
    refuse_unmatched(query_ids, key_ids, "query", "keys")
    key_ids = key_ids.to(keys.device)
    sizes = score_sizes(queries, keys)
    step = chunk_size or max(1, CHUNK_SCORES // len(keys))
    for start in range(0, len(queries), step):
        ids = query_ids[start : start + step].to(queries.device)
        yield (
            slice(start, start + step),
            row_products(queries[start : start + step], keys),
            ids.unsqueeze(1) == key_ids,
            sizes[start : start + step],
        )


def _relevance(scores: Tensor, matches: Tensor, sizes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    counts = matches.sum(dim=1)
    most = int(counts.max())
    # Scores of the matches from worst to best; rows with fewer are filled up with what no key can beat.
    found = scores.masked_fill(~matches, -torch.inf).topk(most, dim=1).values
    found = found.masked_fill(found == -torch.inf, torch.inf).sort(dim=1).values
    # A wrong key that beats the first j of them stands before these and no others. Halves: a tie is both, on average.
    wrong, ahead = (~matches).to(torch.float32), torch.zeros(len(scores), most, device=scores.device)
    margin = tolerance(scores) * sizes
    for shift, right in ((-margin, False), (margin, True)):
        beaten = torch.searchsorted(found + shift, scores.contiguous(), right=right)
        histogram = torch.zeros(len(scores), most + 1, device=scores.device).scatter_add_(1, beaten, wrong)
        ahead = ahead + histogram.flip(1).cumsum(dim=1).flip(1)[:, 1:] / 2
    order = counts.unsqueeze(1) - torch.arange(most, device=scores.device)  # the worst comes last among the matches
    real = order > 0
    places = torch.where(real, order + ahead, torch.inf).double()
    average = torch.where(real, order / places, 0.0).sum(dim=1) / counts
    gain = torch.where(places <= k, 1 / torch.log2(1 + places), 0.0).sum(dim=1)
    ideal = torch.where(real & (order <= k), 1 / torch.log2(1 + order.clamp(min=1).double()), 0.0).sum(dim=1)
    return average, gain / ideal
