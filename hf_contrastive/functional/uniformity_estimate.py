"""Uniformity of more rows than all pairs can be taken of, with its standard error.

Dimension key: n = rows, m = rows on each side of the block of pairs, d = embedding width.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive
from hf_contrastive.functional.geometry import uniformity
from hf_contrastive.functional.moments import CHUNK_ROWS, CosinesWithin, Moments
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.tiles import blocks, tile_size


# Odd and far from what people choose.
SEED_STEP, SEED_START = 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82B


class UniformityEstimate(NamedTuple):
    """An estimate of uniformity and its standard error, zero where all pairs were taken.

    Args:
        value: Uniformity.
        standard_error: Standard deviation of the value over seeds, estimated from this one.
    """

    value: float
    standard_error: float


@torch.no_grad()
def uniformity_estimate(x: Any, *, t: float = 2.0, block: int = 8192, seed: int = 0) -> UniformityEstimate:
    r"""[`uniformity`] of any number of rows, scaled to unit length, from moments of all and pairs of some.

    Potentials $e^{2t(c - 1)}$ of a block of `block` x `block` pairs of distinct rows, drawn without replacement, are
    regressed on the cosine c and its square, whose means over all pairs follow exactly from the [`Moments`] of all rows
    (control variates). That takes $n d^2$ multiplications instead of $n^2 d / 2$. Of at most `2 * block` rows all pairs
    are taken.

    The standard error is that of means over a block of two samples of rows: variances of its row means and column
    means, whose common part, the rest of the two-way layout, counts once; less what a finite number of rows takes off.
    It sees what the sample shows. Where a few rows that the sample is likely to miss make most of the value, such as
    close duplicates in a large cloud, it is too small.

    Args:
        x: Rows, as tensor, array or memory-mapped array of shape (n, d), or an iterable of chunks of rows, which is read
            once.
        t: Sharpness of the potential.
        block: Rows on each side of the block.
        seed: Seed of the draw. With the same rows in the same order the estimate is the same, whatever their chunks.

    Raises:
        TypeError: Rows are not floating-point numbers.
        ValueError: A row is not finite or zero (counted over all chunks), there are fewer than two, widths differ, or
            the sample leaves no positive estimate.

    >>> round(uniformity_estimate(torch.eye(3)).value, 4)
    -4.0
    """
    check_positive(t, "t")
    if block < 2:
        raise ValueError(f"`block` must be at least 2, but got {block}.")
    moments, sample = _moments_and_sample(_chunks(x), 2 * block, seed)
    if moments.count <= 2 * block:
        return UniformityEstimate(float(uniformity(sample, t=t)), 0.0)
    value, variance = _controlled_mean(_Block(sample[:block], sample[block:], t), moments.cosines(), moments.count)
    if not value > 0:
        raise ValueError(
            f"A block of {block} x {block} pairs leaves no positive estimate at `t={t}`: too few of its rows are close. "
            f"Use a larger `block`, or `uniformity`, which takes all pairs."
        )
    return UniformityEstimate(math.log(value), math.sqrt(variance) / value)


class _Block:
    """Sums over a block of pairs of f, the potential, of the cosine c and of its square."""

    def __init__(self, x: Float[Tensor, "m d"], y: Float[Tensor, "m d"], t: float) -> None:
        x, y = as_embeddings(x, "x"), as_embeddings(y, "x")
        self.rows, self.columns = (torch.zeros(3, len(z), dtype=torch.float64, device=z.device) for z in (x, y))
        self.squares = torch.zeros(3, 3, dtype=torch.float64)
        for i in blocks(len(x), tile_size(x)):
            for j in blocks(len(y), tile_size(x)):
                cosines = row_products(x[i], y[j])
                tiles = torch.sub(cosines, 1).mul_(2 * t).exp_(), cosines, cosines.square()
                for k, tile in enumerate(tiles):
                    self.rows[k, i] += tile.sum(dim=1)
                    self.columns[k, j] += tile.sum(dim=0)
                flat = torch.stack([tile.flatten() for tile in tiles])
                self.squares += row_products(flat, flat).cpu()
        self.rows, self.columns = self.rows.cpu(), self.columns.cpu()


def _controlled_mean(block: _Block, cosines: CosinesWithin, n: int) -> tuple[float, float]:
    """Mean of f over all distinct pairs of n rows, and the variance of that estimate."""
    m = block.rows.shape[1]
    rows, columns = block.rows / m, block.columns / m
    means = rows.mean(dim=1)
    of_rows, of_columns = rows.cov(), columns.cov()
    # Mean squares and products of what rows and columns leave over: the two-way layout without replicates.
    within = block.squares - m * m * means.outer(means) - m * (m - 1) * (of_rows + of_columns)
    rest = within / (m - 1) ** 2
    # Means of rows vary by themselves and by the rest of their m pairs; the mean of the block has each rest once.
    of_samples = (of_rows + of_columns - 2 * rest / m) / m
    weights = torch.linalg.pinv((of_rows + of_columns)[1:, 1:], hermitian=True) @ (of_rows + of_columns)[1:, 0]
    contrast = torch.cat([weights.new_ones(1), -weights])
    value = means @ contrast + weights @ torch.stack([cosines.mean, cosines.mean_square])
    # Rounding may push what is next to nothing below zero, as in clouds of one or two points.
    from_rest = (contrast @ rest @ contrast).clamp(min=0) / m**2 * (1 - 2 * m * m / (n * (n - 1)))
    from_samples = (contrast @ of_samples @ contrast).clamp(min=0) * (1 - 2 * m / n)
    return float(value), float(from_samples + from_rest)


def _moments_and_sample(chunks: Iterator[Tensor], size: int, seed: int) -> tuple[Moments, Tensor]:
    """Moments of all rows, and `size` of them (or all, if fewer) in random order: those with the smallest draws."""
    # Rows that were themselves drawn with a small seed must not meet the numbers that made them.
    generator = torch.Generator().manual_seed((seed * SEED_STEP + SEED_START) % 2**63)
    moments: Moments | None = None
    rows: list[Tensor] = []
    draws: list[Tensor] = []
    bar = torch.inf
    for chunk in chunks:
        moments = moments or Moments(chunk.shape[-1])
        moments.update(chunk)
        new = torch.rand(len(chunk), dtype=torch.float64, generator=generator)
        good = (new < bar).nonzero().squeeze(1)
        rows.append(chunk[good.to(chunk.device)])
        draws.append(new[good])
        # Seldom: each time, all rows that are held are copied.
        if sum(len(part) for part in draws) > 2 * size:
            rows, draws = _smallest(rows, draws, size)
            bar = float(draws[0][-1])
    if moments is None or moments.count < 2:
        raise ValueError(f"`x` must have at least 2 rows, but has {moments.count if moments else 0}.")
    return moments, _smallest(rows, draws, size)[0][0]


def _smallest(rows: list[Tensor], draws: list[Tensor], size: int) -> tuple[list[Tensor], list[Tensor]]:
    """The `size` smallest draws, in order, and their rows."""
    all_draws, order = torch.cat(draws).sort(stable=True)
    return [torch.cat(rows)[order[:size].to(rows[0].device)]], [all_draws[:size]]


def _chunks(x: Any) -> Iterator[Tensor]:
    """Chunks of rows as tensors."""
    if hasattr(x, "shape"):
        if len(x.shape) != 2:
            raise ValueError(f"`x` must have shape (rows, width), but got shape {list(x.shape)}.")
        chunks: Iterable[Any] = (x[rows] for rows in blocks(len(x), CHUNK_ROWS))
    elif isinstance(x, Iterable):
        chunks = x
    else:
        raise TypeError(f"`x` must be rows or an iterable of chunks of rows, but got {type(x).__name__}.")
    for chunk in chunks:
        # A copy of what is no tensor: memory-mapped arrays may be read-only.
        yield chunk.detach() if isinstance(chunk, Tensor) else torch.tensor(chunk)
