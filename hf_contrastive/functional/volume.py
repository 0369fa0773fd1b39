"""Contrast by volume: how large a parallelotope an anchor and the other embeddings of an item span.

Dimension key: q = anchors, k = items, S = embeddings of an item beside the anchor, d = embedding width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hf_contrastive.functional.checks import working_dtype
from hf_contrastive.functional.geometry import gram_determinant
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.tiles import blocks


# Anchors whose volumes with all items are in memory at a time.
TILE = 256
# Added to squared volumes, so that the slope of the root stays finite: a volume of zero reads as its root, 0.001.
EPS = 1e-6


def gram_volume(tuples: Float[Tensor, "n S d"], *, eps: float = EPS) -> Float[Tensor, "n"]:
    r"""Volume of the parallelotope that the S embeddings of each item span, $\sqrt{\det Z_i Z_i^\top + \epsilon}$.

    Of two unit rows the sine of the angle between them. `eps` keeps the slope finite where the rows are dependent.

    Source: Cicchetti et al. 2025, https://huggingface.co/papers/2412.11959.

    >>> gram_volume(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]), eps=0.0)
    tensor([3.])
    """
    return _root(gram_determinant(tuples), eps)


def volume_partitions(
    anchors: Float[Tensor, "q d"],
    others: Float[Tensor, "k S d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""],
    *,
    eps: float = EPS,
    mask: PairMask | None = None,
) -> tuple[Float[Tensor, "q"], Float[Tensor, "k"], Float[Tensor, "q"]]:
    r"""Log partitions of the logits $-s\, V_{ij}$ in both directions, with $V_{ij}$ the volume that anchor i and the
    embeddings of item j span, and the logits of the positives.

    Residuals $r^m_j$ of orthogonalizing an item's embeddings make every volume from S products of matrices (the Schur
    complement of the Gram matrix), $V_{ij}^2 = D_j \lVert a_i \rVert^2 - \sum_m c^m_j (a_i \cdot r^m_j)^2$ with
    $D_j = \prod_m \lVert r^m_j \rVert^2$ and $c^m_j = D_j / \lVert r^m_j \rVert^2$. Rows of anchors go by in tiles that
    the backward pass computes again, so memory is O(k (tile + S d)).

    Source: Cicchetti et al. 2025 (the volume and both directions), https://huggingface.co/papers/2412.11959.

    Args:
        anchors: One embedding for each query.
        others: The other embeddings of each item.
        positives: Item of each anchor.
        scale: Inverse temperature $s$, already exponentiated.
        eps: Added to $V^2$, see [`gram_volume`].
        mask: Pairs to leave out of the sums. A ceiling is of cosines and has no meaning here.

    Returns:
        Log partitions of anchors among items, those of items among anchors, and the logits of the positives. A sum
        without pairs is a very negative finite number without a gradient.
    """
    anchors, others = (z.to(working_dtype(anchors, others)) for z in (anchors, others))
    basis, rest, whole = _orthogonalize(others)
    mask = mask or PairMask()
    tiles = [
        checkpoint(_tile, anchors[i], basis, rest, whole, positives[i], scale, eps, mask, i, use_reentrant=False)
        for i in blocks(len(anchors), TILE)
    ]
    rows, columns, own = zip(*tiles, strict=True)
    return torch.cat(rows), torch.stack(columns).logsumexp(dim=0), torch.cat(own)


def _tile(
    anchors: Float[Tensor, "r d"],
    basis: Float[Tensor, "S k d"],
    rest: Float[Tensor, "S k"],
    whole: Float[Tensor, "k"],
    positives: Int[Tensor, "r"],
    scale: Float[Tensor, ""],
    eps: float,
    mask: PairMask,
    rows: slice,
) -> tuple[Float[Tensor, "r"], Float[Tensor, "k"], Float[Tensor, "r"]]:
    """Sums of a tile's logits over items, over its anchors, and the logits of its positives."""
    squares = anchors.square().sum(dim=1, keepdim=True) * whole
    # Small volumes are differences of numbers near 1, which products in half precision would drown.
    with torch.autocast(anchors.device.type, enabled=False):
        for residuals, weights in zip(basis, rest, strict=True):
            squares = squares - weights * (anchors @ residuals.T).square()
    logits = -scale * _root(squares, eps)
    own = logits.gather(1, positives.unsqueeze(1)).squeeze(1)
    # In place on a copy, then finite: means of rows that do not count multiply sums by zero.
    logits = logits.clone()
    mask.fill_(logits, rows, slice(0, len(whole)), scale)
    logits = logits.clamp(min=torch.finfo(logits.dtype).min / 4)
    return logits.logsumexp(dim=1), logits.logsumexp(dim=0), own


def _orthogonalize(
    others: Float[Tensor, "k S d"],
) -> tuple[Float[Tensor, "S k d"], Float[Tensor, "S k"], Float[Tensor, "k"]]:
    """Residuals of each item's embeddings (Gram-Schmidt), products of the others' squared lengths, and of all."""
    tiny = torch.finfo(others.dtype).tiny
    residuals: list[Tensor] = []
    for z in others.unbind(dim=1):
        for r in residuals:
            # A dependent embedding leaves nothing, and its residual then takes nothing from the next.
            z = z - ((z * r).sum(dim=1) / r.square().sum(dim=1).clamp(min=tiny)).unsqueeze(1) * r
        residuals.append(z)
    lengths = [r.square().sum(dim=1) for r in residuals]
    ones = torch.ones_like(lengths[0])
    rest = [_product([x for n, x in enumerate(lengths) if n != m], ones) for m in range(len(lengths))]
    return torch.stack(residuals), torch.stack(rest), _product(lengths, ones)


def _product(factors: list[Tensor], ones: Tensor) -> Tensor:
    # One by one: the gradient of `prod` divides by factors, which may be zero.
    for factor in factors:
        ones = ones * factor
    return ones


def _root(squares: Float[Tensor, "..."], eps: float) -> Float[Tensor, "..."]:
    # Rounding may push a vanishing determinant below zero, where its absolute value would have the wrong slope.
    return (squares.clamp(min=0) + eps).sqrt()
