"""From a request to its answer: what both look like, and how a path finds the function that answers it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import unquote

from .repos import Commit, HubError, Repo, Store


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    # Bytes of the body that are sent before the connection closes.
    sent: int | None = None


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, default=str).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


@dataclass(frozen=True)
class Call:
    """A request that found its route, the values in its path, who makes it, and the store it is about."""

    store: Store
    request: Request
    values: Mapping[str, str]
    user: str | None

    @property
    def kind(self) -> str:
        return (self.values["kind"].rstrip("/") or "models").removesuffix("s")

    @property
    def revision(self) -> str:
        return self.values.get("revision", "main")

    def json(self) -> Any:
        return json.loads(self.request.body or b"{}")

    def readable(self) -> Repo:
        return self.store.readable(self.kind, self.values["repo"], self.user)

    def writable(self) -> Repo:
        return self.store.writable(self.kind, self.values["repo"], self.user)

    def commit(self) -> Commit:
        return self.readable().at(self.revision)


Respond = Callable[[Call], Answer]
Route = tuple[re.Pattern[str], Respond]

# `{kind}` stands in the API's paths; `{kind/}` in the others, where models need no prefix.
PIECES = {
    "{kind}": "(?P<kind>models|datasets|spaces)",
    "{kind/}": "(?P<kind>datasets/|spaces/|)",
    "{repo}": "(?P<repo>[^/]+/[^/]+)",
    "{revision}": "(?P<revision>[^/]+)",
    "{path}": "(?P<path>.+)",
    "{oid}": "(?P<oid>[0-9a-f]{64})",
}


def route(line: str, respond: Respond) -> Route:
    """A line such as `GET /api/{kind}/{repo}/refs`, and who responds to it."""
    pattern = re.escape(line)
    for piece, expression in PIECES.items():
        pattern = pattern.replace(re.escape(piece), expression)
    return re.compile(pattern), respond


def respond(store: Store, routes: list[Route], request: Request) -> Answer:
    """Match before decoding: clients quote the slashes inside a revision."""
    line = f"{request.method} {request.path}"
    try:
        user = store.user(request.headers.get("Authorization"))
        for pattern, respond_to in routes:
            if found := pattern.fullmatch(line):
                return respond_to(Call(store, request, {k: unquote(v) for k, v in found.groupdict().items()}, user))
        raise HubError(404, f"The loopback Hub knows no {line}")
    except HubError as error:
        return as_json({"error": str(error)}, error.status, error.headers)
