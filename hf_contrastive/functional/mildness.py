"""How well views of one input can be aligned at most.

Dimension key: n = rows, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_paired


class AlignmentBound(NamedTuple):
    """How well matched rows are aligned, beside the most that their data allow.

    Args:
        alignment: Mean cosine of matched rows.
        bound: The largest that this mean can be for centers like theirs.
        standard_error: Of `alignment` over samples of pairs. An excess of several of these means that the mildness is
            larger than given.
    """

    alignment: Float[Tensor, ""]
    bound: Float[Tensor, ""]
    standard_error: Float[Tensor, ""]


@torch.no_grad()
def alignment_bound(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], mildness: float) -> AlignmentBound:
    r"""Mean cosine of two views, and its bound $\eta_2 + (1 - \eta_2) \lVert m \rVert^2$ with m the mean of unit rows.

    The mildness $\eta_2$ of the views is the largest share of a function's variance that the input explains (their
    squared maximal correlation). It is known where the views are made: $A^2$ for $A x + \sqrt{1 - A^2}\, \varepsilon$ with
    Gaussian x and noise. For encoders with different centers the bound is $m_x \cdot m_y + \eta_2 \sqrt{(1 - \lVert m_x
    \rVert^2) (1 - \lVert m_y \rVert^2)}$ with $\eta_2$ the larger of both modalities', which is the same for equal ones.

    Source: Betser et al. 2026, Proposition 1 (for one encoder), https://huggingface.co/papers/2602.24012.

    Args:
        x: One view of each input, scaled to unit length here.
        y: Another view, independent of the first given the input.
        mildness: $\eta_2$, from 0 to 1.

    >>> bound = alignment_bound(torch.eye(2), torch.eye(2), 1.0)
    >>> float(bound.alignment), float(bound.bound)
    (1.0, 1.0)
    """
    if not 0 <= mildness <= 1:
        raise ValueError(f"`mildness` is a share of variance, from 0 to 1, but got {mildness}.")
    x, y = as_embeddings(x, "x", min_rows=2), as_embeddings(y, "y", min_rows=2)
    check_paired(x, y, "`x` and `y`")
    cosines = (x * y).sum(dim=1, dtype=torch.float64)
    centers = [z.mean(dim=0, dtype=torch.float64) for z in (x, y)]
    spreads = [(1 - center.square().sum()).clamp(min=0) for center in centers]
    bound = centers[0] @ centers[1] + mildness * (spreads[0] * spreads[1]).sqrt()
    return AlignmentBound(cosines.mean(), bound, cosines.std() / len(cosines) ** 0.5)
