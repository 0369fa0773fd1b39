"""All measures of a set of embeddings at once, under the names that logs, evaluations and cards share."""

from collections.abc import Mapping
from itertools import combinations, permutations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional import (
    alignment,
    effective_rank,
    linear_separability,
    modality_gap,
    retrieval_ranks,
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
    embeds: Mapping[str, Float[Tensor, "n d"]], *, ks: tuple[int, ...] = (1, 5, 10), median: bool = True
) -> dict[str, float]:
    """Retrieval between every two modalities in both directions, as `retrieval/image_to_text_recall@1`.

    Args:
        embeds: Matching embeddings by modality. The pool of candidates is all rows of the other modality.
        ks: Cut-offs of recall.
        median: Whether to add the median rank, counted from 1.
    """
    report: dict[str, float] = {}
    for (m, x), (n, y) in permutations(sorted(embeds.items()), 2):
        ranks = retrieval_ranks(x, y)
        report |= {f"retrieval/{m}_to_{n}_recall@{k}": float(ranks.recall(k)) for k in ks}
        if median:
            report[f"retrieval/{m}_to_{n}_median_rank"] = float(ranks.median())
    return report
