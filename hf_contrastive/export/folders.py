"""Folders that are there when they are complete, and hold no code."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


# What a model's folder has one of: nothing else is ever replaced.
_MARKS = ("config.json", "adapter_config.json", "modules.json")
# What is written by exports, and by `save_pretrained` of models and processors.
_WRITTEN = re.compile(
    r"[\w.-]+\.json|[\w.-]+\.safetensors|[\w.-]+\.model|chat_template\.jinja|vocab\.txt|merges\.txt|README(\.old)?\.md"
    r"|[\w.-]+\.(png|jpe?g|gif|webp|svg)|onnx|\d+_(Pooling|Dense|Normalize)|\.eval_results"
)
_PARTS = ("tokenizer", "preprocessor", "processor")
# Pickles and code.
_REFUSED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"}


@contextmanager
def new_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """
    A folder to write to, which becomes `folder` at once when all is written, and goes if something fails.

    Args:
        folder: Where it is to be.
        overwrite: Whether to replace a folder that holds a model and nothing else.

    Raises:
        FileExistsError: There is a file, or a folder with something in it that may not be replaced.
    """
    path = Path(folder).expanduser().absolute()
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
    if path.exists() and path.samefile(Path.cwd()):
        raise FileExistsError(f"`folder` {str(path)!r} is the one you are in. Give the name of a folder to be made.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"`folder` {str(path)!r} is not empty. Give another, or `overwrite` it (`--overwrite`).")
    if not any((path / name).exists() for name in _MARKS):
        raise FileExistsError(f"`folder` {str(path)!r} holds no model, so it is not replaced. Give another.")
    if others := sorted(file.name for file in path.iterdir() if not _is_written(file)):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise FileExistsError(
            f"`folder` {str(path)!r} holds other things than a model, so it is not replaced: {', '.join(others[:3])}{more}. "
            "Move them away, or give another folder."
        )


def check_apart(source: str | Path | None, folder: Path) -> None:
    """Raise a FileExistsError for a folder whose replacement would take away a source, where that is a folder."""
    model, path = Path(source or "").expanduser().resolve(), folder.expanduser().resolve()
    if source and model.is_dir() and path in (model, *model.parents):
        raise FileExistsError(f"`folder` {str(folder)!r} holds the trained model itself. Give another.")


def _is_written(file: Path) -> bool:
    # Processors of further modalities lie in folders called after them.
    holds = file.is_dir() and not file.is_symlink() and any((file / f"{x}_config.json").is_file() for x in _PARTS)
    return holds or _WRITTEN.fullmatch(file.name) is not None


def _put(temporary: Path, path: Path, overwrite: bool) -> None:
    check_folder(path, overwrite)
    old = temporary.with_name(temporary.name + ".old")
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except BaseException:
        # Also where somebody interrupts between the two.
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
