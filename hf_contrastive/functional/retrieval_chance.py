"""What retrieval comes to if the keys are in random order: the level that every measure of it starts from.

Dimension key: q = queries, k = keys.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class RetrievalChance(NamedTuple):
    """
    Expected measures of keys in random order, under the names that [`Ranks`] and [`Relevance`] have for them.

    Args:
        num_keys: Keys that are searched.
        matches: Keys that match each query, at least one, as [`count_matches`] counts them.

    >>> RetrievalChance(10, torch.tensor([1, 1])).recall(5)
    tensor(0.5000, dtype=torch.float64)
    """

    num_keys: int
    matches: Int[Tensor, "q"]

    def recall(self, k: int) -> Float[Tensor, ""]:
        r"""Chance that a match is among the first k keys, $1 - \binom{n - m}{k} / \binom{n}{k}$ for m matches of n keys."""
        _check_place(k)
        return 1 - self._later()[min(k, self.num_keys)]

    def median(self) -> Float[Tensor, ""]:
        """Median place of the best match, counted from 1, of many queries; between two places if half are before."""
        # Sums of the places' chances are rounded.
        later, half = self._later(), 0.5
        lower, upper = (later > half + 1e-9).sum(), (later > half - 1e-9).sum()
        return (lower + upper) / 2

    def mean(self) -> Float[Tensor, ""]:
        r"""Mean place of the best match, counted from 1: $(n + 1) / (m + 1)$ for m matches of n keys."""
        return ((self.num_keys + 1) / (self._counts() + 1)).mean()

    def mean_reciprocal(self) -> Float[Tensor, ""]:
        r"""Mean of 1 over the place of the best match; $\frac1n \sum_{r \le n} \frac1r$ for one match of n keys."""
        return (-self._later().diff() / self._places()).sum()

    def average_precision(self) -> Float[Tensor, ""]:
        r"""Mean average precision, $\frac1n (H_n + \frac{m - 1}{n - 1} (n - H_n))$ with $H_n = \sum_{r \le n} \frac1r$."""
        n, harmonic = self.num_keys, self._places().reciprocal().sum()
        return ((harmonic + (self._counts() - 1) / max(1, n - 1) * (n - harmonic)) / n).mean()

    def gain(self, k: int) -> Float[Tensor, ""]:
        """Mean normalized discounted cumulative gain of the first k keys."""
        _check_place(k)
        gains = torch.log2(1 + self._places()[:k]).reciprocal()
        best = gains.cumsum(0)[self.matches.clamp(max=len(gains)) - 1]
        return (self.matches / self.num_keys * gains.sum() / best).mean()

    def named(self, measure: str) -> float:
        """The measure that reports call `recall@5`, `median_rank`, `mean_rank`, `mrr`, `map` or `ndcg@10`.

        >>> RetrievalChance(10, torch.tensor([1, 1])).named("mean_rank")
        5.5
        """
        kind, _, k = measure.partition("@")
        if kind in ("recall", "ndcg") and k.isdecimal():
            return float(self.recall(int(k)) if kind == "recall" else self.gain(int(k)))
        whole = {
            "median_rank": self.median,
            "mean_rank": self.mean,
            "mrr": self.mean_reciprocal,
            "map": self.average_precision,
        }
        if measure not in whole:
            raise ValueError(f"`measure` must be `recall@k`, `ndcg@k` or one of {[*whole]}, but is {measure!r}.")
        return float(whole[measure]())

    def _counts(self) -> Float[Tensor, "q"]:
        return self.matches.double()

    def _places(self) -> Float[Tensor, "k"]:
        return torch.arange(1, self.num_keys + 1, dtype=torch.float64, device=self.matches.device)

    def _later(self) -> Float[Tensor, "r"]:
        """Share of queries whose first match comes after place r, for r from 0."""
        numbers, queries = torch.unique(self.matches, return_counts=True)
        if len(self.matches) == 0 or not 1 <= int(numbers[0]) <= int(numbers[-1]) <= self.num_keys:
            raise ValueError(
                f"Every query must have between 1 and {self.num_keys} matches, the number of keys, but there are "
                f"{[int(numbers[0]), int(numbers[-1])] if len(numbers) else 'no queries'}."
            )
        left = self._places().flip(0)
        later = torch.zeros_like(left)
        for number, share in zip(numbers.tolist(), (queries.double() / len(self.matches)).tolist(), strict=True):
            later += share * ((left - number).clamp(min=0) / left).cumprod(0)
        return torch.cat([later.new_ones(1), later])


def count_matches(query_ids: Int[Tensor, "q"], key_ids: Int[Tensor, "k"]) -> Int[Tensor, "q"]:
    """How many keys have each query's id.

    >>> count_matches(torch.tensor([7, 3]), torch.tensor([3, 7, 7]))
    tensor([2, 1])
    """
    ordered = key_ids.to(query_ids.device).sort().values
    return torch.searchsorted(ordered, query_ids, right=True) - torch.searchsorted(ordered, query_ids)


def _check_place(k: int) -> None:
    if k < 1:
        raise ValueError(f"`k` must be at least 1, but got {k}.")
