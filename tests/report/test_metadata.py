"""The metadata of a card: what the Hub finds, filters and shows a model by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.metrics import geometry_report, retrieval_report
from hf_contrastive.report import check_card, write_model_card
from hf_contrastive.report.facts import TowerFacts, TrainingFacts
from tests.report.runs import FACTS, METRICS, front_matter, make_embeds, make_result, write_card


def test_front_matter_names_library_pipeline_and_loss(tmp_path: Path):
    front = front_matter(write_card(tmp_path))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert {"hf_contrastive", "loss:clip"} <= set(front["tags"])
    assert not {"base_model", "base_model_relation"} & set(front)


def test_front_matter_names_the_base_model(tmp_path: Path):
    text = write_card(tmp_path, base_model="openai/clip-vit-base-patch32")
    assert front_matter(text)["base_model"] == "openai/clip-vit-base-patch32"
    assert front_matter(text)["base_model_relation"] == "finetune"
    assert (
        "fine-tuned from [openai/clip-vit-base-patch32](https://huggingface.co/openai/clip-vit-base-patch32)" in text
    )


def test_a_folder_is_no_base_model(tmp_path: Path):
    text = write_card(tmp_path, base_model="/home/me/models/clip")
    assert "base_model" not in front_matter(text)
    assert "huggingface.co//home" not in text


def test_models_without_zero_shot_pipeline_are_feature_extractors(tmp_path: Path):
    assert front_matter(write_card(tmp_path, model_type="clap"))["pipeline_tag"] == "feature-extraction"
    front = front_matter(write_card(tmp_path, model_type="siglip", zero_shot=False))
    assert front["pipeline_tag"] == "feature-extraction"


def test_the_numbers_of_the_model_index_are_those_measured(tmp_path: Path):
    write_card(tmp_path)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert results is not None
    # What sampling alone would show is no result of the model.
    kinds = ("retrieval/", "geometry/modality_gap_image")
    measured = {name: value for name, value in METRICS.items() if name.startswith(kinds)}
    assert {result.metric_name: result.metric_value for result in results} == pytest.approx(measured, abs=5e-5)
    assert {result.dataset_name for result in results} == {"embedded scenes"}


@pytest.mark.parametrize("name", ["pairs: 'quoted' #1", "größer | kleiner", "{{ braces }}"])
def test_odd_names_of_data_keep_the_front_matter_valid(tmp_path: Path, name: str):
    front = front_matter(write_card(tmp_path, dataset=name))
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_figures_of_other_data_are_not_filed_under_that_of_training(tmp_path: Path):
    card = write_card(tmp_path, dataset="somebody/coco", test_dataset="flickr")
    (model,) = front_matter(card)["model-index"]
    assert {(r["dataset"]["type"], r["dataset"]["name"]) for r in model["results"]} == {("flickr", "flickr")}
    assert "of the test split of flickr" in card


def test_a_loader_is_no_dataset_of_the_hub(tmp_path: Path):
    assert "datasets" not in front_matter(write_card(tmp_path, dataset="imagefolder"))


def test_models_that_towers_came_from_are_named(tmp_path: Path):
    common: dict[str, Any] = {"parameters": 2, "trainable": 2, "pooling": "cls", "projection": "linear"}
    names = {"image": "facebook/dinov2-small", "text": "answerdotai/ModernBERT-base"}
    towers = tuple(TowerFacts(modality=m, encoder="X", base=base, **common) for m, base in names.items())
    text = write_card(tmp_path, towers=towers)
    assert front_matter(text)["base_model"] == list(names.values())
    # The Hub takes a model of several for a merge unless it is told.
    assert front_matter(text)["base_model_relation"] == "finetune"
    assert (
        ": fine-tuned from [facebook/dinov2-small](https://huggingface.co/facebook/dinov2-small) and [answer" in text
    )
    assert "scratch" not in text


def test_texts_of_two_names_are_filed_under_sentences(tmp_path: Path):
    common: dict[str, Any] = {"encoder": "BertModel", "parameters": 2, "trainable": 2, "pooling": "cls"}
    names = ("document", "query")
    towers = tuple(TowerFacts(modality=m, kind="text", projection="linear", **common) for m in names)
    text = write_card(tmp_path, towers=towers, modalities=names, model_type="multi_encoder", plain=False)
    assert front_matter(text)["pipeline_tag"] == "sentence-similarity"
    assert front_matter(text)["model-index"][0]["results"][0]["task"]["type"] == "retrieval"


def test_each_pair_of_modalities_has_a_task_of_its_own(tmp_path: Path):
    embeds = make_embeds(modalities=("audio", "image", "text"))
    metrics = {"logit_scale": 10.0, "loss": 1.0} | geometry_report(embeds) | retrieval_report(embeds, detailed=True)
    facts = TrainingFacts(**FACTS | {"modalities": ("audio", "image", "text")})
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    result = replace(make_result("clip"), metrics=metrics)
    write_model_card(tmp_path, [result], args, facts, picture="geometry.png")
    (tmp_path / "geometry.png").touch()
    check_card(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for found in ModelCard.load(tmp_path / "README.md").data.eval_results or []:
        assert (found.task_type == "image-text-retrieval") == ("audio" not in found.metric_name), found.metric_name
    assert "![The clouds of every two modalities," in text
    assert "![The clouds of both modalities," in write_card(tmp_path / "two", picture="geometry.png")
