"""The sum that every contrastive objective and every density estimate shares: a log-sum-exp over keys."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def log_partition(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    scale: Float[Tensor, ""] | float,
    *,
    candidates: Bool[Tensor, "k"] | None = None,
    skip: Int[Tensor, "q"] | None = None,
    key_bias: Float[Tensor, "k"] | None = None,
    chunk_size: int | None = None,
) -> Float[Tensor, "q"]:
    r"""Log partition of each query, $\log \sum_{j \neq \mathrm{skip}_i} e^{s\, q_i \cdot k_j + b_j}$.

    With unit rows and $s = 1/\tau$ it is, up to a constant, the log of a von Mises-Fisher kernel density estimate of
    the keys at each query.

    Dimension key: q = queries, k = keys, d = embedding width.

    Args:
        queries: Where the sum is evaluated.
        keys: What is summed over.
        scale: Inverse temperature $s$, already exponentiated.
        candidates: Keys that take part. By default all.
        skip: For each query, the key to leave out: its own row in leave-one-out estimates, its positive in DCL.
        key_bias: A number to add to every logit of a key.
        chunk_size: Queries whose logits are held at a time; the others are recomputed in the backward pass.

    Returns:
        One value per query. A query left without keys gets a very negative finite number, and no gradient.
    """

    def rows(queries: Tensor, skip: Tensor | None) -> Tensor:
        logits = scale * queries @ keys.T
        if key_bias is not None:
            logits = logits + key_bias
        # The most negative finite number rather than -inf: a row without keys then has zero, not NaN, gradient.
        lowest = torch.finfo(logits.dtype).min
        if candidates is not None:
            logits = logits.masked_fill(~candidates, lowest)
        if skip is not None:
            logits = logits.scatter(1, skip.unsqueeze(1), lowest)
        return logits.logsumexp(dim=1)

    return map_rows(rows, queries, skip, chunk_size=chunk_size)


def map_rows(fn: Callable[..., Tensor], *rows: Tensor | None, chunk_size: int | None) -> Tensor:
    """`fn(*rows)`, computed `chunk_size` rows at a time and recomputed in the backward pass.

    What `fn` stores for its backward pass then exists for one chunk only. `fn` must treat rows independently, and gets
    `None` for rows that are `None`. With `chunk_size=None` it is called once and nothing is recomputed.
    """
    num_rows = next(len(row) for row in rows if row is not None)
    if chunk_size is None or chunk_size >= num_rows:
        return fn(*rows)
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be at least 1, but got {chunk_size}.")
    pieces = [
        [None if row is None else row[start : start + chunk_size] for row in rows]
        for start in range(0, num_rows, chunk_size)
    ]
    if not torch.is_grad_enabled():
        return torch.cat([fn(*piece) for piece in pieces])
    return torch.cat([checkpoint(fn, *piece, use_reentrant=False) for piece in pieces])
