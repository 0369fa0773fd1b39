"""Trainings that are cut short: what was not pushed is told, stays on disk, and is pushed later."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive.training.manifest import faults_of

from .server import USER, LoopbackHub
from .test_training_pushes import SECRET


class Endings:
    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.home, self.folder = hub, home, home / 'it\'s my "runs"'
        hub.tokens[SECRET] = USER
        for name in ("crash", "interrupt", "terminated"):
            hub.fail("POST", f"tester/{name}/commit", 403, times=3 if name == "crash" else 99, message="Storage full")
        hub.delay("POST", "tester/slow/commit", 3.0)
        process = hub.run(["-m", "tests.hub.ending_client", str(self.folder), SECRET], home, token=None)
        assert process.returncode == 0, process.stderr
        self.output = process.stdout + process.stderr
        self.reports: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])

    def __getitem__(self, name: str) -> Any:
        return self.reports[name]


@pytest.fixture(scope="module")
def endings(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Endings:
    return Endings(module_hub, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    ("name", "raised", "step"),
    [("crash", "RuntimeError", 2), ("interrupt", "KeyboardInterrupt", 2), ("terminated", None, 3)],
)
def test_what_was_not_pushed_is_told_however_training_ends(endings: Endings, name: str, raised: str | None, step: int):
    report = endings[name]
    assert report["raised"] == raised
    (message,) = report["unpushed"]
    copy = endings.folder / name / "_unpushed" / f"checkpoint-{step}"
    assert message.startswith(f"The model and the checkpoint of step {step} were not pushed to 'tester/{name}': ")
    assert "Storage full" in message
    assert f"Nothing is lost: all is complete in {str(copy)!r}" in message
    assert message in endings.output
    assert faults_of(copy) == []
    assert report["kept"] == [copy.name, f"{copy.name}.json"]
