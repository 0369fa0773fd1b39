"""Metadata of a new card with what people changed in that of the old one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any


LISTS = ("tags", "datasets", "metrics", "language")


def hash_of(value: Any) -> str:
    """A short name for what a text, or anything that JSON can hold, says."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def merge_metadata(
    old: Mapping[str, Any], new: Mapping[str, Any], record: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """
    The metadata `new` with what people changed in `old`, and a sentence for each change that is kept against it.

    Args:
        old: Metadata of the card as it is.
        new: Metadata that was generated now.
        record: By key, [`record_of`] what was generated for `old`.
    """
    merged: dict[str, Any] = {}
    kept = []
    for key, value in old.items():
        if key not in new:
            if record.get(key) != record_of(key, value):
                merged[key] = value
            continue
        items, known = _items(key), record.get(key)
        if items is not None and _is_read_whole(key, value):
            # Where there is no record, all of it is theirs and ours comes to it.
            entries, changes = _merge_items(items(_listed(value)), items(_listed(new[key])), known or {})
            merged[key], told = _from_items(key, entries, new[key]), [f"`{key}`: {change}" for change in changes]
        elif value == new[key] or (items is None and known == record_of(key, value)):
            merged[key], told = new[key], []
        else:
            merged[key], told = value, [f"`{key}` is kept as {_short(value)}, not {_short(new[key])}."]
        kept += told
    for key, value in new.items():
        if key not in old and key in record:
            kept.append(f"`{key}` was removed and stays away.")
        elif key not in old:
            merged[key] = value
    return merged, kept


def record_of(key: str, value: Any) -> Any:
    """What a card remembers of an entry as it was generated: its hash, or that of each item of a list."""
    items = _items(key)
    if items is None:
        return hash_of(value)
    return {hash_of(name): hash_of(item) for name, item in items(_listed(value)).items()}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_read_whole(key: str, value: Any) -> bool:
    """Whether entries say all that a value holds: a `model-index` may have been edited into something else."""
    items = _items(key)
    return items is not None and _from_items(key, items(_listed(value)), value) == value


def _items(key: str) -> Callable[[list[Any]], dict[str, Any]] | None:
    if key in LISTS:
        return lambda values: {str(value): value for value in values}
    return _index_items if key == "model-index" else None


def _merge_items(
    old: dict[str, Any], new: dict[str, Any], known: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Entries of a list by name: new ones in place of those that are known, and what people added or changed."""
    theirs = {name: item for name, item in old.items() if known.get(hash_of(name)) != hash_of(item)}
    removed = set(known) - {hash_of(name) for name in old}
    changes = [f"{name} is kept as it was edited." for name in theirs if name in new and theirs[name] != new[name]] + [
        f"{name} was removed and stays away." for name in new if hash_of(name) in removed
    ]
    merged = {name: theirs.get(name, item) for name, item in new.items() if hash_of(name) not in removed}
    return merged | theirs, changes


def _index_items(index: Iterable[Any]) -> dict[str, Any]:
    """Each measure of a `model-index` by what it measures on what, with all that leads to it."""
    found: dict[str, Any] = {}
    for model in index:
        results = model.get("results") if isinstance(model, Mapping) else None
        found["the name"] = model.get("name") if isinstance(model, Mapping) else None
        for result in results if isinstance(results, list) else []:
            if not isinstance(result, Mapping) or not isinstance(result.get("metrics"), list):
                continue
            rest = {key: value for key, value in result.items() if key != "metrics"}
            where = rest["dataset"].get("name") if isinstance(rest.get("dataset"), Mapping) else None
            for metric in result["metrics"]:
                named = metric.get("name") or metric.get("type") if isinstance(metric, Mapping) else metric
                found[f"{named} on {where}"] = {"rest": rest, "metric": metric}
    return found


def _from_items(key: str, items: Mapping[str, Any], new: Any) -> Any:
    if key != "model-index":
        values = list(items.values())
        return values if isinstance(new, list) or len(values) != 1 else values[0]
    results: dict[str, Any] = {}
    for name, item in items.items():
        if name == "the name":
            continue
        result = results.setdefault(hash_of(item["rest"]), {**item["rest"], "metrics": []})
        result["metrics"].append(item["metric"])
    return [{"name": items.get("the name"), "results": list(results.values())}]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
