"""Metadata that the Hub would refuse is refused here, with the field, what it is and what is allowed."""

from typing import Any

import pytest

from hf_contrastive.report.hub_schema import LICENSES, PIPELINES, is_repo_id, metadata_faults


GOOD: dict[str, Any] = {
    "language": "en",
    "library_name": "transformers",
    "license": "apache-2.0",
    "pipeline_tag": "zero-shot-image-classification",
    "tags": ["clip", "hf_contrastive"],
    "base_model": "openai/clip-vit-base-patch32",
    "datasets": ["your-org/captions"],
    "metrics": ["recall@1"],
    "thumbnail": "x.png",
}


def test_good_metadata_has_no_faults():
    assert metadata_faults(GOOD) == []
    assert metadata_faults({}) == []
    assert metadata_faults(GOOD | {"license": "other", "license_name": "mine", "license_link": "LICENSE"}) == []
    assert metadata_faults(GOOD | {"language": ["en", "zh-Hant", "multilingual"]}) == []
    assert metadata_faults(GOOD | {"license": ["mit", "cc-by-4.0"]}) == []


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("license", "Apache 2.0", ["`license` is 'Apache 2.0'", "Did you mean 'apache-2.0'?"]),
        ("license", "other", ["needs `license_name`"]),
        ("license", ["mit", "mine"], ["`license` is 'mine'"]),
        ("license", {"name": "mit"}, ["`license` is {'name': 'mit'}"]),
        ("pipeline_tag", ["feature-extraction"], ["`pipeline_tag` is ['feature-extraction']"]),
        ("license_name", "mine", ["belong to `license: other`", "'apache-2.0'"]),
        ("pipeline_tag", "zero-shot-classify-images", ["`pipeline_tag` is", "one of the Hub's tasks"]),
        ("pipeline_tag", "feature_extraction", ["Did you mean 'feature-extraction'?"]),
        ("language", False, ["`language` is False", "in quotes"]),
        ("language", "english", ["ISO 639"]),
        ("tags", "clip", ["`tags` is 'clip'", "must be a list"]),
        ("tags", ["a", "a"], ["names something twice"]),
        ("tags", ["a", 3], ["`tags` is 3", "texts"]),
        ("base_model", "/home/me/clip", ["`base_model` is '/home/me/clip'", "id of a model on the Hub"]),
        ("base_model_relation", "fine-tune", ["`base_model_relation` is 'fine-tune'", "finetune"]),
        ("datasets", ["a/b/c"], ["`datasets` is 'a/b/c'"]),
        ("library_name", "", ["`library_name` is ''"]),
        ("metrics", [None], ["`metrics` is None"]),
    ],
)
def test_each_fault_names_field_value_and_what_is_allowed(key: str, value: object, parts: list[str]):
    faults = metadata_faults(GOOD | {key: value})
    assert len(faults) == 1
    assert all(part in faults[0] for part in parts), faults


def test_all_faults_are_told_at_once():
    assert len(metadata_faults(GOOD | {"license": "x", "tags": "y", "pipeline_tag": "z"})) == 3


def test_a_key_that_is_no_text_is_told():
    assert metadata_faults({True: 1}) == ["Keys of the metadata must be texts, but one is True."]


def test_the_lists_are_those_of_the_hub():
    # Some that the Hub's documentation names; https://huggingface.co/docs/hub/repositories-licenses.
    assert {"apache-2.0", "mit", "cc-by-nc-sa-4.0", "openrail++", "llama3.1", "gemma", "unknown", "other"} <= LICENSES
    assert {"zero-shot-image-classification", "feature-extraction", "sentence-similarity", "any-to-any"} <= PIPELINES
    assert all(name == name.lower() for name in LICENSES | PIPELINES)


@pytest.mark.parametrize(("name", "valid"), [("a/b", True), ("b", True), ("a/b/c", False), ("~/x", False), (3, False)])
def test_ids_of_repositories(name: object, valid: bool):
    assert is_repo_id(name) is valid
