"""A new card in place of an old one that people may have edited: what is theirs stays.

What is generated stands in blocks between HTML comments, and the card's last line, a comment too, holds a hash of each
block and of each entry of the metadata as it was written. What has another hash was edited; what has none was added.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_contrastive.report import front_matter
from hf_contrastive.report.drafts import RECORD, is_draft
from hf_contrastive.report.licence import chosen_licence
from hf_contrastive.report.merging_metadata import hash_of, merge_metadata, record_of


BLOCK = re.compile(
    r"<!-- hf_contrastive: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- /hf_contrastive: (?P=name) -->", re.DOTALL
)
GONE, LICENCE = "\0", "license"


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
    removed ones stay away, and what stands between the blocks of `new` comes to it. Lists such as `tags`, and the
    results of `model-index`, are merged entry by entry. A card that was not generated here is kept whole, the blocks
    following it; the Trainer's placeholder and the template of `peft` that nobody filled in are replaced.

    Args:
        old: The card as it is, perhaps edited.
        new: What is generated now, see [`seal`].

    Raises:
        ValueError: The metadata of `old` cannot be read.
    """
    old_front, old_body = front_matter.split(old)
    new_front, new_body = front_matter.split(new)
    if is_draft(old):
        return MergedCard(new)
    record = _read_record(old_body)
    new_data, new_record = front_matter.load(new_front), _read_record(new_body)
    data, kept = merge_metadata(front_matter.load(old_front), new_data, record["metadata"])
    if LICENCE in (marks := _blocks(new_body)) and marks[LICENCE] == new_record["blocks"].get(LICENCE):
        # The section follows a licence that was chosen in the metadata.
        new_body = new_body.replace(chosen_licence(new_data), chosen_licence(data))
        new_record["blocks"][LICENCE] = _blocks(new_body)[LICENCE]
    body, kept_blocks = _merge_blocks(RECORD.sub("\n\n", old_body), RECORD.sub("\n\n", new_body), record["blocks"])
    # The record is of what was generated, so that an edit is known as one the next time too.
    text = _assemble(front_matter.dump(data, old_front), body, new_record)
    return MergedCard(text, (*kept, *kept_blocks))


def edited_sections(card: str) -> dict[str, str]:
    """The sections of a card that are not as they were generated, by name."""
    body = front_matter.split(card)[1]
    written = _read_record(body)["blocks"]
    found = {match["name"]: match["body"].strip() for match in BLOCK.finditer(body)}
    return {name: text for name, text in found.items() if written.get(name) != hash_of(text)}


def _assemble(front: str, body: str, record: Mapping[str, Any]) -> str:
    line = json.dumps(record, separators=(",", ":"), sort_keys=True)
    return f"---\n{front.rstrip()}\n---\n{RECORD.sub('', body).rstrip()}\n\n<!-- hf_contrastive record: {line} -->\n"


def _record(data: Mapping[str, Any], body: str) -> dict[str, Any]:
    return {"blocks": _blocks(body), "metadata": {key: record_of(key, value) for key, value in data.items()}}


def _blocks(body: str) -> dict[str, str]:
    return {match["name"]: hash_of(match["body"].strip()) for match in BLOCK.finditer(body)}


def _read_record(body: str) -> dict[str, Any]:
    match = RECORD.search(body)
    try:
        record = json.loads(match["json"]) if match else {}
    except ValueError:
        # Edited by hand. Then nothing is known to be unedited, and all is kept.
        record = {}
    return {part: record[part] if isinstance(record.get(part), dict) else {} for part in ("blocks", "metadata")}


def _merge_blocks(old: str, new: str, record: Mapping[str, str]) -> tuple[str, list[str]]:
    generated = {match["name"]: match for match in BLOCK.finditer(new)}
    present, kept = [], []

    def replace(match: re.Match[str]) -> str:
        name, own = match["name"], match["body"].strip()
        edited = record.get(name) != hash_of(own)
        if not edited and name not in generated:
            return GONE
        present.append(name)
        fresh = name in generated and generated[name]["body"].strip()
        if edited and own != fresh:
            kept.append(f"The section {name!r} was edited and is kept. Delete it with both comments for a new one.")
            return match[0]
        return generated[name][0] if name in generated else match[0]

    between = _between(new)
    # A section that went leaves no hole.
    body = re.sub(rf"\n*{GONE}", "", BLOCK.sub(replace, old))
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
