"""Command lines of this package that can be pasted."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from hf_contrastive.hub.repositories import Repository


def push_line(folder: Path, repository: "Repository | None" = None) -> str:
    """
    The command line that pushes a folder, from wherever it is typed. It holds no token.

    Args:
        folder (`Path`):
            A finished folder, or a copy of a checkpoint that waits for its push.
        repository ([`Repository`], *optional*):
            Where to. By default as the record of the copy says.
    """
    words = [*program(), "push", str(folder.absolute())]
    if repository is not None:
        words.append(repository.name)
        words += ["--revision", repository.revision] if repository.revision else []
        words += ["--private"] if repository.private else []
    return shlex.join(words)


def program() -> list[str]:
    """How `hf-contrastive` is called here: by its name, or where the shell does not find that, by Python."""
    return ["hf-contrastive"] if shutil.which("hf-contrastive") else [sys.executable, "-m", "hf_contrastive"]
