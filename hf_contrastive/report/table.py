"""One readable table of one or several runs."""

from collections.abc import Iterator, Sequence

from hf_contrastive.metrics.measures import Reading, by_group, read_key
from hf_contrastive.report.result import RunResult
from hf_contrastive.report.retrieval import read_count, read_retrieval, shown_chance


def result_table(results: Sequence[RunResult]) -> str:
    """A Markdown table with a row per measure and a column per run, padded so that a terminal shows it well too.

    Values come with their reference: the best uniformity that the width allows, the gap that sampling alone makes,
    chance for separability and retrieval. Of geometry it has the headlines, all else is in [`geometry_table`].
    """
    rows = [[label, *(_cell(result, key) for result in results)] for label, key in _retrieval(results)]
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


def _retrieval(results: Sequence[RunResult]) -> Iterator[tuple[str, str]]:
    """Labels and keys, candidates first; chance stands in a label where it is the same in all runs."""
    keys = dict.fromkeys(key for result in results for key in result.metrics)
    yield from ((f"candidates of {counted.replace('_', ' ')}", key) for key in keys if (counted := read_count(key)))
    for retrieval in filter(None, map(read_retrieval, keys)):
        chances = {retrieval.chance(result) for result in results if retrieval.key in result.metrics}
        told = {shown_chance(chance, retrieval.measure) for chance in chances if chance is not None}
        yield retrieval.label + (f" (chance {told.pop()})" if len(told) == 1 else ""), retrieval.key


def _geometry(results: Sequence[RunResult], *, headline: bool) -> list[Reading]:
    found = [reading for result in results for key in result.metrics if (reading := read_key(key))]
    return by_group(reading for reading in found if reading.measure.headline == headline)


def _geometry_label(reading: Reading) -> str:
    return reading.label if reading.kind is None else f"{reading.label} ({reading.kind})"


def _cell(result: RunResult, key: str) -> str:
    value = result.metrics.get(key)
    if value is None:
        return "-"
    if read_count(key):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if key.endswith("_rank") else f"{value:.3f}"
