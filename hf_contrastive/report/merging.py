"""A new card in place of an old one that people may have edited: what is theirs stays.

What is generated stands in blocks between HTML comments, and the card's last line, a comment too, holds a hash of each
block and of each entry of the metadata as it was written. What has another hash was edited; what has none was added.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hf_contrastive.report import front_matter


BLOCK = re.compile(
    r"<!-- hf_contrastive: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- /hf_contrastive: (?P=name) -->", re.DOTALL
)
RECORD = re.compile(r"\n*<!-- hf_contrastive record: (?P<json>\{.*\}) -->\s*\Z")
# What the Trainer writes for a card that it asks to be replaced.
PLACEHOLDER = (
    "This model card has been generated automatically according to the information the Trainer had access to."
)


@dataclass(frozen=True)
class MergedCard:
    """A card, and what of the old one was kept though it differs from what would be generated now, a sentence each."""

    text: str
    kept: tuple[str, ...] = ()


def seal(text: str) -> str:
    """A generated card with the record of its blocks and metadata at the end."""
    front, body = front_matter.split(text)
    return _assemble(front, body, _record(front_matter.load(front), body))


def replace_block(body: str, name: str, content: str) -> str:
    """A card's body with a block's content replaced, or with the block at its end where there was none."""
    block = f"<!-- hf_contrastive: {name} -->\n{content.strip()}\n<!-- /hf_contrastive: {name} -->"
    found = BLOCK.sub(lambda match: block if match["name"] == name else match[0], body)
    return found if block in found else _insert(RECORD.sub("\n", body), block, after=None)


def merge_cards(old: str, new: str) -> MergedCard:
    """
    The card `new` with what people wrote into `old`.

    Blocks and metadata that nobody edited are replaced. Edited ones, texts between blocks and added metadata are kept;
    removed ones stay away, and what stands between the blocks of `new` comes to it. Lists such as `tags`, and the results
    of `model-index`, are merged entry by entry. A card that was not generated here is kept whole, the blocks following it, and the Trainer's placeholder is replaced.

    Args:
        old: The card as it is, perhaps edited.
        new: What is generated now, see [`seal`].

    Raises:
        ValueError: The metadata of `old` cannot be read.
    """
    old_front, old_body = front_matter.split(old)
    new_front, new_body = front_matter.split(new)
    if PLACEHOLDER in old_body:
        return MergedCard(new)
    record = _read_record(old_body)
    data, kept = _merge_metadata(front_matter.load(old_front), front_matter.load(new_front), record["metadata"])
    body, kept_blocks = _merge_blocks(RECORD.sub("\n", old_body), RECORD.sub("\n", new_body), record["blocks"])
    # The record is of what was generated, so that an edit is known as one the next time too.
    text = _assemble(front_matter.dump(data, old_front), body, _read_record(new_body))
    return MergedCard(text, (*kept, *kept_blocks))


def _assemble(front: str, body: str, record: Mapping[str, Any]) -> str:
    line = json.dumps(record, separators=(",", ":"), sort_keys=True)
    return f"---\n{front.rstrip()}\n---\n{RECORD.sub('', body).rstrip()}\n\n<!-- hf_contrastive record: {line} -->\n"


def _record(data: Mapping[str, Any], body: str) -> dict[str, Any]:
    blocks = {match["name"]: _hash(match["body"].strip()) for match in BLOCK.finditer(body)}
    return {"blocks": blocks, "metadata": {key: _hash_of_entry(key, value) for key, value in data.items()}}


def _read_record(body: str) -> dict[str, Any]:
    match = RECORD.search(body)
    try:
        record = json.loads(match["json"]) if match else {}
    except ValueError:
        # Edited by hand. Then nothing is known to be unedited, and all is kept.
        record = {}
    return {part: record[part] if isinstance(record.get(part), dict) else {} for part in ("blocks", "metadata")}


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _merge_blocks(old: str, new: str, record: Mapping[str, str]) -> tuple[str, list[str]]:
    generated = {match["name"]: match for match in BLOCK.finditer(new)}
    present, kept = [], []

    def replace(match: re.Match[str]) -> str:
        name, own = match["name"], match["body"].strip()
        edited = record.get(name) != _hash(own)
        if not edited and name not in generated:
            return ""
        present.append(name)
        fresh = name in generated and generated[name]["body"].strip()
        if edited and own != fresh:
            kept.append(f"The section {name!r} was edited and is kept. Delete it with both comments for a new one.")
            return match[0]
        return generated[name][0] if name in generated else match[0]

    between = _between(new)
    # A section that went leaves no hole.
    body = re.sub(r"\n{4,}", "\n\n", BLOCK.sub(replace, old))
    before: str | None = None
    for name, match in generated.items():
        if name in present:
            before = name
        elif name in record:
            kept.append(f"The section {name!r} was removed and stays away.")
        else:
            body = _insert(body, match[0], after=before)
            before = name
        if between.get(name) and between[name] not in body:
            body = _insert(body, between[name], after=before)
    return body, kept


def _between(body: str) -> dict[str, str]:
    """What follows each block up to the next one, where it is more than space."""
    matches = list(BLOCK.finditer(body))
    ends = [match.start() for match in matches[1:]] + [len(body)]
    return {match["name"]: body[match.end() : end].strip() for match, end in zip(matches, ends, strict=True)}


def _insert(body: str, block: str, *, after: str | None) -> str:
    mark = f"<!-- /hf_contrastive: {after} -->"
    if after is None or mark not in body:
        # A card of another's making comes first.
        return f"{body.rstrip()}\n\n{block}\n"
    place = body.index(mark) + len(mark)
    return f"{body[:place]}\n\n{block}{body[place:]}"


# ---- Metadata ----

LISTS = ("tags", "datasets", "metrics", "language")


def _merge_metadata(
    old: Mapping[str, Any], new: Mapping[str, Any], record: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    merged: dict[str, Any] = {}
    kept = []
    for key, value in old.items():
        if key not in new:
            if record.get(key) != _hash_of_entry(key, value):
                merged[key] = value
            continue
        items, known = _items(key), record.get(key)
        if items is not None and _is_read_whole(key, value):
            # Where there is no record, all of it is theirs and ours comes to it.
            entries, changes = _merge_items(items(_listed(value)), items(_listed(new[key])), known or {})
            merged[key], told = _from_items(key, entries, new[key]), [f"`{key}`: {change}" for change in changes]
        elif value == new[key] or (items is None and known == _hash_of_entry(key, value)):
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


def _hash_of_entry(key: str, value: Any) -> Any:
    items = _items(key)
    if items is None:
        return _hash(value)
    return {_hash(name): _hash(item) for name, item in items(_listed(value)).items()}


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
    theirs = {name: item for name, item in old.items() if known.get(_hash(name)) != _hash(item)}
    removed = set(known) - {_hash(name) for name in old}
    changes = [f"{name} is kept as it was edited." for name in theirs if name in new and theirs[name] != new[name]] + [
        f"{name} was removed and stays away." for name in new if _hash(name) in removed
    ]
    merged = {name: theirs.get(name, item) for name, item in new.items() if _hash(name) not in removed}
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
        result = results.setdefault(_hash(item["rest"]), {**item["rest"], "metrics": []})
        result["metrics"].append(item["metric"])
    return [{"name": items.get("the name"), "results": list(results.values())}]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
