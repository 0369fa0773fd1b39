"""Files that are shared without the folders of this machine that libraries write into them."""

import json
import re
from pathlib import Path

from hf_contrastive.report import front_matter
from hf_contrastive.report.drafts import is_draft
from hf_contrastive.report.names import CARD, is_on_hub
from hf_contrastive.report.privacy import scrub


ADAPTER = "adapter_config.json"


def without_places(path: Path) -> Path | bytes:
    """
    A file as it is to be shared: itself, or what it is to hold.

    `peft` writes the folder of a base model into the configuration of an adapter and into a draft of its card. On the disk
    it stays there, for those who load the adapter with its model.

    Raises:
        ValueError: The configuration of an adapter cannot be read.
    """
    if path.name == ADAPTER:
        return _adapter(path)
    if path.name == CARD and is_draft(text := path.read_text(encoding="utf-8", errors="replace")):
        shared = _draft(text)
        return path if shared == text else shared.encode()
    return path


def _adapter(path: Path) -> Path | bytes:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: was its save interrupted?") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if base is None or is_on_hub(str(base)):
        return path
    return (json.dumps(config | {"base_model_name_or_path": None}, indent=2) + "\n").encode()


def _draft(text: str) -> str:
    front, body = front_matter.split(text)
    data = front_matter.load(front)
    if (base := data.get("base_model")) is not None and not is_on_hub(str(base)):
        del data["base_model"]
        tags = [
            tag for tag in data.get("tags") or () if not re.match(r"base_model:.*" + re.escape(str(base)), str(tag))
        ]
        data |= {"tags": tags} if "tags" in data else {}
        text = f"---\n{front_matter.dump(data)}---\n{body}"
    return scrub(text)
