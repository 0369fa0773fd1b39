"""Scores on registered benchmarks."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from hf_contrastive.report.eval_results import benchmark_results, eval_result_faults, write_eval_results
from hf_contrastive.report.facts import Sharing, TrainingFacts
from tests.report.runs import make_result


FULL = EvalResultEntry(
    dataset_id="org/bench",
    task_id="retrieval",
    value=0.4,
    dataset_revision="5503434ddd753f426f4b38109466949a1217c2bb",
    date="2026-01-31",
    source_url="https://huggingface.co/org/model",
    source_name="card",
    notes="R@1",
)


def test_entries_are_read_back_by_huggingface_hub(tmp_path: Path):
    other = EvalResultEntry(dataset_id="org/bench", task_id="zero-shot", value=70)
    (path,) = write_eval_results(tmp_path, [FULL, other])
    assert path == tmp_path / ".eval_results" / "org-bench.yaml"
    assert parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8"))) == [FULL, other]


@pytest.mark.parametrize("task", ["retrieval", None])
def test_other_benchmarks_stay(tmp_path: Path, task: str | None):
    write_eval_results(tmp_path, [FULL])
    write_eval_results(tmp_path, [EvalResultEntry(dataset_id="org/other", task_id="x", value=1.0)] if task else [])
    assert (tmp_path / ".eval_results" / "org-bench.yaml").exists()


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("dataset", "id", "a/b/c", "`[0].dataset.id` is 'a/b/c', but must be the id of a benchmark"),
        ("dataset", "task_id", None, "`[0].dataset.task_id` is None"),
        ("dataset", "revision", "main", "40 hexadecimal digits"),
        (None, "value", "high", "`[0].value` is 'high', but must be a finite number"),
        (None, "value", float("inf"), "`[0].value` is inf"),
        (None, "date", "yesterday", "a date such as"),
        (None, "source", {"name": "x"}, "`[0].source.url`"),
    ],
)
def test_each_fault_names_its_field(part: str | None, key: str, value: Any, message: str):
    entry: dict[str, Any] = {"dataset": {"id": "org/bench", "task_id": "x"}, "value": 1}
    (entry[part] if part else entry)[key] = value
    (fault,) = eval_result_faults([entry])
    assert message in fault


def test_what_is_no_list_is_told():
    assert len(eval_result_faults({})) == 1


def facts(dataset: str, **sharing: str) -> TrainingFacts:
    return TrainingFacts(
        dataset=dataset,
        train_rows=1,
        base_model=None,
        modalities=("image", "text"),
        model_type="clip",
        sharing=Sharing(**sharing),  # type: ignore[arg-type]
    )


def test_without_a_task_there_is_no_score():
    assert benchmark_results(make_result(), facts("org/bench")) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (facts("/data/x.parquet", benchmark_task="t"), "'x.parquet', which is no dataset of the Hub"),
        (
            facts("org/bench", benchmark_task="t", benchmark_metric="R@1"),
            "`benchmark_metric` is 'R@1', but must be one",
        ),
    ],
)
def test_a_score_that_cannot_be_is_refused(given: TrainingFacts, message: str):
    with pytest.raises(ValueError, match=message):
        benchmark_results(make_result(), given)
