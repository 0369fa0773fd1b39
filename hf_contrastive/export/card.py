"""The card of an export: that of the model it was made from, with what is true of its own files."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from transformers.utils import cached_file

from hf_contrastive.export.figures import without_figures
from hf_contrastive.export.metadata import TOWERS, ExportMetadata, metadata_of
from hf_contrastive.report import front_matter
from hf_contrastive.report.card import update_card
from hf_contrastive.report.checking import PICTURE
from hf_contrastive.report.drafts import RECORD
from hf_contrastive.report.merging import replace_block, seal
from hf_contrastive.report.names import CARD


# Files beside a card that it speaks of; pictures come with them.
_BESIDE = ("metrics.json",)
_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}
# Towers whose weights have other names since version 5 of `transformers`, where they are no part of their own pair.
_RENAMED = ("clip_vision_model", "clip_text_model", "siglip_vision_model", "siglip_text_model")
_EMPTY = """\
---
{}
---
<!-- hf_contrastive: intro -->
# name

An encoder that was written by `hf-contrastive export`. How it was trained and what it can do was not told.
<!-- /hf_contrastive: intro -->

<!-- hf_contrastive: use -->
<!-- /hf_contrastive: use -->
"""


def write_card(
    folder: Path,
    written: str,
    reason: str | None,
    *,
    name: str,
    on_hub: bool,
    source: str | Path | None,
    old: str | None,
    kept: Sequence[str] | None = None,
) -> ExportMetadata:
    """
    Write `README.md` beside an export.

    Args:
        folder: Where the export is.
        written: Its format.
        reason: Why it is no plain class of `transformers`, where it was tried.
        name: What to load it by, in what is returned.
        on_hub: Whether that is a Hub id. Otherwise the card calls it `"."`, as places on a disk concern nobody.
        source: Folder or Hub id of the trained model. A card of ours that is there goes on, with its pictures.
        old: The card that was in the folder before, whose edits are kept.
        kept: The modalities that were written, where there were others, with which the run was measured.

    Returns:
        What the card says to the Hub, with lines that load `name`.
    """
    told = metadata_of(folder, name if on_hub else ".", on_hub=on_hub)
    text = _EMPTY
    if source is not None and RECORD.search(found := _read(source)):
        text = found
    front, body = front_matter.split(text)
    data = front_matter.load(front)
    if kept is not None:
        data, body = without_figures(data, body, kept)
    if source is not None:
        _copy_beside(body, source, folder, [] if kept is not None else _BESIDE)
    data["library_name"], data["pipeline_tag"] = told.library_name, told.pipeline_tag
    tags = [tag for tag in data.get("tags") or [] if tag not in TOWERS or tag in told.tags]
    data["tags"] = list(dict.fromkeys([*tags, *told.tags]))
    title = PurePosixPath(name.replace("\\", "/")).name
    for model in data.get("model-index") or []:
        model["name"] = title
    body = re.sub(r"^# .*$", lambda _: f"# {title}", body, count=1, flags=re.MULTILINE)
    body = replace_block(body, "use", _use(folder, written, told, reason, kept, on_hub=on_hub))
    update_card(folder, seal(f"---\n{front_matter.dump(data)}---\n{body}"), old=old)
    return metadata_of(folder, name, on_hub=on_hub)


def _use(
    folder: Path,
    written: str,
    told: ExportMetadata,
    reason: str | None,
    kept: Sequence[str] | None,
    *,
    on_hub: bool,
) -> str:
    lines = ["## Use it", f"The files are {_kind(folder, written)}."]
    if kept is not None:
        lines.append("What the run measured was measured with all of its towers, and is told where they are.")
    if written == "transformers" and (folder / "modules.json").exists():
        since = "" if "CLIPModel" in (folder / "modules.json").read_text(encoding="utf-8") else " 5.4 or newer"
        lines.append(
            f"`SentenceTransformer` of `sentence-transformers`{since} loads them too, for texts and pictures."
        )
    if written in ("transformers", "sentence-transformers") and _has_newer_names(folder):
        lines.append(
            "It needs `transformers` 5: version 4 gives the tower of CLIP or SigLIP new weights and only warns."
        )
    if reason is not None:
        lines.append(f"It needs `hf-contrastive` because no class of `transformers` computes the same: {reason}")
    if not on_hub:
        lines.append('`"."` is the folder of this card, a clone of the repository.')
    return "\n\n".join([*lines, f"```python\n{told.snippet}\n```"])


def _has_newer_names(folder: Path) -> bool:
    """Whether version 4 of `transformers` knows the weights of a tower under other names."""
    config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    towers = [config]
    if config["model_type"] == "vision-text-dual-encoder":
        towers = [config["vision_config"], config["text_config"]]
    return any(tower["model_type"] in _RENAMED for tower in towers)


def _kind(folder: Path, written: str) -> str:
    if written == "transformers":
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return f"a `{(config.get('architectures') or [config['model_type']])[0]}` of `transformers`"
    return {
        "sentence-transformers": "the text tower, for `SentenceTransformer`",
        "onnx": "a graph for each tower, for ONNX Runtime; the temperature that was trained, `logit_scale`, is the "
        "logarithm of its inverse, in `config.json`",
        "multi_encoder": "a `MultiEncoder` of `hf-contrastive`",
        "adapter": "an adapter, to be put on the model that it was trained on",
    }[written]


def _read(source: str | Path) -> str:
    file = _file(source, CARD)
    return "" if file is None else Path(file).read_text(encoding="utf-8")


def _copy_beside(card: str, source: str | Path, folder: Path, others: Sequence[str]) -> None:
    shown = [name for name in PICTURE.findall(card) if PurePosixPath(name).suffix.lower() in _PICTURES]
    for name in (*others, *shown):
        place = PurePosixPath(name)
        # Names come from a card, which may be anybody's.
        if "://" in name or "\\" in name or place.is_absolute() or ".." in place.parts:
            continue
        if (file := _file(source, name)) is not None:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / place)


def _file(source: str | Path, name: str) -> str | None:
    found: str | None = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    return found
