"""How a model for `sentence-transformers` was trained to be pooled, as its repository says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import cached_file, logging

from hf_contrastive.models.architectures import location


logger = logging.get_logger(__name__)

_FILE = "1_Pooling/config.json"
# Its names, those of version 6 and those before, and ours.
_KNOWN = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "lasttoken": "last"}
_OLD = "pooling_mode_"


def saved_pooling(source: Any, where: Mapping[str, Any]) -> str | None:
    """
    The pooling that was saved beside the weights of a tower, such as the class token of BGE, or None.

    Args:
        source: A Hub id or a folder; all else has none.
        where: Where to find it: `revision`, `token` and the like.
    """
    if not isinstance(source, (str, Path)):
        return None
    hub = location(where)
    if hub.pop("subfolder", ""):
        return None
    file = cached_file(str(source), _FILE, _raise_exceptions_for_missing_entries=False, **hub)
    if file is None:
        return None
    given = dict(json.loads(Path(file).read_text(encoding="utf-8")))
    modes = given.get(
        "pooling_mode", [name[len(_OLD) :] for name, on in given.items() if name.startswith(_OLD) and on]
    )
    modes = [modes] if isinstance(modes, str) else list(modes)
    found = _KNOWN.get(modes[0]) if len(modes) == 1 else None
    if found is None and modes:
        logger.warning(
            f"{str(source)!r} was trained with the pooling {' + '.join(modes)}, which is not to be had here."
        )
    return found
