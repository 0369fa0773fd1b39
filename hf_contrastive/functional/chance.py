"""What contrastive losses are when nothing is known, and how low a temperature lets them go."""

import math


def chance_of_softmax(candidates: int) -> float:
    r"""InfoNCE of embeddings that tell nothing: $\log n$ for n candidates, the positive among them.

    >>> round(chance_of_softmax(8), 3)
    2.079
    """
    return math.log(candidates)


def chance_of_sigmoid(candidates: int) -> float:
    r"""Sigmoid loss of embeddings that tell nothing, with the best bias: n times the entropy of a chance of 1/n.

    Each query has n candidates, one of which matches: $\log n + (n - 1) \log \frac{n}{n - 1}$, near $\log n + 1$.

    >>> round(chance_of_sigmoid(8), 3)
    3.014
    """
    n = candidates
    return math.log(n) + (n - 1) * math.log(n / (n - 1)) if n > 1 else 0.0


def lowest_info_nce(candidates: int, scale: float) -> float:
    r"""InfoNCE of coinciding pairs among orthogonal negatives, $\log(1 + (n - 1)\, e^{-s})$.

    Args:
        candidates: How many keys a query has, n, its own among them.
        scale: Inverse temperature s.

    >>> round(lowest_info_nce(8, 1.0), 3)
    1.274
    """
    return math.log1p((candidates - 1) * math.exp(-scale))
