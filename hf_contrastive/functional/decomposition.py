"""What a distance between two clouds is made of, in parts that add up.

Dimension key: n, m = rows, d = embedding width, k = directions.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_paired, check_same_width
from hf_contrastive.functional.second_moments import SecondMoments, second_moments


class PairDistance(NamedTuple):
    """Mean squared distance of matched rows and its parts: `total = centers + spread_x + spread_y - shared`.

    Args:
        total: $E_i |x_i - y_i|^2$, in [0, 4] for unit rows, 2 for unrelated centered clouds.
        centers: Squared distance of the centers, the gap: what every pair has in common.
        spread_x: Variance of the first cloud around its center, 1 minus its squared norm for unit rows.
        spread_y: Variance of the second.
        shared: Twice the covariance of matched rows: how much of the variance the partner tells.
    """

    total: Float[Tensor, ""]
    centers: Float[Tensor, ""]
    spread_x: Float[Tensor, ""]
    spread_y: Float[Tensor, ""]
    shared: Float[Tensor, ""]


def pair_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], *, normalize: bool = True) -> PairDistance:
    r"""$\mathrm{E}\lVert x_i - y_i \rVert^2 = \lVert \bar x - \bar y \rVert^2 + \mathrm{tr}\,\Sigma_x +
    \mathrm{tr}\,\Sigma_y - 2\, \mathrm{tr}\,\Sigma_{xy}$, exactly, with covariances that divide by n.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> [float(part) for part in pair_distance(x, x)]
    [0.0, 0.0, 1.0, 1.0, 2.0]
    """
    x, y = as_embeddings(x, "x", normalize=normalize), as_embeddings(y, "y", normalize=normalize)
    check_paired(x, y, "`x` and `y`")
    centers = x.mean(dim=0), y.mean(dim=0)
    a, b = x - centers[0], y - centers[1]
    return PairDistance(
        total=(x - y).square().sum(dim=1).mean(),
        centers=(centers[0] - centers[1]).square().sum(),
        spread_x=a.square().sum(dim=1).mean(),
        spread_y=b.square().sum(dim=1).mean(),
        shared=2 * (a * b).sum(dim=1).mean(),
    )


class CloudDistance(NamedTuple):
    r"""Squared distance of two clouds without regard to pairs, and its parts, none below zero:
    `total = centers + spread + spectrum + orientation`.

    Args:
        total: Squared 2-Wasserstein distance of the Gaussians with the clouds' means and covariances (Fréchet distance).
        centers: Squared distance of the centers.
        spread: What is left where one cloud is wider than the other: $(\sqrt{tr S_x} - \sqrt{tr S_y})^2$.
        spectrum: What is left where variance is spread over more directions in one than in the other, at equal total.
        orientation: What is left where the directions themselves differ.
    """

    total: Float[Tensor, ""]
    centers: Float[Tensor, ""]
    spread: Float[Tensor, ""]
    spectrum: Float[Tensor, ""]
    orientation: Float[Tensor, ""]


def cloud_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> CloudDistance:
    r"""Parts of the Fréchet distance $\lVert \bar x - \bar y \rVert^2 + \mathrm{tr}(\Sigma_x + \Sigma_y - 2 (\Sigma_x^{1/2}
    \Sigma_y \Sigma_x^{1/2})^{1/2})$.

    With $t$ the traces, $\lambda$ the sorted eigenvalues and $f$ the trace of the last root, $f \le \sum_i
    \sqrt{\lambda^x_i \lambda^y_i} \le \sqrt{t_x t_y}$ (von Neumann, Cauchy-Schwarz), and each step is a part:
    $(\sqrt{t_x} - \sqrt{t_y})^2$ (spread), $2 (\sqrt{t_x t_y} - \sum_i \sqrt{\lambda^x_i \lambda^y_i})$ (spectrum),
    $2 (\sum_i \sqrt{\lambda^x_i \lambda^y_i} - f)$ (orientation). Covariances are unbiased; samples of one distribution
    show an orientation that grows with d / n, so compare it with that of two halves of one cloud.

    Source: Dowson & Landau 1982 (the distance); the split is ours.
    """
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    return distance_of_moments(second_moments(x), second_moments(y))


def distance_of_moments(x: SecondMoments, y: SecondMoments) -> CloudDistance:
    """[`cloud_distance`] of clouds with these moments."""
    centers = (x.mean - y.mean).square().sum()
    (values_x, root_x), (values_y, root_y) = _root(x), _root(y)
    width_x, width_y = values_x.sum().sqrt(), values_y.sum().sqrt()
    sorted_overlap = (values_x.sqrt() * values_y.sqrt()).sum()
    overlap = torch.linalg.svdvals(root_x.mT @ root_y).sum()
    spread = (width_x - width_y).square()
    spectrum = (2 * (width_x * width_y - sorted_overlap)).clamp(min=0)
    orientation = (2 * (sorted_overlap - overlap)).clamp(min=0)
    return CloudDistance(centers + spread + spectrum + orientation, centers, spread, spectrum, orientation)


def subspace_overlap(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int, *, normalize: bool = True
) -> Float[Tensor, ""]:
    r"""How much of the first k principal directions of two clouds is one subspace, $\lVert U_x^\top U_y \rVert_F^2 / k$.

    The mean squared cosine of the principal angles: 1 for one subspace, 0 for orthogonal ones, k / d for random ones.

    Raises:
        ValueError: `k` is below 1 or above the width.
    """
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    if not 1 <= k <= x.shape[1]:
        raise ValueError(f"`k` must be from 1 to the width {x.shape[1]}, but got {k}.")
    first, second = (torch.linalg.eigh(second_moments(z).covariance()).eigenvectors[:, -k:] for z in (x, y))
    return (first.mT @ second).square().sum() / k


def _root(x: SecondMoments) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the covariance, in order, and a matrix whose product with its transpose is the covariance."""
    values, vectors = torch.linalg.eigh(x.covariance())
    values = values.clamp(min=0)
    return values, vectors * values.sqrt()
