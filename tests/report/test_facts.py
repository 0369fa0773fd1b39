"""Facts of a run for its card."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from hf_contrastive.report.facts import Sharing, TrainingFacts, describe_inputs, describe_towers, is_local
from tests.conftest import tiny_clip, tiny_dual_encoder, tiny_siglip


@pytest.mark.parametrize(
    ("model", "image", "text"),
    [
        (tiny_clip(), "class token", "end-of-text token"),
        (tiny_siglip(), "attention", "last token"),
        (tiny_dual_encoder(), "its own pooler", "its own pooler"),
    ],
    ids=["clip", "siglip", "vision_text"],
)
def test_towers_are_told_with_pooling_and_parameters(model: PreTrainedModel, image: str, text: str):
    towers = {tower.modality: tower for tower in describe_towers(model)}
    assert (towers["image"].pooling, towers["text"].pooling) == (image, text)
    own = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("logit"))
    assert sum(tower.parameters for tower in towers.values()) == own
    assert all(tower.trainable == tower.parameters for tower in towers.values())


def test_frozen_parameters_are_not_counted_as_trained():
    model = tiny_clip()
    model.vision_model.requires_grad_(False)
    towers = {tower.modality: tower for tower in describe_towers(model)}
    assert towers["image"].trainable == sum(p.numel() for p in model.visual_projection.parameters())


def test_a_model_without_towers_has_none():
    assert describe_towers(tiny_clip().vision_model.encoder) == ()


def test_inputs_are_told_as_far_as_the_configuration_says():
    assert describe_inputs(tiny_clip().config) == (
        "Texts are cut after 8 tokens.",
        "Images are seen at 8 x 8 pixels.",
    )
    assert describe_inputs(object()) == ()


@pytest.mark.parametrize(
    ("name", "local"),
    [("openai/clip", False), ("./x", True), ("~/x", True), ("/x", True), ("C:\\x", True), ("embedded scenes", False)],
)
def test_places_of_this_machine(name: str, local: bool):
    assert is_local(name) is local


def test_a_file_is_called_by_its_name_alone(tmp_path: Path):
    facts = {"train_rows": 1, "base_model": None, "modalities": ("image", "text"), "model_type": "clip"}
    assert TrainingFacts(dataset=str(tmp_path / "a.parquet"), **facts).dataset_name == "a.parquet"  # type: ignore[arg-type]
    assert TrainingFacts(dataset=str(Path.home()), **facts).dataset_name == "local data"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"license": "Apache"}, "`license` is 'Apache', but must be one of"),
        ({"license": "other"}, "needs `license_name`"),
        ({"license_name": "mine"}, "belong to `license: other`"),
    ],
)
def test_a_wrong_licence_is_refused_at_once(options: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        Sharing(**options)  # type: ignore[arg-type]
