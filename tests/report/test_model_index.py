"""Results in the metadata of a card."""

from copy import deepcopy
from typing import Any

import pytest
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from hf_contrastive.report.model_index import index_faults


def good() -> list[dict[str, Any]]:
    common = {"task_type": "retrieval", "dataset_type": "x/y", "dataset_name": "y", "dataset_split": "test"}
    results = [EvalResult(metric_type=f"recall@{k}", metric_value=k / 100, **common) for k in (1, 5, 10)]
    return eval_results_to_model_index("model", results)


def test_what_huggingface_hub_writes_has_no_faults():
    assert list(index_faults(good())) == []


def test_two_datasets_have_no_faults():
    index = good()
    other = deepcopy(index[0]["results"][0])
    other["dataset"]["name"] = other["dataset"]["type"] = "z"
    index[0]["results"].append(other)
    assert list(index_faults(index)) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["name"], None, "`model-index[0].name` is None"),
        (["results"], [], "`model-index[0].results` is []"),
        (["results", 0, "task", "type"], 3, "`model-index[0].results[0].task.type` is 3, but must be a text."),
        (["results", 0, "dataset", "name"], "", ".dataset.name` is ''"),
        (["results", 0, "dataset", "split"], 1, ".dataset.split` is 1"),
        (["results", 0, "metrics"], {}, ".metrics` is {}"),
        (["results", 0, "metrics", 1, "type"], None, ".metrics[1].type` is None"),
        (
            ["results", 0, "metrics", 2, "value"],
            float("nan"),
            ".metrics[2].value` is nan, but must be a finite number",
        ),
        (["results", 0, "metrics", 2, "value"], None, ".metrics[2].value` is None"),
        (["results", 0, "extra"], "x", "holds fields that are none of a result's"),
    ],
)
def test_each_fault_names_its_place(path: list[Any], value: object, message: str):
    index = good()
    inside: Any = index[0]
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    faults = list(index_faults(index))
    assert len(faults) == 1
    assert message in faults[0]


@pytest.mark.parametrize("index", [None, {}, [], "x", [3]])
def test_what_is_no_list_of_models_is_told(index: object):
    (fault,) = index_faults(index)
    assert fault.startswith("`model-index` must be a list of models")
