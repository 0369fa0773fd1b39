"""Whether a cloud of embeddings passes for a Gaussian: by its lengths, by each coordinate, and by its projections.

Tests tell apart more the more rows they see, so [`gaussianity`] compares at a fixed number and reports it.

Dimension key: n = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings
from hf_contrastive.functional.coordinates import by_coordinates, standardize
from hf_contrastive.functional.gaussian import expected_epps_pulley, random_directions, sliced_gaussianity


# Level of 5 % for a Gaussian of unknown mean and variance, and the statistic's mean, 1 minus the integral of
# phi^3 (1 + z^2 / 2) / (Phi (1 - Phi)), both for many rows.
ANDERSON_DARLING_LIMIT, ANDERSON_DARLING_MEAN = 0.752, 0.3844


class NormVariation(NamedTuple):
    """
    How much lengths vary, and the reference.

    Args:
        variation: Standard deviation of the rows' lengths over their mean.
        gaussian: That of an isotropic Gaussian of this width.
    """

    variation: Float[Tensor, ""]
    gaussian: Float[Tensor, ""]


def norm_variation(x: Float[Tensor, "n d"]) -> NormVariation:
    r"""Coefficient of variation of the lengths of rows, which are taken as they are: `x` must not be normalized.

    Zero if all rows have one length, about $1 / \sqrt{2d}$ (0.044 for d = 256) for an isotropic Gaussian, whose exact
    value is the reference.

    Source: Betser et al. 2026, thin-shell diagnostic, https://huggingface.co/papers/2602.24012.

    >>> norm_variation(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).variation
    tensor(0.5000)
    """
    x = as_embeddings(x, "x", min_rows=2, normalize=False)
    lengths = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    if (mean := lengths.mean()) == 0:
        raise ValueError(
            "`x` holds nothing but rows of zeros, whose lengths have no variation relative to their mean."
        )
    d = x.shape[1]
    chi = math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return NormVariation((lengths.std(correction=0) / mean).to(x.dtype), x.new_tensor(math.sqrt(d / chi**2 - 1)))


def anderson_darling(x: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    r"""Anderson-Darling statistic of each coordinate over the rows, against a Gaussian of its own mean and variance,
    $-n - \frac1n \sum_i (2i - 1) (\log\Phi(z_{(i)}) + \log(1 - \Phi(z_{(n + 1 - i)})))$.

    Rows are taken as they are; shift and scale of a coordinate do not matter. Not negative, 0.384 on average for
    a Gaussian, of which 5 % are above 0.752; grows with n for others. Infinite where a coordinate does not vary.

    Source: Stephens 1974, case 3; Betser et al. 2026, https://huggingface.co/papers/2602.24012.
    """
    x = as_embeddings(x, "x", min_rows=8, normalize=False)
    return by_coordinates(_anderson_darling, x)


def dagostino_pearson(x: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """P-value of each coordinate over the rows by D'Agostino's and Pearson's test, which joins skewness and kurtosis.

    Rows are taken as they are; shift and scale of a coordinate do not matter. Uniform in [0, 1] for a Gaussian, so 0.5 on
    average, near 0 for others. Zero where a coordinate does not vary.

    Source: D'Agostino & Pearson 1973, with the transformations of D'Agostino 1970 and Anscombe & Glynn 1983, as SciPy's
    `normaltest`; Betser et al. 2026, https://huggingface.co/papers/2602.24012.
    """
    x = as_embeddings(x, "x", min_rows=20, normalize=False)
    return by_coordinates(_dagostino_pearson, x)


class Gaussianity(NamedTuple):
    """
    Tests of normality at a given number of rows. [`expected_gaussianity`] is what a Gaussian shows.

    Args:
        anderson_darling: Mean over coordinates of [`anderson_darling`].
        anderson_darling_share: Share of coordinates below 0.752, the level of 5 %.
        dagostino_pearson: Mean over coordinates of [`dagostino_pearson`].
        dagostino_pearson_share: Share of coordinates above 0.05.
        epps_pulley: Mean over random directions of the [`epps_pulley`] statistic.
        num_rows: Rows that were tested.
    """

    anderson_darling: Float[Tensor, ""]
    anderson_darling_share: Float[Tensor, ""]
    dagostino_pearson: Float[Tensor, ""]
    dagostino_pearson_share: Float[Tensor, ""]
    epps_pulley: Float[Tensor, ""]
    num_rows: int


@torch.no_grad()
def gaussianity(
    x: Float[Tensor, "n d"], *, num_rows: int = 1000, slices: int = 256, seed: int = 0, normalize: bool = True
) -> Gaussianity:
    r"""Tests of each coordinate and of random projections on a sample of the rows.

    Values compare between clouds of one width at one `num_rows` only. The coordinate tests take out each coordinate's mean
    and variance, and see neither clusters nor a gap. The projections do: rows are scaled to a mean square of 1 per
    coordinate, not centered, and compared with N(0, I). Coordinates of the sphere's uniform distribution are Gaussian in
    high dimensions only: at width 32 and 5,000 rows it fails, at 256 it passes.

    Source: Betser et al. 2026 (coordinates), https://huggingface.co/papers/2602.24012; Balestriero & LeCun 2025
    (projections), https://huggingface.co/papers/2511.08544.

    Args:
        x: Embeddings of one modality, at least 20 rows.
        num_rows: Rows that are drawn; all where there are fewer.
        slices: Random directions.
        seed: Seed of rows and directions.
        normalize: Whether to scale rows to unit length first. The paper reports both.
    """
    for name, value, least in (("num_rows", num_rows, 20), ("slices", slices, 1)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, but got {value}.")
    x = as_embeddings(x, "x", min_rows=20, normalize=normalize)
    generator = torch.Generator().manual_seed(seed)
    directions = random_directions(x.shape[1], slices, generator)
    rows = torch.randperm(len(x), generator=generator)[:num_rows].sort().values
    x = x[rows.to(x.device)].double()
    statistics, chances = anderson_darling(x), dagostino_pearson(x)
    scale = x.square().mean().sqrt()
    if scale == 0:
        raise ValueError("`x` holds nothing but rows of zeros, which have no scale.")
    return Gaussianity(
        statistics.mean(),
        (statistics < ANDERSON_DARLING_LIMIT).double().mean(),
        chances.mean(),
        (chances > 0.05).double().mean(),
        sliced_gaussianity(x / scale, directions),
        len(x),
    )


def expected_gaussianity(num_rows: int) -> Gaussianity:
    """What [`gaussianity`] expects of an isotropic Gaussian, whatever its width: only the last depends on `num_rows`.

    >>> expected_gaussianity(1000).anderson_darling_share
    tensor(0.9500, dtype=torch.float64)
    """
    mean, share, chance, projections = torch.tensor(
        [ANDERSON_DARLING_MEAN, 0.95, 0.5, expected_epps_pulley()], dtype=torch.float64
    )
    return Gaussianity(mean, share, chance, share, projections, num_rows)


def _anderson_darling(x: Float[Tensor, "d n"]) -> Float[Tensor, "d"]:
    n = x.shape[1]
    z = standardize(x.sort(dim=1).values, correction=1)
    weights = (2 * torch.arange(n, dtype=x.dtype, device=x.device) + 1) / n
    below, above = torch.special.log_ndtr(z), torch.special.log_ndtr(-z.flip(1))
    return torch.where(x.amin(dim=1) < x.amax(dim=1), -n - ((below + above) * weights).sum(dim=1), torch.inf)


def _dagostino_pearson(x: Float[Tensor, "d n"]) -> Float[Tensor, "d"]:
    n = x.shape[1]
    z = standardize(x, correction=0)
    skew = _skewness_score(z.pow(3).mean(dim=1), n)
    kurtosis = _kurtosis_score(z.pow(4).mean(dim=1), n)
    # The tail of a chi-squared of two degrees of freedom.
    return torch.where(x.amin(dim=1) < x.amax(dim=1), torch.exp(-(skew.square() + kurtosis.square()) / 2), 0.0)


def _skewness_score(skewness: Tensor, n: int) -> Tensor:
    """Skewness of n rows, transformed to N(0, 1) (D'Agostino 1970)."""
    y = skewness * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n * n + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w = math.sqrt(2 * (beta - 1)) - 1
    return torch.asinh(y * math.sqrt((w - 1) / 2)) / math.sqrt(math.log(w) / 2)


def _kurtosis_score(kurtosis: Tensor, n: int) -> Tensor:
    """Kurtosis of n rows, transformed to N(0, 1) (Anscombe & Glynn 1983)."""
    mean, variance = 3 * (n - 1) / (n + 1), 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + math.sqrt(1 + 4 / skew**2))
    base = 1 + (kurtosis - mean) / math.sqrt(variance) * math.sqrt(2 / (a - 4))
    root = base.sign() * ((1 - 2 / a) / base.abs()).pow(1 / 3)
    return (1 - 2 / (9 * a) - root) / math.sqrt(2 / (9 * a))
