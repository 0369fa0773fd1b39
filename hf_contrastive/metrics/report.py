"""All measures of a set of embeddings at once, under the names of [`hf_contrastive.metrics.measures`]."""

import math
from collections.abc import Mapping
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional import (
    Ranks,
    RetrievalChance,
    alignment,
    centroid_cosine,
    centroid_norm,
    count_matches,
    entropy_rank,
    expected_effective_rank,
    mean_cosines,
    modality_gap,
    modality_separability,
    retrieval_ranks,
    retrieval_relevance,
    spectrum,
    two_way_retrieval_ranks,
    uniformity,
    uniformity_floor,
)
from hf_contrastive.metrics.clouds import Clouds, pool_of, sample
from hf_contrastive.metrics.measures import PREFIX


@torch.no_grad()
def geometry_report(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    *,
    ids: Int[Tensor, "n"] | None = None,
    separability: bool = False,
    max_rows: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Geometry of every modality and pair that is cheap enough for logs, as `geometry/uniformity_image`.

    Values stand beside what they are to be read with, see [`hf_contrastive.metrics.measures`]. Measures of centers and of
    matched pairs take all rows; uniformity, of all pairs of rows, and effective rank take the sample, if there is one,
    and `geometry/quadratic_rows_image` then says how many rows it has. [`full_geometry_report`] has these and more.

    Args:
        embeds: Matching embeddings by modality, row i of each the same example, at least two.
        ids: What each row shows. Rows of one id match; a modality whose rows coincide within every id is taken once per
            id.
        separability: Whether to add the accuracy of a linear classifier of modalities, which takes a few solves. Rows of
            one id are held out together.
        max_rows: Rows of the sample. By default all.
        seed: Seed of the sample.
    """
    clouds = Clouds(embeds, ids, max_rows=max_rows, seed=seed)
    report = cheap_measures(clouds)
    for m, n in clouds.pairs() if separability else []:
        held_out = modality_separability(
            clouds.whole[m], clouds.whole[n], x_ids=clouds.ids[m], y_ids=clouds.ids[n], normalize=False
        )
        report[f"separability_{m}_{n}"] = held_out.accuracy
    return as_floats(report)


def cheap_measures(clouds: Clouds) -> dict[str, Tensor | float]:
    """What [`geometry_report`] reports, without the prefix. What too few rows have no value for is left out."""
    report: dict[str, Tensor | float] = {}
    width = next(iter(clouds.rows.values())).shape[1]
    floor = uniformity_floor(width)
    for m, x in clouds.sampled.items():
        if len(x) < 2:
            continue
        report[f"uniformity_{m}"] = value = uniformity(x, normalize=False)
        report[f"uniformity_ratio_{m}"] = value / floor
        report[f"effective_rank_{m}"] = entropy_rank(spectrum(x, normalize=False, double=False))
        report[f"effective_rank_isotropic_{m}"] = expected_effective_rank(width, len(x))
        center = centroid_norm(clouds.whole[m], normalize=False)
        report |= {f"mean_row_norm_{m}": center.norm, f"mean_row_norm_floor_{m}": center.floor}
    report["uniformity_floor"] = floor
    for m, n in clouds.pairs():
        x, y, name = clouds.whole[m], clouds.whole[n], f"{m}_{n}"
        report[f"alignment_{name}"] = alignment(clouds.rows[m], clouds.rows[n], normalize=False)
        if min(len(x), len(y)) > 1:
            gap = modality_gap(x, y, normalize=False)
            report |= {f"modality_gap_{name}": gap.gap, f"modality_gap_floor_{name}": gap.floor}
            report[f"centroid_gap_squared_{name}"] = gap.unbiased_square
            report[f"centroid_cosine_{name}"] = centroid_cosine(x, y, normalize=False)
        if clouds.num_items > 1:
            cosines = mean_cosines(x, y, x_ids=clouds.ids[m], y_ids=clouds.ids[n], normalize=False)
            report |= {
                f"matched_cosine_mean_{name}": cosines.matched,
                f"unmatched_cosine_mean_{name}": cosines.unmatched,
            }
    return report | clouds.quadratic_rows()


def as_floats(report: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers under their full names, read from an accelerator at once.

    What rows have no number for, such as the cosine of a center at the origin or the normality of a coordinate that does
    not vary, is left out: JSON has neither a NaN nor an infinity.
    """
    tensors = {name: value for name, value in report.items() if isinstance(value, Tensor)}
    values = torch.stack([value.double() for value in tensors.values()]).tolist() if tensors else []
    read = dict(zip(tensors, values, strict=True))
    numbers = {f"{PREFIX}{name}": read.get(name, value) for name, value in report.items()}
    return {name: float(number) for name, number in numbers.items() if math.isfinite(number)}


@torch.no_grad()
def retrieval_report(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    *,
    ids: Int[Tensor, "n"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
    median: bool = True,
    detailed: bool = False,
    max_queries: int | None = None,
    seed: int = 0,
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
        detailed: Whether to add mean rank and mean reciprocal rank (`mrr`), with `ids` the number of candidates, mean
            average precision (`map`) and `ndcg@10` over all matches, and beside each measure what it is of candidates in
            random order, as `retrieval/image_to_text_recall@1_chance`.
        max_queries: Queries that stand for all, each among all candidates. By default all.
        seed: Seed of the sample of queries.
    """
    pools = {m: (x, ids) if ids is None else pool_of(x, ids) for m, x in sorted(embeds.items())}
    report: dict[str, float] = {}
    if detailed and ids is not None:
        report |= {f"retrieval/{m}_candidates": float(len(x)) for m, (x, _) in pools.items()}
    ranks_of: dict[tuple[str, str], Ranks] = {}
    for (m, (x, x_ids)), (n, (y, y_ids)) in permutations(pools.items(), 2):
        name = f"retrieval/{m}_to_{n}"
        if (rows := sample(len(x), max_queries, seed, x.device)) is not None:
            y_ids = torch.arange(len(y), device=y.device) if y_ids is None else y_ids
            x, x_ids = x[rows], rows if x_ids is None else x_ids[rows]
        measures: dict[str, float] = {}
        if detailed and ids is not None:
            ranks, relevance = retrieval_relevance(x, y, query_ids=x_ids, key_ids=y_ids)
            measures |= {"map": float(relevance.average_precision.mean()), "ndcg@10": float(relevance.gain.mean())}
        elif rows is not None:
            ranks = retrieval_ranks(x, y, query_ids=x_ids, key_ids=y_ids)
        else:
            if (m, n) not in ranks_of:
                ranks_of[m, n], ranks_of[n, m] = two_way_retrieval_ranks(x, y, query_ids=x_ids, key_ids=y_ids)
            ranks = ranks_of[m, n]
        measures |= {f"recall@{k}": float(ranks.recall(k)) for k in ks}
        if median:
            measures["median_rank"] = float(ranks.median())
        if detailed:
            measures |= {"mean_rank": float(ranks.mean()), "mrr": float(ranks.mean_reciprocal())}
            matches = torch.ones(len(x), dtype=torch.long)
            if x_ids is not None and y_ids is not None:
                matches = count_matches(x_ids.cpu(), y_ids.cpu())
            chance = RetrievalChance(len(y), matches)
            measures |= {f"{measure}_chance": chance.named(measure) for measure in measures}
        report |= {f"{name}_{measure}": value for measure, value in measures.items()}
    return report
