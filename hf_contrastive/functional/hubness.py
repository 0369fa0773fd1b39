"""Hubs and antihubs: keys that are neighbours of everything, and keys that nothing finds.

Dimension key: q = queries, m = keys, d = embedding width, b = bins.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.ranks import score_sizes, tolerance
from hf_contrastive.functional.retrieval import CHUNK_SCORES, retrieval_ranks


@torch.no_grad()
def k_occurrences(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "m d"] | None = None,
    *,
    k: int = 10,
    normalize: bool = True,
    chunk_size: int | None = None,
) -> Float[Tensor, "m"]:
    """For each key, how many queries have it among their k nearest keys; in double precision, k q in total.

    Keys that tie for the last places share them, as if ties were broken at random: in a collapsed cloud no key is a hub.

    Source: Radovanovic et al. 2010, Section 2.1, https://jmlr.org/papers/v11/radovanovic10a.html.

    Args:
        queries: Rows that search.
        keys: Rows that are searched. By default the queries, of which none finds itself.
        k: Neighbours of a query.
        normalize: Whether to scale rows to unit length first, so that neighbours are those by cosine.
        chunk_size: Queries whose scores are held at a time. By default as many as fit 16 MiB.

    >>> k_occurrences(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), k=1)
    tensor([1., 2., 0.], dtype=torch.float64)
    """
    queries, within = as_embeddings(queries, "queries", normalize=normalize), keys is None
    keys = queries if keys is None else as_embeddings(keys, "keys", normalize=normalize)
    check_same_width(queries, keys, "`queries` and `keys`")
    candidates = len(keys) - within
    if not 1 <= k <= candidates:
        raise ValueError(f"`k` must be between 1 and {candidates}, the number of keys a query can find, but got {k}.")
    counts = keys.new_zeros(len(keys), dtype=torch.float64)
    sizes = score_sizes(queries, keys)
    step = chunk_size or max(1, CHUNK_SCORES // len(keys))
    for start in range(0, len(queries), step):
        scores = row_products(queries[start : start + step], keys)
        if within:
            scores.diagonal(start).fill_(-torch.inf)
        # In place: what is left is how far each key is above the last neighbour.
        distances = scores.sub_(scores.topk(k, dim=1).values[:, -1:])
        margin = tolerance(scores) * sizes[start : start + step]
        above = distances > margin
        tied = distances.abs_() <= margin
        share = (k - above.sum(dim=1)) / tied.sum(dim=1)
        with torch.autocast(share.device.type, enabled=False):
            counts += above.sum(dim=0) + share @ tied.to(share.dtype)
    return counts


class Hubness(NamedTuple):
    """
    How unevenly keys are found. [`chance_hubness`] is what random neighbours show.

    Args:
        skewness: Third standardized moment of the k-occurrences; above 1 there are hubs.
        antihubs: Share of keys that no query finds.
        top: Queries that find the key that most find.
        robin_hood: Share of all neighbours that would have to change for all keys to be found alike, below 1.
    """

    skewness: Float[Tensor, ""]
    antihubs: Float[Tensor, ""]
    top: Float[Tensor, ""]
    robin_hood: Float[Tensor, ""]


def hubness(occurrences: Float[Tensor, "m"]) -> Hubness:
    """Skewness and inequality of [`k_occurrences`]. Zero where all keys are found alike.

    Evenly spread unit rows show what chance does, at any width. Hubs come from a cone, the more the wider the rows, and
    from a gap between queries and keys: 2,000 rows of width 128 show a skewness of 0.3, of 4 with each coordinate shifted
    by its deviation, and of 7 across such a gap.

    Source: Radovanovic et al. 2010, Section 2.1, https://jmlr.org/papers/v11/radovanovic10a.html; Feldbauer et al. 2018
    (Robin Hood index).

    >>> hubness(torch.tensor([0.0, 2.0, 1.0])).robin_hood
    tensor(0.3333, dtype=torch.float64)
    """
    counts = occurrences.double()
    if len(counts) == 0 or not counts.sum() > 0:
        raise ValueError(
            "`occurrences` must hold what `k_occurrences` returns, but there is nothing above zero in it."
        )
    mean = counts.mean()
    deviations = counts - mean
    variance = deviations.square().mean()
    # Shares of tied places are rounded: keys that are found alike differ in the last digits.
    even = variance <= (1e-6 * mean) ** 2
    return Hubness(
        torch.where(even, 0.0, deviations.pow(3).mean() / variance.clamp(min=1e-300).pow(1.5)),
        (counts == 0).double().mean(),
        counts.amax(),
        deviations.abs().sum() / (2 * counts.sum()),
    )


def chance_hubness(num_queries: int, num_keys: int, *, k: int = 10) -> Hubness:
    """[`Hubness`] of neighbours that are drawn at random: occurrences are binomial. The top count is its expectation.

    Args:
        num_queries: Queries that search.
        num_keys: Keys that each can find. Within one cloud of n rows both are n - 1.
        k: Neighbours of a query.

    >>> chance_hubness(2, 4, k=2).antihubs
    tensor(0.2500, dtype=torch.float64)
    """
    if num_queries < 1 or not 1 <= k <= num_keys:
        raise ValueError(
            f"There must be queries, and between 1 and {num_keys} neighbours of each, but got {num_queries} and `k` {k}."
        )
    share = k / num_keys
    counts = torch.arange(num_queries + 1, dtype=torch.float64)
    binomial = torch.distributions.Binomial(num_queries, counts.new_tensor(share))
    chances = binomial.log_prob(counts).exp()  # type: ignore[no-untyped-call]
    # Chance that a key occurs more often, summed from the small end, and that the key that occurs most does.
    more = chances.flip(0).cumsum(0).flip(0)[1:].clamp(max=1)
    top = -torch.expm1(num_keys * torch.log1p(-more))
    variance = num_queries * share * (1 - share)
    skewness = (1 - 2 * share) / math.sqrt(variance) if share < 1 else 0.0
    unevenness = (chances * (counts - num_queries * share).abs()).sum() / (2 * num_queries * share)
    return Hubness(counts.new_tensor(skewness), chances[0], top.sum(), unevenness)


class HubnessBins(NamedTuple):
    """
    Recall of queries, from those whose matches are antihubs to those whose matches are hubs.

    Args:
        occurrences: Mean k-occurrence of the matches in each bin, rising.
        recall: Share of the bin's queries with a match among the first keys.
    """

    occurrences: Float[Tensor, "b"]
    recall: Float[Tensor, "b"]


@torch.no_grad()
def recall_by_hubness(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "m d"],
    *,
    query_ids: Int[Tensor, "q"] | None = None,
    key_ids: Int[Tensor, "m"] | None = None,
    k: int = 10,
    recall_at: int = 1,
    bins: int = 10,
    normalize: bool = True,
    chunk_size: int | None = None,
) -> HubnessBins:
    """Recall of queries in equal parts by how often their matches are found at all, by any query.

    Recall near zero in the first parts says that it is lost to antihubs. Queries whose matches occur equally often share
    their bins, whatever the order of the rows.

    Args:
        queries: Rows that search.
        keys: Rows that are searched.
        query_ids: Item of each query. By default row i matches row i, and there are as many queries as keys.
        key_ids: Item of each key. Occurrences of all matches of a query count together.
        k: Neighbours of a query that [`k_occurrences`] counts.
        recall_at: First keys among which a match counts.
        bins: Parts.
        normalize: Whether to scale rows to unit length first.
        chunk_size: Queries whose scores are held at a time. By default as many as fit 16 MiB.
    """
    if not 1 <= bins <= len(queries):
        raise ValueError(f"`bins` must be between 1 and {len(queries)}, the number of queries, but got {bins}.")
    ranks = retrieval_ranks(
        queries, keys, query_ids=query_ids, key_ids=key_ids, normalize=normalize, chunk_size=chunk_size
    )
    found = k_occurrences(queries, keys, k=k, normalize=normalize, chunk_size=chunk_size)
    if query_ids is not None and key_ids is not None:
        items, group = torch.unique(key_ids.to(found.device), return_inverse=True)
        by_item = found.new_zeros(len(items)).index_add(0, group, found)
        found = by_item[torch.searchsorted(items, query_ids.to(found.device))]
    # Occurrences are sums of shares: equal ones may differ in the last digits.
    levels, group, sizes = torch.unique(found.round(decimals=6), return_inverse=True, return_counts=True)
    hits = found.new_zeros(len(levels)).index_add(0, group, ranks.hits(recall_at).to(found)) / sizes
    order = group.sort().values
    return HubnessBins(*(_means(values[order], bins) for values in (levels, hits)))


def _means(values: Float[Tensor, "q"], bins: int) -> Float[Tensor, "b"]:
    return torch.stack([part.mean() for part in torch.tensor_split(values, bins)])
