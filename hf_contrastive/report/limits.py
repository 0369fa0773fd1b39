"""What the numbers of a run do not show, in plain sentences."""

import math
from collections.abc import Iterator, Mapping, Sequence

from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.objective import Objective
from hf_contrastive.report.result import RunResult
from hf_contrastive.report.retrieval import pools, recalls_at_1


# A gap this much above what sampling shows is told.
CLEAR = 1.5
# Two standard errors of a difference.
ERRORS = 2.0


def limits(results: Sequence[RunResult], facts: TrainingFacts, *, max_logit_scale: float | None = None) -> list[str]:
    """
    Limits of a model as its numbers tell them.

    Args:
        results: The model's own run first, then those that it is compared with.
        facts: Data and model.
        max_logit_scale: Upper bound of the scale in training.
    """
    own = results[0]
    likeness = "data like" if facts.test_dataset is None else "other data than"
    measured = f"Measured on {own.test_rows:,} rows of {facts.measured_dataset} alone, {likeness} the training data."
    found = [
        measured + _of_pool(own) if own.test_rows else "Nothing was measured: how good the model is, is not known.",
        *_of_recall(results),
        f"One run with the seed {own.seed}: how much figures vary from seed to seed was not measured here.",
        *_of_geometry(own.metrics),
    ]
    objective = facts.objective or Objective.read(own.loss)
    scale = max((value for key, value in own.metrics.items() if key.startswith("logit_scale")), default=0.0)
    if max_logit_scale is not None and objective.has_scale and scale >= 0.99 * max_logit_scale:
        found.append(f"The loss scale ended at its upper bound of {max_logit_scale:g}.")
    if (unmasked := facts.negatives.get("audit/duplicates_unmasked", 0)) > 0:
        found.append(
            f"In the first batches each row had {unmasked:.2g} others with the same text among its negatives, which "
            "training pushed away as if they did not match."
        )
    if facts.from_scratch and facts.train_rows is not None:
        found.append(
            f"Trained from scratch on {facts.train_rows:,} {facts.rows}: it knows nothing that these do not show."
        )
    found += facts.inputs
    if not facts.sharing.language:
        found.append("The language of the texts was not stated.")
    found.append("Biases and harms were not examined.")
    return found


def _of_pool(own: RunResult) -> str:
    if not (recalls := recalls_at_1(own)):
        return ""
    candidates, chance = pools(recalls, own)
    told = f" Retrieval among {candidates} candidates says little about larger pools"
    return f"{told}: chance of R@1 is {chance}." if chance else f"{told}."


def _of_recall(results: Sequence[RunResult]) -> Iterator[str]:
    own, *others = results
    recalls = recalls_at_1(own)
    errors = {recall.key: recall.standard_error(own) for recall in recalls}
    known = [error for error in errors.values() if error is not None]
    if known:
        of_all = len(known) == len(recalls)
        where = "" if of_all else f" {' and '.join(r.direction for r in recalls if errors[r.key] is not None)}"
        yield f"R@1{where} has a standard error of {max(known):.3f} at this number of rows."
    if len(known) < len(recalls):
        yield (
            f"Several queries show the same {' and '.join(r.direction for r in recalls if errors[r.key] is None)}, and "
            "are no independent draws: R@1 has no standard error there."
        )
    for other in others:
        unclear, worse, lower = [], [], []
        for recall in recalls:
            if recall.key not in other.metrics:
                continue
            difference = own.metrics[recall.key] - other.metrics[recall.key]
            told = f"{difference:+.3f} {recall.direction}"
            both = errors[recall.key], recall.standard_error(other)
            if None in both:
                lower += [told] if difference < 0 else []
            elif abs(difference) < ERRORS * math.hypot(*filter(None, both)):
                unclear.append(told)
            elif difference < 0:
                worse.append(told)
        if unclear:
            yield (
                f"In R@1 it cannot be told from `{other.name}` ({', '.join(unclear)}): the difference is within "
                f"{ERRORS:g} standard errors."
            )
        if worse:
            yield f"In R@1 it is worse than `{other.name}`: {', '.join(worse)}."
        if lower:
            yield f"Its R@1 is lower than that of `{other.name}`: {', '.join(lower)}."


def _of_geometry(metrics: Mapping[str, float]) -> Iterator[str]:
    prefix = "geometry/modality_gap_"
    for key, gap in metrics.items():
        floor = metrics.get(key.replace(prefix, prefix + "floor_"))
        if not key.startswith(prefix) or floor is None or "floor" in key:
            continue
        pair = key.removeprefix(prefix)
        label = pair.replace("_", " and ")
        apart = metrics.get(f"geometry/separability_{pair}")
        if gap > CLEAR * floor:
            yield (
                f"A gap of {gap:.3f} parts {label}, {gap / floor:.1f} times what sampling shows: cosines within a "
                "modality and across modalities are on different scales."
            )
        elif apart is not None and apart > 0.6:
            yield (
                f"The centers of {label} are no further apart than sampling shows, but a linear rule still tells the "
                f"modality of {apart:.0%} of unseen embeddings (chance 50%)."
            )
