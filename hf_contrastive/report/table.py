"""One readable table of one or several runs."""

import re
from collections.abc import Sequence

from hf_contrastive.metrics.measures import Reading, by_group, read_key
from hf_contrastive.report.result import RunResult


def result_table(results: Sequence[RunResult]) -> str:
    """A Markdown table with a row per measure and a column per run, padded so that a terminal shows it well too.

    Values come with their reference: the best uniformity that the width allows, the gap that sampling alone makes,
    chance for separability and recall. Of geometry it has the headlines, all else is in [`geometry_table`].
    """
    labels = {key: label for result in results for label, key in _retrieval(result)}
    rows = [[label, *(_cell(result, key) for result in results)] for key, label in labels.items()]
    rows += [
        [_geometry_label(reading), *(reading.cell(result.metrics) for result in results)]
        for reading in _geometry(results, headline=True)
    ]
    rows += [["loss scale (1/temperature)", *(f"{r.metrics['logit_scale']:.1f}" for r in results)]]
    rows += [["training, seconds", *(f"{r.train_seconds:.0f}" if r.train_seconds else "-" for r in results)]]
    return _markdown(["measure", *_names(results)], rows)


def geometry_table(results: Sequence[RunResult]) -> str:
    """All measures of geometry that [`result_table`] leaves out, under headings; empty where there are none."""
    rows: list[list[str]] = []
    group = ""
    for reading in _geometry(results, headline=False):
        if reading.measure.group != group:
            group = reading.measure.group
            rows.append([f"**{group}**", *([""] * len(results))])
        rows.append([_geometry_label(reading), *(reading.cell(result.metrics) for result in results)])
    return _markdown(["measure", *_names(results)], rows) if rows else ""


def _names(results: Sequence[RunResult]) -> list[str]:
    return [result.name.replace("|", "/") for result in results]


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(_pad(row, widths)) + " |" for row in [head, rule, *rows])


def _pad(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _retrieval(result: RunResult) -> list[tuple[str, str]]:
    rows = []
    for key in result.metrics:
        group, _, name = key.partition("/")
        if group == "retrieval":
            direction, _, measure = name.rpartition("_recall@")
            # Names of modalities hold no underscores of their own in models of transformers.
            label = (
                f"{direction.replace('_', ' ')}, R@{measure}"
                if direction
                else re.sub(r"\bmrr$", "MRR", name.replace("_", " "))
            )
            chance = f" (chance {int(measure) / result.test_rows:.3f})" if measure == "1" and direction else ""
            rows.append((label + chance, key))
    return rows


def _geometry(results: Sequence[RunResult], *, headline: bool) -> list[Reading]:
    found = [reading for result in results for key in result.metrics if (reading := read_key(key))]
    return by_group(reading for reading in found if reading.measure.headline == headline)


def _geometry_label(reading: Reading) -> str:
    return reading.label if reading.kind is None else f"{reading.label} ({reading.kind})"


def _cell(result: RunResult, key: str) -> str:
    value = result.metrics.get(key)
    if value is None:
        return "-"
    return f"{value:.1f}" if key.endswith("median_rank") else f"{value:.3f}"
