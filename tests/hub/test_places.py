"""What is shared says nothing of the folders of this machine."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from hf_contrastive.hub.contents import files_to_push
from hf_contrastive.hub.places import without_places
from hf_contrastive.report import front_matter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("base", ["{folder}", "~/models/clip", "../clip", "C:\\\\Users\\\\me\\\\clip", "//x"])
def test_an_adapter_is_shared_without_the_folder_of_its_model(folder: Path, base: str):
    file = folder / "adapter_config.json"
    text = '{"r": 8, "base_model_name_or_path": "' + base.format(folder=folder) + '", "peft_type": "LORA"}'
    file.write_text(text)
    shared = without_places(file)
    assert isinstance(shared, bytes)
    assert json.loads(shared) == {"r": 8, "base_model_name_or_path": None, "peft_type": "LORA"}
    assert file.read_text() == text


@pytest.mark.parametrize("base", ["openai/clip-vit-base-patch32", None])
def test_an_adapter_of_a_model_of_the_hub_is_shared_as_it_is(folder: Path, base: str | None):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": base}))
    assert without_places(file) == file


def test_an_adapter_whose_configuration_was_cut_off_is_not_shared(folder: Path):
    (folder / "adapter_config.json").write_text('{"r": 8, ')
    with pytest.raises(ValueError, match=r"adapter_config\.json' is no JSON: was its save interrupted"):
        files_to_push(folder)


def draft(base: str) -> str:
    """What `peft` writes beside an adapter."""
    card = ModelCard.from_template(ModelCardData())
    card.data.base_model, card.data.library_name = base, "peft"
    card.data.tags = [f"base_model:adapter:{base}", "lora"]
    return f"{card}\n### Framework versions\n\n- PEFT 0.21.2"


def test_a_drafted_card_is_shared_without_the_folder_of_its_model(folder: Path):
    (folder / "README.md").write_text(draft(str(folder)), encoding="utf-8")
    shared = files_to_push(folder)["README.md"]
    assert isinstance(shared, bytes)
    assert str(folder).encode() not in shared
    front, body = front_matter.split(shared.decode())
    assert front_matter.load(front) == {"library_name": "peft", "tags": ["lora"]}
    assert body == front_matter.split(draft(str(folder)))[1]


def test_cards_of_models_of_the_hub_and_cards_by_hand_are_shared_as_they_are(folder: Path):
    file = folder / "README.md"
    for text in (draft("openai/clip-vit-base-patch32"), f"---\nbase_model: {folder}\n---\n# Mine"):
        file.write_text(text, encoding="utf-8")
        assert without_places(file) == file
