"""How the cosines of matched and of unmatched rows are distributed: order, quantiles, histograms.

Every pair counts, tile by tile in double precision. Nothing here carries a gradient. Where there are too many pairs,
[`block_estimate`] tells the AUC and its error.

Dimension key: n, m = rows, d = embedding width, k = quantiles or bins.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from hf_contrastive.functional.matches import Matches
from hf_contrastive.functional.ranks import tolerance


# Parts that one pass over all cosines tells apart.
PARTS = 4096


class ByMatch(NamedTuple):
    """What is known of the cosines of matched pairs, and of those of unmatched pairs."""

    matched: Shaped[Tensor, "k"]
    unmatched: Shaped[Tensor, "k"]


@torch.no_grad()
def matched_auc(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Chance that a matched pair has a higher cosine than an unmatched one, ties counted half. 0.5 is chance, 1 perfect.

    It is the area under the ROC curve: unlike recall, it compares pairs of different queries, and tells whether one
    threshold can decide what matches. Two normal distributions have $\Phi(d' / \sqrt 2)$, with the d' of
    [`cosine_statistics`], whose arguments and errors these are.

    >>> matched_auc(torch.eye(3), torch.eye(3))
    tensor(1., dtype=torch.float64)
    """
    matches = Matches(x, y, x_ids, y_ids, normalize=normalize)
    matched = matches.matched().sort().values
    # Equal rows may differ in the last bits of their cosines, a share of the largest product there can be.
    margin = tolerance(matches.x) * _largest(matches)
    lost, tied = 0, 0
    for cosines in matches.unmatched():
        below = torch.searchsorted(matched, cosines - margin)
        upto = torch.searchsorted(matched, cosines + margin, right=True)
        lost += int(below.sum())
        tied += int((upto - below).sum())
    return matched.new_tensor(1 - (lost + tied / 2) / (matches.num_unmatched * len(matched)))


@torch.no_grad()
def cosine_quantiles(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    normalize: bool = True,
) -> ByMatch:
    """Quantiles of the cosines of all matched and of all unmatched pairs.

    A quantile is the smallest cosine that at least this share of the pairs does not exceed. Those of matched pairs are
    exact; those of unmatched pairs take two passes and are right to 1e-7 (of the longest rows' product, if rows are not
    normalized). Arguments and errors as in [`cosine_statistics`].
    """
    if not all(0 <= q <= 1 for q in quantiles):
        raise ValueError(f"`quantiles` must be shares from 0 to 1, but got {list(quantiles)}.")
    matches = Matches(x, y, x_ids, y_ids, normalize=normalize)
    matched = matches.matched().sort().values
    own = torch.stack([matched[_rank(q, len(matched))] for q in quantiles])

    # A little more than any product, and above zero where all rows are zeros.
    most = _largest(matches) * (1 + 1e-6) + torch.finfo(torch.float32).tiny
    counts = torch.zeros(PARTS, dtype=torch.long, device=matched.device)
    for cosines in matches.unmatched():
        counts += _count(_parts_from(cosines, most).floor())
    upto = counts.cumsum(0)
    ranks = [_rank(q, matches.num_unmatched) for q in quantiles]
    parts = [int(torch.searchsorted(upto, rank, right=True)) for rank in ranks]
    finer: dict[int, Tensor] = {part: torch.zeros_like(upto) for part in parts}
    for cosines in matches.unmatched():
        places = _parts_from(cosines, most)
        inside = places.floor()
        for part, total in finer.items():
            total += _count(((places[inside == part] - part) * PARTS).floor())
    other = []
    for rank, part in zip(ranks, parts, strict=True):
        before = int(upto[part - 1]) if part else 0
        place = int(torch.searchsorted(finer[part].cumsum(0), rank - before, right=True))
        other.append((part + (place + 0.5) / PARTS) * 2 * most / PARTS - most)
    return ByMatch(own, own.new_tensor(other))


@torch.no_grad()
def cosine_histogram(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    bins: int = 100,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
) -> ByMatch:
    """How many matched and how many unmatched pairs have a cosine in each of `bins` equal parts of [-1, 1].

    Arguments and errors as in [`cosine_statistics`].
    """
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1, but got {bins}.")
    matches = Matches(x, y, x_ids, y_ids)
    matched = _count(_parts_from(matches.matched(), 1.0, bins).floor(), bins)
    unmatched = torch.zeros_like(matched)
    for cosines in matches.unmatched():
        unmatched += _count(_parts_from(cosines, 1.0, bins).floor(), bins)
    return ByMatch(matched, unmatched)


def _largest(matches: Matches) -> float:
    """Product of the longest rows, which no inner product exceeds."""
    longest = [torch.linalg.vector_norm(z, dim=1, dtype=torch.float64).amax() for z in (matches.x, matches.y)]
    return float(longest[0] * longest[1])


def _parts_from(values: Float[Tensor, "_"], most: float, parts: int = PARTS) -> Float[Tensor, "_"]:
    """Where values from -most to most lie, in parts of that range."""
    return (values + most) * (parts / (2 * most))


def _count(places: Float[Tensor, "_"], parts: int = PARTS) -> Int[Tensor, "k"]:
    # What rounding puts beyond an end belongs there.
    return torch.bincount(places.long().clamp(0, parts - 1), minlength=parts)


def _rank(quantile: float, count: int) -> int:
    return max(math.ceil(quantile * count) - 1, 0)
