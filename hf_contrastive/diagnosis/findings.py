"""From numbers to sentences: the facts that rules read, and the rules that apply."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hf_contrastive.diagnosis.result import CosineHistogram, Finding, PairDiagnosis, Trials
from hf_contrastive.diagnosis.rules import RULES, SEVERITIES, Facts, is_collapsed


def find(
    metrics: Mapping[str, float], pairs: Sequence[PairDiagnosis], modalities: Iterable[Facts], *, items: int
) -> tuple[Finding, ...]:
    """All sentences that are true, the most severe first.

    Args:
        metrics: Measures of all rows.
        pairs: What was found of every two modalities.
        modalities: Facts of each modality, see [`modality_facts`].
        items: Number of different things that the rows show.
    """
    facts: dict[str, Sequence[Facts]] = {
        "pair": [pair_facts(metrics, pair, items=items) for pair in pairs],
        "modality": list(modalities),
    }
    found = [
        Finding(
            rule=rule.name,
            severity=rule.severity,
            about=each["about"],
            says=_sentence(rule.says, each),
            advice=_sentence(rule.advice, each),
        )
        for rule in RULES
        for each in facts[rule.scope]
        if rule.applies(each)
    ]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _sentence(text: str, facts: Facts) -> str:
    text = text.format(**facts)
    return text[:1].upper() + text[1:]


def pair_facts(metrics: Mapping[str, float], pair: PairDiagnosis, *, items: int) -> dict[str, Any]:
    """What rules on a pair of modalities read. R@1 without a direction is the mean of both."""
    first, second = pair.first, pair.second
    name = f"{first}_{second}"
    gap, floor = metrics[f"geometry/modality_gap_{name}"], metrics[f"geometry/modality_gap_floor_{name}"]
    forward, backward = (metrics[f"retrieval/{m}_to_{n}_recall@1"] for m, n in ((first, second), (second, first)))
    clouds, r1 = pair.composition.clouds, (forward + backward) / 2
    return {
        "about": name,
        "first": first,
        "second": second,
        "gap": gap,
        "gap_floor": floor,
        "gap_ratio": gap / max(floor, 1e-12),
        "separability": metrics[f"geometry/separability_{name}"],
        **{f"{part}_share": value / max(clouds["total"], 1e-12) for part, value in clouds.items()},
        "r1": r1,
        "r1_forward": forward,
        "r1_backward": backward,
        "r1_error": _error(r1, items),
        "chance": mean_recall(metrics, first, second, "_chance", otherwise=1 / items),
        "matched": pair.cosines.means["matched"],
        "permuted": pair.cosines.means["permuted"],
        "cosine_error": _cosine_error(pair.cosines, items),
        "collapsed": any(
            is_collapsed(metrics[f"geometry/uniformity_{m}"], metrics["geometry/uniformity_floor"])
            for m in (first, second)
        ),
        **_trial_facts(pair.trials, first, second),
    }


def _trial_facts(trials: Trials, first: str, second: str) -> dict[str, Any]:
    """What became of the measured rows: not a number where an intervention could not be done."""
    gap = f"geometry/modality_gap_{first}_{second}"
    recalls = {trial.name: mean_recall(trial.metrics, first, second) for trial in trials.interventions}
    gaps = {trial.name: trial.metrics.get(gap, math.nan) for trial in trials.interventions}
    clip, *others = (trial for trial in trials.interventions if trial.name == "linear_head")
    closest = min(others, key=lambda head: head.metrics[gap])
    temperatures = trials.temperatures
    return {
        "r1_none": recalls["none"],
        "gap_none": gaps["none"],
        "trial_floor": trials.interventions[0].metrics[f"geometry/modality_gap_floor_{first}_{second}"],
        "gap_mean_shift": gaps["mean_shift"],
        "r1_mean_shift": recalls["mean_shift"],
        "r1_whitening": recalls["whitening"],
        "trial_error": math.sqrt(2) * _error(recalls["none"], trials.measured_items),
        "head_weight": closest.settings["weight"],
        "head_gap": closest.metrics[gap],
        "head_gap_clip": clip.metrics[gap],
        "head_r1": mean_recall(closest.metrics, first, second),
        "head_r1_clip": mean_recall(clip.metrics, first, second),
        "own": temperatures.own,
        "best": temperatures.best,
        "loss_at_own": temperatures.loss_at_own,
        "loss_at_best": temperatures.loss_at_best,
        "loss_of_chance": temperatures.chance,
    }


def modality_facts(
    metrics: Mapping[str, float],
    modality: str,
    *,
    rows: int,
    width: int,
    center_share: float,
    copies: float,
    has_ids: bool,
) -> dict[str, Any]:
    """What rules on one modality read."""
    return {
        "about": modality,
        "rows": rows,
        "width": width,
        "rows_wanted": 4 * width,
        "rank_most": min(width, rows - 1),
        "uniformity": metrics[f"geometry/uniformity_{modality}"],
        "uniformity_floor": metrics["geometry/uniformity_floor"],
        "effective_rank": metrics[f"geometry/effective_rank_{modality}"],
        "center_share": center_share,
        "copies": copies,
        "has_ids": has_ids,
    }


def mean_recall(
    metrics: Mapping[str, float], first: str, second: str, of: str = "", *, otherwise: float = math.nan
) -> float:
    """R@1, or what it is `_chance`, mean of both directions; not a number where an intervention could not be done, so that
    no rule on it applies.
    """
    names = [f"retrieval/{m}_to_{n}_recall@1{of}" for m, n in ((first, second), (second, first))]
    return sum(metrics.get(name, otherwise) for name in names) / 2


def _error(share: float, number: float) -> float:
    """Standard error of a share; that of one hit where there is none, since none in few is no certainty."""
    share = min(max(share, 1 / number), 1 - 1 / number)
    return math.sqrt(share * (1 - share) / number)


def _cosine_error(cosines: CosineHistogram, number: float) -> float:
    """Standard error of the difference of the mean cosines of matched and of permuted rows, to within a bin."""
    edges = cosines.edges
    variance = 0.0
    for name in ("matched", "permuted"):
        density = getattr(cosines, name)
        bins = [(d * (high - low), (low + high) / 2) for d, (low, high) in zip(density, pairwise(edges), strict=True)]
        mean = sum(share * place for share, place in bins)
        variance += sum(share * (place - mean) ** 2 for share, place in bins)
    return math.sqrt(variance / number)
