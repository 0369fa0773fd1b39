"""What the arguments of `transformers` are for here, and those that nothing would follow."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import CLIPModel

from hf_contrastive import ContrastiveTrainer, mix_datasets
from tests.training.test_trainer import make_trainer
from tests.training.test_training_args import make


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"label_smoothing_factor": 0.1}, r"must be left at 0\.0, but got 0\.1: a contrastive loss has no labels"),
        ({"label_names": ["labels"]}, r"label_names must be left at None.*`id_column` of the collator"),
        ({"include_for_metrics": ["inputs"]}, "include_for_metrics must be left at .*embeddings and row numbers"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics must be left at False.*all rows, once"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha must be left at None.*no one input embedding"),
        ({"eval_do_concat_batches": False}, "eval_do_concat_batches must be left at True"),
        ({"train_sampling_strategy": "batch_rebalance"}, "batches have different numbers of rows"),
    ],
)
def test_what_nothing_would_follow_is_refused(option: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **option)


@pytest.mark.parametrize(
    "option",
    [{"label_names": []}, {"include_for_metrics": []}, {"neftune_noise_alpha": 0.0}, {"neftune_noise_alpha": 0}],
)
def test_what_asks_for_nothing_is_taken_as_if_left_out(
    option: dict[str, Any], clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    (name,) = option
    left_out = getattr(make(tmp_path), name)
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=1, **option)
    assert getattr(trainer.args, name) == left_out
    trainer.train()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"model_init": lambda: None}, "Make a model and a trainer of its own for each trial"),
        ({"compute_loss_func": lambda *_: None}, "Give `loss` a function of a `ContrastiveBatch`"),
    ],
)
def test_other_ways_of_training_are_refused(option: dict[str, Any], message: str, clip: CLIPModel, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        ContrastiveTrainer(clip, make(tmp_path), **option)


@pytest.mark.parametrize("mixed", [True, False])
def test_an_order_beside_one_that_the_trainer_makes_is_refused(
    mixed: bool, clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    options = {} if mixed else {"no_duplicates": "id"}
    data = mix_datasets({"one": dataset}) if mixed else dataset.add_column("id", list(range(16)))
    trainer = make_trainer(clip, data, tmp_path, train_sampling_strategy="sequential", **options)
    with pytest.raises(ValueError, match=r"is 'sequential', but .* an order of its own"):
        trainer.train()


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("eval_loss", False),
        ("loss/clip", False),
        ("eval_coco_loss/divergence", False),
        ("retrieval/image_to_text_recall@1", True),
        ("eval_retrieval/image_to_text_median_rank", False),
        ("zero_shot/accuracy", True),
        ("gloss/accuracy", True),
    ],
)
def test_the_best_model_is_that_of_the_better_metric(metric: str, greater: bool, tmp_path: Path):
    assert make(tmp_path, metric_for_best_model=metric).greater_is_better is greater
    assert make(tmp_path, metric_for_best_model=metric, greater_is_better=not greater).greater_is_better is not greater


def test_a_metric_of_geometry_is_neither_good_nor_bad_in_itself(tmp_path: Path):
    name = "geometry/modality_gap_image_text"
    with pytest.raises(ValueError, match="neither less nor more is better in itself: set greater_is_better"):
        make(tmp_path, metric_for_best_model=name)
    assert make(tmp_path, metric_for_best_model=name, greater_is_better=False).greater_is_better is False
