"""Moments of pairs of rows that come in batches.

Dimension key: n = pairs, d = embedding width.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hf_contrastive.functional.checks import check_paired
from hf_contrastive.functional.geometry import ModalityGap
from hf_contrastive.functional.moments import Moments, chunk_moments


class PairMoments:
    r"""
    [`Moments`] of both sides of pairs and the sum of their squared distances.

    Args:
        width: Width d of the rows.
        normalize: Whether to scale rows to unit length first.

    >>> pairs = PairMoments(2)
    >>> pairs.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    >>> pairs.alignment()
    tensor(2., dtype=torch.float64)
    """

    def __init__(self, width: int, *, normalize: bool = True) -> None:
        self.width, self.normalize = width, normalize
        self.x, self.y = (Moments(width, normalize=normalize, name=name) for name in ("x", "y"))
        self.squared_distances = torch.zeros((), dtype=torch.float64)

    @torch.no_grad()
    def update(self, x: Shaped[Tensor, "n d"], y: Shaped[Tensor, "n d"]) -> None:
        """Add pairs, row i of `x` with row i of `y`. Errors are those of [`Moments.update`]."""
        check_paired(x, y, "`x` and `y`")
        of_x, of_y, squared_distances = self.x.empty(), self.y.empty(), self.squared_distances
        for left, right in zip(self.x.checked_chunks(x), self.y.checked_chunks(y), strict=True):
            of_x.add(*chunk_moments(left))
            of_y.add(*chunk_moments(right))
            squared_distances = squared_distances + (left - right).square().sum(dtype=torch.float64).cpu()
        self.x.merge(of_x)
        self.y.merge(of_y)
        self.squared_distances = squared_distances

    def merge(self, other: "PairMoments") -> "PairMoments":
        """Add the pairs of others, which stay as they are."""
        self.x.merge(other.x)
        self.y.merge(other.y)
        self.squared_distances = self.squared_distances + other.squared_distances
        return self

    def alignment(self) -> Float[Tensor, ""]:
        """[`alignment`] of all pairs, with `alpha=2`."""
        if self.x.count == 0:
            raise ValueError("Alignment needs at least 1 pair, but there is none yet.")
        return self.squared_distances / self.x.count

    def modality_gap(self) -> ModalityGap:
        """[`modality_gap`] of both sides."""
        return self.x.modality_gap(self.y)

    def to_vector(self) -> Float[Tensor, "k"]:
        """Sums that those of other pairs can be added to, as [`Moments.to_vector`]."""
        return torch.cat([self.x.to_vector(), self.y.to_vector(), self.squared_distances.reshape(1)])

    @classmethod
    def from_vector(cls, vector: Float[Tensor, "k"], width: int, *, normalize: bool = True) -> "PairMoments":
        """Moments of which [`to_vector`] gave `vector`, or a sum of such vectors."""
        pairs = cls(width, normalize=normalize)
        x, y = vector[:-1].chunk(2)
        pairs.x, pairs.y = (
            Moments.from_vector(part, width, normalize=normalize, name=name) for part, name in ((x, "x"), (y, "y"))
        )
        pairs.squared_distances = vector[-1].double().cpu()
        return pairs
