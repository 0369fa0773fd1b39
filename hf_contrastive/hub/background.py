"""Pushes beside training: one at a time, of copies that nobody deletes, tried again at the end where they failed."""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Condition, Event, Thread

from transformers.utils import logging

from hf_contrastive.hub.failures import brief, is_passing
from hf_contrastive.hub.lines import push_line
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import (
    UNPUSHED,
    Push,
    copy_checkpoint,
    forget,
    held_bytes,
    read_push,
    read_pushes,
    remove_if_empty,
    remove_parts,
)


logger = logging.get_logger(__name__)

INTERRUPTED = "the process that was to push it ended before that."


class BackgroundPushes:
    """
    Checkpoints that are pushed while training goes on.

    A push that fails stops nothing. It is due until a later one has gone to the same place, and is tried again by
    [`finish`]. What is due stays on disk, in `_unpushed`, also when the run deletes its own checkpoints or is killed; of
    files on one disk that takes no further space until then.

    Args:
        repository ([`Repository`]):
            Where to, opened.
        full_name (`str`):
            What `repository.open` returned.
        folder (`Path`):
            Folder of the run.
    """

    def __init__(self, repository: Repository, full_name: str, folder: Path) -> None:
        self.repository, self.full_name, self.folder = repository, full_name, folder.absolute()
        # By place, the latest push that has not got there. Those that were started later stand for those before.
        self.due: dict[str, Push] = {}
        self.reasons: dict[Path, str] = {}
        self._left_out: list[str] = []
        self._order: list[Path] = []
        self._line: deque[Push] = deque()
        self._running: Push | None = None
        self._changed = Condition()
        self._stopped = Event()

    # ---- From the trainer ----

    def start(
        self, checkpoint: Path, step: int, title: str, places: dict[str, Sequence[str]], *, wait_in_line: bool
    ) -> None:
        """Push a complete checkpoint, now or, if another push is running and not `wait_in_line`, at the end."""
        self._stopped.clear()
        # Else the folder of copies might go while one is made.
        with self._changed:
            try:
                push = copy_checkpoint(
                    checkpoint,
                    self.folder,
                    step=step,
                    title=title,
                    places=places,
                    repository=self.full_name,
                    revision=self.repository.revision,
                    private=self.repository.private,
                )
            except OSError as error:
                self._left_out.append(
                    f"The checkpoint of step {step} was not pushed to {self.full_name!r}, for it could not be copied "
                    f"within {str(self.folder)!r}: {error}\nIt is complete in {str(checkpoint)!r} unless the run deletes it."
                )
                logger.warning(self._left_out[-1])
                return
            self._order.append(push.folder)
            if self._running is not None and not wait_in_line:
                self._settle(push, "the push before it was still running.")
                return
            self._line.append(push)
            if self._running is None:
                self._running = self._line[0]
                # A process that ends does not wait for it, as `stop` has done so.
                Thread(target=self._work, name="push", daemon=True).start()

    def take_up(self) -> None:
        """Have pushes be due that an earlier process of the same run has left in its folder."""
        remove_parts(self.folder)
        with self._changed:
            for push in self._left_by_others():
                self._order.append(push.folder)
                self._settle(push, INTERRUPTED)

    def left_by_others(self) -> list[str]:
        """What waits in the folder for its push to the same place, and is none of this run's, one message each."""
        latest = {place: push for push in self._left_by_others() for place in push.places}
        return [self._message(push, [p for p in push.places if latest[p] is push]) for push in _once(latest.values())]

    def finish(self) -> list[str]:
        """Wait for all pushes, try those that are due again, and say of each that fails how to do it later."""
        with self._changed:
            self._changed.wait_for(lambda: self._running is None)
        # A Hub that is down is asked once and not for each checkpoint.
        for push in self._still_due():
            if not self._attempt(push, last=True):
                break
        return self.messages()

    def stop(self, patience: float) -> list[str]:
        """End as soon as may be, the push that is running within `patience` seconds, and say what was not pushed."""
        self._stopped.set()
        with self._changed:
            self._put_off("the run ended before it was pushed.")
            # Who interrupts for the second time does not want to wait.
            with suppress(KeyboardInterrupt):
                self._changed.wait_for(lambda: self._running is None, timeout=patience)
            if self._running is not None:
                self.reasons[self._running.folder] = "its push was still running when the run ended."
        return self.messages()

    def messages(self) -> list[str]:
        """What has not been pushed, and how to do it, one message each."""
        with self._changed:
            waiting = {push.folder: list(push.places) for push in self._still_due()}
            if self._running is not None and self._stopped.is_set():
                waiting[self._running.folder] = [place for place in self._running.places if place not in self.due]
            pushes = [
                push for folder in self._order if waiting.get(folder) and (push := read_push(folder)) is not None
            ]
            return self._left_out + [self._message(push, waiting[push.folder]) for push in pushes]

    def _message(self, push: Push, places: Collection[str]) -> str:
        parts = ["the model"] * ("" in places) + ["the checkpoint"] * any(places)
        what = " and ".join(parts).capitalize()
        return (
            f"{what} of step {push.step} {'were' if len(parts) > 1 else 'was'} not pushed to {push.repository!r}: "
            f"{self.reasons.get(push.folder, INTERRUPTED)}\n"
            f"Nothing is lost: all is complete in {str(push.folder)!r}. A run that is resumed pushes it at its end; now, "
            f"this does:\n  {push_line(push.folder)}"
        )

    # ---- In the thread ----

    def _work(self) -> None:
        while (push := self._running) is not None:
            may_go_on = self._attempt(push)
            with self._changed:
                if not may_go_on:
                    self._put_off(f"the push before it failed, {self.reasons[push.folder]}")
                if push in self._line:
                    self._line.remove(push)
                self._running = self._line[0] if self._line else None
                self._changed.notify_all()

    def _attempt(self, push: Push, last: bool = False) -> bool:
        """Push; whether further pushes may work."""
        token = self.repository.secret
        try:
            self.repository.commit(
                self.full_name, push.files(token), push.title, stopped=None if last else self._stopped
            )
        except Exception as error:
            reason = brief(error, token)
            with self._changed:
                self._settle(push, reason)
            if not last:
                logger.warning(
                    f"The push of step {push.step} to {self.full_name!r} failed: {reason} Training goes on, at its end it "
                    f"is tried again. What waits for that in {UNPUSHED!r} takes {held_bytes(self.folder) / 1e6:,.1f} MB."
                )
            return not is_passing(error)
        with self._changed:
            self._settle(push)
        return True

    # ---- Holding the lock ----

    def _settle(self, push: Push, reason: str | None = None) -> None:
        """Note that a push has ended, with the reason if it failed, and delete copies that nothing needs any more."""
        if reason is not None:
            self.reasons[push.folder] = reason
        for place in push.places:
            other = self.due.get(place)
            if other is not None and self._order.index(other.folder) > self._order.index(push.folder):
                self._forget(push, place)
                continue
            if other is not None and other.folder != push.folder:
                self._forget(other, place)
            self.due.pop(place, None)
            if reason is None:
                self._forget(push, place)
            else:
                self.due[place] = push
        remove_if_empty(self.folder)

    def _forget(self, push: Push, place: str) -> None:
        try:
            forget(push.folder, [place])
        except (OSError, ValueError) as error:
            # Training goes on, and whoever waits for the push must be told of its end.
            logger.warning(f"{str(push.folder)!r} could not be changed: {error}")

    def _put_off(self, reason: str) -> None:
        """Have all pushes be due that have not begun."""
        while len(self._line) > 1:
            self._settle(self._line.pop(), reason)

    def _still_due(self) -> list[Push]:
        """What is due, in order, each with the places that it has not got to, whoever has pushed it meanwhile."""
        found = {push.folder: read_push(push.folder) for push in self.due.values()}
        left = {
            folder: {place: push.places[place] for place in push.places if self._is_due(place, folder)}
            for folder, push in found.items()
            if push is not None
        }
        return [
            replace(push, places=left[folder])
            for folder in self._order
            if left.get(folder) and (push := found[folder]) is not None
        ]

    def _is_due(self, place: str, folder: Path) -> bool:
        return place in self.due and self.due[place].folder == folder

    def _left_by_others(self) -> list[Push]:
        mine = (self.full_name, self.repository.revision)
        found = [push for push in read_pushes(self.folder) if (push.repository, push.revision) == mine]
        return [push for push in found if push.folder not in self._order]


def _once(pushes: Iterable[Push]) -> list[Push]:
    return list({push.folder: push for push in pushes}.values())
