"""Pushes beside training: one at a time, of copies that nobody deletes, tried again at the end where they failed."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import TIMEOUT_MAX, Condition, Thread

from transformers.utils import logging

from hf_contrastive.hub.failures import Patience, brief, is_passing
from hf_contrastive.hub.notices import told_space, told_unpushed
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import (
    Push,
    copy_checkpoint,
    current,
    forget,
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
        # Whether no more will be started, and for how long what fails is tried again.
        self._at_end, self._patience = False, Patience()

    # ---- From the trainer ----

    def start(
        self, checkpoint: Path, step: int, title: str, places: dict[str, Sequence[str]], *, wait_in_line: bool
    ) -> None:
        """Push a complete checkpoint, now or, if another push is running and not `wait_in_line`, at the end."""
        # Else the folder of copies might go while one is made.
        with self._changed:
            if self._at_end:
                self._at_end, self._patience = False, Patience()
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
            self._run()

    def take_up(self) -> None:
        """Have pushes be due that an earlier process of the same run has left in its folder."""
        with self._changed:
            remove_parts(self.folder)
            for push in self._left_by_others():
                self._order.append(push.folder)
                self._settle(push, INTERRUPTED)

    def left_by_others(self) -> list[str]:
        """What waits in the folder for its push to the same place, and is none of this run's, one message each."""
        others = self._left_by_others()
        latest = {place: push for push in others for place in push.places}
        found = [push.only([place for place, x in latest.items() if x is push]) for push in others]
        return [self._message(push) for push in found if push.places]

    def finish(self, patience: Patience | None = None, *, others_wait: bool = False) -> list[str]:
        """
        Wait for all pushes, try those that are due again, and say of each that is not pushed how to do it later.

        Args:
            patience ([`Patience`], *optional*):
                Once it is over, nothing is tried again. By default it is not.
            others_wait (`bool`, *optional*, defaults to `False`):
                Whether other processes wait for this one. Then a push that is under way when patience is over goes on alone.
        """
        patience = patience or Patience()
        with self._changed:
            self._at_end = True
            self._patience.limit(patience.left)
            ended = self._has_ended(patience.left if others_wait else None)
            if ended and patience.left:
                self._patience = patience
                self._line.extend(self._still_due())
                self._run()
                ended = self._has_ended(patience.left if others_wait else None)
        return self.messages() if ended else self.stop(0.0)

    def stop(self, patience: float) -> list[str]:
        """End as soon as may be, the push that is running within `patience` seconds, and say what was not pushed."""
        with self._changed:
            self._at_end = True
            self._patience.end()
            self._put_off("the run ended before it was pushed.")
            # Who interrupts for the second time does not want to wait.
            with suppress(KeyboardInterrupt):
                self._has_ended(patience)
            if self._running is not None:
                self.reasons[self._running.folder] = "its push was still running when training ended."
        return self.messages()

    def messages(self) -> list[str]:
        """What has not been pushed, and how to do it, one message each."""
        with self._changed:
            waiting = {push.folder: push for push in self._still_due()}
            running = None if self._patience.left else self._running
            if running and (push := current(running.only(running.places.keys() - self.due.keys()))):
                waiting[push.folder] = push
            return self._left_out + [self._message(waiting[folder]) for folder in self._order if folder in waiting]

    def _message(self, push: Push) -> str:
        return told_unpushed(push, self.reasons.get(push.folder, INTERRUPTED))

    # ---- In the thread ----

    def _work(self) -> None:
        while (push := self._running) is not None:
            reason, may_go_on = self._attempt(push)
            with self._changed:
                self._settle(push, reason)
                if reason is not None and not self._at_end:
                    logger.warning(
                        f"The push of step {push.step} to {self.full_name!r} failed: {reason} Training goes on, at its end "
                        f"it is tried again. {told_space(self.folder)}"
                    )
                # A Hub that is down is asked once and not for each checkpoint.
                if not may_go_on:
                    self._put_off(f"the push before it failed, {reason}")
                if push in self._line:
                    self._line.remove(push)
                self._running = self._line[0] if self._line else None
                self._changed.notify_all()

    def _attempt(self, push: Push) -> tuple[str | None, bool]:
        """Push; why it failed, if it did, and whether further pushes may work."""
        token = self.repository.secret

        def contents(_: str) -> dict[str, Path | bytes]:
            # Where a later push has gone since this one began, this one no longer goes.
            wanted = current(push)
            return {} if wanted is None else wanted.files(token)

        try:
            if current(push) is not None:
                self.repository.commit(self.full_name, contents, push.title, patience=self._patience)
        except Exception as error:
            return brief(error, token), not is_passing(error)
        return None, True

    # ---- Holding the lock ----

    def _run(self) -> None:
        """Begin with the line, unless that is going on."""
        if self._running is None and self._line:
            self._running = self._line[0]
            # A process that ends does not wait for it, as `stop` has done so.
            Thread(target=self._work, name="push", daemon=True).start()

    def _has_ended(self, seconds: float | None) -> bool:
        """Whether all that has begun ends within so many seconds, or None for however long it takes."""
        longest = None if seconds is None else min(seconds, TIMEOUT_MAX)
        return self._changed.wait_for(lambda: self._running is None, timeout=longest)

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
        latest = {push.folder: push for push in self.due.values()}
        mine = [
            latest[folder].only([place for place, push in self.due.items() if push.folder == folder])
            for folder in self._order
            if folder in latest
        ]
        return [wanted for push in mine if (wanted := current(push))]

    def _left_by_others(self) -> list[Push]:
        found = [push for push in read_pushes(self.folder) if push.folder not in self._order]
        return [push for push in found if push.goes_to(self.full_name, self.repository.revision)]
