"""The help of a recipe and how it says no, in a process of its own where that is what counts."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hf_contrastive.recipe import parse_recipe
from hf_contrastive.recipe import parser as recipe_parser
from hf_contrastive.recipe.parser import told_in_one_line


@dataclass(kw_only=True)
class Base:
    """What all have. And more."""

    shown: bool = field(default=True, metadata={"help": "Show it."})
    rate: float = field(default=0.1, metadata={"help": "How fast."})


@dataclass(kw_only=True)
class Own(Base):
    """What is ours."""

    rate: float = field(default=0.2, metadata={"help": "How fast it is here."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder."})
    options: dict[str, int] | str | None = field(default=None, metadata={"help": "As JSON."})


@pytest.fixture
def help_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (tmp_path / "mine.yaml").write_text("rate: 3.0e-4\noptions: {a: 1}\n")
    with pytest.raises(SystemExit, match="0"):
        parse_recipe(Own, default_config=tmp_path / "mine.yaml", argv=["--help"], description="Train it.")
    return capsys.readouterr().out


def test_arguments_stand_with_the_class_that_defines_them(help_text: str):
    own, _, base = help_text.partition("Base: What all have:\n")
    assert "Own: What is ours:\n" in own
    assert "--rate RATE" in own
    assert "--shown" in base
    assert "--rate" not in base


def test_help_begins_with_what_the_recipe_says_of_itself(help_text: str):
    assert "[CONFIG.yaml] [--name value ...]\n\nTrain it.\n" in help_text


def test_defaults_are_those_of_the_file(help_text: str):
    assert "How fast it is here. (default: 0.0003)" in " ".join(help_text.split())
    assert '(default: {"a": 1})' in help_text
    assert "mine.yaml." in help_text.splitlines()[-1]


def test_help_has_one_spelling_and_no_default_that_is_none(help_text: str):
    assert "--data-dir" not in help_text
    assert "None" not in help_text
    assert "The opposite of --shown.\n" in help_text


def test_a_name_that_is_wrong_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"There are no arguments --raet 1\. Did you mean --rate\? --help shows"):
        parse_recipe(Own, argv=["--raet", "1"])
    with pytest.raises(ValueError, match=r"comes first, or after --config, but got mine.yaml"):
        parse_recipe(Own, argv=["--rate", "1", "mine.yaml"])


def test_a_name_that_is_cut_off_is_no_argument():
    with pytest.raises(ValueError, match="There are no arguments --sho"):
        parse_recipe(Own, argv=["--sho"])


def test_a_value_of_the_wrong_kind_is_told_without_all_arguments(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parse_recipe(Own, argv=["--rate", "fast"])
    told = capsys.readouterr().err
    assert "argument --rate: invalid float value: 'fast'. --help shows all arguments." in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("Not so."), FileNotFoundError("Not so."), ImportError("Not so.")])
def test_what_cannot_be_used_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["recipes/train.py"])
    with pytest.raises(SystemExit, match="2"), told_in_one_line():
        raise error
    assert capsys.readouterr().err == "train.py: Not so.\n"


def test_bugs_keep_their_traceback():
    with pytest.raises(RuntimeError), told_in_one_line():
        raise RuntimeError("shapes")
    with pytest.raises(SystemExit), told_in_one_line(RuntimeError):
        raise RuntimeError("asked for")


def test_other_processes_speak_only_if_the_first_does_not_end_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    waited: list[float] = []
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(recipe_parser.time, "sleep", waited.append)
    with pytest.raises(SystemExit, match="2"), told_in_one_line():
        raise ValueError("There is no file.")
    assert waited == [recipe_parser.PATIENCE]
    assert capsys.readouterr().err.endswith(": process 3: There is no file.\n")


@pytest.mark.slow
@pytest.mark.distributed
def test_a_mistake_of_all_processes_is_told_once(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(
        "from hf_contrastive.recipe.parser import told_in_one_line\n"
        "with told_in_one_line():\n    raise ValueError('There is no such thing.')\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(
        launch, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr.count("There is no such thing.") == 1
    assert "train.py: There is no such thing.\n" in done.stderr
