"""The reductions over pairs as their definitions say: one pair at a time, or all logits at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_contrastive.functional import PairMask


QUERIES, KEYS = 7, 9


def chosen(rows: list[int], n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.bool).index_fill(0, torch.tensor(rows, dtype=torch.long), True)


SOME_QUERIES, SOME_KEYS = chosen([0, 1, 3, 4, 6], QUERIES), chosen([0, 2, 3, 5, 6, 7, 8], KEYS)
QUERY_IDS, KEY_IDS = torch.tensor([0, 1, 2, 2, 4, 0, 6]), torch.tensor([0, 1, 2, 0, 4, 5, 6, 2, 2])
POSITIVES = torch.tensor([8, 0, 7, 2, 4, 3, 6])
IDS = {"query_ids": QUERY_IDS, "key_ids": KEY_IDS}
CEILING = torch.linspace(-0.2, 0.7, QUERIES, dtype=torch.float64)

MASKS = {
    "none": PairMask(),
    "queries": PairMask(queries=SOME_QUERIES),
    "keys": PairMask(keys=SOME_KEYS),
    "skip": PairMask(skip=torch.tensor([8, 0, 4, 4, 1, 0, 5])),
    "ids": PairMask(**IDS),
    "ids but positives": PairMask(**IDS, positives=POSITIVES),
    "ceiling": PairMask(ceiling=CEILING),
    "ceiling but positives": PairMask(ceiling=CEILING, positives=POSITIVES),
    "ids and ceiling but positives": PairMask(**IDS, ceiling=CEILING, positives=POSITIVES),
    "all": PairMask(
        queries=SOME_QUERIES,
        keys=SOME_KEYS,
        skip=torch.tensor([8, 0, 4, 4, 1, 0, 5]),
        **IDS,
        ceiling=CEILING,
        positives=POSITIVES,
    ),
    "no keys": PairMask(keys=torch.zeros(KEYS, dtype=torch.bool)),
}


def takes_part(mask: PairMask, i: int, j: int, product: float) -> bool:
    """Whether query i and key j, whose inner product is given, are in the sum: the words of [`PairMask`]."""
    if mask.queries is not None and not mask.queries[i]:
        return False
    if mask.keys is not None and not mask.keys[j]:
        return False
    if mask.skip is not None and mask.skip[i] == j:
        return False
    if mask.positives is not None and mask.positives[i] == j:
        return True
    if mask.query_ids is not None and mask.query_ids[i] == mask.key_ids[j]:
        return False
    return mask.ceiling is None or product <= float(mask.ceiling[i])


def pairs_of(mask: PairMask, x: Tensor, y: Tensor) -> Tensor:
    products = (x.detach() @ y.detach().T).tolist()
    table = [[takes_part(mask, i, j, products[i][j]) for j in range(len(y))] for i in range(len(x))]
    return torch.tensor(table, dtype=torch.bool).view(len(x), len(y))


def dense_log_partitions(
    x: Tensor, y: Tensor, scale: Tensor, mask: PairMask | None = None, hardness: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Both directions from all logits; the most negative number, without gradient, for rows without pairs."""
    logits, kept = scale * x @ y.T, pairs_of(mask or PairMask(), x, y)
    logits = logits + hardness * (x.detach() @ y.detach().T)
    sums = []
    for z, taken in ((logits, kept), (logits.T, kept.T)):
        empty = ~taken.any(dim=1)
        # Rows without pairs get a harmless one, so that no gradient is a difference of infinities.
        z = z.masked_fill(~taken & ~empty.unsqueeze(1), -torch.inf)
        sums.append(z.logsumexp(1).masked_fill(empty, torch.finfo(z.dtype).min))
    return sums[0], sums[1]


def weighted(values: Sequence[Tensor], seed: int = 5) -> Tensor:
    """A random combination of all values, sums without pairs left out: their size would drown the others."""
    total = torch.zeros((), dtype=values[0].dtype)
    for place, z in enumerate(values):
        generator = torch.Generator().manual_seed(seed + place)
        weights = torch.randn(len(z), generator=generator, dtype=torch.float64).to(z.dtype)
        # A sum of products and no matmul, which `autocast` would round.
        total = total + (weights * z.masked_fill(z.detach() < torch.finfo(z.dtype).min / 2, 0)).sum()
    return total


def close(actual: object, expected: object, tolerance: float = 1e-10) -> None:
    """Assert that tensors agree to `tolerance`, relative to the largest entry where that is above one."""
    if isinstance(actual, Tensor):
        actual, expected = (actual,), (expected,)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        finite = theirs.detach()[theirs.detach().abs() < 1e30]
        largest = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=0, atol=tolerance * largest)


def relative_error(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Length of the difference over that of what is expected."""
    ours, theirs = (torch.cat([z.detach().double().flatten() for z in zs]) for zs in (actual, expected))
    return float((ours - theirs).norm() / theirs.norm())
