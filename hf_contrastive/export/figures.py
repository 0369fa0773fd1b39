"""The card of a run without what is true of all its towers together, for an export of some of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_contrastive.report.checking import PICTURE
from hf_contrastive.report.merging import BLOCK, replace_block


_HEADLINE = re.compile(r"\*\*.+\*\* \[The table\]\(#what-was-measured\) has more.*")
# Limits of figures.
_OF_FIGURES = ("Measured on ", "R@1 has ", "In R@1 ", "One run with ", "A gap of ", "The centers of ")
# Limits of the inputs of one tower.
_OF_TOWER = re.compile(r"(?:Values|Images) of `(?P<modality>\w+)` are ")


def without_figures(data: Mapping[str, Any], body: str, kept: Sequence[str]) -> tuple[dict[str, Any], str]:
    """
    Metadata and body of a card without measures, plots and limits that concern other towers.

    Args:
        data: The metadata.
        body: The rest.
        kept: The modalities whose towers are there.
    """
    found = {name: value for name, value in data.items() if name not in ("model-index", "metrics")}
    blocks = {match["name"]: match["body"] for match in BLOCK.finditer(body)}
    body = BLOCK.sub(lambda match: "" if match["name"] == "results" else match[0], body)
    if (intro := blocks.get("intro")) is not None:
        figures = (PICTURE, _HEADLINE)
        lines = [line for line in intro.splitlines() if not any(x.fullmatch(line.strip()) for x in figures)]
        towers = " and ".join(f"`{name}`" for name in kept)
        text = f"Of these, only {towers} {'is' if len(kept) == 1 else 'are'} here."
        body = replace_block(body, "intro", "\n".join([*lines, "", text]))
    if (limits := blocks.get("limits")) is not None:
        lines = [line for line in limits.splitlines() if _concerns(line.removeprefix("- "), kept)]
        body = replace_block(body, "limits", "\n".join(lines))
    return found, body


def _concerns(limit: str, kept: Sequence[str]) -> bool:
    tower = _OF_TOWER.match(limit)
    return not limit.startswith(_OF_FIGURES) and (tower is None or tower["modality"] in kept)
