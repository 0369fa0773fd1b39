"""One readable table of one or several runs."""

from collections.abc import Sequence

from hf_contrastive.report.result import RunResult


def result_table(results: Sequence[RunResult]) -> str:
    """A Markdown table with a row per measure and a column per run, padded so that a terminal shows it well too.

    Values come with their reference: the best uniformity that the width allows, the gap that sampling alone makes,
    chance for separability and recall.
    """
    head = ["measure", *(result.name.replace("|", "/") for result in results)]
    labels = {key: label for result in results for label, key in _rows(result)}
    rows = [[label, *(_cell(result, key) for result in results)] for key, label in labels.items()]
    rows += [["loss scale (1/temperature)", *(f"{r.metrics['logit_scale']:.1f}" for r in results)]]
    rows += [["training, seconds", *(f"{r.train_seconds:.0f}" for r in results)]]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(_pad(row, widths)) + " |" for row in [head, rule, *rows])


def _pad(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _rows(result: RunResult) -> list[tuple[str, str]]:
    rows = []
    for key in result.metrics:
        group, _, name = key.partition("/")
        if group == "retrieval":
            direction, _, measure = name.rpartition("_recall@")
            # Names of modalities hold no underscores of their own in models of transformers.
            label = f"{direction.replace('_', ' ')}, R@{measure}" if direction else name.replace("_", " ")
            chance = f" (chance {int(measure) / result.test_rows:.3f})" if measure == "1" and direction else ""
            rows.append((label + chance, key))
    return rows + [
        (_geometry_label(key), key)
        for key in result.metrics
        if key.startswith("geometry/") and "floor" not in key and "effective" not in key
    ]


def _geometry_label(key: str) -> str:
    name = key.removeprefix("geometry/").replace("_", " ")
    if name.startswith("uniformity"):
        return f"{name} (floor)"
    if name.startswith("modality gap"):
        return f"{name} (floor)"
    return f"{name} (chance 0.5)" if name.startswith("separability") else name


def _cell(result: RunResult, key: str) -> str:
    value = result.metrics.get(key)
    if value is None:
        return "-"
    if key.endswith("median_rank"):
        return f"{value:.1f}"
    if "/uniformity_" in key:
        return f"{value:.2f} ({result.metrics['geometry/uniformity_floor']:.2f})"
    if "/modality_gap_" in key:
        floor = result.metrics[key.replace("modality_gap_", "modality_gap_floor_")]
        return f"{value:.3f} ({floor:.3f})"
    return f"{value:.3f}"
