"""What softmax losses put into their denominators, for each direction between two modalities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.checks import working_dtype


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
    scale: float | None = None,
    power: float = 1.0,
    keep_bytes: int,
) -> list[Direction]:
    """Log sums over keys, of each pair of modalities there and back.

    Args:
        batch: The batch.
        pairs: Pairs of modalities.
        within: Whether the world's other rows of the query's own modality are keys as well.
        without_positives: Whether each row's own partner is left out.
        scale: Inverse temperature. By default the model's, that of each pair.
        power: Factor of the inverse temperature.
        keep_bytes: Logits to keep for the backward pass.
    """
    own: dict[tuple[str, ...], Tensor] = {}
    found = []
    for pair in pairs:
        of_pair = power * (batch.scale_of(*pair) if scale is None else scale)
        sums = batch.log_partitions(*pair, scale=of_pair, without_positives=without_positives, keep_bytes=keep_bytes)
        for query, key, rows in zip(pair, reversed(pair), sums, strict=True):
            if within:
                # One softmax has one temperature, so a modality's own rows are summed anew where pairs differ in it.
                place = (query, key) if batch.pair_scales else (query,)
                if place not in own:
                    own[place] = batch.self_log_partition(query, scale=of_pair, keep_bytes=keep_bytes)
                rows = torch.logaddexp(rows, own[place])
            found.append(Direction(query, key, rows))
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
            counts.append(num.to(working_dtype(batch.local[query])).expand(len(batch.local[query])))
    return counts
