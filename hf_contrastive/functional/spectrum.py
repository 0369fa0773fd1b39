"""How many directions a cloud of embeddings uses, and how many it would seem to use if it used all alike.

One decomposition serves all: [`spectrum`] makes the eigenvalues, everything else is a function of them. The reference of
each is the same function of [`isotropic_spectrum`], since few rows look flat even where their distribution is round.

Dimension key: n = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings
from hf_contrastive.functional.second_moments import second_moments


def spectrum(x: Float[Tensor, "n d"], *, normalize: bool = True, double: bool = True) -> Float[Tensor, "d"]:
    """Eigenvalues of the covariance of the rows, largest first; shares of variance once divided by their sum.

    Args:
        x: Embeddings of one modality, at least two rows.
        normalize: Whether to scale rows to unit length first.
        double: Whether products of rows are summed in double precision. In single, a third of the time, eigenvalues below
            a millionth of the largest are rounding: effective rank and participation ratio hardly see them, condition
            number and numerical rank are made of them.

    >>> spectrum(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    tensor([2., 0.])
    """
    x = as_embeddings(x, "x", min_rows=2, normalize=normalize)
    return (_eigenvalues(x, centered=True, double=double) / (len(x) - 1)).to(x.dtype)


class SpectrumSummary(NamedTuple):
    """
    A spectrum in numbers, each a function of this module.

    Args:
        effective_rank: Exponential of the entropy of the shares of variance.
        participation_ratio: Inverse of the sum of their squares.
        numerical_rank: Directions that vary at all.
        condition_number: Largest eigenvalue over the smallest, both with a ridge.
        top_share: Share of variance of the first direction.
        iso_score: Participation ratio on a scale from 0 to 1.
    """

    effective_rank: Float[Tensor, ""]
    participation_ratio: Float[Tensor, ""]
    numerical_rank: Float[Tensor, ""]
    condition_number: Float[Tensor, ""]
    top_share: Float[Tensor, ""]
    iso_score: Float[Tensor, ""]


def summarize_spectrum(eigenvalues: Float[Tensor, "d"], *, ridge: float = 1e-3) -> SpectrumSummary:
    """All of [`SpectrumSummary`] from eigenvalues, largest first. Those of [`isotropic_spectrum`] give the references.

    >>> summarize_spectrum(torch.ones(4)).participation_ratio
    tensor(4.)
    """
    return SpectrumSummary(
        entropy_rank(eigenvalues),
        participation_ratio(eigenvalues),
        numerical_rank(eigenvalues),
        condition_number(eigenvalues, ridge=ridge),
        variance_share(eigenvalues, 1),
        iso_score(eigenvalues),
    )


def effective_rank(x: Float[Tensor, "n d"], *, normalize: bool = True) -> Float[Tensor, ""]:
    r"""[`entropy_rank`] of the [`spectrum`] of `x`. Between 1 and d; 1 if collapsed.

    Evenly spread rows show [`expected_effective_rank`].

    >>> effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    tensor(2.)
    """
    return entropy_rank(spectrum(x, normalize=normalize))


def entropy_rank(eigenvalues: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    r"""Number of directions in use, $e^{H(p)}$ with p the shares of variance. Between 1 and d; 1 if collapsed.

    Source: Roy & Vetterli 2007, Definition 1 (on eigenvalues of the covariance).

    >>> entropy_rank(torch.tensor([3.0, 3.0, 0.0]))
    tensor(2.)
    """
    shares = _shares(eigenvalues)
    # The entropy of a share of zero is that of one, zero, but its slope is infinite.
    return torch.special.entr(shares.masked_fill(shares <= 0, 1.0)).sum().exp()


def participation_ratio(eigenvalues: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    r"""Number of directions in use, $(\sum \lambda)^2 / \sum \lambda^2$, which leaves out small ones sooner than the
    effective rank. Between 1 and d; 1 if collapsed.

    Evenly spread rows show $d (n - 1) / (n - 1 + d)$.

    Source: Gao et al. 2017, https://doi.org/10.1101/214262.

    >>> participation_ratio(torch.tensor([3.0, 1.0]))
    tensor(1.6000)
    """
    return 1 / _shares(eigenvalues).square().sum()


def iso_score(eigenvalues: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    r"""IsoScore, from 0 (a line) to 1 (variance alike in all directions): $(k - 1) / (d - 1)$, k the participation ratio.

    Steps 3 to 7 of the paper come to just this. It takes rows as they are, hence `spectrum(x, normalize=False)`.

    Source: Rudman et al. 2022, Section 4.1, https://huggingface.co/papers/2108.07344.

    >>> iso_score(torch.tensor([3.0, 1.0]))
    tensor(0.6000)
    """
    if len(eigenvalues) < 2:
        raise ValueError(f"IsoScore compares directions and needs a width of at least 2, but got {len(eigenvalues)}.")
    return (participation_ratio(eigenvalues) - 1) / (len(eigenvalues) - 1)


def condition_number(
    eigenvalues: Float[Tensor, "d"], *, ridge: float = 0.0, rank: int | None = None
) -> Float[Tensor, ""]:
    r"""Largest eigenvalue of the covariance over the smallest, $(\lambda_1 + \epsilon \bar\lambda) / (\lambda_r + \epsilon
    \bar\lambda)$. At least 1, infinite if a direction is empty and the ridge is zero.

    It is the square of that of the centered rows. Rows of width n or more always leave directions empty: give a ridge or
    a rank. Evenly spread rows show $((1 + \sqrt\gamma) / (1 - \sqrt\gamma))^2$ with $\gamma = d / (n - 1)$.

    Args:
        eigenvalues: Eigenvalues, largest first.
        ridge: Share $\epsilon$ of the mean eigenvalue that is added to both.
        rank: Number r of directions that count. By default all.

    >>> condition_number(torch.tensor([4.0, 2.0, 0.0]), rank=2)
    tensor(2.)
    """
    if not 0 <= ridge < math.inf:
        raise ValueError(f"`ridge` is a share of the mean eigenvalue, at least 0 and finite, but got {ridge}.")
    shares = _shares(eigenvalues)
    last = shares[_checked_count(len(shares) if rank is None else rank, shares, "rank") - 1]
    return (shares[0] + ridge / len(shares)) / (last + ridge / len(shares))


def numerical_rank(eigenvalues: Float[Tensor, "d"], *, tolerance: float = 1e-8) -> Float[Tensor, ""]:
    """Number of eigenvalues above `tolerance` times the largest: directions that vary by more than rounding. 0 if collapsed.

    The default is 10,000 times less in standard deviation, safely above the rounding of single precision. Embeddings of
    half precision round at about 1e-5. Evenly spread rows show the smaller of d and n - 1.

    >>> numerical_rank(torch.tensor([4.0, 2.0, 0.0]))
    tensor(2.)
    """
    if not 0 <= tolerance < 1:
        raise ValueError(
            f"`tolerance` is a share of the largest eigenvalue, at least 0 and below 1, but got {tolerance}."
        )
    return (eigenvalues > tolerance * eigenvalues[0]).sum().to(eigenvalues.dtype)


def variance_share(eigenvalues: Float[Tensor, "d"], k: int) -> Float[Tensor, ""]:
    """Share of the variance of the first k directions, from k / d to 1; 1 if collapsed.

    >>> variance_share(torch.tensor([2.0, 1.0, 1.0]), 2)
    tensor(0.7500)
    """
    return _shares(eigenvalues)[: _checked_count(k, eigenvalues, "k")].sum()


def rank_me(x: Float[Tensor, "n d"], *, eps: float = 1e-7, normalize: bool = True) -> Float[Tensor, ""]:
    r"""RankMe, $e^{H(p)}$ with $p_k = \sigma_k / \sum \sigma + \epsilon$ of the singular values of the rows, not centered.

    About between 1 and the smaller of n and d. Singular values weigh small directions more than their squares, which
    [`effective_rank`] takes of centered rows. The paper takes rows as they are: `normalize=False`.

    Source: Garrido et al. 2023, https://huggingface.co/papers/2210.02885.

    >>> round(float(rank_me(torch.eye(3))), 3)
    3.0
    """
    if not 0 <= eps < 1:
        raise ValueError(f"`eps` is added to shares and must be at least 0 and below 1, but got {eps}.")
    x = as_embeddings(x, "x", normalize=normalize)
    squared = _eigenvalues(x, centered=False)[: min(x.shape)]
    # The smallest number keeps the slope of the root finite.
    values = squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
    return torch.special.entr(values / values.sum() + eps).sum().exp().to(x.dtype)


def expected_effective_rank(d: int, num_rows: int) -> float:
    r"""Effective rank that evenly spread rows show, $\min(d, n - 1)\, e^{-r/2}$ with r the smaller of $d / (n - 1)$ and its
    inverse: far from d where there are not many times as many rows.

    Source: Page 1993 (mean entropy of a random state), https://doi.org/10.1103/PhysRevLett.71.1291.

    >>> round(expected_effective_rank(512, 257), 1)
    199.4
    """
    if d < 1 or num_rows < 2:
        raise ValueError(f"A spectrum needs a width of at least 1 and 2 rows, but got d={d} and num_rows={num_rows}.")
    few, many = sorted((d, num_rows - 1))
    return few * math.exp(-few / many / 2)


def eigenvalues_of(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """Eigenvalues of a covariance, largest first. Rounding may push vanishing ones below zero, so they are lifted."""
    return torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)


def _eigenvalues(x: Tensor, *, centered: bool, double: bool = True) -> Float[Tensor, "d"]:
    """Eigenvalues of the products of the rows' coordinates, summed over rows, largest first."""
    n, d = x.shape
    with torch.autocast(x.device.type, enabled=False):
        if d <= n and double:
            moments = second_moments(x)
            return eigenvalues_of(moments.scatter if centered else moments.about_origin())
        rows = x.double() if double else x
        rows = rows - rows.mean(dim=0) if centered else rows
        values = eigenvalues_of((rows @ rows.mT if n < d else rows.mT @ rows).double())
        return torch.cat([values, values.new_zeros(d - len(values))])


def _shares(eigenvalues: Tensor) -> Tensor:
    total = eigenvalues.sum()
    # A collapsed cloud has all it has in one direction.
    first = torch.zeros_like(eigenvalues).index_fill(0, torch.tensor([0], device=eigenvalues.device), 1.0)
    # Not a number where an eigenvalue is none.
    return torch.where(total <= 0, first, eigenvalues / total.clamp(min=torch.finfo(eigenvalues.dtype).tiny))


def _checked_count(count: int, eigenvalues: Tensor, name: str) -> int:
    if not 1 <= count <= len(eigenvalues):
        raise ValueError(f"`{name}` counts directions, from 1 to {len(eigenvalues)}, but got {count}.")
    return count
