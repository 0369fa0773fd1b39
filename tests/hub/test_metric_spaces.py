"""The package's measures as Spaces: published, loaded by `evaluate` from there, and refused where they are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive import metrics
from hf_contrastive.hub import push_metric_to_hub
from hf_contrastive.hub.metric_spaces import check_space_card, metric_files
from hf_contrastive.metrics import list_metrics

from .server import LoopbackHub


PUBLISH = """
import json
import evaluate
import numpy as np
from hf_contrastive import PushError, load_metric, push_metric_to_hub
from hf_contrastive.hub import failures

failures.DELAYS = (0.01,)
x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
report = {"url": push_metric_to_hub("uniformity", "tester/uniformity")}
push_metric_to_hub("uniformity", "tester/uniformity")
push_metric_to_hub("uniformity", "tester/even-spread", private=True)
report["own"] = load_metric("uniformity").compute(predictions=x)
report["loaded"] = evaluate.load("tester/uniformity").compute(predictions=x)
report["renamed"] = evaluate.load("tester/even-spread").compute(predictions=x)
try:
    push_metric_to_hub("alignment", "tester/fails")
except PushError as error:
    report["error"] = str(error)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    module_hub.fail("POST", "spaces/tester/fails/commit", 500, times=9)
    process = module_hub.run(PUBLISH, tmp_path_factory.mktemp("home"))
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def test_a_published_measure_is_loaded_by_evaluate_with_equal_values(report: dict[str, Any]):
    assert report["loaded"] == report["own"]
    assert report["own"]["uniformity"] < 0


def test_a_measure_may_have_another_name_and_be_private(report: dict[str, Any], module_hub: LoopbackHub):
    assert report["renamed"] == report["own"]
    files = module_hub.files("tester/even-spread", repo_type="space")
    assert {"README.md", "app.py", "requirements.txt", "even-spread.py"} <= files.keys()
    assert b'evaluate.load("even-spread.py")' in files["app.py"]
    assert b'"tester/even-spread"' in files["README.md"]
    assert module_hub._store.repos["space", "tester/even-spread"].is_private


def test_publishing_twice_makes_one_commit(report: dict[str, Any], module_hub: LoopbackHub):
    assert report["url"] == f"{module_hub.endpoint}/spaces/tester/uniformity"
    titles = module_hub.commits("tester/uniformity", repo_type="space")
    assert titles == ["Publish the measurement uniformity of hf_contrastive", "initial commit"]


def test_a_space_that_could_not_be_published_says_how_to_go_on(report: dict[str, Any]):
    assert report["error"].startswith("'alignment' was not published as 'tester/fails': HfHubHTTPError")
    assert report["error"].endswith("call `push_metric_to_hub('alignment', 'tester/fails')` again.")


@pytest.mark.parametrize("name", [info.name for info in list_metrics()])
def test_all_measures_are_valid_spaces(name: str):
    files = metric_files(name, f"me/{name}")
    assert {"README.md", "app.py", "requirements.txt", f"{name}.py"} <= files.keys()


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match=r"no metric called '\.\./report'. Known metrics: alignment, "):
        push_metric_to_hub("../report", "me/x")


@pytest.mark.parametrize("repo", ["uniformity", "../uniformity", "me/a/b", "me/uni formity"])
def test_the_name_of_a_space_has_an_owner(repo: str):
    with pytest.raises(ValueError, match="`repo_id`"):
        push_metric_to_hub("uniformity", repo)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("sdk: gradio", "sdk: docker", "sdk"),
        ("colorTo: red", "colorTo: magenta", "colorTo"),
        ("app_file: app.py", "app_file: main.py", "app_file"),
        ("title: Uniformity", "title:", "title"),
        ("- evaluate\n", "- metrics\n", "tags"),
        ("emoji: ", "emoji: abc", "emoji"),
    ],
)
def test_metadata_that_the_hub_does_not_take_are_named(old: str, new: str, field: str):
    card = Path(metrics.__file__).parent / "uniformity" / "README.md"
    text = card.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ValueError, match=f"as '{field}'"):
        check_space_card(text.replace(old, new, 1), ["app.py"])
    with pytest.raises(ValueError, match="must begin with metadata"):
        check_space_card("# Uniformity\n", ["app.py"])
