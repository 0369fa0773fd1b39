"""Places of the best matches of queries, counted from tiles of scores.

Dimension key: n = queries on one side, q = queries, k = keys, r x c = a tile.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


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


class RankCounts:
    """
    [`Ranks`] of the queries on one side of a matrix of scores, from its tiles in any order.

    All tiles with matches must be shown to `see_matches` before any is counted, and hold the same scores then.

    Args:
        n: Number of queries.
        dim: Dimension of a tile along which keys lie: 1 where queries are rows, 0 where they are columns.
        like: Tensor of the type and on the device of the scores.
        exact: Scores of queries and keys, given by their numbers, that tell apart what rounding brings close.
        sizes: Largest score that each query can have, which rounding is a share of.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        like: Tensor,
        exact: Callable[[Int[Tensor, "p"], Int[Tensor, "p"]], Tensor],
        sizes: Float[Tensor, "n"],
    ) -> None:
        self.dim, self.exact, self.sizes = dim, exact, sizes
        self.best = like.new_full((n,), -torch.inf)
        self.match, self.counts = (torch.zeros(*size, n, dtype=torch.long, device=like.device) for size in ((), (3,)))

    def see_matches(
        self, tile: Float[Tensor, "r c"], queries: slice, keys: slice, matches: Bool[Tensor, "r c"]
    ) -> None:
        """Take note of the best matches in a tile."""
        best, match = tile.masked_fill(~matches, -torch.inf).max(self.dim)
        self.match[queries] = torch.where(best > self.best[queries], match + keys.start, self.match[queries])
        self.best[queries] = torch.maximum(self.best[queries], best)

    def add(
        self,
        tile: Float[Tensor, "r c"],
        queries: slice,
        keys: slice,
        matches: Bool[Tensor, "r c"] | None,
        spare: Float[Tensor, "r c"],
    ) -> None:
        """Count the keys of a tile, in `spare` memory of its size. `matches` are none where it is None."""
        best = self.best[queries].unsqueeze(self.dim)
        margin = tolerance(tile) * self.sizes[queries].unsqueeze(self.dim)
        # Into floats: sums of booleans take three times as long. No match is above the best one.
        better = torch.gt(tile, best + margin, out=spare).sum(self.dim).long()
        tied = torch.ge(tile, best - margin, out=spare).sum(self.dim).long() - better
        counts = self.counts[:, queries]
        if matches is not None:
            found = spare.mul_(matches).sum(self.dim).long()
            tied -= found
            counts[2] += found
        counts[0] += better
        counts[1] += tied
        # Where more are as close, the rows themselves hardly differ, and all of them tie.
        if 0 < int(tied.sum()) <= max(16, tile.numel() // 64):
            close = (tile >= best - margin) & (tile <= best + margin)
            self._settle(counts, close if matches is None else close & ~matches, queries, keys)

    def _settle(self, counts: Tensor, close: Tensor, queries: slice, keys: slice) -> None:
        """Let exact scores decide on wrong keys whose scores are close to the best match's."""
        query, key = close.nonzero().unbind(1) if self.dim == 1 else close.mT.nonzero().unbind(1)
        mine = query + queries.start
        ahead = self.exact(mine, key + keys.start) - self.exact(mine, self.match[mine])
        margin = tolerance(ahead) * self.sizes[mine]
        counts[0].index_add_(0, query, (ahead > margin).long())
        counts[1].index_add_(0, query, -(ahead.abs() > margin).long())

    def ranks(self) -> Ranks:
        """What has been counted."""
        return Ranks(*self.counts.unbind())


def tolerance(scores: Tensor) -> float:
    """Largest difference of scores that tie, as a share of the largest score there can be: equal keys may differ in the
    last bits, as products round otherwise at the edge of a matrix.
    """
    return 8 * torch.finfo(scores.dtype).eps


def score_sizes(queries: Float[Tensor, "q d"], keys: Float[Tensor, "k d"]) -> Float[Tensor, "q 1"]:
    """Largest score that each query can have: its length times that of the longest key."""
    longest = torch.linalg.vector_norm(keys, dim=1).amax()
    return torch.linalg.vector_norm(queries, dim=1, keepdim=True) * longest


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Log of the binomial coefficient; meaningless, but finite or infinite, for k > n."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
