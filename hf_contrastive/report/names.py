"""What cards, models and data are called, here and on the Hub. Loads nothing heavy."""

import getpass
import re
from pathlib import Path

from hf_contrastive.report.hub_schema import is_repo_id


CARD = "README.md"


def is_local(name: str) -> bool:
    """Whether a name is a place on this machine."""
    return name.startswith((".", "/", "~")) or bool(re.match(r"[A-Za-z]:\\", name)) or Path(name).exists()


def is_on_hub(name: str | None) -> bool:
    """Whether a name can be that of a model or dataset of the Hub."""
    return bool(name) and not is_local(str(name)) and is_repo_id(str(name))


def public_name(dataset: str) -> str:
    """What to call data in public: a place on this machine by the end of its path, and not by who owns it."""
    if not is_local(dataset):
        return dataset
    name = Path(dataset.replace("\\", "/")).name
    return "local data" if not name or name == getpass.getuser() or name == Path.home().name else name
