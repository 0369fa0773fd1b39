"""Scores on benchmarks of the Hub, in files that it reads: `.eval_results/<benchmark>.yaml`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.hub_schema import is_repo_id
from hf_contrastive.report.result import RunResult


if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

EVAL_RESULTS = ".eval_results"


def benchmark_results(own: RunResult, facts: TrainingFacts) -> "list[EvalResultEntry]":
    """
    The entry for `.eval_results` of a run that was measured on a benchmark of the Hub; none if it was not.

    Raises:
        ValueError: The author names a task, but the data is no dataset of the Hub, or the measure is none of the run's.
    """
    sharing = facts.sharing
    if sharing.benchmark_task is None:
        return []
    try:
        from huggingface_hub import EvalResultEntry
    except ImportError as error:
        raise ImportError(
            "`benchmark_task` needs huggingface_hub 1.4 or newer: pip install -U huggingface_hub."
        ) from error

    if facts.hub_dataset is None:
        raise ValueError(
            f"`benchmark_task` is {sharing.benchmark_task!r}, a task of a benchmark on the Hub, but the data is "
            f"{facts.dataset_name!r}, which is no dataset of the Hub."
        )
    if sharing.benchmark_metric not in own.metrics:
        raise ValueError(
            f"`benchmark_metric` is {sharing.benchmark_metric!r}, but must be one of {sorted(own.metrics)}."
        )
    return [
        EvalResultEntry(
            dataset_id=facts.hub_dataset,
            task_id=sharing.benchmark_task,
            value=round(own.metrics[sharing.benchmark_metric], 4),
            notes=f"{sharing.benchmark_metric} among {own.test_rows} rows",
        )
    ]


def write_eval_results(folder: str | Path, entries: "Sequence[EvalResultEntry]") -> list[Path]:
    """
    Write entries to `.eval_results/<benchmark>.yaml`, from where the Hub shows them on the model's page and the
    benchmark's leaderboard. Those of other benchmarks stay.

    Raises:
        ValueError: An entry is not what the Hub takes.
    """
    from huggingface_hub import eval_result_entries_to_yaml

    by_file: dict[str, list[EvalResultEntry]] = {}
    for entry in entries:
        by_file.setdefault(f"{re.sub(r'[^a-z0-9]+', '-', entry.dataset_id.lower())}.yaml", []).append(entry)
    written = []
    for name, group in by_file.items():
        data = eval_result_entries_to_yaml(group)
        if faults := eval_result_faults(data):
            raise ValueError("\n".join(faults))
        path = Path(folder) / EVAL_RESULTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        written.append(path)
    return written


def eval_result_faults(data: object) -> list[str]:
    """What the Hub would refuse in a file of `.eval_results`: a sentence for each fault."""
    if not isinstance(data, list) or not data:
        return [f"A file of `{EVAL_RESULTS}` holds a list of results, but this is {data!r}."]
    faults = []
    for number, entry in enumerate(data):
        entry = entry if isinstance(entry, dict) else {}
        given = entry.get("dataset")
        dataset: dict[str, object] = given if isinstance(given, dict) else {}
        source = entry.get("source", {"url": "none"})
        checks = {
            "dataset.id": (is_repo_id(dataset.get("id")), "the id of a benchmark dataset", dataset.get("id")),
            "dataset.task_id": (
                isinstance(dataset.get("task_id"), str) and bool(dataset.get("task_id")),
                "the id of a task in the benchmark's eval.yaml",
                dataset.get("task_id"),
            ),
            "dataset.revision": (
                dataset.get("revision") is None or bool(re.fullmatch(r"[0-9a-f]{40}", str(dataset.get("revision")))),
                "a commit, 40 hexadecimal digits",
                dataset.get("revision"),
            ),
            "value": (_is_number(entry.get("value")), "a finite number", entry.get("value")),
            "date": (_is_date(entry.get("date")), "a date such as 2026-01-31", entry.get("date")),
            "source.url": (isinstance(source, dict) and bool(source.get("url")), "an address", source),
        }
        faults += [
            f"`[{number}].{field}` is {value!r}, but must be {allowed}."
            for field, (valid, allowed, value) in checks.items()
            if not valid
        ]
    return faults


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_date(value: object) -> bool:
    # YAML reads an unquoted one as a date.
    return value is None or bool(re.match(r"\d{4}-\d{2}-\d{2}", str(value)))
