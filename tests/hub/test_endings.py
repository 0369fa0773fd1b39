"""Trainings that are cut short: what was not pushed is told, stays on disk, and is pushed later."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive.hub.lines import push_line
from hf_contrastive.training.manifest import MANIFEST, faults_of

from .server import USER, LoopbackHub
from .test_training_pushes import MODEL, SECRET


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
    ("name", "raised"),
    [("crash", "RuntimeError"), ("interrupt", "KeyboardInterrupt"), ("terminated", None)],
)
def test_what_was_not_pushed_is_told_however_training_ends(endings: Endings, name: str, raised: str | None):
    report, step = endings[name], endings[name]["step"]
    assert report["raised"] == raised
    (message,) = report["unpushed"]
    copy = endings.folder / name / "_unpushed" / f"checkpoint-{step}"
    assert message.startswith(f"The model and the checkpoint of step {step} were not pushed to 'tester/{name}': ")
    assert "Storage full" in message
    assert f"Nothing is lost: all is complete in {str(copy)!r}" in message
    assert message in endings.output
    assert report["faults"] == []
    assert report["kept"] == [copy.name, f"{copy.name}.json"]


def test_what_is_still_under_way_is_told_and_not_waited_for(endings: Endings):
    report = endings["slow"]
    told = {message.partition(" not pushed")[0]: message for message in report["unpushed"]}
    assert told.keys() == {"The checkpoint of step 1 was", "The model and the checkpoint of step 2 were"}
    assert "its push was still running when training ended" in told["The checkpoint of step 1 was"]
    assert "the run ended before it was pushed" in told["The model and the checkpoint of step 2 were"]
    assert report["faults"] == []


def test_a_run_that_is_resumed_pushes_what_was_left(endings: Endings):
    report = endings["resumed"]
    assert (report["raised"], report["step"], report["unpushed"], report["kept"]) == (None, 4, [], [])
    files = endings.hub.files("tester/crash")
    assert {name for name in files if "/" not in name} == MODEL
    assert {name.split("/")[0] for name in files if "/" in name} == {"last-checkpoint", "checkpoint-3", "checkpoint-4"}
    # Of the root, the later one.
    assert files["model.safetensors"] == files["checkpoint-4/model.safetensors"]
    assert files["model.safetensors"] != files["last-checkpoint/model.safetensors"]


def test_another_run_in_the_folder_tells_of_it_and_leaves_it(endings: Endings):
    report = endings["anew"]
    assert report["unpushed"] == []
    assert report["kept"] == endings["interrupt"]["kept"]
    assert endings.output.count(endings["interrupt"]["unpushed"][0].splitlines()[-1]) >= 2


def test_all_that_waits_is_pushed_by_one_line(endings: Endings):
    place = endings.folder / "slow" / "_unpushed"
    # The push that nobody waited for may have come to its end.
    waiting = len(list(place.glob("*.json")))
    assert waiting
    done = endings.hub.shell(
        shlex.join([sys.executable, "-m", "hf_contrastive", "push", str(place)]), endings.home, SECRET
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Pushed: ") == waiting
    files = endings.hub.files("tester/slow")
    assert {name.split("/")[0] for name in files if "/" in name} == {"checkpoint-1", "checkpoint-2"}
    assert files["model.safetensors"] == files["checkpoint-2/model.safetensors"]


# ---- Killed ----

TRAIN = """
from tests.hub.training_client import trainer_of
trainer_of({name!r}, max_steps=1, hub_strategy="all_checkpoints", hub_private_repo=True).train()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_is_killed_while_it_pushes_loses_nothing(hub: LoopbackHub, tmp_path: Path):
    """In the upload, and in the commit, which the Hub then makes all the same."""
    folder = tmp_path / 'a "run"'
    moments = {"in-upload": ("PUT", "/lfs/tester/in-upload"), "in-commit": ("POST", "tester/in-commit/commit")}
    hub.tokens[SECRET] = USER
    training = {}
    for name, (method, path) in moments.items():
        hub.delay(method, path, 3.0)
        argv = [sys.executable, "-c", TRAIN.format(name=name), str(folder), SECRET]
        training[name] = subprocess.Popen(argv, env=hub.environment(tmp_path / name, None), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while training:
        assert time.monotonic() < end
        time.sleep(0.02)
        for name in [name for name in training if any(moments[name][1] in path for _, path in hub.requests)]:
            process = training.pop(name)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    for name in moments:
        copy = folder / name / "_unpushed" / "checkpoint-1"
        assert faults_of(copy) == []
        done = hub.shell(push_line(copy), tmp_path / name, token=SECRET)
        assert done.returncode == 0, done.stderr
        assert hub.commits(f"tester/{name}") == ["Training in progress, step 1", "initial commit"]
        files = hub.files(f"tester/{name}")
        assert files["model.safetensors"] == (copy / "model.safetensors").read_bytes()
        assert f"checkpoint-1/{MANIFEST}" in files
