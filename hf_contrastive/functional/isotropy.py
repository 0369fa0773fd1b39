"""Whether a cloud of embeddings points somewhere: the length of its center and the mean cosine of its rows.

Both are exact from the sum of the rows. Each has the value beside it that a sample of evenly spread rows would show.

Dimension key: n = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width


class MeanCosine(NamedTuple):
    """
    Mean cosine of distinct rows and its reference.

    Args:
        cosine: The mean; 0 is expected of evenly spread rows.
        deviation: Standard deviation of it that as many evenly spread rows would show.
    """

    cosine: Float[Tensor, ""]
    deviation: Float[Tensor, ""]


def mean_cosine(x: Float[Tensor, "n d"]) -> MeanCosine:
    r"""Mean cosine of two distinct rows, $(\lVert \sum_i x_i \rVert^2 - n) / (n (n - 1))$ of unit rows, over all pairs.

    1 when the cloud has collapsed, 0 when nothing is preferred, at least $-1 / (n - 1)$. Samples of a uniform
    distribution deviate from 0 by $\sqrt{2 / (n (n - 1) d)}$. A cone, which narrow embeddings and CLIP's modalities lie
    in, shows here; directions that differ in variance do not, see [`iso_score`].

    Source: Ethayarajh 2019, Section 4.1 (his self-similarity of words, here of all rows),
    https://huggingface.co/papers/1909.00512.

    >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).cosine
    tensor(0.)
    """
    x = as_embeddings(x, "x", min_rows=2)
    n, d = x.shape
    squared = x.sum(dim=0, dtype=torch.float64).square().sum()
    # Their lengths' squares rather than n: rounded rows are not quite of unit length, and differences of sums show it.
    cosine = (squared - x.square().sum(dtype=torch.float64)) / (n * (n - 1))
    return MeanCosine(cosine.to(x.dtype), x.new_tensor(math.sqrt(2 / (n * (n - 1) * d))))


class CentroidNorm(NamedTuple):
    """
    Distance of a cloud's center from the origin and its reference.

    Args:
        norm: The distance.
        floor: The distance that a sample of as many rows would show if the distribution's center were the origin, in root
            mean square.
    """

    norm: Float[Tensor, ""]
    floor: Float[Tensor, ""]


def centroid_norm(x: Float[Tensor, "n d"], *, normalize: bool = True) -> CentroidNorm:
    r"""Length of the mean row, $\lVert \bar x \rVert_2$, and what sampling makes of it, $\sqrt{\mathrm{tr}\,S / n}$.

    In [0, 1] for unit rows, 1 when the cloud has collapsed. The floor, with S the unbiased covariance, is $1 / \sqrt n$ of
    evenly spread unit rows; the difference of squares estimates the squared norm of the distribution's mean without bias.

    Source: Betser et al. 2026, Proposition 1 (the norm bounds alignment), https://huggingface.co/papers/2602.24012.

    >>> centroid_norm(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    CentroidNorm(norm=tensor(0.7071), floor=tensor(0.7071))
    """
    x = as_embeddings(x, "x", min_rows=2, normalize=normalize)
    center = x.mean(dim=0, dtype=torch.float64).to(x.dtype)
    variance = torch.linalg.vector_norm(x - center).square() / (len(x) * (len(x) - 1))
    # The smallest number keeps the slope of the root finite where the cloud has collapsed.
    return CentroidNorm(center.norm(), variance.clamp(min=torch.finfo(x.dtype).tiny).sqrt())


def centroid_cosine(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, normalize: bool = True) -> Float[Tensor, ""]:
    """Cosine between the centers of two clouds, in [-1, 1]; not a number if a center is zero.

    It says little where the lengths of the centers are near the floor of [`centroid_norm`]. O((n + m) d) time.

    >>> centroid_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor(0.)
    """
    x, y = as_embeddings(x, "x", normalize=normalize), as_embeddings(y, "y", normalize=normalize)
    check_same_width(x, y, "`x` and `y`")
    a, b = (z.mean(dim=0, dtype=torch.float64) for z in (x, y))
    return (a @ b / (a.norm() * b.norm())).to(x.dtype)
