"""Pushes beside training: which are due, which copies stay, and what is told at the end."""

import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from hf_contrastive.hub import unpushed
from hf_contrastive.hub.background import BackgroundPushes
from hf_contrastive.hub.failures import Patience
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import held_bytes, keep_apart, root_was_pushed


class FakeRepository(Repository):
    """Notes what it is given, or does what the test wants of it."""

    def note(self, before: Callable[[str], None] = lambda _: None) -> list[tuple[str, dict[str, bytes]]]:
        commits: list[tuple[str, dict[str, bytes]]] = []

        def commit(
            full_name: str, files: Callable[[str], dict[str, Path]], message: str, *, patience: Patience
        ) -> None:
            before(message)
            contents = files("head")
            commits.append((message, {name: path.read_bytes() for name, path in contents.items()}))

        # The class is frozen.
        self.__dict__["commit"] = commit
        return commits


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository(name="tester/run", token="hf_t")


def save(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text(f"{step}")
    (checkpoint / "optimizer.pt").write_text("state")
    return checkpoint


def start(pushes: BackgroundPushes, step: int, *, place: str = "last-checkpoint", wait_in_line: bool = True) -> Path:
    checkpoint = save(pushes.folder, step)
    places: dict[str, Any] = {"": ["optimizer.pt"], place: []}
    pushes.start(checkpoint, step, f"step {step}", places, wait_in_line=wait_in_line)
    return checkpoint


def settled(pushes: BackgroundPushes) -> None:
    """Wait until no push is under way."""
    with pushes._changed:
        assert pushes._changed.wait_for(lambda: pushes._running is None, timeout=10)


def failing_for(*steps: int, error: type[Exception] = ConnectionResetError) -> Callable[[str], None]:
    def before(message: str) -> None:
        if message in {f"step {step}" for step in steps}:
            raise error("gone")

    return before


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_contrastive.hub.failures.DELAYS", ())


def test_a_checkpoint_goes_to_all_its_places_and_its_copy_is_deleted(repository: FakeRepository, tmp_path: Path):
    commits, pushes = repository.note(), BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    assert pushes.finish() == []
    expected = {"config.json": b"1", "last-checkpoint/config.json": b"1", "last-checkpoint/optimizer.pt": b"state"}
    assert commits == [("step 1", expected)]
    assert not (tmp_path / "_unpushed").exists()


def test_a_checkpoint_that_is_deleted_while_it_is_pushed_arrives_whole(repository: FakeRepository, tmp_path: Path):
    deleted = Event()
    commits = repository.note(lambda _: deleted.wait(10))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    shutil.rmtree(start(pushes, 1))
    deleted.set()
    assert pushes.finish() == []
    assert len(commits[0][1]) == 3


def test_a_later_checkpoint_stands_in_for_one_that_failed(repository: FakeRepository, tmp_path: Path):
    commits = repository.note(failing_for(1))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    start(pushes, 2)
    assert pushes.finish() == []
    assert [title for title, _ in commits] == ["step 2"]
    assert not (tmp_path / "_unpushed").exists()


def test_of_one_that_failed_the_end_pushes_only_what_is_not_newer_there(repository: FakeRepository, tmp_path: Path):
    failed: list[str] = []

    def once(message: str) -> None:
        if message == "step 1" and not failed:
            failed.append(message)
            raise ConnectionResetError("gone")

    commits = repository.note(once)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        start(pushes, step, place=f"checkpoint-{step}")
    assert pushes.finish() == []
    files = {title: set(contents) for title, contents in commits}
    assert files.keys() == {"step 1", "step 2"}
    assert files["step 1"] == {"checkpoint-1/config.json", "checkpoint-1/optimizer.pt"}
    assert files["step 2"] >= {"config.json", "checkpoint-2/config.json"}


def test_one_that_is_left_out_while_another_runs_is_pushed_at_the_end(repository: FakeRepository, tmp_path: Path):
    saved = Event()
    commits = repository.note(lambda message: saved.wait(10) if message == "step 1" else None)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    start(pushes, 2, wait_in_line=False)
    start(pushes, 3, wait_in_line=False)
    saved.set()
    assert pushes.finish() == []
    assert [title for title, _ in commits] == ["step 1", "step 3"]
    assert not (tmp_path / "_unpushed").exists()


@pytest.mark.parametrize("error", [ConnectionResetError, ValueError])
def test_what_fails_to_the_end_is_kept_and_told(repository: FakeRepository, tmp_path: Path, error: type[Exception]):
    repository.note(failing_for(1, 2, error=error))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        shutil.rmtree(start(pushes, step, place=f"checkpoint-{step}"))
    told = pushes.finish()
    kept = tmp_path / "_unpushed"
    assert {path.name for path in kept.iterdir() if path.is_dir()} == {"checkpoint-1", "checkpoint-2"}
    assert [message.splitlines()[0].partition(":")[0] for message in told] == [
        "The checkpoint of step 1 was not pushed to 'tester/run'",
        "The model and the checkpoint of step 2 were not pushed to 'tester/run'",
    ]
    commands = [shlex.split(message.splitlines()[-1])[-2:] for message in told]
    assert commands == [["push", f"{kept}/checkpoint-{step}"] for step in (1, 2)]
    assert all("gone" in message and "Nothing is lost" in message for message in told)


def test_a_hub_that_is_down_is_asked_once_at_the_end(repository: FakeRepository, tmp_path: Path):
    asked: list[str] = []

    def before(message: str) -> None:
        asked.append(message)
        raise ConnectionResetError("gone")

    repository.note(before)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2, 3):
        start(pushes, step, place=f"checkpoint-{step}")
        settled(pushes)
    assert len(pushes.finish()) == 3
    assert asked == ["step 1", "step 2", "step 3", "step 1"]


def test_a_step_that_is_saved_twice_is_pushed_twice(repository: FakeRepository, tmp_path: Path):
    saved = Event()
    commits = repository.note(lambda _: saved.wait(10))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    shutil.rmtree(start(pushes, 1))
    start(pushes, 1)
    saved.set()
    assert pushes.finish() == []
    assert [len(files) for _, files in commits] == [3, 3]


def test_a_disk_that_holds_no_copy_stops_no_training(
    repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    assert ["No space left on device" in message for message in pushes.finish()] == [True]


def test_a_disk_that_takes_no_record_leaves_nobody_waiting(
    repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    repository.note()
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    monkeypatch.setattr("hf_contrastive.hub.background.forget", full)
    start(pushes, 1)
    settled(pushes)
    assert pushes.finish() == []


def test_the_folder_of_copies_does_not_go_while_one_is_made(
    repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the moment at which the push before it ends."""
    go_on, link = Event(), unpushed._link
    commits = repository.note(lambda message: go_on.wait(10) if message == "step 1" else None)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)

    def slowly(source: str, target: str) -> None:
        go_on.set()
        time.sleep(0.05)
        link(source, target)

    monkeypatch.setattr(unpushed, "_link", slowly)
    start(pushes, 2)
    assert pushes.finish() == []
    assert [title for title, _ in commits] == ["step 1", "step 2"]


def test_where_files_cannot_have_two_names_they_are_copied(
    repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    commits, pushes = repository.note(), BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    assert pushes.finish() == []
    assert len(commits[0][1]) == 3


# ---- On disk ----


@pytest.mark.parametrize(("place", "waiting"), [("last-checkpoint", 1), ("checkpoint-{}", 4)])
def test_only_what_no_later_push_stands_for_takes_space(
    repository: FakeRepository, tmp_path: Path, place: str, waiting: int
):
    repository.note(failing_for(1, 2, 3, 4))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2, 3, 4):
        checkpoint = start(pushes, step, place=place.format(step))
        settled(pushes)
        records = sum(path.stat().st_size for path in (tmp_path / "_unpushed").glob("*.json"))
        assert held_bytes(tmp_path) - records == (0 if waiting == 1 else 6 * (step - 1))
        shutil.rmtree(checkpoint)
    assert sum(path.is_dir() for path in (tmp_path / "_unpushed").iterdir()) == waiting


def test_the_next_process_takes_up_what_was_left(repository: FakeRepository, tmp_path: Path):
    repository.note(failing_for(1, 2))
    first = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        start(first, step)
        settled(first)
    kept = tmp_path / "_unpushed"
    # Of a process that was killed before the copy was whole, and after that.
    (kept / "checkpoint-8.part").mkdir()
    (kept / "checkpoint-9.json").write_text((kept / "checkpoint-2.json").read_text())
    commits, second = repository.note(), BackgroundPushes(repository, "tester/run", tmp_path)
    assert len(second.left_by_others()) == 1
    second.take_up()
    assert second.left_by_others() == []
    assert "the process that was to push it ended" in second.messages()[0]
    assert second.finish() == []
    assert [title for title, _ in commits] == ["step 2"]
    assert not (tmp_path / "_unpushed").exists()


def test_a_record_that_cannot_be_read_stops_no_training(
    repository: FakeRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    copy = save(tmp_path / "_unpushed", 1)
    copy.with_name("checkpoint-1.json").write_text("{")
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    pushes.take_up()
    assert pushes.left_by_others() == []
    assert "checkpoint-1.json', which says where a checkpoint is to go, cannot be read" in caplog.text
    assert copy.is_dir()


def test_what_was_left_does_not_go_over_what_is_later(repository: FakeRepository, tmp_path: Path):
    repository.note(failing_for(7))
    start(first := BackgroundPushes(repository, "tester/run", tmp_path), 7)
    settled(first)
    commits, second = repository.note(), BackgroundPushes(repository, "tester/run", tmp_path)
    second.take_up()
    start(second, 3)
    assert second.finish() == []
    assert [title for title, _ in commits] == ["step 3"]


def test_two_trainers_of_one_folder_lose_nothing_and_leave_nothing(repository: FakeRepository, tmp_path: Path):
    """The second is resumed while the first still pushes, and takes up what that has not pushed yet."""
    begun, go_on = Event(), Event()

    def wait(_: str) -> None:
        begun.set()
        assert go_on.wait(10)

    commits, other = repository.note(wait), FakeRepository(name="tester/run", token="hf_t")
    first = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        start(first, step, place=f"checkpoint-{step}")
    assert begun.wait(10)
    others, second = other.note(), BackgroundPushes(other, "tester/run", tmp_path)
    second.take_up()
    assert second.finish() == []
    go_on.set()
    assert first.finish() == []
    assert {name.partition("/")[0] for _, files in others for name in files} == {
        "config.json",
        "checkpoint-1",
        "checkpoint-2",
    }
    assert commits == [("step 1", {})], "what has arrived meanwhile is not sent again, nor an older model over it"
    assert not (tmp_path / "_unpushed").exists()


@pytest.mark.parametrize("other", [{"name": "tester/other"}, {"revision": "trial"}])
def test_what_goes_elsewhere_is_left_alone(repository: FakeRepository, tmp_path: Path, other: dict[str, str]):
    repository.note(failing_for(1))
    start(first := BackgroundPushes(repository, "tester/run", tmp_path), 1)
    settled(first)
    elsewhere = FakeRepository(**({"name": "tester/run", "token": "hf_t"} | other))
    second = BackgroundPushes(elsewhere, elsewhere.name, tmp_path)
    second.take_up()
    assert second.messages() == []
    assert len(first.messages()) == 1


def test_a_model_that_is_pushed_at_the_end_stands_for_those_of_its_steps(repository: FakeRepository, tmp_path: Path):
    repository.note(failing_for(1, 2))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        start(pushes, step, place=f"checkpoint-{step}")
        settled(pushes)
    root_was_pushed(tmp_path, "tester/run", "trial")
    assert "The model and the checkpoint of step 2" in pushes.messages()[1]
    root_was_pushed(tmp_path, "tester/run", None)
    assert [message.partition(" was")[0] for message in pushes.messages()] == [
        f"The checkpoint of step {i}" for i in (1, 2)
    ]
    commits = repository.note()
    assert pushes.finish() == []
    assert all(name.startswith("checkpoint-") for _, files in commits for name in files)


def test_a_step_that_is_saved_again_leaves_its_copy_as_it_was(repository: FakeRepository, tmp_path: Path):
    repository.note(failing_for(1))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    checkpoint = start(pushes, 1)
    settled(pushes)
    keep_apart(checkpoint, tmp_path)
    (checkpoint / "config.json").write_text("again")
    commits = repository.note()
    assert pushes.finish() == []
    assert commits[0][1]["config.json"] == b"1"


def test_a_run_that_ends_early_leaves_the_rest_of_the_line(repository: FakeRepository, tmp_path: Path):
    begun, go_on = Event(), Event()

    def wait(_: str) -> None:
        begun.set()
        assert go_on.wait(10)

    commits = repository.note(wait)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2, 3):
        start(pushes, step)
    assert begun.wait(10)
    (message,) = pushes.stop(0.05)
    assert message.startswith("The model and the checkpoint of step 3 were not pushed")
    go_on.set()
    settled(pushes)
    assert [title for title, _ in commits] == ["step 1"]
    assert pushes.finish() == []
    assert [title for title, _ in commits] == ["step 1", "step 3"]


# ---- Patience ----


def test_others_do_not_wait_longer_for_a_push_than_patience_lasts(repository: FakeRepository, tmp_path: Path):
    """It goes on alone, and what was behind it stays."""
    go_on = Event()
    commits = repository.note(lambda _: go_on.wait(10))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        start(pushes, step, place=f"checkpoint-{step}")
    told = pushes.finish(Patience(0.05), others_wait=True)
    assert ["its push was still running when training ended" in message for message in told] == [True, False]
    assert told[1].startswith("The model and the checkpoint of step 2 were not pushed")
    go_on.set()
    settled(pushes)
    assert [title for title, _ in commits] == ["step 1"]
    assert [message.partition(" not pushed")[0] for message in pushes.messages()] == [
        "The model and the checkpoint of step 2 were"
    ]
    assert pushes.finish(Patience(10), others_wait=True) == []
    assert not (tmp_path / "_unpushed").exists()


def test_where_nobody_waits_a_long_upload_may_come_to_its_end(repository: FakeRepository, tmp_path: Path):
    commits = repository.note(lambda _: time.sleep(0.1))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    assert pushes.finish(Patience(0.01)) == []
    assert len(commits) == 1


def test_what_failed_is_not_tried_again_after_patience_is_over(repository: FakeRepository, tmp_path: Path):
    asked: list[str] = []

    def before(message: str) -> None:
        asked.append(message)
        raise ConnectionResetError("gone")

    repository.note(before)
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    settled(pushes)
    assert len(pushes.finish(Patience(0))) == 1
    assert asked == ["step 1"]


def test_a_run_that_goes_on_after_its_end_has_its_patience_again(repository: FakeRepository, tmp_path: Path):
    given: list[float] = []
    repository.note(lambda _: given.append(pushes._patience.left))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    pushes.stop(0)
    start(pushes, 1)
    assert pushes.finish() == []
    assert given == [float("inf")]


def test_a_push_that_takes_long_does_not_go_over_a_later_model(repository: FakeRepository, tmp_path: Path):
    """Such as the finished folder, pushed from elsewhere while this one was under way."""
    commits = repository.note(lambda _: root_was_pushed(tmp_path, "tester/run", "main"))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    assert pushes.finish() == []
    ((_, files),) = commits
    assert files.keys() == {"last-checkpoint/config.json", "last-checkpoint/optimizer.pt"}
    assert not (tmp_path / "_unpushed").exists()


def test_each_failure_tells_what_the_checkpoints_that_wait_take_of_the_disk(
    repository: FakeRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    repository.note(failing_for(1, 2))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    for step in (1, 2):
        checkpoint = start(pushes, step, place=f"checkpoint-{step}")
        settled(pushes)
        shutil.rmtree(checkpoint)
    first, second = (record.message for record in caplog.records if "Training goes on" in record.message)
    assert f"Until then 1 checkpoint that is not on the Hub is kept in '{tmp_path / '_unpushed'}'" in first
    assert "Until then 2 checkpoints not on the Hub are kept" in second
    assert "whatever `save_total_limit` deletes: 0.0 MB of disk beyond the run's own so far" in second


@pytest.mark.parametrize("content", ["{", None])
def test_a_record_that_is_spoilt_meanwhile_ends_no_training(
    repository: FakeRepository, tmp_path: Path, content: str | None
):
    repository.note(failing_for(1))
    pushes = BackgroundPushes(repository, "tester/run", tmp_path)
    start(pushes, 1)
    settled(pushes)
    record = tmp_path / "_unpushed" / "checkpoint-1.json"
    record.unlink() if content is None else record.write_text(content)
    assert len(pushes.messages()) == (content is not None)
    repository.note()
    pushes.finish()
