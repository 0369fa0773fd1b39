"""Nothing of this machine in what is published: no tokens, no local paths and so no names of users."""

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path


TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}"
    r"|AKIA[A-Z0-9]{16})\b"
)
# User and password of an address.
LOGIN = re.compile(r"(?<=://)[^\s/?#@'\"]+@")
# An absolute path of two parts at least that no address or word leads to.
UNIX = re.compile(r"(?<![\w/.:~<-])~?/(?:[\w.@+-]+/)+[\w.@+-]*")
WINDOWS = re.compile(r"\b[A-Za-z]:\\(?:[\w.@+ -]+\\)+[\w.@+-]*")


def scrub(text: str, secrets: Iterable[str | None] = ()) -> str:
    """A text with tokens and local paths replaced by what they were.

    Args:
        text: What was generated.
        secrets: Further texts that must not appear, such as the run's own token.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "(removed)")
    text = LOGIN.sub("", text)
    for place in _own_places():
        text = re.sub(re.escape(place) + r"[\w.@+/\\-]*", "(local path)", text)
    return TOKEN.sub("(token)", WINDOWS.sub("(local path)", UNIX.sub("(local path)", text)))


def privacy_faults(text: str) -> list[str]:
    """What of this machine or of somebody's secrets stands in a text, a sentence each, without repeating secrets."""
    faults = []
    if match := TOKEN.search(text):
        line = text.count("\n", 0, match.start()) + 1
        faults.append(f"Line {line} holds what looks like a token, {match[0][:5]}... Remove it, and revoke the token.")
    faults += [f"It names {place!r}, a folder of this machine." for place in _own_places() if place in text]
    return faults


def _own_places() -> list[str]:
    """Folders that tell who and where we are, the longest first; the root and first-level folders tell nothing."""
    places = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir(), os.environ.get("HF_HOME", "")}
    return sorted((place for place in places if place.count(os.sep) > 1), key=len, reverse=True)
