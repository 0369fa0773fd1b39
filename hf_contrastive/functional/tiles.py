"""Logits of all pairs of two sets of rows, one tile at a time: what every reduction over pairs goes through.

Dimension key: q = queries, k = keys, d = embedding width, r x c = a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import working_dtype
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.products import row_products


# Rows and columns of a tile. A small one stays in a processor's cache; on accelerators, launches of kernels would decide.
TILE = 512
ACCELERATOR_TILE = 4096
# What a reduction may keep for its backward pass: single-precision logits of 8,192 x 8,192 pairs.
KEEP_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    How to go over the tiles.

    Args:
        mask: Pairs that are left out.
        columns: Whether sums over queries are wanted beside those over keys.
        paired: Whether row i of the queries belongs to row i of the keys, and the logits of such pairs are wanted as well.
        symmetric: Whether queries and keys are the same rows under a symmetric mask, so that half of the tiles tell all.
        hardness: A constant added to the scale in the exponent only, which weights each pair by exp(hardness x . y).
        keep_bytes: Tiles to keep for the backward pass, in bytes.
        half_gradients: Whether gradients are products of bfloat16 numbers, summed in single precision. All but those of
            the mask's positives: near one, a positive's softmax is all but cancelled by the gradient of its logit.
        tile: Rows and columns of a tile. By default as suits the device.
    """

    mask: PairMask = field(default_factory=PairMask)
    columns: bool = False
    paired: bool = False
    symmetric: bool = False
    hardness: float = 0.0
    keep_bytes: int = KEEP_BYTES
    half_gradients: bool = False
    tile: int | None = None

    def tiles(self, x: Float[Tensor, "q d"], y: Float[Tensor, "k d"]) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile, row after row."""
        size = self.tile or tile_size(x)
        for rows in blocks(len(x), size):
            for columns in blocks(len(y), size):
                if not self.symmetric or columns.start >= rows.start:
                    yield rows, columns

    def logits(self, x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], scale: Float[Tensor, ""]) -> "Logits":
        """Logits of queries and keys, hardness included."""
        return Logits(x, y, scale + self.hardness if self.hardness else scale, self.mask, tile=self.tile)


class Logits:
    """
    Logits of one tile after another, in memory that is taken once: that of the tile before is overwritten.

    Args:
        x: Queries.
        y: Keys.
        scale: Inverse temperature.
        mask: Pairs whose logits are minus infinity.
        tile: Rows and columns of a tile at most. By default as suits the device.
    """

    def __init__(
        self,
        x: Float[Tensor, "q d"],
        y: Float[Tensor, "k d"],
        scale: Float[Tensor, ""],
        mask: PairMask,
        *,
        tile: int | None = None,
    ) -> None:
        self.x, self.y, self.scale, self.mask = x, y, scale, mask
        size = tile or tile_size(x)
        self._tile = x.new_empty(min(size, len(x)) * min(size, len(y)))
        self._scaled = x.new_empty(min(size, len(x)), x.shape[1])
        self._block = -1

    def spare_tile(self) -> Float[Tensor, "rc"]:
        """Memory for one more tile."""
        return torch.empty_like(self._tile)

    def __call__(self, i: slice, j: slice, *, out: Tensor | None = None) -> Float[Tensor, "r c"]:
        """Logits of queries i and keys j, in `out` where it is given."""
        scaled = self._scaled[: i.stop - i.start]
        if i.start != self._block:
            torch.mul(self.x[i], self.scale, out=scaled)
            self._block = i.start
        tile = shaped(self._tile if out is None else out, i, j)
        row_products(scaled, self.y[j], out=tile)
        self.mask.fill_(tile, i, j, self.scale)
        return tile


@dataclass
class Kept:
    """Tiles that the forward pass leaves for the backward pass, and whether they hold exponentials or logits."""

    tiles: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    bounded: bool = True

    def pack(self) -> "tuple[Packed, list[Tensor]]":
        """Where the tiles belong, and the tiles, as tensors for autograd to save: it lets go of them after the backward
        pass.
        """
        return Packed(tuple(self.tiles), self.bounded), list(self.tiles.values())


class Packed(NamedTuple):
    """[`Kept`] without its tiles."""

    places: tuple[tuple[int, int], ...]
    bounded: bool

    def unpack(self, tiles: Iterator[Tensor]) -> Kept:
        """With the next tiles of those that autograd saved."""
        return Kept({place: next(tiles) for place in self.places}, self.bounded)


def tile_size(x: Tensor) -> int:
    """Rows and columns of a tile that suit the device of `x`."""
    return TILE if x.device.type == "cpu" else ACCELERATOR_TILE


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover n."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def shaped(buffer: Float[Tensor, "rc"], i: slice, j: slice) -> Float[Tensor, "r c"]:
    """The start of `buffer` as the tile of rows i and columns j."""
    rows, columns = i.stop - i.start, j.stop - j.start
    return buffer[: rows * columns].view(rows, columns)


def paired_logits(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "n"]:
    """Logits of rows that belong together, differentiable, in at least single precision."""
    x, y = (z.to(working_dtype(z)) for z in (x, y))
    return (x * y).sum(dim=1) * scale


@torch.no_grad()
def inner_products(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """`(x * y).sum(dim=1)` without the product of all rows, and without a gradient."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.bmm(x.unsqueeze(1), y.unsqueeze(2)).flatten()


def add_paired_(dx: Float[Tensor, "n d"], dy: Float[Tensor, "n d"], x: Tensor, y: Tensor, grad: Tensor) -> None:
    """Add the products that the gradient of [`paired_logits`] is made of, in place."""
    dx.addcmul_(y, grad.unsqueeze(1))
    dy.addcmul_(x, grad.unsqueeze(1))


def add_product(out: Float[Tensor, "n d"], a: Float[Tensor, "n m"], b: Float[Tensor, "m d"]) -> None:
    """Add a product of matrices, which may be of lower precision than `out`, to it."""
    if a.dtype == out.dtype:
        out += row_products(a, b.T)
    else:
        out += a @ b


@torch.no_grad()
def count_masked(x: Float[Tensor, "q d"], y: Float[Tensor, "k d"], mask: PairMask) -> int:
    """How many of the pairs of `x` and `y` `mask` leaves out."""
    plan = Plan(mask=mask)
    logits = plan.logits(x, y, x.new_ones(()))
    return sum(int(logits(i, j).isneginf().sum()) for i, j in plan.tiles(x, y))
