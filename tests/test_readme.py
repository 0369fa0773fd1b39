"""Every snippet of the README runs, or, where it trains for minutes, is parsed as the program would."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_contrastive.command import make_parser
from hf_contrastive.losses import get_loss, list_losses, registry
from hf_contrastive.metrics import list_metrics
from hf_contrastive.testing import batch_of, random_output
from tests.conftest import make_pairs
from tests.hub import USER, LoopbackHub


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [code for language, code in SNIPPETS if language == "python"]
SHELL = [code for language, code in SNIPPETS if language == "bash"]
ON_THE_HUB = "from tests.conftest import make_pairs\n\ndataset = make_pairs(24)\n"


@pytest.fixture
def no_new_losses() -> Iterator[None]:
    """Forget the loss that a snippet registers."""
    known = dict(registry._LOSSES)
    yield
    registry._LOSSES.clear()
    registry._LOSSES.update(known)


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=[code.strip().splitlines()[-1][:40] for code in PYTHON])
@pytest.mark.usefixtures("no_new_losses")
def test_python_runs(code: str, saved_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    code = code.replace("path/to/clip", str(saved_clip)).replace("max_steps=2", "max_steps=2, use_cpu=True")
    if "your-name/" in code:
        with LoopbackHub() as hub:
            process = hub.run(ON_THE_HUB + code.replace("your-name", USER), tmp_path / "home")
        assert process.returncode == 0, process.stderr
        printed = process.stdout.splitlines()
        assert "[]" in printed, process.stdout
        assert any(line.startswith(f"{hub.endpoint}/{USER}/your-encoder/commit/") for line in printed)
        assert printed[-1] == f"{hub.endpoint}/spaces/{USER}/uniformity"
        return
    if "__main__" in code:
        # It starts processes, which import the file that it stands in.
        (tmp_path / "snippet.py").write_text(code, encoding="utf-8")
        subprocess.run([sys.executable, "snippet.py"], check=True, timeout=120)
        return
    exec(compile(code, "README.md", "exec"), {"__name__": "readme", "dataset": make_pairs(24)})


def commands() -> list[list[str]]:
    return [shlex.split(line) for code in SHELL for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def test_commands_name_files_and_arguments_that_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    seen = set()
    for program, *arguments in commands():
        seen.add(program)
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE)
        elif program == "accelerate":
            script, rest = arguments[1], arguments[2:]
            assert Path(script).is_file()
            names = recipe_arguments()
            assert {a.removeprefix("--").partition("=")[0] for a in rest if a.startswith("--")} <= names
            assert all(Path(a).is_file() for a in rest if a.endswith(".yaml"))
        elif program == "hf-contrastive":
            make_parser().parse_args(arguments)
        else:
            assert (program, *arguments) == ("hf", "auth", "login")
    assert seen == {"make", "accelerate", "hf", "hf-contrastive"}


def recipe_arguments() -> set[str]:
    import runpy
    from dataclasses import fields

    recipe: dict[str, Any] = runpy.run_path(str(ROOT / "recipes" / "clip_decoupled.py"))
    kinds = (recipe["RecipeArguments"], recipe["ContrastiveTrainingArguments"])
    return {field.name for kind in kinds for field in fields(kind)}


@pytest.mark.parametrize("text", [code for language, code in SNIPPETS if language == "yaml"])
def test_yaml_builds_the_loss_that_it_names(text: str):
    arguments = yaml.safe_load(text)
    assert set(arguments) <= recipe_arguments()
    terms = get_loss(arguments["loss"], **arguments["loss_kwargs"])(batch_of(random_output(width=64)))
    assert all(value.isfinite() for value in terms.values())


def test_the_table_of_losses_is_that_of_the_registry():
    papers = {
        info.name: f"[{info.paper}](https://huggingface.co/papers/{info.paper})" if info.paper else ""
        for info in list_losses()
    }
    rows = [f"| `{info.name}` | {info.summary} | {papers[info.name]} |" for info in list_losses()]
    assert "\n".join(rows) in README


def test_the_table_of_metrics_is_that_of_the_folders():
    rows = [f"| `{info.name}` | {info.summary} |" for info in list_metrics()]
    assert "| :-- | :-- |\n" + "\n".join(rows) + "\n\n" in README


def test_pictures_and_files_exist():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        file, _, section = target.partition("#")
        assert (ROOT / file).exists(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), flags=re.M) if section else []
        assert not section or section in {heading.lower().replace(" ", "-") for heading in headings}, target
