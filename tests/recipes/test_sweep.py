"""The sweep: what it reads before its first run."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from hf_contrastive import ContrastiveTrainingArguments


@dataclass
class Training(ContrastiveTrainingArguments):
    """The same arguments, built without run-time type checks: HfArgumentParser passes None for `debug`, a str."""


RECIPES = Path(__file__).parents[2] / "recipes"
SWEEP = """\
base: {output_dir: OUT, max_steps: 1, use_cpu: true}
seeds: [0, 1]
runs:
  clip: {loss: clip}
  siglip: {loss: siglip, seeds: [1]}
"""


@pytest.fixture(scope="module")
def sweep() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECIPES))
        for name in ("sweep", "clip_decoupled"):
            patch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module("sweep")
        patch.setattr(module, "ContrastiveTrainingArguments", Training)
        yield module
        for name in ("sweep", "clip_decoupled"):
            del sys.modules[name]


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text.replace("OUT", str(folder / "out")))
    return path


@pytest.mark.parametrize("path", sorted((RECIPES / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_can_be_run(sweep: ModuleType, path: Path):
    assert sweep.read_sweep(path)[1]


def test_runs_are_ordered_by_seed_and_may_have_their_own(sweep: ModuleType, tmp_path: Path):
    folder, runs = sweep.read_sweep(write(tmp_path, SWEEP))
    assert folder == tmp_path / "out"
    assert list(runs) == [("clip", 0), ("clip", 1), ("siglip", 1)]
    assert [training.seed for _, training in runs.values()] == [0, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [0, 1]\n", "", "must have the keys base, runs and seeds, but has base, runs"),
        ("seeds: [0, 1]\n", "seeds: 0\n", "`seeds` in .* must be a list that is not empty, but is 0"),
        ("output_dir: OUT, ", "", "`base` in .* must have an `output_dir`"),
        ("loss: siglip", "loss: siglop", "Run 'siglip': There is no loss called 'siglop'"),
        ("loss: siglip", "los: siglip", "Run 'siglip': There are no arguments --los=siglip. Did you mean --loss"),
    ],
)
def test_a_mistake_is_told_before_the_first_run(
    sweep: ModuleType, tmp_path: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
):
    path = write(tmp_path, SWEEP.replace(old, new))
    with pytest.raises(ValueError, match=message):
        sweep.read_sweep(path)
    with pytest.raises(SystemExit, match="2"):
        sweep.main(path)
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
