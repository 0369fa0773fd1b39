"""What can be done to embeddings after training: maps of each cloud that are fitted on some rows and applied to any.

A map returns unit rows, since retrieval by cosine reads directions alone. Fit on other rows than those that you measure:
a map fitted on the rows themselves flatters them.

Dimension key: n, m = rows, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.second_moments import second_moments


class CloudMap(NamedTuple):
    """An affine map of the unit rows of one cloud, followed by scaling to unit length.

    Args:
        center: What is subtracted from every unit row.
        matrix: What each row is then multiplied with. None for the identity.
    """

    center: Float[Tensor, "d"]
    matrix: Float[Tensor, "d d"] | None = None

    def apply(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Unit rows of the mapped cloud. A row that is the center itself has no direction and is refused."""
        shifted = as_embeddings(x, "x") - self.center
        if self.matrix is not None:
            with torch.autocast(shifted.device.type, enabled=False):
                shifted = shifted @ self.matrix
        return as_embeddings(shifted, "x")


def mean_shift(x: Float[Tensor, "n d"]) -> CloudMap:
    """The map that moves a cloud's center to the origin. Done to each modality, it closes the gap between centers.

    >>> mean_shift(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).apply(torch.tensor([[1.0, 0.0]]))
    tensor([[ 0.7071, -0.7071]])
    """
    return CloudMap(as_embeddings(x, "x").mean(dim=0))


def whitening(x: Float[Tensor, "n d"], *, shrinkage: float = 0.1) -> CloudMap:
    r"""The map that centers a cloud and makes its covariance the identity, $z \mapsto \hat\Sigma^{-1/2} (z - \bar x)$.

    $\hat\Sigma = (1 - a) \Sigma + a\, \mathrm{tr}(\Sigma) / d\; I$ with the shrinkage a. The symmetric root (ZCA) stays as
    near to the given coordinates as a whitening can. A root that rotates each cloud to its own principal axes (PCA)
    would be as white, but rows of two modalities would no longer share coordinates, so that cosines between them would
    mean nothing.

    Source: Kessy, Lewin & Strimmer 2018, Section 4.1 (ZCA); Ledoit & Wolf 2004 (the target of the shrinkage).

    Args:
        x: Rows to fit.
        shrinkage: Share of evenly spread variance, above 0 where rows are few beside the width.

    Raises:
        ValueError: The shrinkage is not in [0, 1], or is 0 where the covariance is singular.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"`shrinkage` is a share, at least 0 and at most 1, but got {shrinkage}.")
    x = as_embeddings(x, "x", min_rows=2)
    n, d = x.shape
    # In double precision: small eigenvalues are what the inverse root is made of.
    moments = second_moments(x)
    with torch.autocast(x.device.type, enabled=False):
        values, vectors = torch.linalg.eigh(moments.covariance())
        total = values.clamp(min=0).sum()
        values = (1 - shrinkage) * values.clamp(min=0) + shrinkage * total / d
        if not values[0] > d * torch.finfo(x.dtype).eps * values[-1]:
            raise ValueError(
                f"The covariance of {n} rows of width {d} is singular, so that it cannot be made the identity with a "
                f"`shrinkage` of {shrinkage}. Pass more rows that differ, or a larger one."
            )
        matrix = (vectors * values.rsqrt()) @ vectors.mT
    return CloudMap(moments.mean.to(x.dtype), matrix.to(x.dtype))


def shift_along_gap(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], fraction: float) -> tuple[CloudMap, CloudMap]:
    r"""Maps that move two clouds along the line between their centers, $x - \lambda \Delta$ and $y + \lambda \Delta$ with
    $\Delta = \bar x - \bar y$.

    At a fraction $\lambda$ of 0 they stay, at 0.5 their centers meet before rows are scaled to unit length, at 1 they
    have changed places, and below 0 they part.

    Source: Liang et al. 2022, Section 4.2, https://huggingface.co/papers/2203.02053.
    """
    x, y = as_embeddings(x, "x"), as_embeddings(y, "y")
    check_same_width(x, y, "`x` and `y`")
    gap = x.mean(dim=0) - y.mean(dim=0)
    return CloudMap(fraction * gap), CloudMap(-fraction * gap)
