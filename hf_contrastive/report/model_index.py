"""The results in a card's metadata: `model-index`, checked as the Hub reads it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any


def is_text(value: object) -> bool:
    """Whether a value is a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def index_faults(index: object) -> Iterator[str]:
    """What the Hub would refuse or misread in a `model-index`, a sentence for each fault."""
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    if not isinstance(index, list) or not all(isinstance(model, Mapping) for model in index) or not index:
        yield f"`model-index` must be a list of models with `name` and `results`, but is {index!r}."
        return
    before = None
    for number, model in enumerate(index):
        where = f"model-index[{number}]"
        if not is_text(model.get("name")):
            yield f"`{where}.name` is {model.get('name')!r}, but must be the model's name."
        results = model.get("results")
        if not isinstance(results, list) or not results:
            yield f"`{where}.results` is {results!r}, but must be a list of results."
            continue
        for position, result in enumerate(results):
            before = list(_result_faults(result, f"{where}.results[{position}]"))
            yield from before
            if before:
                return
    if len(index) == 1 and before == []:
        name, results = model_index_to_eval_results(index)
        if _as_plain(eval_results_to_model_index(name, results)) != _as_plain(index):
            yield (
                "`model-index` holds fields that are none of a result's: results have `task`, `dataset`, `metrics` and "
                "`source`, and each pair of task and dataset stands once."
            )


def _result_faults(result: object, where: str) -> Iterator[str]:
    if not isinstance(result, Mapping):
        yield f"`{where}` must have `task`, `dataset` and `metrics`, but is {result!r}."
        return
    required = (("task", "type"), ("dataset", "type"), ("dataset", "name"))
    optional = (("task", "name"), ("dataset", "config"), ("dataset", "split"), ("dataset", "revision"))
    for part, key in (*required, *optional):
        inside = result.get(part)
        value = inside.get(key) if isinstance(inside, Mapping) else None
        if not is_text(value) and ((part, key) in required or value is not None):
            yield f"`{where}.{part}.{key}` is {value!r}, but must be a text."
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        yield f"`{where}.metrics` is {metrics!r}, but must be a list of metrics."
        return
    for number, metric in enumerate(metrics):
        inside = metric if isinstance(metric, Mapping) else {}
        if not is_text(inside.get("type")):
            yield f"`{where}.metrics[{number}].type` is {inside.get('type')!r}, but must be the name of a metric."
        value = inside.get("value")
        if not (isinstance(value, (int, float, str)) and not isinstance(value, bool)) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            yield f"`{where}.metrics[{number}].value` is {value!r}, but must be a finite number or a text."


def _as_plain(index: Any) -> Any:
    """Results in one order, without keys that hold nothing."""
    if isinstance(index, Mapping):
        return {key: _as_plain(value) for key, value in sorted(index.items()) if value is not None}
    return sorted(map(_as_plain, index), key=repr) if isinstance(index, list) else index
