"""The geometry of embedding clouds: how tight pairs are, how evenly a cloud spreads, how far two clouds sit apart.

Every function is differentiable and knows nothing of batches or processes. Rows are scaled to unit length unless
`normalize=False`. Each statistic has its reference beside it: the best uniformity there is, the gap that sampling alone
makes.

Dimension key: n, m = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import (
    as_embeddings,
    check_paired,
    check_positive,
    check_same_width,
    working_dtype,
)
from hf_contrastive.functional.potential import log_mean_potential


def alignment(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], *, alpha: float = 2.0, normalize: bool = True
) -> Float[Tensor, ""]:
    r"""Mean distance between matched rows, $\mathrm{E}_i \lVert x_i - y_i \rVert_2^\alpha$.

    Zero when every pair coincides. With `alpha=2`, unit rows give 2 - 2 cos: 2 for unrelated clouds, at most 4.

    Source: Wang & Isola 2020, Section 4.1.1, https://huggingface.co/papers/2005.10242.

    >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    tensor(2.)
    """
    check_positive(alpha, "alpha")
    x, y = as_embeddings(x, "x", normalize=normalize), as_embeddings(y, "y", normalize=normalize)
    check_paired(x, y, "`x` and `y`")
    squared = (x - y).square().sum(dim=1)
    if alpha == 2:
        return squared.mean()
    # Powers below 1 of zero have no gradient, so rows that coincide take no part in the power.
    return squared.masked_fill(squared == 0, 1).pow(alpha / 2).masked_fill(squared == 0, 0).mean()


def uniformity(x: Float[Tensor, "n d"], *, t: float = 2.0, normalize: bool = True) -> Float[Tensor, ""]:
    r"""Log of the mean Gaussian potential of distinct rows, $\log \mathrm{E}_{i \neq j}\, e^{-t \lVert x_i - x_j \rVert^2}$.

    Zero when the cloud has collapsed to a point, more negative the more evenly it covers the sphere, about
    [`uniformity_floor`] when it does so perfectly. Values of different widths or different `t` do not compare.

    Source: Wang & Isola 2020, Section 4.1.2, https://huggingface.co/papers/2005.10242. Their $t$ is half an inverse
    temperature of InfoNCE: `t=2` is a temperature of 0.25.

    Args:
        x: Embeddings of one modality. Pooled modalities would show the gap between them as uniformity.
        t: Sharpness of the potential.
        normalize: Whether to scale rows to unit length first.

    >>> round(float(uniformity(torch.ones(3, 2))), 4)
    0.0
    """
    check_positive(t, "t")
    x = as_embeddings(x, "x", min_rows=2, normalize=normalize)
    return log_mean_potential(x, t)


def uniformity_floor(d: int, *, t: float = 2.0) -> float:
    r"""Uniformity of the uniform distribution on the sphere in d dimensions, $-2t + \log {}_0F_1(; d/2; t^2)$.

    No distribution has a lower value. It falls to -2t as d grows.

    Source: Wang & Isola 2020, Proposition 1 and its proof, https://huggingface.co/papers/2005.10242.

    >>> round(uniformity_floor(512), 3)
    -3.984
    """
    check_positive(t, "t")
    if d < 1:
        raise ValueError(f"`d` is the width of embeddings and must be at least 1, but got {d}.")
    # Terms z^k / (k! (b)_k) rise until k(b + k) > z, so stop on the falling side only.
    b, z = d / 2, t * t
    log_term, log_sum, k = 0.0, 0.0, 0
    while log_term > log_sum - 40 or k * (b + k) < z:
        log_term += math.log(z) - math.log((k + 1) * (b + k))
        log_sum += math.log1p(math.exp(log_term - log_sum)) if log_term < log_sum + 700 else log_term - log_sum
        k += 1
    return log_sum - 2 * t


class ModalityGap(NamedTuple):
    """A gap between two clouds and its reference.

    Args:
        gap: Distance between the centers.
        floor: The distance that two independent samples of one distribution would show, in root mean square.
    """

    gap: Float[Tensor, ""]
    floor: Float[Tensor, ""]

    @property
    def unbiased_square(self) -> Float[Tensor, ""]:
        """The squared gap less what sampling adds to it on average; of one distribution it is zero in the mean, and at
        times below.
        """
        return self.gap.square() - self.floor.square()


def modality_gap(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> ModalityGap:
    r"""Distance between the centers of two clouds, $\lVert \bar x - \bar y \rVert_2$, and what sampling makes of it.

    The gap of unit rows lies in [0, 2], and samples show one even where their distributions have none. Its floor is
    $\sqrt{\mathrm{tr}\,S_x/n + \mathrm{tr}\,S_y/m}$ with S the unbiased covariance, which is $\sqrt{1/n + 1/m}$ for
    evenly spread unit rows. Matched rows vary together, so a closed gap between them can lie below it.

    Source: Liang et al. 2022, Section 4.2 (the gap), https://huggingface.co/papers/2203.02053.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> modality_gap(x, x.flip(1))
    ModalityGap(gap=tensor(0.), floor=tensor(1.4142))
    """
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    centers = x.mean(dim=0), y.mean(dim=0)
    spreads = [
        torch.linalg.vector_norm(z - center).square() / (len(z) - 1) for z, center in zip((x, y), centers, strict=True)
    ]
    return gap_of_centers(*centers, spreads[0] / len(x) + spreads[1] / len(y))


def gap_of_centers(x: Float[Tensor, "d"], y: Float[Tensor, "d"], variance: Float[Tensor, ""]) -> ModalityGap:
    """[`modality_gap`] of two centers, the sum of whose variances is that of sampling."""
    # The smallest number keeps the slope of the root finite where both clouds have collapsed.
    return ModalityGap((x - y).norm(), variance.clamp(min=torch.finfo(x.dtype).tiny).sqrt())


def gram_determinant(tuples: Float[Tensor, "n S d"]) -> Float[Tensor, "n"]:
    r"""Squared volume of the parallelotope that the S embeddings of each item span, $\det Z_i Z_i^\top$.

    For unit rows in [0, 1]: zero when they are linearly dependent, one when they are orthogonal.

    Source: Cicchetti et al. 2025 (its square root), https://huggingface.co/papers/2412.11959.

    >>> gram_determinant(torch.eye(2).unsqueeze(0))
    tensor([1.])
    """
    # Half precision would lose small volumes, and has no determinant.
    with torch.autocast(tuples.device.type, enabled=False):
        tuples = tuples.to(working_dtype(tuples))
        return torch.linalg.det(tuples @ tuples.mT)
