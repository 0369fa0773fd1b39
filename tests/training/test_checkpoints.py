"""Runs that are killed go on as if nothing had happened, and no half-written checkpoint is taken for a whole one."""

import json
import os
import subprocess
import sys
from logging import Handler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import CLIPModel, TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from hf_contrastive import ContrastiveTrainer
from hf_contrastive.testing import run_distributed
from hf_contrastive.training.checkpoints import Checkpoints, Part, last_complete_checkpoint, resolve_checkpoint, rotate
from hf_contrastive.training.manifest import BLOCK, MANIFEST, NUM_BLOCKS, WHOLE, faults_of, write_manifest
from tests.conftest import make_dataset, tiny_clip
from tests.training.test_trainer import make_trainer


ROOT = Path(__file__).parents[2]
CASES = [
    ("map", "in step 7"),
    ("map", "right after save 8"),
    ("map", "in save 8, half of the optimizer written"),
    ("stream", "in save 8, all written but the manifest"),
    ("map, 2 workers", "SIGTERM in step 7"),
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed_runs", str(folder), json.dumps(CASES)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {(row["run"], row["ended"]): row for row in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.slow
@pytest.mark.parametrize(("run", "end"), CASES)
def test_a_killed_run_goes_on_to_the_same_bits(killed: dict[tuple[str, str], dict[str, Any]], run: str, end: str):
    row = killed[run, end]
    # The process ended by the signal that was meant, and another one went on from what it left.
    assert row["as_told"]
    assert row["resumed"]
    assert {name: row[name] for name in ("weights", "queue", "log")} == {"weights": True, "queue": True, "log": True}


@pytest.mark.slow
def test_the_last_whole_checkpoint_is_there_until_the_next_one_is(killed: dict[tuple[str, str], dict[str, Any]]):
    # `save_total_limit` is 1 in all of these.
    row = killed["map", "in save 8, half of the optimizer written"]
    assert (row["left"], row["from"]) == (["checkpoint-4", "checkpoint-8"], "checkpoint-4")
    row = killed["map", "right after save 8"]
    assert (row["left"], row["from"]) == (["checkpoint-8"], "checkpoint-8")


def test_normal_numbers_that_a_model_draws_from_numpy_go_on(clip: CLIPModel, tmp_path: Path):
    drawn: list[tuple[int, float]] = []

    class Draw(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # One at a time: numpy makes two and keeps the second.
            drawn.append((state.global_step, np.random.normal()))

    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    for resumed in (None, str(tmp_path / "checkpoint-1")):
        trainer = make_trainer(clip, make_dataset(64), tmp_path, **options)
        trainer.add_callback(Draw)
        trainer.train(resume_from_checkpoint=resumed)
    assert [step for step, _ in drawn] == [0, 1, 2, 3, 1, 2, 3]
    assert drawn[4:] == drawn[1:4]


def test_a_finished_run_takes_no_further_step(clip: CLIPModel, tmp_path: Path):
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    make_trainer(clip, make_dataset(24), tmp_path, **options).train()
    weights = [p.detach().clone() for p in clip.parameters()]
    again = make_trainer(clip, make_dataset(24), tmp_path, **options)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 2
    assert all(p.equal(x) for p, x in zip(clip.parameters(), weights, strict=True))


# ---- Complete or not ----


def checkpoint(output_dir: Path, step: int, *, complete: bool = True) -> Path:
    folder = output_dir / f"checkpoint-{step}"
    (folder / "shards").mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"o" * 100)
    (folder / "shards" / "0.bin").write_bytes(b"s" * 10)
    if complete:
        write_manifest(folder)
    return folder


def test_a_checkpoint_with_its_manifest_is_complete(tmp_path: Path):
    folder = checkpoint(tmp_path, 1)
    assert faults_of(folder) == []
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == {"optimizer.pt", "shards/0.bin"}


def test_every_fault_is_named(tmp_path: Path):
    folder = checkpoint(tmp_path, 1)
    (folder / "shards" / "0.bin").unlink()
    (folder / "optimizer.pt").write_bytes(b"o" * 60)
    assert faults_of(folder) == ["optimizer.pt has 60 of 100 bytes", "shards/0.bin is missing"]
    (folder / "optimizer.pt").write_bytes(b"o" * 99 + b"x")
    assert faults_of(folder)[0] == "optimizer.pt has other contents than were written"
    (folder / MANIFEST).write_text('{"files"')
    assert "is no manifest (JSONDecodeError" in faults_of(folder)[0]
    (folder / MANIFEST).unlink()
    assert faults_of(folder) == [f"{MANIFEST} is missing, so its save was interrupted"]


@pytest.mark.parametrize("place", [0, 0.4, 0.8])
def test_a_lost_stretch_of_a_large_file_shows(tmp_path: Path, place: float):
    folder, size = checkpoint(tmp_path, 1, complete=False), 5 * WHOLE
    file = folder / "model.safetensors"
    file.write_bytes(b"weights." * (size // 8))
    write_manifest(folder)
    assert faults_of(folder) == []
    with file.open("r+b") as opened:
        opened.seek(int(place * size))
        # Blocks that are hashed lie no farther apart.
        opened.write(bytes(size // (NUM_BLOCKS - 1) + BLOCK))
    assert faults_of(folder) == ["model.safetensors has other contents than were written"]


def test_the_last_complete_one_is_found_and_others_are_warned_of(tmp_path: Path):
    for step in (2, 10):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 30, complete=False)
    (checkpoint(tmp_path, 20) / "optimizer.pt").unlink()
    warned: list[str] = []
    logging.get_logger("hf_contrastive.training.checkpoints").addHandler(handler := _Collect(warned))
    found = last_complete_checkpoint(tmp_path)
    logging.get_logger("hf_contrastive.training.checkpoints").removeHandler(handler)
    assert found == str(tmp_path / "checkpoint-10")
    assert ["checkpoint-30 is passed over" in warned[0], "optimizer.pt is missing" in warned[1]] == [True, True]
    # What the Trainer itself would have taken.
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-30")


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_true_is_the_last_complete_one(tmp_path: Path, value: Any):
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4, complete=False)
    assert resolve_checkpoint(value, tmp_path) == str(tmp_path / "checkpoint-2")
    assert resolve_checkpoint(str(tmp_path / "checkpoint-2"), tmp_path) == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize("value", [None, False, "false"])
def test_nothing_is_resumed_unless_asked(tmp_path: Path, value: Any):
    checkpoint(tmp_path, 2)
    assert resolve_checkpoint(value, tmp_path) is None


def test_an_incomplete_one_is_refused_by_name_of_the_last_complete_one(tmp_path: Path):
    checkpoint(tmp_path, 2)
    broken = checkpoint(tmp_path, 4, complete=False)
    with pytest.raises(ValueError, match=r"checkpoint-4' is not complete: .* The last complete one .*checkpoint-2'"):
        resolve_checkpoint(str(broken), tmp_path)
    write_manifest(broken)
    assert resolve_checkpoint(str(broken), tmp_path) == str(broken)


def test_weights_alone_are_nothing_to_go_on_from(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    trainer = make_trainer(clip, dataset, tmp_path, **options)
    trainer.train()
    for resume in (True, str(tmp_path / "checkpoint-1")):
        with pytest.raises(ValueError, match="has weights alone, as `save_only_model` asks"):
            trainer.train(resume_from_checkpoint=resume)


def test_a_folder_that_is_not_there_and_a_run_without_checkpoints_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no folder '.*checkpoint-9'"):
        resolve_checkpoint(str(tmp_path / "checkpoint-9"), tmp_path)
    with pytest.raises(ValueError, match=rf"There is no complete checkpoint in '{tmp_path}'\."):
        resolve_checkpoint(True, tmp_path)
    checkpoint(tmp_path, 4, complete=False)
    with pytest.raises(ValueError, match="only checkpoint-4, which are not"):
        resolve_checkpoint(True, tmp_path)


# ---- Rotation ----


def left(output_dir: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in output_dir.glob("checkpoint-*"))


def test_incomplete_checkpoints_go_first_then_the_oldest(tmp_path: Path):
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step, complete=step != 6)
    newest = tmp_path / "checkpoint-8"
    rotate(newest, 3)
    assert left(tmp_path) == [2, 4, 8]
    rotate(newest, 2)
    assert left(tmp_path) == [4, 8]


def test_the_best_and_the_newest_stay(tmp_path: Path):
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step)
    # A run that begins anew in an old folder writes lower steps than lie there.
    rotate(tmp_path / "checkpoint-4", 1, best=str(tmp_path / "checkpoint-2"))
    assert left(tmp_path) == [2, 4]
    rotate(tmp_path / "checkpoint-4", None)
    assert left(tmp_path) == [2, 4]


def test_a_checkpoint_is_pushed_and_others_deleted_when_it_is_complete(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = make_trainer(
        clip, dataset, tmp_path, max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=1
    )
    pushed = []

    def push(folder: str) -> None:
        pushed.append(
            (Path(folder).name, faults_of(folder), torch.load(f"{folder}/training_args.bin", weights_only=False))
        )

    monkeypatch.setattr(trainer, "_push_from_checkpoint", push)
    trainer.args.push_to_hub = True
    monkeypatch.setattr(trainer, "_finish_current_push", lambda: None)
    trainer.train()
    assert [(name, faults) for name, faults, _ in pushed] == [(f"checkpoint-{step}", []) for step in (1, 2, 3)]
    assert {(args.save_total_limit, args.push_to_hub) for *_, args in pushed} == {(1, True)}
    assert left(tmp_path) == [3]


# ---- Parts ----


def part(name: str, values: dict[str, str], **kwargs: Any) -> Part:
    return Part(
        file=name,
        save=lambda file: Path(file).write_text(values[name]),
        load=lambda file: values.update({name: file.read_text()}),
        missing="it starts afresh",
        **kwargs,
    )


def test_parts_are_saved_before_the_manifest_and_come_back(tmp_path: Path):
    values = {"ema.txt": "1", "stream.txt": "2"}
    parts = Checkpoints()
    parts.add(part("ema.txt", values))
    parts.add(part("stream.txt", values, per_process=True))
    args = SimpleNamespace(should_save=True, save_total_limit=None, hub_token=None)
    folder = tmp_path / "checkpoint-1"
    parts.begin(folder, args)
    parts.finish(folder, args, best=None)
    assert {"ema.txt", "stream_0.txt"} <= set(json.loads((folder / MANIFEST).read_text())["files"])
    values.update({"ema.txt": "", "stream.txt": ""})
    parts.load(folder)
    assert values == {"ema.txt": "1", "stream.txt": "2"}
    with pytest.raises(ValueError, match=r"already called 'ema\.txt'"):
        parts.add(part("ema.txt", values))


def test_a_part_that_a_checkpoint_lacks_is_warned_of(tmp_path: Path):
    parts, values, warned = Checkpoints(), {"ema.txt": "now"}, []
    parts.add(part("ema.txt", values))
    logging.get_logger("hf_contrastive.training.checkpoints").addHandler(handler := _Collect(warned))
    parts.load(tmp_path)
    logging.get_logger("hf_contrastive.training.checkpoints").removeHandler(handler)
    assert warned == ["The checkpoint has no ema.txt: it starts afresh."]
    assert values == {"ema.txt": "now"}


def test_a_save_of_the_same_step_is_incomplete_until_it_ends(tmp_path: Path):
    folder = checkpoint(tmp_path, 1)
    Checkpoints().begin(folder, SimpleNamespace(should_save=True))
    assert faults_of(folder) == [f"{MANIFEST} is missing, so its save was interrupted"]


# ---- Several processes ----


def end_together_and_go_on(folder: str) -> None:
    options = {"per_device_train_batch_size": 4, "max_steps": 4, "enable_jit_checkpoint": True, "log_geometry": False}

    def trainer_in(name: str) -> ContrastiveTrainer:
        set_seed(0)
        return make_trainer(tiny_clip(), make_dataset(32), Path(folder) / name, **options)

    whole = trainer_in("whole")
    whole.train()
    ended = trainer_in("ended")
    if dist.get_rank() == 1:
        # One process alone has heard of the signal.
        ended.preemption.jit_manager.is_checkpoint_requested = True
    ended.train()
    assert (ended.terminated, ended.state.global_step) == (True, 1)
    dist.barrier()
    saved = {path.name for path in (Path(folder) / "ended" / "checkpoint-1").iterdir()}
    assert {
        MANIFEST,
        "loss_log_0.safetensors",
        "loss_log_1.safetensors",
        "rng_state_0.pth",
        "rng_state_1.pth",
    } <= saved
    resumed = trainer_in("ended")
    resumed.train(resume_from_checkpoint=True)
    for x, y in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert x.equal(y)
    losses = [[log["loss"] for log in t.state.log_history if "loss" in log] for t in (whole, resumed)]
    assert losses[0] == losses[1]
    (Path(folder) / "ended" / "checkpoint-1" / MANIFEST).unlink(missing_ok=True)
    dist.barrier()
    # All raise, so none is left waiting.
    with pytest.raises(ValueError, match="There is no complete checkpoint"):
        trainer_in("ended").train(resume_from_checkpoint=True)
    dist.barrier()


@pytest.mark.distributed
@pytest.mark.timeout(120)
def test_processes_end_together_and_go_on(tmp_path: Path):
    run_distributed(end_together_and_go_on, str(tmp_path), num_processes=2)


class _Collect(Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__()
        self.into = into

    def emit(self, record: Any) -> None:
        self.into.append(record.getMessage())
