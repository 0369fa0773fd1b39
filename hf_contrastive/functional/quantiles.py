"""Quantiles of a cloud against those of a Gaussian, for QQ plots: of its lengths, and of its coordinates.

Dimension key: n = rows, d = embedding width, p = points.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings
from hf_contrastive.functional.coordinates import by_coordinates, standardize


class Quantiles(NamedTuple):
    """
    Points of a QQ plot: they lie on the diagonal where the cloud is an isotropic Gaussian.

    Args:
        gaussian: Quantiles of the Gaussian, rising.
        observed: Quantiles of the rows.
    """

    gaussian: Float[Tensor, "p"]
    observed: Float[Tensor, "p"]


class CoordinateQuantiles(NamedTuple):
    """
    Points of a QQ plot of all coordinates: they lie on the diagonal where each is Gaussian.

    Args:
        gaussian: Quantiles of N(0, 1), rising.
        observed: Mean over coordinates of the quantiles of each.
        low: What 5 % of the coordinates lie below.
        high: What 5 % of the coordinates lie above.
    """

    gaussian: Float[Tensor, "p"]
    observed: Float[Tensor, "p"]
    low: Float[Tensor, "p"]
    high: Float[Tensor, "p"]


@torch.no_grad()
def norm_quantiles(x: Float[Tensor, "n d"], *, points: int = 99) -> Quantiles:
    """Lengths of the rows over their root mean square, against those of an isotropic Gaussian of this width.

    Rows are taken as they are: `x` must not be normalized. The points are at shares of (i + 1/2) / p, and quantiles of
    few rows are interpolated.

    >>> norm_quantiles(torch.eye(3), points=2).observed
    tensor([1., 1.], dtype=torch.float64)
    """
    x, shares = as_embeddings(x, "x", min_rows=2, normalize=False), _shares(points, x)
    lengths = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    if (scale := lengths.square().mean().sqrt()) == 0:
        raise ValueError("`x` holds nothing but rows of zeros, which have no scale.")
    expected = chi_squared_quantiles(shares, x.shape[1]) / x.shape[1]
    return Quantiles(expected.sqrt(), _quantiles(lengths.unsqueeze(0) / scale, shares).squeeze(0))


@torch.no_grad()
def coordinate_quantiles(x: Float[Tensor, "n d"], *, points: int = 99, normalize: bool = True) -> CoordinateQuantiles:
    """Coordinates, each with its mean taken out and scaled to deviation 1, against N(0, 1).

    The points are at shares of (i + 1/2) / p, and quantiles of few rows are interpolated. A coordinate that does not vary
    counts as zeros.

    Args:
        x: Embeddings of one modality.
        points: Number of points p.
        normalize: Whether to scale rows to unit length first.
    """
    x, shares = as_embeddings(x, "x", min_rows=2, normalize=normalize), _shares(points, x)
    each = by_coordinates(lambda block: _quantiles(standardize(block, correction=0), shares), x)
    low, high = torch.quantile(each, each.new_tensor([0.05, 0.95]), dim=0)
    return CoordinateQuantiles(torch.special.ndtri(shares), each.mean(dim=0), low, high)


def chi_squared_quantiles(shares: Float[Tensor, "p"], d: int) -> Float[Tensor, "p"]:
    """Values that given shares of a chi-squared variable with d degrees of freedom lie below, in double precision."""
    shares = shares.double()
    half = torch.full_like(shares, d / 2)
    low, high = torch.zeros_like(shares), half + 20 * half.sqrt() + 50
    # Bisection: few points, and no start that could be wrong at one degree of freedom or a million.
    for _ in range(80):
        middle = (low + high) / 2
        below = torch.special.gammainc(half, middle) < shares
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low + high


def _shares(points: int, x: Tensor) -> Float[Tensor, "p"]:
    if points < 1:
        raise ValueError(f"`points` must be at least 1, but got {points}.")
    return (torch.arange(points, dtype=torch.float64, device=x.device) + 0.5) / points


def _quantiles(x: Float[Tensor, "c n"], shares: Float[Tensor, "p"]) -> Float[Tensor, "c p"]:
    """Quantiles along rows; value i of n in order is that of share (i - 1/2) / n."""
    places = (shares * x.shape[1] - 0.5).clamp(0, x.shape[1] - 1)
    left = places.floor()
    ordered = x.sort(dim=1).values
    below, above = ordered[:, left.long()], ordered[:, places.ceil().long()]
    return below + (places - left) * (above - below)
