"""The loopback Hub: it serves its repositories over HTTP, fails on demand, and runs real clients against itself."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .calls import Answer, Request, respond
from .reading import READING
from .repos import File, Store, belongs_in_lfs
from .writing import WRITING


TOKEN = "hf_test_token"
USER = "tester"
# What the shell that runs the tests may hold: tokens, offline switches, cache folders, other endpoints.
SETTINGS_OF_CLIENTS = re.compile("HF_.*|HUGGING_?FACE.*|TRANSFORMERS_.*|.*_OFFLINE", re.IGNORECASE)


@dataclass
class Fault:
    """Requests to be failed: answered with `status`, or with a closed connection where there is none.

    Of an answer that is carried out, `after` bytes of the body leave before the connection closes, and it starts
    `seconds` late.
    """

    method: str | None
    path_substring: str
    times: int
    status: int | None = None
    is_carried_out: bool = False
    message: str = "Injected fault"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int | None = None
    seconds: float = 0.0

    def meets(self, method: str, path: str) -> bool:
        return self.method in (None, method) and f"{self.path_substring}/" in f"{path}/"


class LoopbackHub:
    """A Hub on 127.0.0.1 with one user, `tester`, for as long as the context lasts.

    Add tokens of further users to `tokens`. As on the real Hub, a new repository holds a `.gitattributes`.
    """

    def __init__(self) -> None:
        self.tokens = {TOKEN: USER}
        self.requests: list[tuple[str, str]] = []
        # What clients asked for that had a part of a file already.
        self.ranges: list[str] = []
        self.faults: list[Fault] = []
        self._lock = Lock()
        self._server = _Server(self)
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._store = Store(self.endpoint, f"http://localhost:{port}", self.tokens)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "LoopbackHub":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop()
        self._thread.join()

    def fail(
        self,
        method: str,
        path_substring: str,
        status: int = 500,
        times: int = 1,
        message: str = "Injected fault",
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> None:
        """Answer the next `times` such requests with `status`, words, headers and JSON of the test, and do nothing."""
        content = b"" if body is None else json.dumps(body).encode()
        self.faults.append(
            Fault(method, path_substring, times, status, message=message, headers=headers or {}, body=content)
        )

    def cut(self, method: str, path_substring: str, times: int = 1) -> None:
        """Close the connection of the next `times` such requests without an answer, and do nothing."""
        self.faults.append(Fault(method, path_substring, times))

    def cut_body(self, path_substring: str, after: int, times: int = 1) -> None:
        """Send the first `after` bytes of the next `times` such files, then close the connection."""
        self.faults.append(Fault("GET", path_substring, times, is_carried_out=True, after=after))

    def delay(self, method: str, path_substring: str, seconds: float, times: int = 1) -> None:
        """Answer the next `times` such requests late; others are answered meanwhile."""
        self.faults.append(Fault(method, path_substring, times, is_carried_out=True, seconds=seconds))

    def lose_answer(self, path_substring: str, times: int = 1) -> None:
        """Do what the next `times` such requests ask, then close the connection without an answer."""
        self.faults.append(Fault(None, path_substring, times, is_carried_out=True))

    def publish(
        self, repo_id: str, files: Mapping[str, bytes], repo_type: str = "model", private: bool = False
    ) -> None:
        """Make a repository without a client, or add a commit to it."""
        with self._lock:
            repo = self._store.repos.get((repo_type, repo_id)) or self._store.create(repo_type, repo_id, private)
            new = {path: File(data, belongs_in_lfs(path, len(data), data[:512])) for path, data in files.items()}
            self._store.large_files |= {file.sha256: file.data for file in new.values() if file.is_lfs}
            repo.commit("main", {**repo.at("main").files, **new}, "publish", author=repo_id.split("/")[0])

    def files(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> dict[str, bytes]:
        """What a clone would hold: the contents by path, large files included."""
        with self._lock:
            files = self._store.repos[repo_type, repo_id].at(revision).files
            return {path: file.data for path, file in files.items()}

    def commits(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> list[str]:
        """The titles of the commits, newest first."""
        with self._lock:
            return [commit.title for commit in self._store.repos[repo_type, repo_id].history(revision)]

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The whole environment of a client process that knows this Hub, `token` and nothing stored outside of `home`.

        It must be there before a client is imported. Xet has no double here, hence it is off.
        """
        kept = {name: value for name, value in os.environ.items() if not SETTINGS_OF_CLIENTS.fullmatch(name)}
        loopback = {"HF_ENDPOINT": self.endpoint, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        places = {"HF_HOME": str(home), "HF_TOKEN_PATH": str(home / "token")}
        quiet = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
        credentials = {} if token is None else {"HF_TOKEN": token}
        return kept | loopback | places | dict.fromkeys(quiet, "1") | credentials

    def run(
        self, code_or_argv: str | Sequence[str], home: Path, token: str | None = TOKEN, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run code, or this Python with the arguments given (`["train.py", "--push"]`), as a client of this Hub.

        Raises a `subprocess.TimeoutExpired` after `timeout` seconds; look at the return code yourself.
        """
        arguments = ["-c", code_or_argv] if isinstance(code_or_argv, str) else code_or_argv
        command, environment = [sys.executable, *arguments], self.environment(home, token)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def shell(self, line: str, home: Path, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        """Run a line as it was printed, from a folder of its own, as a client of this Hub that finds this package."""
        environment = self.environment(home, token) | {"PYTHONPATH": str(Path(__file__).parents[2])}
        home.mkdir(exist_ok=True)
        return subprocess.run(
            line, shell=True, cwd=home, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def _answer(self, request: Request) -> Answer | None:
        """None stands for a connection to be closed without an answer."""
        path = unquote(request.path)
        # What is made is named in the body alone; for tests that make one of several fail.
        made = f"/{json.loads(request.body)['name']}" if path == "/api/repos/create" else ""
        with self._lock:
            self.requests.append((request.method, path))
            self.ranges += request.headers.get_all("Range", [])
            fault = self._next_fault(request.method, path + made)
            if fault is None:
                return respond(self._store, READING + WRITING, request)
            answer = respond(self._store, READING + WRITING, request) if fault.is_carried_out else None
        time.sleep(fault.seconds)
        if fault.after is not None:
            return replace(answer, sent=fault.after)
        if fault.seconds:
            return answer
        headers = {"X-Error-Message": fault.message, **fault.headers}
        return None if fault.status is None else Answer(fault.status, fault.body, headers)

    def _next_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.meets(method, path):
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None


class _Server(ThreadingHTTPServer):
    # Then closing the server waits for the handlers, and no thread or socket outlives it.
    daemon_threads = False
    # Clients open many connections at once, and one that finds no room tries again only after a second.
    request_queue_size = 64

    def __init__(self, hub: LoopbackHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        # Clients keep connections alive, and a handler would answer them after the end.
        for connection in tuple(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes: together with delayed acknowledgements, Nagle's algorithm costs 40 ms each.
    disable_nagle_algorithm = True
    server: _Server

    def answer(self) -> None:
        url = urlsplit(self.path)
        request = Request(self.command, url.path, dict(parse_qsl(url.query)), self.headers, b"".join(self.body()))
        answer = self.server.hub._answer(request)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.sent])
        if answer.sent is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *arguments: object) -> None:
        """Silence: `requests` is the log."""
