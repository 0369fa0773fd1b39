"""The metadata at the top of a card: read strictly, rewritten only where it changed."""

import re
from collections.abc import Mapping
from typing import Any

import yaml


BLOCK = re.compile(r"\A\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
# A line that begins a key of the top level: neither part of a list, nor a comment, nor deeper.
KEY = re.compile(r"^(?=[^\s#-])", re.MULTILINE)


class _StrictLoader(yaml.SafeLoader):
    """Reads YAML as usual, but refuses a key that stands twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ValueError(
                    f"The key {key!r} stands twice, the second time in line {key_node.start_mark.line + 1}."
                )
            seen.append(key)
        return super().construct_mapping(node, deep)


def decode(data: bytes) -> str:
    """
    A card's text, without the mark that some editors put before it.

    Raises:
        ValueError: It is not in UTF-8, which the Hub reads.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"It is not in UTF-8: line {line} holds the byte {data[error.start]:#04x}.") from error


def split(text: str) -> tuple[str, str]:
    """The YAML of a card, without its dashes and empty if there is none, and the rest of the card."""
    text = text.replace("\r\n", "\n")
    match = BLOCK.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def load(front: str) -> dict[str, Any]:
    """
    The metadata that a card's YAML holds.

    Raises:
        ValueError: It is no YAML, no mapping, or has a key twice; the message says where.
    """
    try:
        data = yaml.load(front, _StrictLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"The metadata is not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"The metadata must be `name: value` lines, but is a {type(data).__name__}.")
    return data


def dump(data: Mapping[str, Any], old_front: str = "") -> str:
    """Metadata as YAML. Keys whose value stands in `old_front` already keep their lines there, comments included."""
    old = load(old_front)
    starts = [match.start() for match in KEY.finditer(old_front)]
    lines = [old_front[a:b] for a, b in zip(starts, [*starts, len(old_front)][1:], strict=True)]
    written = {key: chunk for chunk in lines for key in _keys_alone(chunk)}
    head = old_front[: starts[0]] if starts else old_front
    chunks = [
        written[key]
        if key in written and old[key] == value
        else yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True)
        for key, value in data.items()
    ]
    return head + "".join(chunk if chunk.endswith("\n") else chunk + "\n" for chunk in chunks)


def _keys_alone(chunk: str) -> list[Any]:
    """The key of lines that say one thing by themselves; none of those that need others, such as an alias."""
    try:
        found = list(load(chunk))
    except ValueError:
        return []
    return found if len(found) == 1 else []
