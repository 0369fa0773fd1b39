"""The command lines that a finished run prints."""

import shlex
import shutil
from pathlib import Path

import pytest

from hf_contrastive.command import make_parser
from hf_contrastive.recipe.next_steps import next_steps


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("  ")]


def test_each_line_is_one_that_the_command_takes(commands: None):
    folder = Path("out puts/it's mine")
    found = lines(next_steps(folder, diagnose={"dataset": "me/data", "split": None}, push_to="me/mine"))
    diagnose, export, push = (make_parser().parse_args(shlex.split(line)[1:]) for line in found)
    assert (diagnose.source, diagnose.dataset, diagnose.split) == ([str(folder)], "me/data", None)
    assert (export.model, export.folder) == (str(folder), f"{folder}_export")
    assert (push.folder, push.repository) == (str(folder), "me/mine")


def test_what_is_done_or_would_mislead_is_left_out(commands: None):
    assert [shlex.split(x)[1] for x in lines(next_steps(Path("out"), diagnose=None, push_to=None))] == ["export"]
