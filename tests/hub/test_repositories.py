"""One commit, whatever fails on its way, and no file sent twice."""

import json
from typing import Any

import pytest

from .server import LoopbackHub


CLIENT = """
import json
from huggingface_hub import HfApi
from hf_contrastive.hub import failures
from hf_contrastive.hub.failures import brief
from hf_contrastive.hub.repositories import Repository

report, meanwhile, slept = {}, {}, []

def sleep(seconds):
    slept.append(seconds)
    if meanwhile:
        meanwhile.pop("do")()

# Of all modules, that of the client too.
failures.time.sleep = sleep

def push(name, **files):
    repository = Repository(name=f"tester/{name}")
    contents = {file.replace("_", "."): text.encode() for file, text in files.items()}
    try:
        full = repository.open()
        report[name] = repository.commit(full, contents, "Push").commit_url.rpartition("/")[2]
        report[name + " head"] = HfApi().model_info(full).sha
    except Exception as error:
        report[name] = brief(error)

def commit(name, message, **files):
    contents = {file.replace("_", "."): text.encode() for file, text in files.items()}
    Repository(name=f"tester/{name}").commit(f"tester/{name}", contents, message)

for name in ("busy-commit", "busy-upload", "asks-for-time"):
    slept.clear()
    push(name, b_bin=f"weights of {name}")
    report[name + " slept"] = sum(slept)

failures.DELAYS = (0.01, 0.01, 0.01)
for name in ("batch-fails", "put-is-cut", "verify-fails", "commit-fails", "answer-lost"):
    push(name, a_json="{}", b_bin=f"weights of {name}")
meanwhile["do"] = lambda: commit("lands-late", "Push", a_json="{}", b_bin="late")
push("lands-late", a_json="{}", b_bin="late")
meanwhile["do"] = lambda: commit("of-another", "Another", c_json="{}")
push("of-another", a_json="{}", b_bin="mine")
heads = []

def with_a_card_of(head):
    # Somebody edits the card between the question for the head and the commit onto it.
    heads.append(head)
    if len(heads) == 1:
        commit("edited", "Edit", card_md="theirs")
    return {"a.json": b"{}", "card.md": f"ours and, at {len(heads)}, theirs".encode()}

Repository(name="tester/edited").commit(Repository(name="tester/edited").open(), with_a_card_of, "Push")
report["edited"] = heads
push("always-fails", a_json="{}")
push("full", b_bin="x" * 5000)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    module_hub._store.quota = 4000
    module_hub.fail("POST", "tester/busy-commit/commit", 503, times=99)
    module_hub.fail("POST", "tester/busy-upload/preupload", 503, times=99)
    module_hub.fail("POST", "tester/asks-for-time/commit", 429, headers={"Retry-After": "7"})
    module_hub.fail("POST", "tester/batch-fails.git/info/lfs/objects/batch", 503)
    module_hub.cut("PUT", "/lfs/tester/put-is-cut")
    module_hub.fail("POST", "/lfs/tester/verify-fails/verify", 500)
    module_hub.fail("POST", "tester/commit-fails/commit", 500, times=2)
    module_hub.lose_answer("tester/answer-lost/commit")
    module_hub.fail("POST", "tester/lands-late/commit", 504)
    module_hub.fail("POST", "tester/of-another/commit", 500)
    module_hub.fail("POST", "tester/always-fails/commit", 502, times=99)
    process = module_hub.run(CLIENT, tmp_path_factory.mktemp("home"))
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


PASSING = ("batch-fails", "put-is-cut", "verify-fails", "commit-fails", "answer-lost", "lands-late")


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_ends_in_one_commit_which_is_the_head(
    report: dict[str, Any], module_hub: LoopbackHub, name: str
):
    assert module_hub.commits(f"tester/{name}") == ["Push", "initial commit"]
    assert report[name] == report[f"{name} head"]
    assert module_hub.files(f"tester/{name}").keys() == {".gitattributes", "a.json", "b.bin"}


@pytest.mark.parametrize(
    ("name", "path", "times", "seconds"),
    [
        ("busy-commit", "/api/models/tester/busy-commit/commit/main", 6, 31),
        # Which `huggingface_hub` tries 6 times in each attempt of ours.
        ("busy-upload", "/api/models/tester/busy-upload/preupload/main", 36, 169),
        ("asks-for-time", "/api/models/tester/asks-for-time/commit/main", 2, 7),
    ],
)
def test_a_busy_hub_is_asked_so_often_over_so_many_seconds(
    report: dict[str, Any], module_hub: LoopbackHub, name: str, path: str, times: int, seconds: int
):
    assert report[f"{name} slept"] == seconds
    assert module_hub.requests.count(("POST", path)) == times


def test_files_that_arrived_are_not_sent_again(report: dict[str, Any], module_hub: LoopbackHub):
    assert "commit-fails" in report
    sent = [path for method, path in module_hub.requests if method == "PUT" and "tester/commit-fails/" in path]
    assert len(sent) == 1


def test_what_another_has_committed_meanwhile_stays(report: dict[str, Any], module_hub: LoopbackHub):
    assert module_hub.commits("tester/of-another") == ["Push", "Another", "initial commit"]
    assert module_hub.files("tester/of-another").keys() == {".gitattributes", "a.json", "b.bin", "c.json"}
    assert report["of-another"] == report["of-another head"]


def test_files_are_made_anew_where_the_head_has_moved_before_the_commit(
    report: dict[str, Any], module_hub: LoopbackHub
):
    first, second = report["edited"]
    assert first != second
    assert module_hub.commits("tester/edited") == ["Push", "Edit", "initial commit"]
    assert module_hub.files("tester/edited")["card.md"] == b"ours and, at 2, theirs"


def test_there_is_an_end_to_it(report: dict[str, Any], module_hub: LoopbackHub):
    assert "502" in report["always-fails"]
    assert module_hub.commits("tester/always-fails") == ["initial commit"]
    tried = [path for method, path in module_hub.requests if "tester/always-fails/commit" in path and method == "POST"]
    assert len(tried) == 4


def test_a_full_quota_is_told_in_the_words_of_the_hub(report: dict[str, Any], module_hub: LoopbackHub):
    assert "storage limit reached" in report["full"]
    assert module_hub.commits("tester/full") == ["initial commit"]
