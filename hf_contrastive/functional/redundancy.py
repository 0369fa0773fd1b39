"""Statistics of coordinates instead of rows: how much each varies, and how much two say the same.

Products of d x d matrices replace those of rows with rows. All expect embeddings whose coordinates have a variance near
1; unit rows have one of at most 1/d and are first multiplied by the root of d.

Dimension key: n = rows, d = embedding width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_paired, check_positive


def variance_hinge(x: Float[Tensor, "n d"], *, target: float = 1.0, eps: float = 1e-4) -> Float[Tensor, ""]:
    r"""Mean shortfall of the coordinates' standard deviations, $\frac1d \sum_j \max(0, \gamma - \sqrt{\mathrm{Var}\,
    x_j + \epsilon})$.

    Zero where every coordinate varies by `target` or more, about `target` where the rows have collapsed to a point.

    Source: Bardes et al. 2022, Equations 1 and 2, https://huggingface.co/papers/2105.04906.

    Args:
        x: Embeddings as they are, at least two rows.
        target: Standard deviation $\gamma$ that is enough.
        eps: Added to variances, so that the slope of the root stays finite.
    """
    check_positive(eps, "eps")
    x = as_embeddings(x, "x", min_rows=2, normalize=False)
    return (target - (x.var(dim=0) + eps).sqrt()).clamp(min=0).mean()


def covariance_penalty(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""Squared covariances of distinct coordinates, $\frac1d \sum_{i \neq j} C(x)_{ij}^2$. Zero if none are correlated.

    Source: Bardes et al. 2022, Equations 3 and 4, https://huggingface.co/papers/2105.04906.

    >>> covariance_penalty(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    tensor(4.)
    """
    x = as_embeddings(x, "x", min_rows=2, normalize=False)
    return _off_diagonal_squares(_correlate(x - x.mean(dim=0), x) / (len(x) - 1)) / x.shape[1]


def cross_correlation(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], *, eps: float = 1e-5) -> Float[Tensor, "d d"]:
    r"""Correlation of each coordinate of `x` with each of `y` over matched rows, in [-1, 1].

    Source: Zbontar et al. 2021, Equation 2 and Algorithm 1, https://huggingface.co/papers/2103.03230.

    Args:
        x: Embeddings, at least two rows.
        y: Their partners.
        eps: Added to variances, as batch normalization does: a coordinate that does not vary correlates with none.
    """
    check_positive(eps, "eps")
    x, y = (as_embeddings(z, name, min_rows=2, normalize=False) for z, name in ((x, "x"), (y, "y")))
    check_paired(x, y, "`x` and `y`")
    return _correlate(_standardize(x, eps), _standardize(y, eps)) / len(x)


def barlow_twins(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], *, off_diagonal_weight: float = 5e-3, eps: float = 1e-5
) -> Float[Tensor, ""]:
    r"""Distance of the cross-correlation from the identity, $\sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2$.

    Zero where matched rows agree and coordinates are uncorrelated, at most d + $\lambda$ d (d - 1) where no coordinate
    is anticorrelated with its partner. Lengths and offsets of coordinates do not matter.

    Source: Zbontar et al. 2021, Equation 1, https://huggingface.co/papers/2103.03230.

    Args:
        x: Embeddings, at least two rows.
        y: Their partners.
        off_diagonal_weight: Weight $\lambda$ of the redundancy.
        eps: See [`cross_correlation`].
    """
    correlations = cross_correlation(x, y, eps=eps)
    return (1 - correlations.diagonal()).square().sum() + off_diagonal_weight * _off_diagonal_squares(correlations)


def _standardize(x: Float[Tensor, "n d"], eps: float) -> Float[Tensor, "n d"]:
    return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + eps).sqrt()


def _correlate(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    with torch.autocast(x.device.type, enabled=False):
        return x.mT @ y


def _off_diagonal_squares(x: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    return (x - x.diagonal().diag()).square().sum()
