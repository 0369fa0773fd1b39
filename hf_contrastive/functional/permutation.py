"""What a statistic comes to by chance alone: when rows are paired, or dealt to modalities, at random.

Dimension key: n, m = rows, d = embedding width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import check_same_width


class Control(NamedTuple):
    """A statistic beside what it is when chance decides.

    Args:
        value: The statistic.
        mean: Its mean over shuffles.
        std: Its standard deviation over shuffles.
        z: How many of these deviations the value lies above the mean. Not a number where shuffles change nothing.
        p: Share of shuffles, the value's own order counted as one, that are at least as far from the mean: at best
            1 / (shuffles + 1).
    """

    value: float
    mean: float
    std: float
    z: float
    p: float


@torch.no_grad()
def pairing_control(
    statistic: Callable[[Tensor, Tensor], Tensor | float],
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n e"],
    *,
    shuffles: int = 20,
    seed: int = 0,
) -> Control:
    """A statistic of matched rows, and what it is when the rows of `y` are matched with `x` at random.

    Measures of pairs (alignment, recall) must fall to chance, and measures of the two clouds (gap, divergences) must
    not move: a sanity check of both.

    Source: the shuffle control of Cai et al. 2026, https://huggingface.co/papers/2601.19597.

    Args:
        statistic: A function of two matrices whose rows are matched.
        x: First modality.
        y: Second modality, row i the match of row i of `x`.
        shuffles: Random orders to try.
        seed: Seed of the orders.

    >>> x = torch.eye(8)
    >>> control = pairing_control(lambda x, y: (x * y).sum(dim=1).mean(), x, x)
    >>> control.value, round(control.mean, 1)
    (1.0, 0.1)
    """
    if len(x) != len(y):
        raise ValueError(f"`x` and `y` must match row by row, but got {len(x)} and {len(y)} rows.")
    generator = _generator(shuffles, seed)
    own = statistic(x, y)  # first, so that an error names the row that is to blame
    return _control(own, [statistic(x, y[_order(y, generator)]) for _ in range(shuffles)], x.dtype)


@torch.no_grad()
def modality_control(
    statistic: Callable[..., Tensor | float],
    *clouds: Float[Tensor, "_ d"],
    shuffles: int = 20,
    seed: int = 0,
) -> Control:
    """A statistic of two or more clouds, and what it is when all rows are dealt to the clouds at random.

    The floor of any measure of what lies between modalities, with the sampling noise of just as many rows. Rows are
    dealt independently, whether or not they are matched; a gap between matched rows can then lie below its floor.

    Args:
        statistic: A function of as many matrices as there are clouds.
        clouds: Clouds of one width and any numbers of rows, scaled as the statistic's user would scale them.
        shuffles: Random deals to try.
        seed: Seed of the deals.
    """
    if len(clouds) < 2:
        raise ValueError(f"`clouds` must be at least two to deal rows to, but got {len(clouds)}.")
    for i, cloud in enumerate(clouds):
        check_same_width(clouds[0], cloud, f"`clouds[0]` and `clouds[{i}]`")
    generator = _generator(shuffles, seed)
    pool, sizes = torch.cat(clouds), [len(cloud) for cloud in clouds]
    own = statistic(*clouds)
    values = [statistic(*torch.split(pool[_order(pool, generator)], sizes)) for _ in range(shuffles)]
    return _control(own, values, pool.dtype)


def deal_variance(
    n: int,
    m: int,
    squares: Float[Tensor, ""],
    row_squares: Float[Tensor, ""],
    total: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    r"""Variance of $\frac{1}{n(n-1)} \sum_{x \ne x'} k + \frac{1}{m(m-1)} \sum_{y \ne y'} k - \frac{2}{nm} \sum_{x, y} k$
    over all ways to deal n + m rows to two clouds, exactly.

    The weights' rows sum to zero, which leaves three sums to know.

    Source: Mantel 1967 (the moments of his test, for symmetric matrices), Cancer Research 27(2).

    Args:
        n: Rows of the first cloud, at least two.
        m: Rows of the second cloud, at least two.
        squares: Sum of $k_{ij}^2$ over ordered pairs of distinct rows of both clouds.
        row_squares: Sum over rows of the square of $\sum_{j \ne i} k_{ij}$.
        total: Sum of $k_{ij}$.
    """
    rows = n + m
    pairs = rows * (rows - 1)
    # A constant taken from k changes nothing but the rounding.
    constant = total / pairs
    row_squares = row_squares - rows * ((rows - 1) * constant).square()
    squares = squares - pairs * constant.square()
    chains = row_squares - squares
    apart = -2 * squares - 4 * chains
    weights = 1 / (n * (n - 1)) + 1 / (m * (m - 1)) + 2 / (n * m)
    mean = squares - 2 * chains / (rows - 2) + apart / ((rows - 2) * (rows - 3))
    return (2 * weights / pairs * mean).clamp(min=0)


def _generator(shuffles: int, seed: int) -> torch.Generator:
    if shuffles < 2:
        raise ValueError(f"`shuffles` must be at least 2 for a standard deviation, but got {shuffles}.")
    return torch.Generator().manual_seed(seed)


def _order(x: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU, so that one seed is one order on every device.
    return torch.randperm(len(x), generator=generator).to(x.device)


def _control(value: Tensor | float, values: Sequence[Tensor | float], dtype: torch.dtype) -> Control:
    """The control of a statistic of rows of this type, at least single precision."""
    own, shuffled = float(value), torch.tensor([float(v) for v in values], dtype=torch.float64)
    mean, std = float(shuffled.mean()), float(shuffled.std())
    # Far below any difference that means something: what rounding makes of equal values.
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    rounding = max(1e-12 * max(1.0, abs(own)), 4 * eps * max(abs(own), abs(mean)))
    z = (own - mean) / std if std > rounding else float("nan")
    as_far = int(((shuffled - mean).abs() >= abs(own - mean) - rounding).sum())
    return Control(own, mean, std, z, (as_far + 1) / (len(values) + 1))
