"""The moving average: what it holds, where it is used, that it is never lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, TrainerCallback, set_seed

from hf_contrastive import ContrastiveTrainer
from hf_contrastive.training.ema import EMA, EMA_FILE, averaged_tensors
from tests.training.test_trainer import make_trainer
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig, three_columns


SAVES = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


class Record(TrainerCallback):
    """Copies of all parameters and buffers before the first and after each step."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.steps = [self.copy(model)]

    @staticmethod
    def copy(model: torch.nn.Module) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in model.state_dict().items()}

    def on_step_end(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.steps.append(self.copy(model))


def recorded(trainer: ContrastiveTrainer) -> Record:
    record = Record(trainer.model)
    trainer.add_callback(record)
    trainer.train()
    return record


def test_it_is_the_weighted_mean_of_all_steps(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.75, max_steps=3)
    steps = recorded(trainer).steps
    assert len(steps) == 4
    for name, average in trainer.ema.averages.items():
        # 0.75^3 of the start, then 0.25 times a power of 0.75 of each step, in double precision.
        weights = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
        expected = sum(w * step[name].double() for w, step in zip(weights, steps, strict=True))
        torch.testing.assert_close(average.double(), expected, rtol=0, atol=2e-7)


def test_buffers_are_averaged_and_counters_copied(tmp_path: Path):
    trainer = make_trainer(ThreeTowers(ThreeTowersConfig()), three_columns(), tmp_path, ema_decay=0.5, max_steps=2)
    first, second, third = (step for step in recorded(trainer).steps)
    mean, count = "audio_model.2.running_mean", "audio_model.2.num_batches_tracked"
    expected = 0.25 * first[mean] + 0.25 * second[mean] + 0.5 * third[mean]
    torch.testing.assert_close(trainer.ema.averages[mean], expected, rtol=0, atol=1e-7)
    assert trainer.ema.averages[count] == third[count] == 2


def test_what_is_frozen_is_not_averaged(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, freeze_towers=["image"])
    trainer.train()
    assert not [name for name in trainer.ema.averages if name.startswith("vision_model")]
    assert "logit_scale" in trainer.ema.averages


def test_it_sees_the_temperature_after_its_bound(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    clip.logit_scale.data.fill_(5.0)
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, max_logit_scale=20.0, learning_rate=0.5)
    trainer.train()
    assert trainer.ema.averages["logit_scale"].exp() <= 20.0 * (1 + 1e-6)


def test_it_is_in_single_precision_where_the_model_is_in_half(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip.bfloat16(), dataset, tmp_path, ema_decay=0.999)
    trainer.train()
    assert {x.dtype for x in trainer.ema.averages.values()} == {torch.float32}
    # Steps of a thousandth that bfloat16 would round away.
    name = "text_projection.weight"
    assert not torch.equal(trainer.ema.averages[name], trainer.ema.averages[name].bfloat16().float())


def test_accumulated_batches_are_one_step(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(
        clip, dataset, tmp_path, ema_decay=0.5, max_steps=1, gradient_accumulation_steps=2, optim="sgd"
    )
    before, after = recorded(trainer).steps
    expected = 0.5 * (before["logit_scale"] + after["logit_scale"])
    torch.testing.assert_close(trainer.ema.averages["logit_scale"], expected, rtol=0, atol=1e-7)


def test_steps_that_a_gradient_scaler_skips_do_not_count(clip: CLIPModel):
    ema = EMA(0.5)
    ema.on_step_begin(model=clip)
    start = ema.averages["logit_scale"].clone()
    clip.logit_scale.data.add_(1.0)
    ema.on_step_end(model=clip, optimizer=SimpleNamespace(step_was_skipped=True))
    assert ema.averages["logit_scale"] == start
    ema.on_step_end(model=clip, optimizer=SimpleNamespace(step_was_skipped=False))
    assert ema.averages["logit_scale"].item() == pytest.approx(start.item() + 0.5, rel=1e-6)


# ---- Evaluation ----


def test_evaluation_is_that_of_a_model_with_the_averages(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, evaluate_ema=True)
    trainer.train()
    metrics, predictions = trainer.evaluate(), trainer.predict(dataset).predictions
    raw = make_trainer(clip, dataset, tmp_path).evaluate()
    assert metrics["eval_loss"] != raw["eval_loss"]
    clip.load_state_dict(trainer.ema.averages, strict=False)
    plain = make_trainer(clip, dataset, tmp_path)
    own = {name: value for name, value in plain.evaluate().items() if not name.endswith(("time", "second", "epoch"))}
    assert {name: metrics[name] for name in own} == own
    for ours, theirs in zip(predictions, plain.predict(dataset).predictions, strict=True):
        assert (ours == theirs).all()


def test_weights_are_exactly_restored_after_evaluation_and_after_errors(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, evaluate_ema=True)
    trainer.train()
    before = Record.copy(clip)
    trainer.evaluate({"one": dataset, "two": dataset})
    with pytest.raises(ValueError, match="has no examples"):
        trainer.evaluate(dataset.select([]))
    for name, x in clip.state_dict().items():
        assert torch.equal(x, before[name]), name


def test_evaluation_before_training_is_that_of_the_weights(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    averaged = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, evaluate_ema=True).evaluate()
    assert averaged["eval_loss"] == make_trainer(clip, dataset, tmp_path).evaluate()["eval_loss"]


def test_evaluation_changes_nothing_in_training(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    start, ends = Record.copy(clip), []
    for options in ({}, {"ema_decay": 0.5, "evaluate_ema": True, "eval_strategy": "steps", "eval_steps": 1}):
        clip.load_state_dict(start)
        set_seed(2)
        make_trainer(clip, dataset, tmp_path, **options).train()
        ends.append(Record.copy(clip))
    for name, x in ends[0].items():
        assert torch.equal(x, ends[1][name]), name


# ---- Checkpoints ----


def test_a_checkpoint_holds_weights_and_averages(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, **SAVES)
    trainer.train()
    saved = load_file(tmp_path / "checkpoint-4" / EMA_FILE)
    assert saved.keys() == averaged_tensors(clip).keys()
    for name, average in trainer.ema.averages.items():
        assert torch.equal(saved[name], average)
    again = CLIPModel.from_pretrained(tmp_path / "checkpoint-4")
    assert torch.equal(again.text_projection.weight, clip.text_projection.weight)


def test_it_goes_on_where_a_run_was_interrupted(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    start = Record.copy(clip)
    whole = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, **SAVES)
    whole.train()
    clip.load_state_dict(start)
    resumed = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, **SAVES)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, average in whole.ema.averages.items():
        assert torch.equal(resumed.ema.averages[name], average), name


def test_a_checkpoint_without_it_starts_a_new_one(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    make_trainer(clip, dataset, tmp_path, **SAVES).train()
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, **SAVES)
    record = Record(clip)
    trainer.add_callback(record)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    start = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    _, third, fourth = record.steps
    for name, average in trainer.ema.averages.items():
        expected = 0.25 * start[name] + 0.25 * third[name] + 0.5 * fourth[name]
        torch.testing.assert_close(average, expected, rtol=0, atol=2e-7)


def test_averages_of_other_parameters_are_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    make_trainer(clip, dataset, tmp_path, ema_decay=0.5, freeze_towers=["image"], **SAVES).train()
    clip.vision_model.requires_grad_(True)
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, **SAVES)
    with pytest.raises(ValueError, match=r"averages of other parameters than those that are trained: \['vision_model"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_it_can_be_the_model_in_the_end(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, save_ema=True)
    steps = recorded(trainer).steps
    trainer.save_model()
    again = CLIPModel.from_pretrained(tmp_path)
    for name, average in trainer.ema.averages.items():
        assert torch.equal(again.state_dict()[name], average), name
    assert not torch.equal(again.text_projection.weight, steps[-1]["text_projection.weight"])


def test_the_best_model_comes_with_its_own_averages(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "evaluate_ema": True}
    # Nothing gets better after the first evaluation.
    trainer = make_trainer(clip, dataset, tmp_path, ema_decay=0.5, save_ema=True, **SAVES, **best)
    trainer.compute_metrics = lambda _: {"rank": -trainer.state.global_step}
    trainer.args.metric_for_best_model, trainer.args.greater_is_better = "eval_rank", True
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    for name, average in load_file(tmp_path / "checkpoint-2" / EMA_FILE).items():
        assert torch.equal(clip.state_dict()[name], average), name


# ---- Errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_decay": 1.0}, "ema_decay must be from 0 to below 1, but got 1.0"),
        ({"ema_decay": -0.1}, "ema_decay must be from 0 to below 1, but got -0.1"),
        ({"evaluate_ema": True}, "need a moving average: set ema_decay"),
        ({"save_ema": True}, "need a moving average: set ema_decay"),
    ],
)
def test_an_impossible_average_is_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        make_trainer(clip, dataset, tmp_path, **options)
