"""What the gap between the centers of two clouds is made of.

Dimension key: n, m = rows, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.permutation import deal_variance
from hf_contrastive.functional.second_moments import SecondMoments, second_moments
from hf_contrastive.functional.tiles import blocks, tile_size


class CentroidGap(NamedTuple):
    """The centers of two clouds, without what sampling adds to their distance.

    Args:
        squared: Squared distance of the distributions' centers, unbiased: zero on average where there is no gap, so
            sometimes negative.
        null_std: Standard deviation of `squared` when all rows are dealt to the two clouds at random, exactly. Matched
            rows vary together, so that theirs is smaller.
        norm_x: Length of the first center: 0 for a cloud around the origin, 1 for one point of the sphere.
        norm_y: Length of the second center.
        norm_floor_x: Length that sampling alone gives the first center, in root mean square; evenly spread unit rows
            have 1 / sqrt(n).
        norm_floor_y: As much for the second.
        cosine: Cosine between the centers, and not a number if one is zero. Says little where their lengths are at the
            floor.
        share: Share of the variance of all rows that lies between the clouds, from 0 to 1.
        share_floor: Mean of `share` when all rows are dealt to the two clouds at random, 1 / (n + m - 1).
        direction: Unit vector from the second center to the first; zeros where they coincide.
    """

    squared: Float[Tensor, ""]
    null_std: Float[Tensor, ""]
    norm_x: Float[Tensor, ""]
    norm_y: Float[Tensor, ""]
    norm_floor_x: Float[Tensor, ""]
    norm_floor_y: Float[Tensor, ""]
    cosine: Float[Tensor, ""]
    share: Float[Tensor, ""]
    share_floor: float
    direction: Float[Tensor, "d"]


@torch.no_grad()
def centroid_gap(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> CentroidGap:
    r"""The gap between the centers of two clouds, unbiased, and in what proportion it stands to their spread.

    The unbiased squared gap is $\lVert \bar x - \bar y \rVert^2 - \mathrm{tr}\,S_x / n - \mathrm{tr}\,S_y / m$ with S
    the unbiased covariance; for unit rows $\mathrm{tr}\,S_x / n = (1 - \lVert \bar x \rVert^2) / (n - 1)$. The share of
    variance is $\frac{nm}{(n + m)^2} \lVert \bar x - \bar y \rVert^2$ over the variance of all rows ($\eta^2$ of an
    analysis of variance). The plain gap, with its floor, is [`modality_gap`]. O((n + m) d^2) time, O(d^2) memory,
    double precision, no gradient.

    Source: Liang et al. 2022, Section 4.2 (the gap), https://huggingface.co/papers/2203.02053; the others are moments.

    Args:
        x: First cloud, at least two rows.
        y: Second cloud, at least two rows; any number.
        normalize: Whether to scale rows to unit length first.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> gap = centroid_gap(x, x.flip(1))
    >>> gap.squared, gap.share
    (tensor(-2., dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    of_x, of_y = second_moments(x), second_moments(y)
    both = of_x.join(of_y)
    shift = of_x.mean - of_y.mean
    squared, total = shift.square().sum(), both.scatter.trace()
    norm_x, norm_y = of_x.mean.norm(), of_y.mean.norm()
    between = squared * (of_x.rows * of_y.rows / both.rows)
    return CentroidGap(
        squared=squared - of_x.floor() - of_y.floor(),
        null_std=_null_variance(x, y, both).sqrt(),
        norm_x=norm_x,
        norm_y=norm_y,
        norm_floor_x=of_x.floor().sqrt(),
        norm_floor_y=of_y.floor().sqrt(),
        cosine=of_x.mean @ of_y.mean / (norm_x * norm_y),
        share=between / total if total > 0 else torch.zeros_like(total),
        share_floor=1 / (both.rows - 1),
        direction=shift / squared.sqrt() if squared > 0 else torch.zeros_like(shift),
    )


def _null_variance(x: Tensor, y: Tensor, both: SecondMoments) -> Tensor:
    # The squared gap is the distance of means in the space of the kernel (u - c) . (v - c), whose sums over all pairs are
    # moments. Offsets from the common center c sum to zero, so each row's sum is minus its pair with itself.
    fourth, second = both.mean.new_zeros(()), both.mean.new_zeros(())
    for z in (x, y):
        for i in blocks(len(z), tile_size(z)):
            lengths = (z[i] - both.mean).square().sum(dim=1)
            second += lengths.sum()
            fourth += lengths.square().sum()
    squares = both.scatter.square().sum() - fourth
    return deal_variance(len(x), len(y), squares, fourth, -second)
