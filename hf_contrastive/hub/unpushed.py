"""Checkpoints that wait for their push, on disk: copies that nobody deletes, each with a record of where it is to go.

A process that is killed leaves them there, for the run that resumes it and for `hf-contrastive push`.
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from transformers.utils import logging

from hf_contrastive.hub.contents import files_to_push
from hf_contrastive.hub.repositories import Repository


logger = logging.get_logger(__name__)

UNPUSHED = "_unpushed"
PART = ".part"
# Records are read and written by the thread that pushes, and by pushes of the finished folder.
_RECORDS = Lock()


@dataclass(frozen=True, kw_only=True)
class Push:
    """
    A checkpoint on its way.

    Args:
        step: Step that it is of.
        title: Title of the commit.
        repository: Full name of the repository.
        revision: Branch, None for `main`.
        private: Whether a new repository is private.
        places: Folders of the repository that it goes to, `""` for the root, each with patterns of what does not.
        folder: Its copy, whose record lies beside it.
    """

    step: int
    title: str
    repository: str
    revision: str | None
    private: bool | None
    places: Mapping[str, Sequence[str]]
    folder: Path

    @property
    def record(self) -> Path:
        """The file that says all this."""
        return record_of(self.folder)

    @property
    def target(self) -> Repository:
        """Where it goes, with the token that is logged in."""
        return Repository(name=self.repository, revision=self.revision, private=self.private)

    def files(self, token: str | None) -> dict[str, Path | bytes]:
        """What is to be committed, by name in the repository. Raises the errors of [`files_to_push`]."""
        return {
            f"{place}/{name}" if place else name: path
            for place, ignored in self.places.items()
            for name, path in files_to_push(self.folder, ignored, token=token).items()
        }

    def only(self, places: Collection[str]) -> "Push":
        """The same with some of its places."""
        return replace(self, places={place: ignored for place, ignored in self.places.items() if place in places})

    def goes_to(self, repository: str, revision: str | None) -> bool:
        """Whether it is to go to this branch, None for `main`."""
        return (self.repository, self.revision or "main") == (repository, revision or "main")

    def write(self) -> None:
        """Write the record, at once or not at all."""
        record = {name: value for name, value in asdict(self).items() if name != "folder"}
        part = self.record.with_name(f"{self.record.name}{PART}")
        part.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(part, self.record)


def copy_checkpoint(checkpoint: Path, folder: Path, **fields: Any) -> Push:
    """
    A push of a checkpoint's copy in a run's folder. On one disk, the copy's files are further names of the same.

    Args:
        checkpoint: The complete checkpoint.
        folder: Folder of the run.
        fields: The rest of a [`Push`].

    Raises:
        OSError: The disk has no place for it.
    """
    copy = folder / UNPUSHED / checkpoint.name
    while copy.exists() or record_of(copy).exists():
        copy = copy.with_name(f"{copy.name}_again")
    # Under its name it is complete and has a record, whenever the process is killed.
    part = copy.with_name(f"{copy.name}{PART}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(checkpoint, part, copy_function=_link)
        push = Push(folder=copy, **fields)
        push.write()
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    os.replace(part, copy)
    return push


def read_push(copy: Path) -> Push | None:
    """The push whose copy a folder is, or None if it is none.

    Raises:
        ValueError: Its record cannot be read.
    """
    record = record_of(copy)
    if copy.resolve().parent.name != UNPUSHED or not copy.is_dir() or not record.is_file():
        return None
    try:
        return Push(folder=copy, **json.loads(record.read_text(encoding="utf-8")))
    except FileNotFoundError:
        # It has just been pushed.
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{str(record)!r}, which says where a checkpoint is to go, cannot be read: {error}"
        ) from error


def current(push: Push) -> Push | None:
    """A push with those of its places that its record still names, or None if it has gone to all, whoever pushed it."""
    try:
        record = read_push(push.folder)
    except (OSError, ValueError):
        # Rather once more than never.
        return push
    left = push.only(() if record is None else record.places)
    return left if left.places else None


def read_pushes(folder: Path) -> list[Push]:
    """All pushes that wait in the folder of a run, by step. Records that cannot be read are warned of."""
    found = []
    for path in (folder / UNPUSHED).glob("*"):
        try:
            push = read_push(path)
        except ValueError as error:
            logger.warning(f"{error}\nThe copy beside it is left alone.")
            continue
        if push is not None:
            found.append(push)
    return sorted(found, key=lambda push: push.step)


def remove_parts(folder: Path) -> None:
    """Delete what a killed process has half copied. No process may be copying."""
    for path in (folder / UNPUSHED).glob("*"):
        if path.name.endswith(PART):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for record in (folder / UNPUSHED).glob("*.json"):
        if not record.with_suffix("").exists():
            record.unlink()
    remove_if_empty(folder)


def forget(copy: Path, places: Sequence[str] | None = None, *, keep_copy: bool = False) -> None:
    """Note that a push went to some places, or to all. When there are none left, its record and copy are deleted."""
    with _RECORDS:
        push = read_push(copy)
        if push is None:
            return
        left = push.only(() if places is None else push.places.keys() - set(places))
        if left.places:
            left.write()
            return
        push.record.unlink(missing_ok=True)
        if not keep_copy:
            shutil.rmtree(copy, ignore_errors=True)


def root_was_pushed(folder: Path, repository: str, revision: str | None) -> None:
    """Note that a run's folder has been pushed: models of its steps that wait for the same place are outdated."""
    for push in read_pushes(folder):
        if push.goes_to(repository, revision):
            forget(push.folder, [""])
    remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Delete the folder of copies of a run that has none."""
    with suppress(OSError):
        # Only if nothing is in it.
        (folder / UNPUSHED).rmdir()


def held_bytes(folder: Path) -> int:
    """Bytes on the disk that copies of a run hold alone, because it has deleted the checkpoints."""
    total = 0
    for path in (folder / UNPUSHED).rglob("*"):
        # Others may delete them meanwhile.
        with suppress(FileNotFoundError):
            if path.is_file() and (file := path.stat()).st_nlink == 1:
                total += file.st_size
    return total


def keep_apart(checkpoint: Path, folder: Path) -> None:
    """Before a checkpoint is saved over an old one of its step: no longer write into files that a copy has as well."""
    for copy in (folder / UNPUSHED).glob(f"{checkpoint.name}*"):
        for file in copy.rglob("*") if copy.is_dir() else ():
            twin = checkpoint / file.relative_to(copy)
            if twin.is_file() and os.path.samefile(twin, file):
                twin.unlink()


def record_of(copy: Path) -> Path:
    """Where the record of a copy is."""
    return copy.with_name(f"{copy.name}.json")


def _link(source: str, target: str) -> None:
    """A second name for a file, or on another file system, or one without links, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
