"""What softmax losses put into their denominators, for each direction between two modalities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch


# So small a scale that every pair counts as exactly one, yet the order of inner products is left.
COUNTING = 1e-20


class Direction(NamedTuple):
    """
    Log sums from one modality to another.

    Args:
        query: Modality of the queries.
        key: Modality of the keys.
        log_sums: One number for each local row of `query`.
    """

    query: str
    key: str
    log_sums: Float[Tensor, "b"]


def both_directions(
    batch: ContrastiveBatch,
    pairs: Sequence[tuple[str, str]],
    *,
    within: bool = False,
    without_positives: bool = False,
    scale: Float[Tensor, ""] | float | None = None,
    keep_bytes: int,
) -> list[Direction]:
    """Log sums over keys, of each pair of modalities there and back.

    Args:
        batch: The batch.
        pairs: Pairs of modalities.
        within: Whether the world's other rows of the query's own modality are keys as well.
        without_positives: Whether each row's own partner is left out.
        scale: Inverse temperature. By default the model's.
        keep_bytes: Logits to keep for the backward pass.
    """
    own = {}
    if within:
        for m in sorted({m for pair in pairs for m in pair}):
            own[m] = batch.self_log_partition(m, scale=scale, keep_bytes=keep_bytes)
    found = []
    for pair in pairs:
        sums = batch.log_partitions(*pair, scale=scale, without_positives=without_positives, keep_bytes=keep_bytes)
        for query, key, rows in zip(pair, reversed(pair), sums, strict=True):
            found.append(Direction(query, key, torch.logaddexp(rows, own[query]) if within else rows))
    return found


@torch.no_grad()
def count_negatives(
    batch: ContrastiveBatch, pairs: Sequence[tuple[str, str]], *, within: bool = False
) -> list[Float[Tensor, "b"]]:
    """How many negatives each row has in each of [`both_directions`].

    False negatives are not counted, queued rows and hard negatives are. Where there may be any, this costs as much as
    the sums do.
    """
    if batch.ids is not None or batch.margin is not None or batch.queue or batch.hard_negatives:
        directions = both_directions(batch, pairs, within=within, without_positives=True, scale=COUNTING, keep_bytes=0)
        return [direction.log_sums.exp().round() for direction in directions]
    counts = []
    for pair in pairs:
        for query in pair:
            num = (batch.complete(*pair).sum() - 1).clamp(min=0)
            if within:
                num = num + (batch.present[query].sum() - 1).clamp(min=0)
            counts.append(num.to(batch.local[query].dtype).expand(len(batch.local[query])))
    return counts
