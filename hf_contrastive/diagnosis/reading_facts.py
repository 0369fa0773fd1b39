"""What the sentences beside plots are filled with."""

from typing import Any

import torch

from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.findings import pair_facts
from hf_contrastive.diagnosis.result import CosineHistogram
from hf_contrastive.functional import entropy_rank


PARTS = ("centers", "spread", "spectrum", "orientation")


def model_facts(side: Side) -> dict[str, Any]:
    """Values of plots that show all modalities of a model: of the pair or modality that stands out most."""
    one, metrics = side.one, side.one.metrics
    pairs = [pair_facts(metrics, pair, items=one.items) for pair in one.pairs]
    widest = max(pairs, key=lambda facts: facts["gap_ratio"])
    centers = one.projection.centers
    ranks = {m: metrics[f"geometry/effective_rank_{m}"] for m in one.modalities}
    # Of equal ones, two different modalities.
    lowest, *_, highest = sorted(ranks, key=ranks.__getitem__)
    isotropic = float(entropy_rank(next(iter(side.shapes.values())).isotropic))
    ratios = {
        m: float(shape.variation.variation / shape.variation.gaussian.clamp(min=1e-6))
        for m, shape in side.shapes.items()
    }
    odd = max(ratios, key=lambda m: max(ratios[m], 1 / max(ratios[m], 1e-6)))
    tails = {m: float(shape.coordinates.observed[-1]) for m, shape in side.shapes.items()}
    gaussian = float(next(iter(side.shapes.values())).coordinates.gaussian[-1])
    heavy = max(tails, key=lambda m: abs(tails[m] - gaussian))
    return {
        **{name: widest[name] for name in ("first", "second", "gap", "gap_floor", "separability")},
        "model": side.label,
        "share": sum(one.projection.shares),
        "seen": float((centers[widest["first"]] - centers[widest["second"]]).norm()) / max(widest["gap"], 1e-12),
        "rows": one.rows,
        "width": one.width,
        "lowest": lowest,
        "lowest_rank": ranks[lowest],
        "highest": highest,
        "highest_rank": ranks[highest],
        "isotropic_rank": isotropic,
        "odd": odd,
        "variation": float(side.shapes[odd].variation.variation),
        "gaussian_variation": float(side.shapes[odd].variation.gaussian),
        "variation_ratio": ratios[odd],
        "heavy": heavy,
        "tail": tails[heavy],
        "gaussian_tail": gaussian,
        "tail_share": 0.5 / len(side.shapes[heavy].coordinates.gaussian),
    }


def plot_facts(side: Side, first: str, second: str) -> dict[str, Any]:
    """Values of plots of two modalities. Those of a curve that could not be made are not a number."""
    one = side.one
    pair = one.pair(first, second)
    clouds, control = pair.composition.clouds, pair.composition.clouds_control
    beyond = {part: clouds[part] - control[part] for part in PARTS}
    largest = max(beyond, key=beyond.__getitem__)
    return {
        **pair_facts(one.metrics, pair, items=one.items),
        "model": side.label,
        "items": one.items,
        "total": clouds["total"],
        "control": control["total"],
        "largest": largest,
        "largest_share": clouds[largest] / max(clouds["total"], 1e-12),
        "unmatched": pair.cosines.means["unmatched"],
        "auc": histogram_auc(pair.cosines),
        **_search_facts(side, first, second),
        **_axis_facts(side, first, second),
    }


def histogram_auc(cosines: CosineHistogram) -> float:
    """Chance that a matched cosine is above an unmatched one, to within a bin."""
    matched, unmatched = torch.tensor(cosines.matched), torch.tensor(cosines.unmatched)
    matched, unmatched = matched / matched.sum(), unmatched / unmatched.sum()
    return float((matched * (unmatched.cumsum(0) - unmatched / 2)).sum())


def _search_facts(side: Side, first: str, second: str) -> dict[str, Any]:
    """Of the direction that loses most to rows that are never found, and of that whose keys are found most unevenly."""
    searches = [side.searches[names] for names in ((first, second), (second, first)) if names in side.searches]
    if not searches:
        return {}
    thirds = []
    for search in searches:
        third = max(1, len(search.bins.recall) // 3)
        thirds.append((float(search.bins.recall[:third].mean()), float(search.bins.recall[-third:].mean())))
    lost = max(range(len(searches)), key=lambda i: thirds[i][1] - thirds[i][0])
    uneven = max(searches, key=lambda search: float(search.hubs.robin_hood - search.chance.robin_hood))
    return {
        "query": searches[lost].query,
        "key": searches[lost].key,
        "recall_low": thirds[lost][0],
        "recall_high": thirds[lost][1],
        "k": uneven.k,
        "uneven_query": uneven.query,
        "uneven_key": uneven.key,
        "skewness": float(uneven.hubs.skewness),
        "chance_skewness": float(uneven.chance.skewness),
        "antihubs": float(uneven.hubs.antihubs),
        "chance_antihubs": float(uneven.chance.antihubs),
        "top": float(uneven.hubs.top),
        "chance_top": float(uneven.chance.top),
    }


def _axis_facts(side: Side, first: str, second: str) -> dict[str, Any]:
    axis = side.axes.get((first, second))
    if axis is None:
        return {}
    steepest = max(axis.barriers, key=axis.barriers.__getitem__)
    return {"barrier": axis.barriers[steepest], "climber": steepest, "angle": axis.second_center}
