"""Statistics of one coordinate after another, so that no more than a few are in double precision at a time."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


# Numbers in double precision at a time: 32 MiB.
COORDINATE_NUMBERS = 2**22


def by_coordinates(
    function: Callable[[Float[Tensor, "c n"]], Float[Tensor, "c ..."]], x: Float[Tensor, "n d"]
) -> Float[Tensor, "d ..."]:
    """`function` of blocks of coordinates, each a row in double precision; its results joined."""
    step = max(1, COORDINATE_NUMBERS // max(1, len(x)))
    return torch.cat([function(block.T.double().contiguous()) for block in torch.split(x, step, dim=1)])


def standardize(x: Float[Tensor, "d n"], *, correction: int) -> Float[Tensor, "d n"]:
    """Rows with mean 0 and standard deviation 1; zero where all of a row are equal."""
    centered = x - x.mean(dim=1, keepdim=True)
    varies = (x.amin(dim=1) < x.amax(dim=1)).unsqueeze(1)
    deviation = torch.where(varies, centered.square().sum(dim=1, keepdim=True) / (x.shape[1] - correction), 1.0).sqrt()
    return torch.where(varies, centered / deviation, 0.0)
