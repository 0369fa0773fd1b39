"""Means and scatter matrices of rows, in double precision and O(d^2) memory beside the rows.

Dimension key: n = rows, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.tiles import blocks, tile_size


class SecondMoments(NamedTuple):
    """What a Gaussian fit of rows is made of.

    Args:
        rows: Their number.
        mean: Their center.
        scatter: Sum over rows of the outer products of their offsets from the center.
    """

    rows: int
    mean: Float[Tensor, "d"]
    scatter: Float[Tensor, "d d"]

    def covariance(self) -> Float[Tensor, "d d"]:
        """Unbiased covariance of the rows' distribution."""
        return self.scatter / (self.rows - 1)

    def floor(self) -> Float[Tensor, ""]:
        r"""Mean squared distance of the center from that of the distribution, $\mathrm{tr}\,S / n$ with S unbiased."""
        return self.scatter.trace() / (self.rows * (self.rows - 1))

    def about_origin(self) -> Float[Tensor, "d d"]:
        r"""Sum over rows of their outer products, $X^\top X$."""
        return self.scatter + self.rows * torch.outer(self.mean, self.mean)

    def join(self, other: "SecondMoments") -> "SecondMoments":
        """Moments of both sets of rows together (Chan, Golub & LeVeque 1983)."""
        total = self.rows + other.rows
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.rows * other.rows / total)
        mean = self.mean + shift * (other.rows / total)
        return SecondMoments(total, mean, self.scatter + other.scatter + between)


def second_moments(x: Float[Tensor, "n d"]) -> SecondMoments:
    """Moments of rows as they are. Two passes, so that a cloud far from the origin loses no digits."""
    mean = x.mean(dim=0, dtype=torch.float64)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        for i in blocks(len(x), tile_size(x)):
            offsets = x[i] - mean
            scatter.addmm_(offsets.mT, offsets)
    return SecondMoments(len(x), mean, scatter)
