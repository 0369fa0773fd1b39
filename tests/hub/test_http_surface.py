"""What the loopback Hub promises below any client: its addresses, its answers, and its faults."""

import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .server import TOKEN, LoopbackHub


TEXT, WEIGHTS = b"one line", b"\0 ten bytes"
OWNER, STRANGER = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer hf_stranger"}


@dataclass
class Reply:
    status: int
    headers: Message
    body: bytes


def connect(hub: LoopbackHub) -> closing[HTTPConnection]:
    return closing(HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=10))


def ask(hub: LoopbackHub, method: str, path: str, body: object = None, **headers: str) -> Reply:
    with connect(hub) as connection:
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())


@pytest.fixture
def stocked_hub(hub: LoopbackHub) -> LoopbackHub:
    hub.publish("tester/model", {"notes.txt": TEXT, "model.safetensors": WEIGHTS})
    hub.publish("tester/secret", {}, private=True)
    hub.tokens["hf_stranger"] = "stranger"
    return hub


def test_the_hub_listens_on_one_address_only(hub: LoopbackHub) -> None:
    """A hub that listened on every address of this machine would be heard here."""
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.2", urlsplit(hub.endpoint).port), timeout=2)


def test_a_kept_connection_dies_with_the_hub() -> None:
    with LoopbackHub() as hub:
        kept = socket.create_connection(("127.0.0.1", urlsplit(hub.endpoint).port), timeout=10)
        kept.sendall(b"GET /api/models/tester/none HTTP/1.1\r\n\r\n")
        assert kept.recv(8) == b"HTTP/1.1"
    with kept:
        assert list(iter(lambda: kept.recv(4096), b"")), "the rest of the answer, and then the end"


def test_answers_do_not_wait_for_acknowledgements(stocked_hub: LoopbackHub) -> None:
    start = time.perf_counter()
    with connect(stocked_hub) as connection:
        for _ in range(50):
            connection.request("GET", "/tester/model/resolve/main/notes.txt")
            assert connection.getresponse().read() == TEXT
    assert time.perf_counter() - start < 50 * 0.04


def test_a_file_names_its_commit_and_its_git_hash(stocked_hub: LoopbackHub) -> None:
    head = ask(stocked_hub, "HEAD", "/tester/model/resolve/main/notes.txt")
    info = json.loads(ask(stocked_hub, "GET", "/api/models/tester/model").body)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(TEXT)))
    assert head.headers["X-Repo-Commit"] == info["sha"]
    assert head.headers["ETag"] == '"715646ae6b3e02106c1f16de39fa0d99ce86c2ad"'


def test_a_large_file_lies_on_another_host(stocked_hub: LoopbackHub) -> None:
    head = ask(stocked_hub, "HEAD", "/tester/model/resolve/main/model.safetensors")
    storage, path = head.headers["Location"].split("/lfs/")
    assert head.status == 302
    assert head.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert storage == stocked_hub.endpoint.replace("127.0.0.1", "localhost")
    assert ask(stocked_hub, "GET", f"/lfs/{path}").body == WEIGHTS


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [("bytes=4-", 206, b"line"), ("bytes=0-2", 206, b"one"), ("bytes=4-99", 206, b"line"), ("bytes=99-", 416, b"")],
)
def test_a_range_is_a_part_of_the_file(stocked_hub: LoopbackHub, wanted: str, status: int, body: bytes) -> None:
    reply = ask(stocked_hub, "GET", "/tester/model/resolve/main/notes.txt", Range=wanted)
    assert (reply.status, reply.body) == (status, body)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/tester/none/resolve/main/notes.txt", 404, "RepoNotFound"),
        ("/tester/model/resolve/none/notes.txt", 404, "RevisionNotFound"),
        ("/tester/model/resolve/main/none", 404, "EntryNotFound"),
        ("/api/models/tester/model/tree/main/none", 404, "EntryNotFound"),
        ("/nothing/like/this", 404, None),
    ],
)
def test_what_is_missing_has_a_name(stocked_hub: LoopbackHub, path: str, status: int, code: str | None) -> None:
    reply = ask(stocked_hub, "GET", path, **OWNER)
    assert (reply.status, reply.headers["X-Error-Code"]) == (status, code)


def test_a_private_repo_looks_missing_to_others(stocked_hub: LoopbackHub) -> None:
    path = "/api/models/tester/secret"
    guest, stranger = ask(stocked_hub, "GET", path), ask(stocked_hub, "GET", path, **STRANGER)
    assert ask(stocked_hub, "GET", path, **OWNER).status == 200
    assert (guest.status, stranger.status) == (401, 404)
    assert guest.headers["X-Error-Code"] == stranger.headers["X-Error-Code"] == "RepoNotFound"


def test_only_the_owner_changes_a_repo(stocked_hub: LoopbackHub) -> None:
    change = ("PUT", "/api/models/tester/model/settings", {"visibility": "private"})
    assert ask(stocked_hub, *change).status == 401
    assert ask(stocked_hub, *change, **STRANGER).status == 403
    assert ask(stocked_hub, *change, **OWNER).status == 200


def test_a_tree_is_listed_by_level_or_whole(hub: LoopbackHub) -> None:
    hub.publish("tester/tree", {"a/b/c.txt": TEXT, "a/d.txt": TEXT})
    path = "/api/models/tester/tree/tree/main/a"
    level, whole = (json.loads(ask(hub, "GET", path + query).body) for query in ("", "?recursive=true"))
    assert [node["path"] for node in level] == ["a/b", "a/d.txt"]
    assert [node["path"] for node in whole] == ["a/b", "a/b/c.txt", "a/d.txt"]
    assert [node["type"] for node in level] == ["directory", "file"]


def test_a_damaged_large_file_is_refused(hub: LoopbackHub) -> None:
    assert ask(hub, "PUT", f"/lfs/tester/model/{'0' * 64}", "damaged").status == 400


@pytest.mark.parametrize(
    ("card", "status"),
    [
        ("no metadata", 200),
        ("---\ntags: [a]\n---\ntext", 200),
        ("---\n- a\n---\n", 400),
        ("---\na: [\n---\n", 400),
    ],
)
def test_card_metadata_must_be_a_mapping(hub: LoopbackHub, card: str, status: int) -> None:
    reply = ask(hub, "POST", "/api/validate-yaml", {"content": card, "repoType": "model"})
    assert (reply.status, bool(json.loads(reply.body)["errors"])) == (status, status == 400)


def test_a_commit_on_a_stale_parent_is_refused(stocked_hub: LoopbackHub) -> None:
    header = {"key": "header", "value": {"summary": "late", "parentCommit": "0" * 40}}
    assert ask(stocked_hub, "POST", "/api/models/tester/model/commit/main", header, **OWNER).status == 412
    assert stocked_hub.commits("tester/model") == ["publish", "initial commit"]


def test_faults_end_after_the_times_asked_for(stocked_hub: LoopbackHub) -> None:
    path = "/api/models/tester/model"
    stocked_hub.fail("GET", path, status=503, times=2)
    assert [ask(stocked_hub, "GET", path).status for _ in range(3)] == [503, 503, 200]
    assert stocked_hub.requests == [("GET", path)] * 3
    assert stocked_hub.faults == []


def test_a_cut_request_is_not_carried_out_and_one_with_a_lost_answer_is(stocked_hub: LoopbackHub) -> None:
    settings = "/api/models/tester/model/settings"
    stocked_hub.cut("PUT", settings)
    with pytest.raises(ConnectionError):
        ask(stocked_hub, "PUT", settings, {"visibility": "private"}, **OWNER)
    assert ask(stocked_hub, "GET", "/api/models/tester/model").status == 200
    stocked_hub.lose_answer(settings)
    with pytest.raises(ConnectionError):
        ask(stocked_hub, "PUT", settings, {"visibility": "private"}, **OWNER)
    assert ask(stocked_hub, "GET", "/api/models/tester/model").status == 401


def test_arguments_go_to_this_python_in_that_environment(hub: LoopbackHub, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['HF_ENDPOINT'], os.environ.get('HF_TOKEN'), sys.argv[1])"
    process = hub.run(["-c", code, "argument"], tmp_path, token=None)
    assert process.stdout.split() == [hub.endpoint, "None", "argument"]


def test_clients_inherit_nothing_that_leads_elsewhere(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    for name in elsewhere:
        monkeypatch.setenv(name, "1")
    environment = hub.environment(tmp_path, token=None)
    assert not environment.keys() & set(elsewhere)
    assert environment["HF_ENDPOINT"] == hub.endpoint
    assert environment["HF_HOME"] == str(tmp_path)
    assert hub.environment(tmp_path)["HF_TOKEN"] == TOKEN
