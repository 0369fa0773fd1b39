"""Failures of the Hub: which of them pass, how long to wait for that, and what may be told of them."""

import math
import re
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from transformers.utils import logging

from hf_contrastive.report.privacy import LOGIN


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)

T = TypeVar("T")

# Seconds to wait before each further attempt, where the Hub does not say how long.
DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_DELAY = 300.0
# Busy, out of order, or, 412, another commit came first.
PASSING = frozenset({408, 412, 425, 429, 500, 502, 503, 504})
ADVICE = {
    401: "The Hub does not know the token: log in with `hf auth login`, or set HF_TOKEN.",
    402: "The account has no storage left for this.",
    403: "The token must have the right to write to this repository, and the account storage left for it.",
    413: "The Hub takes no files of this size.",
    507: "The account has no storage left for this.",
}


class PushError(RuntimeError):
    """Something could not be shared. It is complete on disk; the message says where, and how to share it later."""


class Patience:
    """
    For how long failures are tried again, over all requests that share it.

    Args:
        seconds (`float`, *optional*):
            From now. By default for ever, that is as often as [`retrying`] tries.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._end, self._over = time.monotonic() + seconds, Event()

    @classmethod
    def of(cls, args: "ContrastiveTrainingArguments") -> "Patience":
        """That of a run: a third of `ddp_timeout`, for which its processes wait for each other."""
        return cls(args.ddp_timeout / 3)

    @property
    def left(self) -> float:
        """Seconds, 0 once it is over."""
        return 0.0 if self._over.is_set() else max(0.0, self._end - time.monotonic())

    def limit(self, seconds: float) -> None:
        """Have it be over in so many seconds, if not before."""
        self._end = min(self._end, time.monotonic() + seconds)

    def end(self) -> None:
        """Have it be over, whoever is waiting for another attempt."""
        self._over.set()

    def wait(self, seconds: float) -> bool:
        """Wait, unless it ends before; whether it has not."""
        return seconds < self.left and not self._over.wait(seconds)


def retrying(attempt: Callable[[bool], T], patience: Patience | None = None, *, token: str | None = None) -> T:
    """
    Try until it works or fails for good, waiting longer each time.

    Args:
        attempt (`Callable[[bool], T]`):
            What to do. It is told whether an attempt before may have been carried out, its answer lost.
        patience ([`Patience`], *optional*):
            Once it is over, or where the next attempt would come after that, failures are raised at once.
        token (`str`, *optional*):
            Token that is not to be shown, whatever the Hub says.

    Returns:
        `T`: What the attempt that worked returned.
    """
    for number, delay in enumerate((*DELAYS, None)):
        try:
            return attempt(number > 0)
        except Exception as error:
            if delay is None or not is_passing(error):
                raise
            seconds = _asked_delay(error) or delay
            if patience is not None and patience.left <= seconds:
                raise
            logger.warning(f"The Hub failed ({brief(error, token)}), trying again in {seconds:g} s.")
            if patience is None:
                time.sleep(seconds)
            elif not patience.wait(seconds):
                raise
    raise AssertionError("The last attempt returns or raises.")


def is_passing(error: BaseException) -> bool:
    """Whether the same request may work a little later."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    for cause in _causes(error):
        if (status := _status(cause)) is not None:
            return status in PASSING
        if isinstance(cause, OfflineModeIsEnabled):
            return False
        # By name: releases of `huggingface_hub` differ in which package it is from.
        names = {kind.__name__ for kind in type(cause).__mro__}
        if "TransportError" in names or isinstance(cause, ConnectionError | TimeoutError):
            return True
    return False


def brief(error: BaseException, token: str | None = None) -> str:
    """A failure in words that may be shown to everyone: no token, no signed addresses."""
    status = next((s for cause in _causes(error) if (s := _status(cause)) is not None), None)
    text = ""
    # A cause adds its words, such as the status beneath "Error while uploading", unless they have been said.
    for cause in list(_causes(error))[:2]:
        words = " ".join(str(cause).split())
        if not text or words not in text:
            text += f"{'; ' * bool(text)}{type(cause).__name__}: {words}"
    advice = f" {ADVICE[status]}" if status in ADVICE else ""
    return without_secrets(text, token) + advice


def without_secrets(text: str, token: str | None = None) -> str:
    """A text without a token, or anything that looks like one, and without the signatures of addresses."""
    if token:
        text = text.replace(token, "hf_***")
    text = re.sub(r"(hf|api_org)_[A-Za-z0-9]{20,}", r"\1_***", text)
    text = LOGIN.sub("***@", text)
    return re.sub(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]+", r"\1?***", text)


def shown(error: BaseException, token: str | None) -> BaseException | None:
    """A failure to be the cause of another, or None if a traceback would print a secret with it."""
    seen: dict[int, BaseException] = {}
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen[id(link)] = link
        chain += [link.__cause__, link.__context__]
    texts = [f"{link} {link.args} {getattr(link, '__notes__', '')}" for link in seen.values()]
    return None if any(without_secrets(text, token) != text for text in texts) else error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _asked_delay(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, at most `LONGEST_DELAY`."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", None) or {}
        after = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", ""))
        reset = re.search(r";\s*r=0\s*;\s*t=(\d+)", headers.get("RateLimit", ""))
        if found := after or reset:
            return min(float(found[1]), LONGEST_DELAY)
    return None
