"""Tables of a diagnosis, as cells for any page and as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hf_contrastive.diagnosis.result import Diagnosis, PairDiagnosis
from hf_contrastive.metrics.measures import by_group, read_key


class Table(NamedTuple):
    """A heading, a sentence on how to read it, the names of the columns, and rows of as many cells."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(diagnosis: Diagnosis) -> list[Table]:
    """Measures, composition, interventions and temperature of a diagnosis, that it is compared with beside it."""
    found = [_measures(diagnosis)]
    for pair in diagnosis.pairs:
        found += [_composition(diagnosis, pair.first, pair.second)]
        for label, one in zip(labels(diagnosis), diagnosis.all, strict=True):
            of = f", {label}" if diagnosis.compared else ""
            found += [_interventions(one.pair(pair.first, pair.second), of)]
        found += [_temperatures(diagnosis, pair.first, pair.second)]
    return found


def as_text(table: Table) -> str:
    """A table for a terminal, padded."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (table.head, tuple("-" * width for width in widths), *table.rows)
    ]
    return "\n".join([table.title, "", *lines, *([f"\n{table.note}"] if table.note else [])])


def short_name(name: str) -> str:
    """The last part of a path or Hub id."""
    return name.rstrip("/").rpartition("/")[2] or name


def labels(diagnosis: Diagnosis) -> list[str]:
    """What a page calls each model: short names where they differ, else whole ones, numbered where those are equal too."""
    names = [one.name for one in diagnosis.all]
    short = [short_name(name) for name in names]
    chosen = short if len(set(short)) == len(short) else names
    return [name if chosen.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(chosen, start=1)]


def _measures(diagnosis: Diagnosis) -> Table:
    hidden = ("_mrr", "_mean_rank", "_candidates", "_map", "_ndcg@10", "_chance")
    geometry = [reading for key in diagnosis.metrics if (reading := read_key(key))]
    rows = [(reading.label, *(reading.cell(one.metrics) for one in diagnosis.all)) for reading in by_group(geometry)]
    keys = [key for key in diagnosis.metrics if key.startswith("retrieval/") and not key.endswith(hidden)]
    rows += [(_label(key), *(_value(one.metrics, key) for one in diagnosis.all)) for key in keys]
    note = (
        "In parentheses, what a value is read beside: what sampling alone makes of it, what evenly spread rows show, and "
        "for matched cosines those of unmatched rows."
    )
    return Table("Measures", note, ("measure", *labels(diagnosis)), tuple(rows))


def _label(key: str) -> str:
    name = key.partition("/")[2].replace("_", " ")
    return name.replace(" recall@", ", R@").replace(" median rank", ", median rank")


def _value(metrics: Mapping[str, float], key: str) -> str:
    if key not in metrics:
        return "-"
    return f"{metrics[key]:.1f}" if "rank" in key else f"{metrics[key]:.3f}"


def _composition(diagnosis: Diagnosis, first: str, second: str) -> Table:
    parts = [one.pair(first, second).composition for one in diagnosis.all]
    rows = [
        (f"clouds: {part}", *(f"{c.clouds[part]:.4f} ({c.clouds_control[part]:.4f})" for c in parts))
        for part in ("centers", "spread", "spectrum", "orientation", "total")
    ]
    # The total stands last, below what adds up to it.
    matched = [part for part in parts[0].matched if part != "total"]
    rows += [
        (f"matched rows: {part}", *(f"{'-' if part == 'shared' else ''}{c.matched[part]:.4f}" for c in parts))
        for part in [*matched, "total"]
    ]
    rows += [
        (
            f"first {k} directions in common (chance {k / diagnosis.width:.2f})",
            *(f"{c.subspace_overlap[k]:.2f}" for c in parts),
        )
        for k in parts[0].subspace_overlap
        if all(k in c.subspace_overlap for c in parts)
    ]
    note = "Squared distances; parts add up to the total. In parentheses: the same between two halves of one modality."
    head = ("part", *labels(diagnosis))
    return Table(f"What parts {first} and {second}", note, head, tuple(rows))


def _interventions(pair: PairDiagnosis, of: str) -> Table:
    first, second, trials = pair.first, pair.second, pair.trials
    name = f"{first}_{second}"
    columns = {
        f"R@1 {first} to {second}": f"retrieval/{first}_to_{second}_recall@1",
        f"R@1 {second} to {first}": f"retrieval/{second}_to_{first}_recall@1",
        "gap": f"geometry/modality_gap_{name}",
        f"uniformity {first}": f"geometry/uniformity_{first}",
        f"uniformity {second}": f"geometry/uniformity_{second}",
        "separability": f"geometry/separability_{name}",
    }
    found: list[tuple[str, Mapping[str, float]]] = [(trial.label, trial.metrics) for trial in trials.interventions]
    found += [(f"{fraction:g} along the gap", trials.shift_curve[fraction]) for fraction in (-0.5, 0.5, 1.0)]
    rows = [
        (label, *(f"{metrics[key]:.3f}" if metrics else "-" for key in columns.values())) for label, metrics in found
    ]
    note = (
        f"Fitted on {trials.fitted_rows} rows, measured on {trials.measured_rows} that show other things. Heads are linear "
        "maps on frozen embeddings: compare their weights with weight 0."
    )
    title = f"Interventions on {first} and {second}{of}"
    return Table(title, note, ("intervention", *columns), tuple(rows))


def _temperatures(diagnosis: Diagnosis, first: str, second: str) -> Table:
    rows: list[tuple[str, ...]] = []
    for label, one in zip(labels(diagnosis), diagnosis.all, strict=True):
        t = one.pair(first, second).trials.temperatures
        own = "-" if t.own is None or t.loss_at_own is None else f"{t.own:.4f} ({t.loss_at_own:.3f})"
        rows.append((label, own, f"{t.best:.4f} ({t.loss_at_best:.3f})", f"{t.chance:.3f}"))
    note = "Ranks do not depend on the temperature; the loss and the softmax do."
    head = ("model", "own (loss)", "best (loss)", "loss of chance")
    return Table(f"Temperature of {first} and {second}", note, head, tuple(rows))


def finding_lines(diagnosis: Diagnosis) -> Sequence[str]:
    """Findings as lines for a terminal."""
    return [
        f"{f.severity.upper():8s}{f.says}" + (f"\n        -> {f.advice}" if f.advice else "")
        for f in diagnosis.findings
    ]
