"""Training that pushes: what is on the Hub after each strategy, and what becomes of it when the Hub fails."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive.report.drafts import RECORD
from hf_contrastive.training.manifest import MANIFEST, faults_of

from .server import TOKEN, USER, LoopbackHub


SECRET = "hf_the_token_nobody_sees"
MODEL = {".gitattributes", "config.json", "model.safetensors"}
STATE = {"optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth", "training_args.bin", MANIFEST}


class Trainings:
    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.home, self.folder = hub, home, home / "runs"
        hub.tokens[SECRET] = USER
        hub.publish("somebody/else", {"a.txt": b"a"})
        hub.fail("POST", "tester/fails-once/commit", 500, times=1)
        hub.fail("POST", "tester/busy/commit", 429, times=1, headers={"Retry-After": "1"})
        hub.lose_answer("tester/answer-lost/commit")
        hub.fail("POST", "tester/fails-twice/commit", 503, times=3)
        hub.cut("POST", "tester/down/commit", times=1000)
        hub.fail("POST", "tester/quota/commit", 403, times=1000, message="Storage limit reached")
        hub.delay("POST", "tester/left-out/commit", 1.0)
        hub.delay("POST", "tester/silent/commit", 2.0)
        # Repositories are named in the body.
        hub.fail("POST", "/api/repos/create/create-fails-once", 500)
        hub.fail("POST", "/api/repos/create/create-fails", 500, times=1000)
        hub.fail("POST", "/api/repos/create/echo", 403, message=f"no right for {SECRET}")
        argv = ["-W", "ignore", "-m", "tests.hub.training_client", str(self.folder), SECRET]
        process = hub.run(argv, home, token=None, timeout=300)
        assert process.returncode == 0, process.stderr
        self.output = process.stdout + process.stderr
        self.reports: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])

    def __getitem__(self, name: str) -> Any:
        return self.reports[name]


@pytest.fixture(scope="module")
def trainings(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(module_hub, tmp_path_factory.mktemp("home"))


# ---- Strategies ----


@pytest.mark.parametrize(
    ("strategy", "beside"),
    [
        ("end", None),
        ("every_save", set()),
        ("checkpoint", {"last-checkpoint"}),
        ("all_checkpoints", {"checkpoint-1", "checkpoint-2"}),
    ],
)
def test_each_strategy_pushes_what_it_says_while_training(trainings: Trainings, strategy: str, beside: Any):
    files = set(trainings[strategy]["files"])
    if beside is None:
        assert files == {".gitattributes"}
        assert trainings[strategy]["commits"] == ["initial commit"]
        return
    assert {name for name in files if "/" not in name} == MODEL
    assert {name.split("/")[0] for name in files if "/" in name} == beside
    assert all(f"{place}/{name}" in files for place in beside for name in STATE)
    assert trainings[strategy]["commits"] == [f"Training in progress, step {step}" for step in (2, 1)] + [
        "initial commit"
    ]


@pytest.mark.parametrize("name", ["end", "every_save", "checkpoint", "all_checkpoints", "private", "branch"])
def test_the_model_comes_back_with_equal_embeddings(trainings: Trainings, name: str):
    assert trainings[name]["gap"] == 0
    assert trainings[name]["unpushed"] == []


@pytest.mark.parametrize("name", ["end", "every_save", "checkpoint", "all_checkpoints", "fails-twice", "answer-lost"])
def test_the_last_push_brings_the_card_of_the_model(trainings: Trainings, name: str):
    """And not one of before, whatever was pushed and failed in between."""
    card = trainings.hub.files(f"tester/{name}")["README.md"].decode()
    assert RECORD.search(card)
    assert "| steps | 2 |" in card
    assert f"tester/{name}" in card
    assert card == (trainings.folder / name / "README.md").read_text()


def test_a_pushed_checkpoint_is_complete(trainings: Trainings, tmp_path: Path):
    for name, data in trainings.hub.files("tester/checkpoint").items():
        if name.startswith("last-checkpoint/"):
            (tmp_path / Path(name).name).write_bytes(data)
    assert faults_of(tmp_path) == []
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 2


def test_training_goes_on_from_a_checkpoint_of_the_hub(trainings: Trainings):
    assert trainings["resumed"] == 3
    assert (trainings.folder / "resumed" / "checkpoint-3").is_dir()
    assert not (trainings.folder / "resumed" / "checkpoint-2").exists()


def test_a_private_repository_is_private(trainings: Trainings):
    assert trainings.hub._store.repos["model", "tester/private"].is_private


def test_a_branch_that_is_not_there_is_made(trainings: Trainings):
    assert trainings.hub.commits("tester/branch") == ["initial commit"]
    assert trainings.hub.commits("tester/branch", revision="trial")[0] == "End of training"


# ---- Faults ----


def test_a_failure_that_passes_costs_nothing(trainings: Trainings):
    assert trainings["fails-once"]["commits"] == trainings["every_save"]["commits"]
    assert trainings["fails-once"]["unpushed"] == []


def test_a_busy_hub_is_given_the_time_that_it_asks_for(trainings: Trainings):
    assert trainings["busy"]["commits"] == trainings["every_save"]["commits"]
    assert "429" in trainings.output
    assert "trying again in 1 s" in trainings.output


@pytest.mark.parametrize("name", ["answer-lost", "silent"])
def test_a_commit_whose_answer_was_lost_is_made_once(trainings: Trainings, name: str):
    assert trainings[name]["gap"] == 0
    assert trainings[name]["commits_at_the_end"] == 2


def test_a_hub_that_does_not_answer_is_not_waited_for(trainings: Trainings):
    assert "ReadTimeout" in trainings.output


def test_pushes_that_failed_are_made_up_for_at_the_end_of_training(trainings: Trainings):
    """Though the run has deleted the checkpoint, and without the older model over the newer."""
    report = trainings["fails-twice"]
    assert report["unpushed"] == []
    assert {"checkpoint-1/model.safetensors", "checkpoint-2/model.safetensors"} <= set(report["files"])
    assert not (trainings.folder / "fails-twice" / "checkpoint-1").exists()
    files = trainings.hub.files("tester/fails-twice")
    assert files["model.safetensors"] == files["checkpoint-2/model.safetensors"]
    assert files["model.safetensors"] != files["checkpoint-1/model.safetensors"]
    assert not (trainings.folder / "fails-twice" / "_unpushed").exists()


def test_a_push_that_was_left_out_since_another_ran_is_made_up_for(trainings: Trainings):
    report = trainings["left-out"]
    assert report["unpushed"] == []
    assert {"checkpoint-1/model.safetensors", "checkpoint-2/model.safetensors"} <= set(report["files"])


def test_training_goes_on_while_the_hub_is_down_and_tells_at_its_end(trainings: Trainings):
    report = trainings["down"]
    assert report["step"] == 2
    assert report["files"] == [".gitattributes"]
    (message,) = report["unpushed"]
    folder = trainings.folder / "down" / "_unpushed" / "checkpoint-2"
    assert message.startswith("The model and the checkpoint of step 2 were not pushed to 'tester/down': ")
    assert f"Nothing is lost: all is complete in {str(folder)!r}" in message
    assert message in trainings.output
    assert faults_of(folder) == []


@pytest.mark.parametrize("name", ["down", "quota"])
def test_the_model_is_on_disk_when_its_last_push_fails(trainings: Trainings, name: str):
    report = trainings[name]
    assert report["gap_on_disk"] == 0
    assert report["error"].startswith(f"The push to 'tester/{name}' failed: ")
    words = shlex.split(report["error"].splitlines()[-1])
    assert words[-3:] == ["push", str(trainings.folder / name), f"tester/{name}"]


def test_a_full_quota_is_told_in_the_words_of_the_hub_and_not_tried_again(trainings: Trainings):
    assert "Storage limit reached" in trainings["quota"]["error"]
    assert sum("tester/quota/commit" in path and m == "POST" for m, path in trainings.hub.requests) == 1


def test_the_advised_command_pushes_what_was_lost(trainings: Trainings):
    trainings.hub.faults[:] = [fault for fault in trainings.hub.faults if "tester/down" not in fault.path_substring]
    (message,) = trainings["down"]["unpushed"]
    process = trainings.hub.shell(message.splitlines()[-1], trainings.home, token=SECRET)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"Pushed: {trainings.hub.endpoint}/tester/down/commit/")
    files = trainings.hub.files("tester/down").keys()
    assert {name for name in files if "/" not in name} == MODEL
    assert {name.removeprefix("last-checkpoint/") for name in files if "/" in name} >= STATE
    kept = trainings.folder / "down" / "_unpushed"
    assert [path.name for path in kept.iterdir()] == ["checkpoint-2"], "the copy stays, its record does not"


# ---- Before training ----


def test_a_repository_whose_creation_fails_once_is_made(trainings: Trainings):
    assert trainings["create-fails-once"] == "built"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("create-fails", "500"),
        ("wrong-token", "Invalid credentials in Authorization header"),
        ("of-others", "403"),
        ("read", "403"),
    ],
)
def test_a_repository_that_cannot_be_written_to_ends_the_run_before_it_trains(
    trainings: Trainings, name: str, says: str
):
    said = trainings[name]
    assert "cannot be written to: " in said
    assert says in said
    assert "Nothing was trained yet" in said


# ---- Tokens ----


def test_the_token_is_in_nothing_that_was_printed(trainings: Trainings):
    assert SECRET not in trainings.output
    assert "hf_a_wrong_token" not in trainings.output


def test_the_token_is_in_nothing_that_was_written(trainings: Trainings):
    written = [path for path in trainings.folder.rglob("*") if path.is_file()]
    assert {"training_args.bin", "trainer_state.json", "README.md"} <= {path.name for path in written}
    assert any("tfevents" in path.name for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_the_token_is_in_nothing_that_was_pushed(trainings: Trainings):
    repos = trainings.hub._store.repos.values()
    files = [file for repo in repos for commit in repo.commits.values() for file in commit.files.values()]
    assert len(files) > 100
    assert not any(SECRET.encode() in file.data for file in files)


def test_a_hub_that_repeats_the_token_does_not_get_it_printed(trainings: Trainings):
    assert "no right for hf_***" in trainings["echo"]


# ---- Several processes ----


TWO = """
import json, os, sys
from hf_contrastive import PushError
from hf_contrastive.hub import failures
from tests.hub.training_client import refused, trainer_of

failures.DELAYS = (0.01,)
said = refused("x", hub_model_id="somebody/else", ddp_backend="gloo")
trainer = trainer_of("two", ddp_backend="gloo", per_device_train_batch_size=4, hub_strategy="checkpoint")
trainer.train()
try:
    pushed = trainer.push_to_hub()
except PushError as error:
    pushed = "PushError"
loss = trainer.evaluate(trainer.train_dataset)["eval_loss"]
with open(f"{sys.argv[1]}/{os.environ['RANK']}", "w") as file:
    json.dump([said, pushed, len(trainer.unpushed), loss], file)
os._exit(0)
"""


@pytest.mark.distributed
@pytest.mark.timeout(300)
def test_no_process_is_left_waiting_by_a_hub_that_refuses_or_fails(hub: LoopbackHub, tmp_path: Path):
    hub.publish("somebody/else", {"a.txt": b"a"})
    hub.fail("POST", "tester/two/commit", 503, times=1000)
    (tmp_path / "run.py").write_text(TWO)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(tmp_path / "run.py")]
    process = hub.run([*launch, str(tmp_path), TOKEN], tmp_path / "home", timeout=250)
    assert process.returncode == 0, process.stderr
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert all("'somebody/else' cannot be written to: " in said for said, *_ in found)
    assert [(pushed, unpushed) for _, pushed, unpushed, _ in found] == [("PushError", 1), (None, 0)]
    assert found[0][3] == found[1][3]
