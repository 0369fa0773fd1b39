"""The Fréchet distance between Gaussian fits of two clouds.

Dimension key: n, m = rows, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.decomposition import distance_of_moments
from hf_contrastive.functional.second_moments import second_moments


class FrechetDistance(NamedTuple):
    """A squared Fréchet distance, its two parts, and what sampling makes of it.

    Args:
        squared: The squared distance, the sum of both parts.
        between_means: Squared distance of the means.
        between_covariances: What the covariances add.
        floor: The value of two samples, as large as these, of one distribution: the bias of the estimate.
    """

    squared: Float[Tensor, ""]
    between_means: Float[Tensor, ""]
    between_covariances: Float[Tensor, ""]
    floor: Float[Tensor, ""]


@torch.no_grad()
def frechet_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, seed: int = 0, normalize: bool = True
) -> FrechetDistance:
    r"""Squared Fréchet distance between the Gaussians with the moments of two clouds, $\lVert \bar x - \bar y \rVert^2 +
    \mathrm{tr}\bigl(S_x + S_y - 2 (S_x S_y)^{1/2}\bigr)$.

    It is what FID computes, on embeddings: zero only where means and covariances are equal. Of unit rows it is at most
    4. Two moments do not see clusters; [`energy_distance`] does. [`cloud_distance`] splits it further. Fewer rows than
    d + 1 are no obstacle, as the root's trace is the sum of the singular values of $S_x^{1/2} S_y^{1/2}$ with roots
    from symmetric eigenvalues.

    Samples overstate the distance, by about $1/n + 1/m$ times the variance and by far more where rows are not many
    times d. The floor is that of a seeded deal of all rows, each cloud centered on itself, to two clouds as large:
    values of different numbers of rows compare only by what they exceed it. One deal scatters as the distance does.

    Source: Dowson & Landau 1982, https://doi.org/10.1016/0047-259X(82)90077-X; Heusel et al. 2017 (FID),
    https://huggingface.co/papers/1706.08500.

    Args:
        x: First cloud, at least two rows.
        y: Second cloud, at least two rows; any number.
        seed: Seed of the deal that gives the floor.
        normalize: Whether to scale rows to unit length first.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> round(float(frechet_distance(x, 3 * x, normalize=False).squared), 6)
    8.0
    """
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    of_x, of_y = second_moments(x), second_moments(y)
    distance = distance_of_moments(of_x, of_y)
    # Drawn on the CPU, so that one seed is one deal on every device.
    order = torch.randperm(len(x) + len(y), generator=torch.Generator().manual_seed(seed)).to(x.device)
    pool = torch.cat([x - of_x.mean.to(x), y - of_y.mean.to(y)])[order]
    dealt = distance_of_moments(second_moments(pool[: len(x)]), second_moments(pool[len(x) :]))
    return FrechetDistance(
        distance.total, distance.centers, sum(distance[2:], torch.zeros_like(distance.total)), dealt.total
    )
