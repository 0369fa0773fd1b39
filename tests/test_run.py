"""A run of a recipe that is started again goes on where it was."""

import signal
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments, PairDataset, small_clip
from hf_contrastive.data import PairSplits
from hf_contrastive.run import Run, train_and_test, with_other_loss
from tests.conftest import TINY, make_pairs


def start(folder: Path, **options: Any) -> Run:
    common: dict[str, Any] = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 8, "loss": "clip"}
    common |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = ContrastiveTrainingArguments(str(folder), **(common | options))
    data = PairDataset(make_pairs(16))
    model, processor = small_clip(data.captions, TINY)
    return train_and_test(model, processor, args, PairSplits(train=data, validation=data, test=data), name="run")


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
