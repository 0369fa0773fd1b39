"""Statistics that compare all pairs of rows, of clouds too large for that: means over small parts, with their error.

Dimension key: d = embedding width.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import check_same_width


class BlockEstimate(NamedTuple):
    """
    A statistic estimated from parts of the rows.

    Args:
        value: Mean over the parts.
        standard_error: Of the value over draws of the rows, from how the parts differ.
        blocks: Number of parts.
        block_rows: Rows of each cloud in a part.
    """

    value: float
    standard_error: float
    blocks: int
    block_rows: int


@torch.no_grad()
def block_estimate(
    statistic: Callable[..., Tensor | float],
    *clouds: Float[Tensor, "_ d"],
    block_rows: int = 1000,
    blocks: int = 20,
    seed: int = 0,
) -> BlockEstimate:
    r"""Mean of a statistic over disjoint random parts of the rows, and its standard error $s / \sqrt k$ over k parts.

    Of a million rows on each side an [`energy_distance`] compares 10^12 pairs, here `blocks * block_rows**2`. Where the
    statistic has one mean at any number of rows (the `unbiased` values of energy distance, MMD and centroid gap, the
    AUC), the value estimates that of all rows. Others (entropies, divergences, recall) depend on the number, and the
    value is that of `block_rows` rows.

    Source: Zaremba, Gretton & Blaschko 2013 (the B-test), https://neurips.cc/virtual/2013/poster/3819.

    Args:
        statistic: A function of as many matrices as there are clouds.
        clouds: Clouds of one width. Where all have as many rows, row i of one stays with row i of the others.
        block_rows: Rows of each cloud in a part.
        blocks: Parts, at least two.
        seed: Seed of the parts.

    Raises:
        ValueError: A cloud has fewer rows than the parts together, or there are fewer than two parts.

    >>> x = torch.arange(8.0).unsqueeze(1)
    >>> block_estimate(lambda x: x.mean(), x, block_rows=4, blocks=2).value
    3.5
    """
    if not clouds:
        raise ValueError("`clouds` must be at least one to measure, but there is none.")
    for name, value, least in (("block_rows", block_rows, 1), ("blocks", blocks, 2)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, but got {value}.")
    for i, cloud in enumerate(clouds):
        check_same_width(clouds[0], cloud, f"`clouds[0]` and `clouds[{i}]`")
        if len(cloud) < blocks * block_rows:
            raise ValueError(
                f"{blocks} `blocks` of {block_rows} `block_rows` need {blocks * block_rows} rows, but `clouds[{i}]` has "
                f"{len(cloud)}. Take fewer or smaller ones, or the statistic of all rows."
            )
    values = torch.tensor(
        [float(statistic(*part)) for part in _parts(clouds, block_rows, blocks, seed)], dtype=torch.float64
    )
    return BlockEstimate(float(values.mean()), float(values.std() / blocks**0.5), blocks, block_rows)


def _parts(clouds: Sequence[Tensor], block_rows: int, blocks: int, seed: int) -> Iterator[list[Tensor]]:
    # Drawn on the CPU, so that one seed is one estimate on every device.
    generator = torch.Generator().manual_seed(seed)
    matched = len({len(z) for z in clouds}) == 1
    orders = [torch.randperm(len(z), generator=generator) for z in (clouds[:1] if matched else clouds)]
    orders *= len(clouds) // len(orders)
    for i in range(blocks):
        rows = slice(i * block_rows, (i + 1) * block_rows)
        yield [z[order[rows].to(z.device)] for z, order in zip(clouds, orders, strict=True)]
