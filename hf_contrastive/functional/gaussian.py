"""How far a cloud of embeddings is from an isotropic Gaussian: by its moments, and by its projections on lines.

Dimension key: n = rows, d = embedding width, k = slices, p = points at which characteristic functions are compared.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hf_contrastive.functional.checks import as_embeddings, check_positive, working_dtype


# The trapezoidal rule of the paper has 17 points in [-5, 5]. The integrand is even and zero at zero, so eight tell all.
STEP, NUM_POINTS = 0.625, 8


def gaussian_kl(
    x: Float[Tensor, "n d"], *, variance: float | None = None, shrinkage: float = 0.1, normalize: bool = True
) -> Float[Tensor, ""]:
    r"""Kullback-Leibler divergence from $N(0, vI)$ of the Gaussian with the rows' mean m and covariance,
    $\frac12 (\mathrm{tr}\, \Sigma / v + \lVert m \rVert^2 / v - d - \log\det(\Sigma / v))$.

    With $v = 1/(2\lambda)$ it is $-H + \lambda \mathrm{E} \lVert z \rVert^2$, up to a constant, with the entropy of
    that Gaussian as an upper bound of H. Zero if and only if m = 0 and the covariance is $vI$. Of unit rows it is at
    least $\frac d2 \lVert m \rVert^2$, the sharp bound that the divergence from the uniform distribution on the sphere
    obeys. Two moments do not see clusters; [`uniformity`] does.

    Source: Betser et al. 2026, Route 2 (their entropy; the Gaussian estimate of it is ours),
    https://huggingface.co/papers/2602.24012.

    Args:
        x: Embeddings of one modality.
        variance: Variance v of each coordinate of the target. By default 1/d, that of evenly spread unit rows.
        shrinkage: Share of the target's covariance that is mixed into the rows'. Fewer rows than d + 1 have a singular
            covariance and need it. It moves no minimum.
        normalize: Whether to scale rows to unit length first. Lengths, which the paper's regularizer is meant to shape,
            are then lost.

    Raises:
        ValueError: `shrinkage` is no share of the target, or too small for rows whose covariance is singular.

    >>> gaussian_kl(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    tensor(0.)
    """
    if not 0 <= shrinkage < 1:
        raise ValueError(f"`shrinkage` is a share of the target, at least 0 and below 1, but got {shrinkage}.")
    x = as_embeddings(x, "x", normalize=normalize)
    n, d = x.shape
    if shrinkage == 0 and n <= d:
        raise ValueError(
            f"{n} rows of width {d} have a singular covariance, so `shrinkage` must be above 0, but got 0."
        )
    variance = 1 / d if variance is None else variance
    check_positive(variance, "variance")
    with torch.autocast(x.device.type, enabled=False):
        mean = x.mean(dim=0)
        centered = x - mean
        covariance = centered.mT @ centered * ((1 - shrinkage) / (n * variance))
        covariance = covariance + shrinkage * torch.eye(d, dtype=x.dtype, device=x.device)
        root, failure = torch.linalg.cholesky_ex(covariance)
        if failure:
            raise ValueError(
                f"The covariance of {n} rows of width {d} is singular at a `shrinkage` of {shrinkage}: rows repeat, or do not "
                "vary in some direction. Raise it."
            )
        # Half of the log determinant.
        volume = root.diagonal().log().sum()
        return (covariance.trace() + mean.square().sum() / variance - d) / 2 - volume


def random_directions(d: int, num: int, generator: torch.Generator) -> Float[Tensor, "d k"]:
    """Unit vectors as columns, uniform on the sphere, in double precision on the generator's device."""
    columns = torch.randn(d, num, generator=generator, dtype=torch.float64, device=generator.device)
    return columns / columns.norm(dim=0)


def characteristic_sums(projections: Float[Tensor, "n k"]) -> Float[Tensor, "p 2 k"]:
    r"""Sums over rows of $\cos(u z)$ and $\sin(u z)$ at the points u that [`epps_pulley`] compares.

    The backward pass computes each point's terms again, so memory is O(n k). No rows have sums of zero.
    """
    points = [STEP * (i + 1) for i in range(NUM_POINTS)]
    return torch.stack([checkpoint(_point_sums, projections, u, use_reentrant=False) for u in points])


def epps_pulley(sums: Float[Tensor, "p 2 k"], num_rows: Int[Tensor, ""] | int) -> Float[Tensor, "k"]:
    r"""Epps-Pulley statistic of each slice against N(0, 1), $n \int \lvert \hat\phi(u) - e^{-u^2/2} \rvert^2
    e^{-u^2/2}\, du$, with $\hat\phi$ the empirical characteristic function.

    Not negative. Samples of N(0, 1) have $\sqrt{2\pi} (1 - 1/\sqrt3) = 1.06$ on average, whatever their number; the
    statistic of others grows with n.

    Source: Balestriero & LeCun 2025, Algorithm 1, https://huggingface.co/papers/2511.08544.

    Args:
        sums: What [`characteristic_sums`] returns; those of parts of the rows add up.
        num_rows: Rows that were summed.
    """
    normal, weights = (z.unsqueeze(1) for z in _quadrature(sums))
    means = sums / num_rows
    errors = (means[:, 0] - normal).square() + means[:, 1].square()
    return num_rows * (weights * errors).sum(dim=0)


def expected_epps_pulley() -> float:
    r"""What [`epps_pulley`] expects of samples of N(0, 1), whatever their number: $\int (1 - e^{-u^2}) e^{-u^2/2}\, du$.

    >>> round(expected_epps_pulley(), 4)
    1.0594
    """
    normal, weights = _quadrature(torch.empty(0, dtype=torch.float64))
    return float((weights * (1 - normal.square())).sum())


def sliced_gaussianity(x: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]) -> Float[Tensor, ""]:
    """Mean over slices of the [`epps_pulley`] statistic of the rows, as they are, projected on each direction.

    Source: Balestriero & LeCun 2025, Algorithm 1 (SIGReg), https://huggingface.co/papers/2511.08544.
    """
    x = as_embeddings(x, "x", normalize=False)
    return epps_pulley(characteristic_sums(project(x, directions)), len(x)).mean()


def project(x: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]) -> Float[Tensor, "n k"]:
    """Rows on each direction, in the precision of the rows, at least single, even where products are autocast."""
    x = x.to(working_dtype(x))
    with torch.autocast(x.device.type, enabled=False):
        return x @ directions.to(x)


def _quadrature(like: Tensor) -> tuple[Float[Tensor, "p"], Float[Tensor, "p"]]:
    """Characteristic function of N(0, 1) at the points, and weights of the points."""
    points = STEP * torch.arange(1, NUM_POINTS + 1, dtype=like.dtype, device=like.device)
    normal = torch.exp(-points.square() / 2)
    # Twice for the negative points; the ends of the range count half.
    weights = 2 * STEP * normal
    weights[-1] /= 2
    return normal, weights


def _point_sums(projections: Float[Tensor, "n k"], point: float) -> Float[Tensor, "2 k"]:
    angles = point * projections
    return torch.stack([angles.cos().sum(dim=0), angles.sin().sum(dim=0)])
