"""A run of a recipe that is started again goes on where it was."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments, PairDataset, small_clip
from hf_contrastive.data import PairSplits
from hf_contrastive.recipe.run import Run, by_pair, make_trainer, save_runs, train_and_test, with_other_loss
from hf_contrastive.report import check_card, read_results
from tests.conftest import TINY, make_pairs


def start(folder: Path, *, measure_before: bool = False, **options: Any) -> Run:
    common: dict[str, Any] = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 8, "loss": "clip"}
    common |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = ContrastiveTrainingArguments(str(folder), **(common | options))
    data = PairDataset(make_pairs(16))
    set_seed(args.seed)
    model, processor = small_clip(data.captions, TINY)
    pairs = PairSplits(train=data, validation=data, test=data)
    return train_and_test(make_trainer(model, processor, args, pairs), data, name="run", measure_before=measure_before)


def test_true_starts_at_the_beginning_and_later_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started = []
    load = ContrastiveTrainer._load_optimizer_and_scheduler
    monkeypatch.setattr(
        ContrastiveTrainer,
        "_load_optimizer_and_scheduler",
        lambda self, checkpoint: (started.append(checkpoint), load(self, checkpoint)),
    )
    first = start(tmp_path, resume_from_checkpoint="true")
    assert started == []
    second = start(tmp_path, resume_from_checkpoint="true", max_steps=3)
    assert started == [str(tmp_path / "checkpoint-2")]
    assert (first.result.steps, second.result.steps) == (2, 3)
    # The time that was measured is that of one step.
    assert (first.result.resumed_at, second.result.resumed_at) == (None, 2)


def test_a_run_that_was_told_to_end_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ContrastiveTrainer, "terminated", True)
    with pytest.raises(SystemExit) as ended:
        start(tmp_path)
    assert ended.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "checkpoint-2").is_dir()


@pytest.mark.parametrize(("given", "other"), [("true", "true"), ("runs/checkpoint-4", None), (None, None)])
def test_another_loss_does_not_go_on_from_a_checkpoint_of_this_one(tmp_path: Path, given: Any, other: Any):
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, resume_from_checkpoint=given)
    assert with_other_loss(args, "clip").resume_from_checkpoint == other


def test_measuring_before_training_changes_nothing_of_it(tmp_path: Path):
    # Data order and captions are drawn, so a draw too many would show.
    plain = start(tmp_path / "a", save_strategy="no")
    measured = start(tmp_path / "b", save_strategy="no", measure_before=True)
    weights = [run.trainer.model.state_dict() for run in (plain, measured)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert plain.result.metrics == measured.result.metrics
    assert plain.result.before is None
    assert measured.result.before is not None
    assert set(measured.result.before) == set(measured.result.metrics)
    assert measured.result.before["loss"] != measured.result.metrics["loss"]


@pytest.mark.parametrize("saved", [True, False])
def test_what_is_measured_is_what_is_saved(tmp_path: Path, saved: bool):
    average = {"ema_decay": 0.9, "evaluate_ema": not saved, "save_ema": saved, "learning_rate": 1e-2}
    run = start(tmp_path, save_strategy="no", **average)
    trainer = run.trainer
    trainer.args.evaluate_ema = False
    assert run.result.metrics["loss"] == trainer.evaluate()["eval_loss"]
    trainer.args.evaluate_ema = True
    assert (run.result.metrics["loss"] == trainer.evaluate()["eval_loss"]) is saved


def test_a_saved_run_has_a_card_that_can_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "mine"
    run = start(folder, save_strategy="no", measure_before=True)
    data = run.trainer.train_dataset
    pairs = PairSplits(train=data, validation=data, test=data)
    save_runs([run], dataset=str(tmp_path / "pairs"), base_model=None, train_rows=len(data), pairs=pairs)
    check_card(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    for line in (
        "| data | pairs, 16 training pairs |",
        "| image tower | `CLIPVisionModel`, ",
        "| negatives | 7 other items per row, in the first batches none with the same text among them |",
        "| model | `CLIPModel` |",
    ):
        assert line in text
    assert "eprint = {2103.00020}" in text
    assert read_results(folder / "metrics.json") == [run.result]


def test_three_modalities_are_drawn_two_at_a_time(tmp_path: Path):
    run = start(tmp_path, save_strategy="no", loss="clip")
    three = Run(
        trainer=run.trainer, result=run.result, embeds={m: torch.zeros(2, 3) for m in ("text", "image", "audio")}
    )
    assert list(by_pair([run])) == ["run"]
    assert {name: list(embeds) for name, embeds in by_pair([three]).items()} == {
        "run\naudio and image": ["audio", "image"],
        "run\naudio and text": ["audio", "text"],
        "run\nimage and text": ["image", "text"],
    }
