"""Pushes beside training: one at a time, of copies that nobody deletes, tried again at the end where they failed."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from transformers.utils import logging

from hf_contrastive.hub.contents import files_to_push
from hf_contrastive.hub.failures import brief, is_passing
from hf_contrastive.hub.repositories import Repository


logger = logging.get_logger(__name__)

UNPUSHED = "_unpushed"


@dataclass(frozen=True, kw_only=True)
class Push:
    """
    A checkpoint on its way.

    Args:
        step: Step that it is of.
        title: Title of the commit.
        folder: Its copy.
        places: Folders of the repository that it goes to, `""` for the root, each with patterns of what does not.
    """

    step: int
    title: str
    folder: Path
    places: dict[str, Sequence[str]]


class BackgroundPushes:
    """
    Checkpoints that are pushed while training goes on.

    A push that fails stops nothing. It is due until a later one has gone to the same place, and is tried again by
    [`finish`]. A due checkpoint stays on disk, in `_unpushed`, also when the run deletes its own; of files on one disk
    that takes no further space until then.

    Args:
        repository ([`Repository`]):
            Where to, opened.
        full_name (`str`):
            What `repository.open` returned.
        folder (`Path`):
            Folder of the run.
    """

    def __init__(self, repository: Repository, full_name: str, folder: Path) -> None:
        self.repository, self.full_name, self.folder = repository, full_name, folder
        self.due: dict[str, Push] = {}
        self.reasons: dict[int, str] = {}
        self._lock = Lock()
        self._left_out: list[str] = []
        self._copies: set[Path] = set()
        self._in_line: dict[Path, Future[bool]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")

    def start(
        self, checkpoint: Path, step: int, title: str, places: dict[str, Sequence[str]], *, wait_in_line: bool
    ) -> None:
        """Push a complete checkpoint, now or, if another push is running and not `wait_in_line`, at the end."""
        with self._lock:
            # The run may delete the checkpoint at any time, and an upload reads its files twice.
            copy = self.folder / UNPUSHED / checkpoint.name
            while copy in self._copies:
                copy = copy.with_name(f"{copy.name}_again")
            shutil.rmtree(copy, ignore_errors=True)
            try:
                shutil.copytree(checkpoint, copy, copy_function=_link)
            except OSError as error:
                self._left_out.append(
                    f"The checkpoint of step {step} was not pushed to {self.full_name!r}, for it could not be copied within "
                    f"{str(self.folder)!r}: {error}\nIt is complete in {str(checkpoint)!r} unless the run deletes it."
                )
                logger.warning(self._left_out[-1])
                return
            self._copies.add(copy)
            push = Push(step=step, title=title, folder=copy, places=places)
            if not self._in_line or wait_in_line:
                self._in_line[copy] = self._thread.submit(self._attempt, push)
                return
        self._settle(push, "the push before it was still running")

    def finish(self) -> list[str]:
        """Wait for all pushes, try those that are due again, and say of each that fails how to do it later."""
        wait(list(self._in_line.values()))
        for step in sorted({push.step for push in self.due.values()}):
            places = {place: push.places[place] for place, push in self.due.items() if push.step == step}
            push = replace(next(push for push in self.due.values() if push.step == step), places=places)
            if not self._attempt(push, last=True):
                # A Hub that is down is asked once and not for each checkpoint.
                break
        return self._left_out + [self._advice(place, push) for place, push in self.due.items()]

    def _attempt(self, push: Push, last: bool = False) -> bool:
        """Push; whether further pushes may work."""
        token = self.repository.secret
        try:
            files = {
                f"{place}/{name}" if place else name: path
                for place, ignored in push.places.items()
                for name, path in files_to_push(push.folder, ignored, token=token).items()
            }
            self.repository.commit(self.full_name, files, push.title)
        except Exception as error:
            reason = brief(error, token)
            if not last:
                logger.warning(
                    f"The push of step {push.step} to {self.full_name!r} failed: {reason} Training goes on, at its end it "
                    "is tried again."
                )
            self._settle(push, reason)
            return not is_passing(error)
        self._settle(push)
        return True

    def _settle(self, push: Push, reason: str | None = None) -> None:
        """Note that a push has ended, with the reason if it failed, and delete copies that nothing needs any more."""
        with self._lock:
            self._in_line.pop(push.folder, None)
            for place in push.places:
                if place in self.due and self.due[place].step > push.step:
                    continue
                self.due.pop(place, None)
                if reason is not None:
                    self.due[place] = push
                    self.reasons[push.step] = reason
            needed = {other.folder for other in self.due.values()} | set(self._in_line)
            for copy in self._copies - needed:
                shutil.rmtree(copy, ignore_errors=True)
            self._copies &= needed
            with suppress(OSError):
                # Only if nothing is in it.
                (self.folder / UNPUSHED).rmdir()

    def _advice(self, place: str, push: Push) -> str:
        what = f"the checkpoint of step {push.step}" if place else f"the model of step {push.step}"
        command = self.repository.command(push.folder, push.places[place], place or ".")
        return (
            f"{what[0].upper()}{what[1:]} was not pushed to {self.full_name!r}: {self.reasons[push.step]}\n"
            f"Nothing is lost: it is complete in {str(push.folder)!r}. Push it with\n  {command}"
        )


def _link(source: str, target: str) -> None:
    """A second name for a file, or on another file system, or one without links, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
