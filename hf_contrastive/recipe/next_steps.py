"""What can be done with the folder of a finished run, in command lines that can be pasted."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path


def next_steps(folder: Path, *, diagnose: Mapping[str, str | None] | None, push_to: str | None) -> str:
    """
    How to go on from a folder.

    Args:
        folder (`Path`):
            The folder.
        diagnose (`dict[str, str]`, *optional*):
            Options of `hf-contrastive diagnose` that name the data of the run. None where it would measure other rows.
        push_to (`str`, *optional*):
            Hub id to push to. None where that is done.
    """
    steps = []
    if diagnose is not None:
        line = command_line("diagnose", str(folder), **diagnose)
        steps.append(f"A page that shows what parts the modalities, and what can be done, in a minute:\n\n  {line}")
    line = command_line("export", str(folder), f"{folder}_export")
    steps.append(f"The model for people without this package, as far as others can express it:\n\n  {line}")
    if push_to is not None:
        line = command_line("push", str(folder), push_to)
        steps.append(f"The folder on the Hub, after `hf auth login`:\n\n  {line}")
    return "\n\n".join(steps)


def command_line(*words: str, **options: str | None) -> str:
    """A command line of `hf-contrastive` that can be pasted, with those options that are given."""
    # In an environment that is not activated, as that of `make train`, the program is beside its Python.
    beside = Path(sys.executable).parent / "hf-contrastive"
    found = shutil.which("hf-contrastive") is None and beside.exists()
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join([os.path.relpath(beside) if found else "hf-contrastive", *words, *given])
