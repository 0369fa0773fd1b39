"""`hf-contrastive push`, as it is printed after a failure: in a shell, to a branch, with the edits of the Hub kept."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from hf_contrastive.command import main
from hf_contrastive.hub import lines
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import copy_checkpoint
from tests.report.test_merging import make_card

from .server import TOKEN, LoopbackHub
from .test_folders import PUSH, SHARED, make_folder


CARD = make_card({"intro": "# one", "results": "1.0"})
EDITED = CARD.replace("1.0", "1.0, as we found too")
MINE = CARD.replace("1.0", "1.0, on my machine").replace("# one", "# a better title")


class Finished:
    """A folder with a difficult name, whose push fails and whose card is edited on both sides before it is finished."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.folder = hub, make_folder(home / 'it\'s my "best" $model')
        (self.folder / "README.md").write_text(MINE)
        hub.fail("POST", "/commit", 500, times=3)
        options = {"tester/later": {"hub_private_repo": True, "hub_revision": "trial"}}
        failed = hub.run(PUSH.format(pushes=json.dumps(options), folder=str(self.folder)), home / "hf")
        assert failed.returncode == 0, failed.stderr
        self.line = json.loads(failed.stdout.splitlines()[-1])[2].splitlines()[-1]
        repo = hub._store.repos["model", "tester/later"]
        repo.commit("trial", {"README.md": type(repo.at("trial").files[".gitattributes"])(EDITED.encode())}, "edit")
        self.process = hub.shell(self.line, home / "elsewhere")
        self.again = hub.shell(self.line, home / "elsewhere")


@pytest.fixture(scope="module")
def finished(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(module_hub, tmp_path_factory.mktemp("home"))


def test_the_printed_line_names_all_that_the_push_had(finished: Finished):
    words = shlex.split(finished.line)
    assert words[-6:] == ["push", str(finished.folder), "tester/later", "--revision", "trial", "--private"]


def test_the_printed_line_pushes_the_folder(finished: Finished):
    assert finished.process.returncode == 0, finished.process.stderr
    assert finished.process.stdout.startswith(f"Pushed: {finished.hub.endpoint}/tester/later/commit/")
    files = finished.hub.files("tester/later", revision="trial")
    assert files.keys() == SHARED.keys()
    assert finished.hub.files("tester/later").keys() == {".gitattributes"}
    assert TOKEN not in finished.process.stdout + finished.process.stderr


def test_edits_on_the_hub_and_here_are_in_the_card(finished: Finished):
    card = finished.hub.files("tester/later", revision="trial")["README.md"].decode()
    assert "1.0, as we found too" in card
    assert "# a better title" in card


def test_what_was_edited_on_both_sides_is_told_and_kept_beside(finished: Finished):
    beside = finished.folder / "_README.local.md"
    assert beside.read_text() == MINE
    told = "README.md: results was edited here and in 'tester/later'. The text of the latter is kept and pushed"
    assert told in finished.process.stderr
    assert f"that of here is in {str(beside)!r}" in finished.process.stderr


def test_a_second_push_of_the_same_is_no_commit(finished: Finished):
    assert finished.again.returncode == 0, finished.again.stderr
    assert finished.hub.commits("tester/later", revision="trial") == [
        "Upload a dual encoder",
        "edit",
        "initial commit",
    ]


# ---- Refusals ----


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["push", *arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The least that a folder of a model holds, and a token that nobody takes."""
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


def test_a_folder_that_is_not_there_is_refused(model: str, capsys: pytest.CaptureFixture[str]):
    assert f"`folder` is '{model}/none', which is not there." in said([f"{model}/none", "me/x"], capsys)
    assert f"a file; name its folder, '{model}'" in said([f"{model}/config.json", "me/x"], capsys)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "notes.txt").write_text("mine")
    told = said([str(tmp_path), "me/x"], capsys)
    assert f"{str(tmp_path)!r} holds no model: there is no config.json or adapter_config.json.\n" in told
    for name in ("checkpoint-1", "checkpoint-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert "Its checkpoints do: checkpoint-1, checkpoint-2." in said([str(tmp_path), "me/x"], capsys)


def test_a_folder_that_does_not_say_where_to_needs_a_repository(model: str, capsys: pytest.CaptureFixture[str]):
    told = said([model], capsys)
    assert f"`repository` is missing, the Hub id to push to, as in\n  hf-contrastive push {model} your-name/" in told


def test_what_is_no_hub_id_is_refused_without_its_secrets(model: str, capsys: pytest.CaptureFixture[str]):
    error = said([model, f"https://me:hf_{'a' * 34}@hf.co/me/x"], capsys)
    assert "which is no Hub id such as your-name/your-encoder" in error
    assert "aaa" not in error


def test_a_folder_that_must_not_be_shared_is_no_failure_of_the_hub(model: str, capsys: pytest.CaptureFixture[str]):
    (Path(model) / "notes.txt").write_text("hf_nobody")
    assert "hf-contrastive: 'notes.txt' holds your access token" in said([model, "me/x"], capsys)


def test_without_a_token_the_hub_is_not_asked(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "No token was found. Log in with `hf auth login`" in said([model, "me/x"], capsys)


def test_an_empty_folder_of_copies_has_nothing_to_push(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "_unpushed").mkdir()
    assert "Nothing waits for its push in " in said([str(tmp_path / "_unpushed")], capsys)


def test_what_is_to_be_private_does_not_become_public(module_hub: LoopbackHub, model: str, tmp_path: Path):
    module_hub.publish("tester/open", {"a.txt": b"a"})
    for name in ("tester/open", "open"):
        done = module_hub.shell(f"{sys.executable} -m hf_contrastive push {model} {name} --private", tmp_path / "home")
        assert done.returncode == 2, done.stderr
        assert f"{name!r} is there and public, which `--private` does not change." in done.stderr
    assert module_hub.files("tester/open").keys() == {".gitattributes", "a.txt"}
    done = module_hub.shell(f"{sys.executable} -m hf_contrastive push {model} shut --private", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert module_hub._store.repos["model", "tester/shut"].is_private


def test_a_copy_goes_where_its_record_says_and_nowhere_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "checkpoint-1").mkdir()
    fields = {"step": 1, "title": "t", "repository": "me/x", "revision": None, "private": None, "places": {"": []}}
    copy = copy_checkpoint(tmp_path / "checkpoint-1", tmp_path, **fields).folder
    assert "waits for its push to 'me/x', but got 'me/y'" in said([str(copy), "me/y"], capsys)
    copy.with_name("checkpoint-1.json").write_text("{")
    assert "cannot be read" in said([str(copy)], capsys)


def test_where_the_shell_finds_no_program_python_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "-m hf_contrastive push " in lines.push_line(tmp_path, Repository(name="me/x"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert lines.push_line(tmp_path).startswith("hf-contrastive push ")
