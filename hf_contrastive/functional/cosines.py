"""Cosines of rows that belong together and of rows that do not: their moments, which need no matrix of pairs.

Sums are in double precision. Nothing here carries a gradient.

Dimension key: n, m = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.matches import Matches
from hf_contrastive.functional.second_moments import second_moments


class CosineMoments(NamedTuple):
    """Mean and variance of the cosines of all rows of one cloud with all rows of another."""

    mean: Float[Tensor, ""]
    variance: Float[Tensor, ""]


class MeanCosines(NamedTuple):
    """Mean cosine of matched rows and its reference, that of rows that do not match."""

    matched: Float[Tensor, ""]
    unmatched: Float[Tensor, ""]


class CosineStatistics(NamedTuple):
    """Cosines of matched rows beside those of rows that do not match.

    Args:
        matched_mean: Mean cosine of matched rows.
        matched_std: Standard deviation of these cosines.
        unmatched_mean: Mean cosine of rows that do not match: the reference of `matched_mean`.
        unmatched_std: Standard deviation of these cosines.
        expected_unmatched: Inner product of both centers, what unrelated rows of these clouds have on average. Zero
            unless both clouds are cones.
        uniform_std: Standard deviation of the cosines of evenly spread rows, 1 / sqrt(d).
        d_prime: Distance of both means in standard deviations: zero where a match makes no difference, infinite where it
            does and no cosine varies.
    """

    matched_mean: Float[Tensor, ""]
    matched_std: Float[Tensor, ""]
    unmatched_mean: Float[Tensor, ""]
    unmatched_std: Float[Tensor, ""]
    expected_unmatched: Float[Tensor, ""]
    uniform_std: float
    d_prime: Float[Tensor, ""]


@torch.no_grad()
def cosine_moments(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> CosineMoments:
    r"""Exact mean and variance of all n m cosines, in O((n + m) d^2) time and O(d^2) memory.

    With $x = \bar x + u$ and $y = \bar y + v$ the mean is $\bar x \cdot \bar y$, and the variance
    $\bar x^\top S_y \bar x + \bar y^\top S_x \bar y + \mathrm{tr}\, S_x S_y$ (S divided by the number of rows): what the
    two cones add, and what the spreads add. Evenly spread rows have 0 and 1 / d.

    >>> cosine_moments(torch.eye(2), torch.eye(2)).mean
    tensor(0.5000, dtype=torch.float64)
    """
    x, y = as_embeddings(x, "x", normalize=normalize), as_embeddings(y, "y", normalize=normalize)
    check_same_width(x, y, "`x` and `y`")
    of_x, of_y = second_moments(x), second_moments(y)
    spread_x, spread_y = of_x.scatter / len(x), of_y.scatter / len(y)
    cones = of_x.mean @ spread_y @ of_x.mean + of_y.mean @ spread_x @ of_y.mean
    return CosineMoments(of_x.mean @ of_y.mean, cones + (spread_x * spread_y).sum())


@torch.no_grad()
def mean_cosines(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    normalize: bool = True,
) -> MeanCosines:
    """The means of [`cosine_statistics`], whose arguments it has, in O((n + m) d) time: cheap enough for every step.

    >>> means = mean_cosines(torch.eye(4), torch.eye(4))
    >>> float(means.matched), float(means.unmatched)
    (1.0, 0.0)
    """
    matches = Matches(x, y, x_ids, y_ids, normalize=normalize)
    matched = matches.matched()
    total = matches.x.sum(dim=0, dtype=torch.float64) @ matches.y.sum(dim=0, dtype=torch.float64)
    return MeanCosines(matched.mean(), (total - matched.sum()) / matches.num_unmatched)


@torch.no_grad()
def cosine_statistics(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    normalize: bool = True,
) -> CosineStatistics:
    r"""Mean and standard deviation of the cosines of all matched and of all unmatched pairs, exactly, from moments.

    $d' = (\mu_+ - \mu_-) / \sqrt{(\sigma_+^2 + \sigma_-^2) / 2}$. Mean cosines alone tell little: 0.3 is a good match
    where unmatched rows have 0.1 +- 0.05, and none where they have 0.3.

    Source: the histograms of Betser et al. 2026 (matched and unmatched cosines), https://huggingface.co/papers/2602.24012;
    d' is that of signal detection.

    Args:
        x: First cloud.
        y: Second cloud; with ids, any number of rows.
        x_ids: Item of each row of `x`. By default row i matches row i.
        y_ids: Item of each row of `y`. Rows of one item match, however many.
        normalize: Whether to scale rows to unit length first. If not, these are inner products.

    Raises:
        ValueError: Only one kind of ids is given, their number is wrong, or all pairs match, or none.

    >>> statistics = cosine_statistics(torch.eye(4), torch.eye(4))
    >>> float(statistics.matched_mean), float(statistics.unmatched_mean)
    (1.0, 0.0)
    """
    matches = Matches(x, y, x_ids, y_ids, normalize=normalize)
    matched, rest = matches.matched(), matches.num_unmatched
    mean, variance = cosine_moments(matches.x, matches.y, normalize=False)
    # Offsets from the mean of all pairs sum to zero, so those of unmatched pairs are minus those of matched ones.
    offsets = matched - mean
    shift = -offsets.sum() / rest
    unmatched_mean = mean + shift
    squares = variance * (len(matched) + rest) - offsets.square().sum()
    unmatched_variance = (squares / rest - shift.square()).clamp(min=0)
    matched_variance = matched.var(correction=0)
    matched_mean = matched.mean()
    # What rounding makes of equal means, as those of collapsed clouds are, is no difference.
    difference = matched_mean - unmatched_mean
    difference = difference.masked_fill(difference.abs() <= 1e-12 * matched_mean.abs(), 0)
    deviation = ((matched_variance + unmatched_variance) / 2).sqrt()
    return CosineStatistics(
        matched_mean=matched_mean,
        matched_std=matched_variance.sqrt(),
        unmatched_mean=unmatched_mean,
        unmatched_std=unmatched_variance.sqrt(),
        expected_unmatched=mean,
        uniform_std=1 / math.sqrt(x.shape[1]),
        d_prime=torch.where(difference == 0, 0.0, difference / deviation),
    )
