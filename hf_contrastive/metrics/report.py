"""All measures of a set of embeddings at once, under the names that logs, evaluations and cards share."""

from collections.abc import Mapping
from itertools import combinations, permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional import (
    Ranks,
    alignment,
    effective_rank,
    linear_separability,
    modality_gap,
    one_row_per_id,
    retrieval_relevance,
    two_way_retrieval_ranks,
    uniformity,
    uniformity_floor,
)


@torch.no_grad()
def geometry_report(embeds: Mapping[str, Float[Tensor, "n d"]], *, separability: bool = False) -> dict[str, float]:
    """Geometry of every modality and pair, as `geometry/uniformity_image` or `geometry/modality_gap_image_text`.

    Values stand beside their reference: `..._floor` is the best uniformity that the width allows, or the gap that
    sampling alone makes.

    Args:
        embeds: Matching embeddings by modality, row i of each the same example.
        separability: Whether to add the accuracy of a linear classifier of modalities, which takes a few solves.
    """
    report: dict[str, Tensor | float] = {}
    by_name = sorted(embeds.items())
    for m, x in by_name:
        report[f"uniformity_{m}"] = uniformity(x)
        report[f"effective_rank_{m}"] = effective_rank(x)
    report["uniformity_floor"] = uniformity_floor(by_name[0][1].shape[1])
    for (m, x), (n, y) in combinations(by_name, 2):
        report[f"alignment_{m}_{n}"] = alignment(x, y)
        gap = modality_gap(x, y)
        report |= {f"modality_gap_{m}_{n}": gap.gap, f"modality_gap_floor_{m}_{n}": gap.floor}
        if separability:
            report[f"separability_{m}_{n}"] = linear_separability(x, y)
    return {f"geometry/{name}": float(value) for name, value in report.items()}


@torch.no_grad()
def retrieval_report(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    *,
    ids: Int[Tensor, "n"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
    median: bool = True,
    detailed: bool = False,
) -> dict[str, float]:
    """Retrieval between every two modalities in both directions, as `retrieval/image_to_text_recall@1`.

    With `ids`, any row of a query's id is its match. A modality whose rows coincide within every id, such as images that
    stand beside each of their captions, is taken once per id, as queries and as candidates; others are taken whole. That
    is the protocol of Flickr8k and COCO.

    Args:
        embeds: Matching embeddings by modality. The pool of candidates is all rows of the other modality.
        ids: What each row shows. By default every row is its own.
        ks: Cut-offs of recall.
        median: Whether to add the median rank, counted from 1.
        detailed: Whether to add mean rank and mean reciprocal rank (`mrr`), and with `ids` the number of candidates, mean
            average precision (`map`) and `ndcg@10` over all matches.
    """
    pools = {m: (x, ids) if ids is None else _pool(x, ids) for m, x in sorted(embeds.items())}
    report: dict[str, float] = {}
    if detailed and ids is not None:
        report |= {f"retrieval/{m}_candidates": float(len(x)) for m, (x, _) in pools.items()}
    ranks_of: dict[tuple[str, str], Ranks] = {}
    for (m, (x, x_ids)), (n, (y, y_ids)) in permutations(pools.items(), 2):
        name = f"retrieval/{m}_to_{n}"
        if detailed and ids is not None:
            ranks, relevance = retrieval_relevance(x, y, query_ids=x_ids, key_ids=y_ids)
            report[f"{name}_map"] = float(relevance.average_precision.mean())
            report[f"{name}_ndcg@10"] = float(relevance.gain.mean())
        else:
            if (m, n) not in ranks_of:
                ranks_of[m, n], ranks_of[n, m] = two_way_retrieval_ranks(x, y, query_ids=x_ids, key_ids=y_ids)
            ranks = ranks_of[m, n]
        report |= {f"{name}_recall@{k}": float(ranks.recall(k)) for k in ks}
        if median:
            report[f"{name}_median_rank"] = float(ranks.median())
        if detailed:
            report |= {f"{name}_mean_rank": float(ranks.mean()), f"{name}_mrr": float(ranks.mean_reciprocal())}
    return report


def _pool(x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    rows = one_row_per_id(x, ids)
    return (x, ids) if len(rows) == len(ids) else (x[rows], ids[rows])
