"""Folders that are there when they are complete, and hold no code."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


# What a model's folder has one of: nothing else is ever replaced.
_MARKS = ("config.json", "adapter_config.json", "modules.json")
# Pickles and code.
_REFUSED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"}


@contextmanager
def new_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """
    A folder to write to, which becomes `folder` at once when all is written, and goes if something fails.

    Args:
        folder: Where it is to be.
        overwrite: Whether to replace a folder that holds a model.

    Raises:
        FileExistsError: There is a file, or a folder with something in it that may not be replaced.
    """
    path = Path(folder).expanduser()
    check_folder(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        yield temporary
        if code := sorted(file.name for file in temporary.rglob("*") if file.suffix in _REFUSED):
            raise RuntimeError(f"The export holds {code}, code or pickles, and was not written.")
        _put(temporary, path, overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: Path, overwrite: bool) -> None:
    """Raise a FileExistsError for a folder that may not be written to, see [`new_folder`]."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FileExistsError(f"`folder` must be a folder or not be there, but {str(path)!r} is something else.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"`folder` {str(path)!r} is not empty. Give another, or say `overwrite`.")
    if (path / ".git").exists() or not any((path / name).exists() for name in _MARKS):
        raise FileExistsError(
            f"`folder` {str(path)!r} is no folder of a model alone, so it is not replaced. Give another."
        )


def _put(temporary: Path, path: Path, overwrite: bool) -> None:
    check_folder(path, overwrite)
    old = temporary.with_name(temporary.name + ".old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
