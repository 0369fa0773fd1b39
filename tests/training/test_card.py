"""The card that a trainer writes by itself tells its run as it was."""

import json
import logging
from pathlib import Path

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import CLIPModel

from hf_contrastive.report import check_card, read_results
from tests.training.test_trainer import make_trainer


def test_a_card_has_the_figures_of_the_latest_evaluation_beside_those_before_training(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    trainer = make_trainer(clip, dataset, tmp_path, eval_on_start=True)
    trainer.train()
    metrics = trainer.evaluate()
    trainer.create_model_card(license="mit", language="en", tags="mine", dataset_tags="somebody/pairs")
    check_card(tmp_path)
    (result,) = read_results(tmp_path / "metrics.json")
    recall = "retrieval/image_to_text_recall@1"
    first = next(log for log in trainer.state.log_history if f"eval_{recall}" in log)
    assert first["step"] == 0
    assert result.before is not None
    assert result.before[recall] == first[f"eval_{recall}"]
    assert result.metrics[recall] == metrics[f"eval_{recall}"]
    assert (result.steps, result.batch_size, result.test_rows) == (2, 8, len(dataset))
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.language, card.data.datasets) == ("mit", "en", ["somebody/pairs"])
    assert {"mine", "hf_contrastive", "loss:clip"} <= set(card.data.tags or [])
    for said in ("16 training pairs", "7 other items per row", f"1 / {result.metrics['logit_scale']:.1f} at the end"):
        assert said in card.text


@pytest.mark.parametrize("steps", [0, 2])
def test_a_model_that_was_not_measured_says_so(clip: CLIPModel, dataset: Dataset, tmp_path: Path, steps: int):
    trainer = make_trainer(clip, dataset, tmp_path, eval_dataset=None)
    if steps:
        trainer.train()
    trainer.create_model_card()
    check_card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Nothing was measured" in text
    assert "candidates" not in text
    assert "image tower" in text


def test_of_several_evaluation_sets_the_first_is_told(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, eval_dataset={"few": dataset.select(range(6)), "all": dataset})
    trainer.train()
    metrics = trainer.evaluate()
    trainer.create_model_card()
    (result,) = json.loads((tmp_path / "metrics.json").read_text())
    assert result["test_rows"] == 6
    assert result["metrics"]["loss"] == metrics["eval_few_loss"]


def test_a_test_after_training_is_told_rather_than_what_was_watched(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, eval_strategy="epoch", eval_on_start=True)
    trainer.train()
    metrics = trainer.evaluate(dataset.select(range(5)), metric_key_prefix="test")
    trainer.create_model_card()
    (result,) = read_results(tmp_path / "metrics.json")
    assert (result.test_rows, result.metrics["loss"], result.before) == (5, metrics["test_loss"], None)


def test_other_rows_are_not_compared_with_the_figures_of_before(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, eval_on_start=True)
    trainer.train()
    trainer.evaluate(dataset.select(range(5)))
    trainer.create_model_card()
    (result,) = read_results(tmp_path / "metrics.json")
    assert (result.test_rows, result.before) == (5, None)


def test_the_best_model_has_its_own_figures_and_temperature(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(
        clip,
        dataset,
        tmp_path,
        load_best_model_at_end=True,
        metric_for_best_model="logit_scale",
        # Which falls in these three steps.
        greater_is_better=True,
        max_steps=3,
        **steps,
    )
    trainer.train()
    trainer.create_model_card()
    (result,) = read_results(tmp_path / "metrics.json")
    log = next(log for log in trainer.state.log_history if log["step"] == 1 and "eval_loss" in log)
    assert trainer.state.best_global_step == 1
    assert result.metrics["loss"] == log["eval_loss"]
    assert result.metrics["logit_scale"] == pytest.approx(trainer.model.logit_scale.exp().item())
    assert "| checkpoint | that of step 1, the best |" in (tmp_path / "README.md").read_text()


def test_figures_of_other_weights_are_left_out_with_a_warning(
    clip: CLIPModel,
    dataset: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    trainer = make_trainer(
        clip, dataset, tmp_path, ema_decay=0.9, evaluate_ema=True, eval_strategy="epoch", learning_rate=1e-3
    )
    trainer.train()
    monkeypatch.setattr(logging.getLogger("hf_contrastive"), "propagate", True)
    trainer.create_model_card()
    assert "`evaluate_ema` and `save_ema` differ. The card has no figures" in caplog.text
    (result,) = read_results(tmp_path / "metrics.json")
    assert (result.test_rows, list(result.metrics)) == (0, ["logit_scale"])


def test_a_resumed_run_says_since_when(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    make_trainer(clip, dataset, tmp_path, save_strategy="steps", save_steps=1, max_steps=1).train()
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=2)
    assert trainer.resumed_at is None
    trainer.train(resume_from_checkpoint=True)
    trainer.create_model_card()
    (result,) = read_results(tmp_path / "metrics.json")
    assert (result.resumed_at, result.steps) == (1, 2)
    assert "since step 1, from where it was resumed" in (tmp_path / "README.md").read_text()


def test_what_people_wrote_into_it_stays(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path)
    trainer.train()
    trainer.create_model_card()
    path = tmp_path / "README.md"
    path.write_text(path.read_text().replace("## Limits\n", "## Limits\n\nNever shown to cats.\n"))
    trainer.evaluate()
    trainer.create_model_card()
    assert "Never shown to cats." in path.read_text()
    assert "Nothing was measured" not in path.read_text().partition("## Limits")[0]


def test_a_licence_that_the_hub_does_not_know_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="license"):
        make_trainer(clip, dataset, tmp_path).create_model_card(license="mine")
