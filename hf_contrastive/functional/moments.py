"""Moments of rows that come in batches: what is exact at any number of rows, in memory of the width squared.

Dimension key: n, m = rows, d = embedding width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings
from hf_contrastive.functional.geometry import ModalityGap, gap_of_centers
from hf_contrastive.functional.products import row_products
from hf_contrastive.functional.second_moments import SecondMoments
from hf_contrastive.functional.spectrum import eigenvalues_of, entropy_rank
from hf_contrastive.functional.tiles import blocks


# Rows whose products are summed in their own precision, before double precision takes over.
CHUNK_ROWS = 4096


class CosinesWithin(NamedTuple):
    """The cosines of all distinct rows of one cloud.

    Args:
        mean: Mean cosine, 0 for an evenly spread cloud, 1 for a collapsed one.
        mean_square: Mean squared cosine, at least 1/d but for sampling.
    """

    mean: Float[Tensor, ""]
    mean_square: Float[Tensor, ""]

    @property
    def variance(self) -> Float[Tensor, ""]:
        """Variance of the cosines."""
        return self.mean_square - self.mean.square()


class Moments:
    r"""
    Number, mean and scatter $\sum_i (x_i - \bar x)(x_i - \bar x)^\top$ of rows that come in batches.

    Batches are joined by the formulas of Chan et al., in double precision, so neither their number nor their distance
    from the origin costs digits. Rows are scaled to unit length unless `normalize=False`. Nothing records gradients.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".

    Args:
        width: Width d of the rows.
        normalize: Whether to scale rows to unit length first.
        name: What the rows are called in messages.

    >>> moments = Moments(2)
    >>> moments.update(torch.tensor([[2.0, 0.0]]))
    >>> moments.update(torch.tensor([[-3.0, 0.0], [0.0, 1.0]]))
    >>> moments.count, moments.mean.tolist()
    (3, [0.0, 0.3333333333333333])
    """

    def __init__(self, width: int, *, normalize: bool = True, name: str = "x") -> None:
        if width < 1:
            raise ValueError(f"`width` must be at least 1, but got {width}.")
        self.width, self.normalize, self.name = width, normalize, name
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    @torch.no_grad()
    def update(self, x: Shaped[Tensor, "n d"]) -> None:
        """Add rows, of any floating-point type and on any device.

        Raises:
            TypeError: The batch is not a floating-point tensor.
            ValueError: The batch is not a matrix of the width, or a row is not finite or (if `normalize`) zero. The
                message counts rows over all batches. Rows of the batch before it are then not added either.
        """
        batch = self.empty()
        for rows in self.checked_chunks(x):
            batch.add(*chunk_moments(rows))
        self.merge(batch)

    def merge(self, other: "Moments") -> "Moments":
        """Add the rows of other moments, which stay as they are."""
        if (self.width, self.normalize) != (other.width, other.normalize):
            raise ValueError(
                f"Moments to merge must agree in `width` and `normalize`, but got {self.width}, {self.normalize} and "
                f"{other.width}, {other.normalize}."
            )
        self.add(other.count, other.mean, other.scatter)
        return self

    def covariance(self) -> Float[Tensor, "d d"]:
        """Unbiased covariance of the rows."""
        self._need_two_rows()
        return SecondMoments(self.count, self.mean, self.scatter).covariance()

    def spectrum(self) -> Float[Tensor, "d"]:
        """[`spectrum`] of all rows."""
        return eigenvalues_of(self.covariance())

    def effective_rank(self) -> Float[Tensor, ""]:
        """[`effective_rank`] of all rows."""
        return entropy_rank(self.spectrum())

    def modality_gap(self, other: "Moments") -> ModalityGap:
        """[`modality_gap`] of these rows and others."""
        if self.width != other.width:
            raise ValueError(f"Both moments must have the same width, but got {self.width} and {other.width}.")
        variance = self.covariance().trace() / self.count + other.covariance().trace() / other.count
        return gap_of_centers(self.mean, other.mean, variance)

    def cosines(self) -> CosinesWithin:
        r"""Mean and mean square of the cosines of all distinct rows, from $\lvert \bar x \rvert^2$ and the squared
        Frobenius norm of $\mathrm{E}\, x x^\top$.

        Raises:
            ValueError: Rows were not scaled to unit length, or are fewer than two.
        """
        if not self.normalize:
            raise ValueError("Cosines need rows of unit length, but these moments were made with `normalize=False`.")
        self._need_two_rows()
        n = self.count
        second = self._second()
        # Rows with themselves are left out; each has a cosine of one.
        sums = (n * self.mean).square().sum() - second.trace(), second.square().sum() - n
        return CosinesWithin(*(value / (n * (n - 1)) for value in sums))

    def to_vector(self) -> Float[Tensor, "k"]:
        r"""Sums that those of other rows can be added to: number, sum and the upper half of the sum of $x x^\top$.

        About the origin and in double precision: the covariance that comes back is exact to some 1e-16 of the mean
        squared length.
        """
        upper = self._second()[_upper(self.width)]
        return torch.cat([self.mean.new_tensor([self.count]), self.mean * self.count, upper])

    @classmethod
    def from_vector(
        cls, vector: Float[Tensor, "k"], width: int, *, normalize: bool = True, name: str = "x"
    ) -> "Moments":
        """Moments of which [`to_vector`] gave `vector`, or a sum of such vectors."""
        moments = cls(width, normalize=normalize, name=name)
        if len(vector) != 1 + width + width * (width + 1) // 2:
            raise ValueError(f"`vector` has {len(vector)} entries, which is not what moments of width {width} have.")
        count, total, upper = torch.split(vector.double().cpu(), [1, width, width * (width + 1) // 2])
        moments.count = round(float(count))
        if moments.count:
            moments.mean = total / moments.count
            second = torch.zeros_like(moments.scatter)
            second[_upper(width)] = upper
            second += second.triu(1).mT
            moments.scatter = second - moments.count * moments.mean.outer(moments.mean)
        return moments

    def empty(self) -> "Moments":
        """Moments of the same kind without rows."""
        return Moments(self.width, normalize=self.normalize, name=self.name)

    def checked_chunks(self, x: Tensor) -> Iterator[Tensor]:
        """Chunks of `x` as they count, each after its checks."""
        if isinstance(x, Tensor) and x.dim() == 2:
            if x.shape[1] != self.width:
                raise ValueError(f"`{self.name}` must have width {self.width}, but got shape {list(x.shape)}.")
            for rows in blocks(len(x), CHUNK_ROWS):
                first = self.count + rows.start
                yield as_embeddings(x[rows], self.name, normalize=self.normalize, first=first)
        else:
            as_embeddings(x, self.name)  # which refuses it

    def add(self, count: int, mean: Float[Tensor, "d"], scatter: Float[Tensor, "d d"]) -> None:
        """Add rows of which these are the number, the mean and the scatter."""
        if count == 0:
            return
        mine = SecondMoments(self.count, self.mean, self.scatter)
        self.count, self.mean, self.scatter = mine.join(SecondMoments(count, mean, scatter))

    def _second(self) -> Tensor:
        """Sum of the products of each row with itself."""
        return self.scatter + self.count * self.mean.outer(self.mean)

    def _need_two_rows(self) -> None:
        if self.count < 2:
            raise ValueError(f"`{self.name}` must have at least 2 rows, but has {self.count}.")


def chunk_moments(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number, mean and scatter of one chunk."""
    mean = rows.mean(dim=0)
    centered = (rows - mean).mT.contiguous()
    # What rounding has left of the center.
    rest = centered.sum(dim=1, dtype=torch.float64)
    scatter = row_products(centered, centered).double().sub_(rest.outer(rest), alpha=1 / len(rows))
    return len(rows), (mean.double() + rest / len(rows)).cpu(), scatter.cpu()


def _upper(width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(width, width)
    return rows, columns
