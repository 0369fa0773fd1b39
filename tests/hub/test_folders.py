"""Pushing a finished folder: what goes up, what stays behind, what is said when it fails."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import TOKEN, LoopbackHub


SHARED = {
    "README.md": "---\nlibrary_name: transformers\n---\n# Tiny\n",
    "config.json": "{}",
    "model.safetensors": "\x02\0\0\0\0\0\0\0{}",
    "tokenizer.json": "{}",
    "metrics.json": "[]",
    "geometry.png": "picture",
}
LEFT_BEHIND = (
    "checkpoint-10/model.safetensors",
    "checkpoint-10/optimizer.pt",
    "compare_clip/model.safetensors",
    "compare_clip/checkpoint-5/optimizer.pt",
    "runs/today/events.out",
    "training_args.bin",
    "_cache/rows.arrow",
)
PUSH = """
import json, sys, tempfile, traceback
from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.hub import check_can_push, failures, push_folder

failures.DELAYS = (0.01, 0.01)
for name, options in json.loads({pushes!r}).items():
    args = ContrastiveTrainingArguments(tempfile.mkdtemp(), use_cpu=True, push_to_hub=True, hub_model_id=name, **options)
    check_can_push(args)
    try:
        print(json.dumps([name, "pushed", push_folder({folder!r}, args)]))
    except RuntimeError as error:
        print(json.dumps([name, "failed", str(error)]))
        traceback.print_exc()
"""


def make_folder(folder: Path) -> Path:
    for name in (*SHARED, *LEFT_BEHIND):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SHARED.get(name, name), encoding="utf-8")
    return folder


class Pushes:
    """What one client process said of several pushes, in order."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.folder = hub, make_folder(home / "my model")
        hub.fail("POST", "tester/fails/commit", 500, times=20)
        hub.cut("POST", "tester/cut/commit", times=20)
        hub.publish("somebody/else", {"a.txt": b"a"})
        options: dict[str, dict[str, Any]] = {
            "tester/whole": {},
            "tester/private": {"hub_private_repo": True},
            "bare-name": {},
            "tester/fails": {},
            "tester/cut": {},
            "somebody/else": {},
            "tester/wrong-token": {"hub_token": "hf_wrong_token"},
        }
        code = PUSH.format(pushes=json.dumps(options), folder=str(self.folder))
        process = hub.run(code, home, token=TOKEN)
        assert process.returncode == 0, process.stderr
        self.output = process.stdout + process.stderr
        lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("[")]
        self.state = {name: state for name, state, _ in lines}
        self.said = {name: text for name, _, text in lines}


@pytest.fixture(scope="module")
def pushes(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Pushes:
    return Pushes(module_hub, tmp_path_factory.mktemp("home"))


# ---- Pushes that work ----


def test_model_card_and_pictures_go_up_and_other_runs_stay_behind(pushes: Pushes):
    assert pushes.state["tester/whole"] == "pushed"
    files = pushes.hub.files("tester/whole")
    assert files.keys() == {*SHARED, ".gitattributes"}
    assert files["README.md"].decode() == SHARED["README.md"]
    assert files["model.safetensors"] == SHARED["model.safetensors"].encode()


def test_everything_goes_up_in_one_commit_whose_address_is_returned(pushes: Pushes):
    titles = pushes.hub.commits("tester/whole")
    assert titles[0] == "Upload a dual encoder trained with hf_contrastive"
    assert len(titles) == 2, "the initial commit and the upload"
    assert pushes.said["tester/whole"].startswith(f"{pushes.hub.endpoint}/tester/whole/commit/")


def test_a_private_repository_is_made_private(pushes: Pushes):
    assert pushes.state["tester/private"] == "pushed"
    assert pushes.hub._store.repos["model", "tester/private"].is_private


def test_a_bare_name_is_that_of_the_user(pushes: Pushes):
    assert pushes.state["bare-name"] == "pushed"
    assert pushes.hub.files("tester/bare-name").keys() >= SHARED.keys()


# ---- Pushes that fail ----


@pytest.mark.parametrize("name", ["tester/fails", "tester/cut", "somebody/else", "tester/wrong-token"])
def test_a_push_that_fails_says_how_to_go_on(pushes: Pushes, name: str):
    assert pushes.state[name] == "failed"
    said = pushes.said[name]
    assert said.startswith(f"The push to {name!r} failed: ")
    assert f"{str(pushes.folder)!r} holds the model, its processor, card and plots" in said
    options = ["--private"] if name == "tester/private" else []
    assert shlex.split(said.splitlines()[-1])[-3:] == ["push", str(pushes.folder), name, *options]


def test_the_status_of_a_failure_is_told(pushes: Pushes):
    assert "500" in pushes.said["tester/fails"]
    assert "40" in pushes.said["tester/wrong-token"].partition("\n")[0]


def test_a_push_that_fails_leaves_the_folder_whole(pushes: Pushes):
    names = {str(path.relative_to(pushes.folder)) for path in pushes.folder.rglob("*") if path.is_file()}
    assert names - {*LEFT_BEHIND} >= SHARED.keys()
    assert all((pushes.folder / name).read_text() == text for name, text in SHARED.items())


def test_a_push_that_fails_adds_nothing(pushes: Pushes):
    assert pushes.hub.files("tester/fails").keys() == {".gitattributes"}
    assert pushes.hub.files("tester/cut").keys() == {".gitattributes"}
    assert pushes.hub.files("somebody/else").keys() == {".gitattributes", "a.txt"}


def test_no_token_is_ever_shown(pushes: Pushes):
    assert TOKEN not in pushes.output
    assert "hf_wrong_token" not in pushes.output
