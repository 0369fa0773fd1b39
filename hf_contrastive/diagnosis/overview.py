"""The top of a page: a verdict in two sentences, key numbers beside their references, interventions before and after."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.findings import mean_recall, pair_facts
from hf_contrastive.diagnosis.reading import is_open
from hf_contrastive.diagnosis.result import Diagnosis, Trials
from hf_contrastive.diagnosis.rules import ERRORS, NO_RETRIEVAL, Facts


class Cell(NamedTuple):
    """A value, and what it is compared with."""

    value: str
    reference: str = ""


class Row(NamedTuple):
    """What was measured, and a cell for each column."""

    label: str
    cells: tuple[Cell, ...]


def verdict(sides: Sequence[Side]) -> tuple[str, str]:
    """What is the case between the two modalities that are furthest apart, and what follows.

    Args:
        sides: One model, or two to be compared.
    """
    pairs = [
        {(p.first, p.second): pair_facts(s.one.metrics, p, items=s.one.items) for p in s.one.pairs} for s in sides
    ]
    widest = max(pairs[0], key=lambda names: max(found[names]["gap_ratio"] for found in pairs))
    facts = [found[widest] for found in pairs]
    if len(facts) == 1:
        return _state(facts[0]), _advice(facts[0])
    names = sides[0].label, sides[1].label
    return _states(facts[0], facts[1], *names), _compared(facts[0], facts[1], *names)


def _state(f: Facts) -> str:
    gap = "open" if is_open(f) else "closed"
    return (
        f"The gap between {f['first']} and {f['second']} is {gap}: {f['gap']:.3f}, where sampling alone makes "
        f"{f['gap_floor']:.3f}; R@1 is {f['r1']:.3f}, where chance is {f['chance']:.3g}."
    )


def _advice(f: Facts) -> str:
    if NO_RETRIEVAL.applies(f):
        return NO_RETRIEVAL.advice
    change = f["r1_mean_shift"] - f["r1_none"]
    if not is_open(f):
        if f["separability"] > 0.75:
            return (
                f"The centers are together, but a linear rule still tells the modalities apart ({f['separability']:.3f} right, "
                "chance 0.5): try whitening."
            )
        if f["collapsed"]:
            return "But rows cover little of the sphere, where a small gap says nothing: look at the finding on collapse first."
        if f["r1"] > 0.995:
            return "Nothing parts the modalities, and rows find their matches: there is nothing to try."
        return "Nothing parts the modalities that a shift could mend, so what is left to gain is in retrieval itself."
    if change < -ERRORS * f["trial_error"]:
        return (
            f"A mean shift would cost R@1 ({f['r1_none']:.3f} before, {f['r1_mean_shift']:.3f} after, on unseen rows), so close "
            "it by training with `clip_divergence`, if both are ranked in one index."
        )
    if math.isnan(change):
        return "The rows cannot be centered, for what is left has no direction: look at the findings first."
    does = "lifts R@1" if change > ERRORS * f["trial_error"] else "leaves R@1 what it was, within its error"
    return (
        f"A mean shift takes it to {f['gap_mean_shift']:.3f} on unseen rows, where sampling makes {f['trial_floor']:.3f}, and "
        f"{does} ({f['r1_none']:.3f} before, "
        f"{f['r1_mean_shift']:.3f} after); in training, `clip_divergence` closes it."
    )


def _states(own: Facts, other: Facts, own_name: str, other_name: str) -> str:
    return (
        f"Between {own['first']} and {own['second']}, {own_name} has a gap of {own['gap']:.3f} (sampling alone makes "
        f"{own['gap_floor']:.3f}) and an R@1 of {own['r1']:.3f}, {other_name} a gap of {other['gap']:.3f} "
        f"({other['gap_floor']:.3f}) and an R@1 of {other['r1']:.3f} (chance {own['chance']:.3g})."
    )


def _compared(own: Facts, other: Facts, own_name: str, other_name: str) -> str:
    gaps = {
        (False, True): f"{own_name} has closed the gap that {other_name} leaves open",
        (True, False): f"{own_name} leaves the gap open that {other_name} has closed",
        (True, True): "Both leave the gap open",
        (False, False): "Both have closed the gap",
    }[is_open(own), is_open(other)]
    difference = own["r1"] - other["r1"]
    allowed = ERRORS * (own["r1_error"] ** 2 + other["r1_error"] ** 2) ** 0.5
    if abs(difference) <= allowed:
        return f"{gaps}, and they retrieve alike: R@1 differs by {abs(difference):.3f}, less than its error ({allowed:.3f})."
    better = own_name if difference > 0 else other_name
    return f"{gaps}, and {better} retrieves better: R@1 differs by {abs(difference):.3f}, more than its error ({allowed:.3f})."


def key_numbers(sides: Sequence[Side], first: str, second: str) -> list[Row]:
    """What people ask for first, each value beside its floor, its bound or chance."""
    columns = [_key_cells(side.one, first, second) for side in sides]
    return [Row(label, tuple(column[label] for column in columns)) for label in columns[0]]


def _key_cells(one: Diagnosis, first: str, second: str) -> dict[str, Cell]:
    metrics, name = one.metrics, f"{first}_{second}"
    floor, best = metrics[f"geometry/modality_gap_floor_{name}"], metrics["geometry/uniformity_floor"]
    cells = {
        "gap between the centers": Cell(f"{metrics[f'geometry/modality_gap_{name}']:.3f}", f"sampling {floor:.3f}"),
        "separability": Cell(f"{metrics[f'geometry/separability_{name}']:.3f}", "chance 0.5"),
    }
    for query, key in ((first, second), (second, first)):
        for k in (1, 10):
            recall = f"retrieval/{query}_to_{key}_recall@{k}"
            chance = metrics.get(f"{recall}_chance", min(1, k / one.items))
            cells[f"R@{k}, {query} to {key}"] = Cell(f"{metrics[recall]:.3f}", f"chance {chance:.3g}")
    for m in (first, second):
        cells[f"uniformity of {m}"] = Cell(f"{metrics[f'geometry/uniformity_{m}']:.2f}", f"best {best:.2f}")
        rank, most = metrics[f"geometry/effective_rank_{m}"], min(one.width, one.rows - 1)
        cells[f"effective rank of {m}"] = Cell(f"{rank:.1f}", f"at most {most}")
    return cells


def before_and_after(side: Side, first: str, second: str) -> list[Row]:
    """Gap, separability and R@1 after each intervention, beside how they changed, and what temperature does."""
    trials = side.one.pair(first, second).trials
    name = f"{first}_{second}"
    measures: tuple[Callable[[Mapping[str, float]], float], ...] = (
        lambda m: m[f"geometry/modality_gap_{name}"],
        lambda m: m[f"geometry/separability_{name}"],
        lambda m: mean_recall(m, first, second),
    )
    before = [measure(trials.interventions[0].metrics) for measure in measures]
    rows = []
    for trial in trials.interventions:
        if trial.metrics:
            after = [measure(trial.metrics) for measure in measures]
            changes = ["" if trial.name == "none" else _change(x - y) for x, y in zip(after, before, strict=True)]
            rows.append(Row(trial.label, tuple(Cell(f"{x:.3f}", c) for x, c in zip(after, changes, strict=True))))
        else:
            rows.append(Row(trial.label, (Cell("-"),) * len(measures)))
    return [*rows, _temperature(trials, before)]


def _change(value: float) -> str:
    """A change with its sign, which zero has not."""
    return f"{value:+.3f}" if abs(value) >= 0.0005 else "+0.000"


def _temperature(trials: Trials, before: Sequence[float]) -> Row:
    t = trials.temperatures
    start = "" if t.own is None or t.loss_at_own is None else f"from {t.own:.4f} "
    loss = f", loss {t.loss_at_best:.3f}" if not start else f", loss {t.loss_at_own:.3f} to {t.loss_at_best:.3f}"
    return Row(f"temperature {start}to {t.best:.4f}{loss}", tuple(Cell(f"{x:.3f}", "+0.000") for x in before))
