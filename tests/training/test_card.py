"""The card that a trainer writes by itself tells its run as it was."""

import json
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
