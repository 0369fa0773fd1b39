"""Distances between the distributions of two clouds that no shape of distribution can hide from: energy and MMD.

Both are exact over all pairs of rows, tile by tile in double precision: O(n + m) memory beside the rows. They carry no
gradient. Of a million rows, whose pairs take days, [`block_estimate`] tells the unbiased values and their error.

Dimension key: n, m = rows, d = embedding width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width
from hf_contrastive.functional.permutation import deal_variance
from hf_contrastive.functional.tiles import blocks, tile_size


class TwoSampleDistance(NamedTuple):
    """A squared distance between two distributions, estimated from rows of each, and what chance makes of it.

    Args:
        unbiased: U-statistic: zero on average where the distributions are equal, so sometimes negative.
        biased: V-statistic, which counts each row's pair with itself: never negative.
        floor: Mean of the biased value when all rows are dealt to the two clouds at random; that of the other is zero.
        null_std: Standard deviation of the unbiased value over all such deals, exactly. Matched rows vary together, so
            that theirs is smaller.
    """

    unbiased: Float[Tensor, ""]
    biased: Float[Tensor, ""]
    floor: Float[Tensor, ""]
    null_std: Float[Tensor, ""]


def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> TwoSampleDistance:
    r"""Energy distance, $2 \mathrm{E} \lVert X - Y \rVert - \mathrm{E} \lVert X - X' \rVert - \mathrm{E} \lVert Y - Y'
    \rVert$.

    Zero only for equal distributions. Of unit rows it is at most 4, for two points opposite each other. The published
    values of image-text models are V-statistics (0.29 to 0.70).

    Source: Székely & Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018.

    Args:
        x: First cloud, at least two rows.
        y: Second cloud, at least two rows; any number.
        normalize: Whether to scale rows to unit length first.

    >>> x = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    >>> energy_distance(x, -x).unbiased
    tensor(4., dtype=torch.float64)
    """
    x, y = _clouds(x, y, normalize)
    return _distance(x, y, lambda squared: squared.sqrt_().neg_(), at_zero=0.0)


def maximum_mean_discrepancy(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    bandwidth: float | None = None,
    normalize: bool = True,
) -> TwoSampleDistance:
    r"""Squared maximum mean discrepancy with the Gaussian kernel $k(u, v) = e^{-\lVert u - v \rVert^2 / (2 \sigma^2)}$,
    $\mathrm{E}\, k(X, X') + \mathrm{E}\, k(Y, Y') - 2 \mathrm{E}\, k(X, Y)$.

    Zero only for equal distributions, at most 2. Values of different bandwidths do not compare: give one when models
    are compared. On unit rows the kernel is InfoNCE's at the temperature $\sigma^2$.

    Source: Gretton et al. 2012, Lemma 6 (both estimators), https://jmlr.org/papers/v13/gretton12a.html.

    Args:
        x: First cloud, at least two rows.
        y: Second cloud, at least two rows; any number.
        bandwidth: $\sigma$. By default [`median_bandwidth`].
        normalize: Whether to scale rows to unit length first.

    >>> x = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    >>> round(float(maximum_mean_discrepancy(x, -x, bandwidth=1.0).unbiased), 4)
    1.7293
    """
    x, y = _clouds(x, y, normalize)
    if bandwidth is None:
        bandwidth = median_bandwidth(x, y, normalize=False)
    check_positive(bandwidth, "bandwidth")
    factor = -1 / (2 * bandwidth**2)
    return _distance(x, y, lambda squared: squared.mul_(factor).exp_(), at_zero=1.0)


@torch.no_grad()
def median_bandwidth(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, max_rows: int = 2000, normalize: bool = True
) -> float:
    """Median distance between a row of one cloud and a row of the other that differ, the lower one of an even number.

    Where no row differs from another it is 1, since then the discrepancy is zero at every bandwidth.

    Source: the median heuristic as Cai et al. 2026 take it, https://huggingface.co/papers/2601.19597.

    Args:
        x: First cloud.
        y: Second cloud.
        max_rows: Rows that are compared of each cloud. Of more, as many evenly spaced ones, the same in every call.
        normalize: Whether to scale rows to unit length first.
    """
    if max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, but got {max_rows}.")
    x, y = _clouds(x, y, normalize)
    few = [z[_evenly_spaced(len(z), max_rows).to(z.device)] for z in (x, y)]
    center = few[0].mean(dim=0, dtype=torch.float64)
    distances = _squared_distances(few[0] - center, few[1] - center).sqrt_()
    # What rounding makes of rows that coincide.
    apart = distances[distances > 1e-7 * few[0].abs().amax()]
    return float(apart.median()) if len(apart) else 1.0


def _clouds(x: Tensor, y: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    return x, y


def _evenly_spaced(n: int, most: int) -> Tensor:
    count = min(n, most)
    return torch.arange(count) * n // count


def _squared_distances(x: Float[Tensor, "r d"], y: Float[Tensor, "c d"]) -> Float[Tensor, "r c"]:
    lengths = x.square().sum(dim=1, keepdim=True) + y.square().sum(dim=1)
    return lengths.addmm_(x, y.mT, alpha=-2).clamp_(min=0)


@torch.no_grad()
def _distance(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], *, at_zero: float) -> TwoSampleDistance:
    """The distance whose kernel, made in place of squared distances, is `at_zero` for a row and itself."""
    n, m = len(x), len(y)
    # Distances do not see where the clouds lie, but products would round far from the origin.
    center = (x.sum(dim=0, dtype=torch.float64) + y.sum(dim=0, dtype=torch.float64)) / (n + m)
    row_sums = [center.new_zeros(n), center.new_zeros(m)]
    totals, squares = center.new_zeros(3), center.new_zeros(())
    size = tile_size(x)
    with torch.autocast(x.device.type, enabled=False):
        for place, (a, b) in enumerate(((0, 0), (1, 1), (0, 1))):
            left, right = (x, y)[a], (x, y)[b]
            for i in blocks(len(left), size):
                rows = left[i] - center
                for j in blocks(len(right), size):
                    if a == b and j.start < i.start:
                        continue
                    tile = kernel(_squared_distances(rows, right[j] - center))
                    diagonal = a == b and i.start == j.start
                    if diagonal:
                        tile.fill_diagonal_(0)
                    row_sums[a][i] += tile.sum(dim=1)
                    if not diagonal:
                        row_sums[b][j] += tile.sum(dim=0)
                    # Sums over ordered pairs: all tiles but those on a diagonal stand for two.
                    totals[place] += tile.sum() * (1 if diagonal else 2)
                    squares += tile.square_().sum() * (1 if diagonal else 2)
    own_x, own_y, cross = totals.unbind()
    mean_cross = cross / (n * m)
    variance = deal_variance(n, m, squares, torch.cat(row_sums).square().sum(), totals.sum())
    mean = totals.sum() / ((n + m) * (n + m - 1))
    return TwoSampleDistance(
        unbiased=own_x / (n * (n - 1)) + own_y / (m * (m - 1)) - mean_cross,
        biased=((own_x + n * at_zero) / n**2 + (own_y + m * at_zero) / m**2 - mean_cross).clamp(min=0),
        floor=(at_zero - mean) * (1 / n + 1 / m),
        null_std=variance.sqrt(),
    )
