"""Configurations of several towers: what comes back from a file, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, BertConfig, ViTConfig

from hf_contrastive.models import ModalityConfig, MultiEncoderConfig
from tests.models.tower_table import LAYERS, TABLE


BERT = {"model_type": "bert", **LAYERS}


def config(**kwargs: Any) -> MultiEncoderConfig:
    vit = ViTConfig(**LAYERS, image_size=8, patch_size=4)
    modalities = {"text": {"tower": BERT, "pooling": "cls"}, "image": ModalityConfig(tower=vit)}
    return MultiEncoderConfig(modalities=modalities, width=12, **kwargs)


def test_it_comes_back_from_a_file(tmp_path: Path):
    given = config(scale_per_pair=True, logit_bias_init_value=-10.0)
    given.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is MultiEncoderConfig
    assert list(loaded.modalities) == ["image", "text"], "in alphabetical order, as a file has them"
    assert loaded.modalities["text"].pooling == "cls"
    assert type(loaded.text_config) is BertConfig
    assert loaded.image_config.image_size == 8
    assert (loaded.width, loaded.scale_per_pair, loaded.logit_bias_init_value) == (12, True, -10)
    assert loaded.to_dict()["modalities"] == given.to_dict()["modalities"]


@pytest.mark.parametrize("name", list(TABLE))
def test_every_tower_comes_back_from_a_file(name: str, tmp_path: Path):
    given = MultiEncoderConfig(modalities={"probe": {"tower": TABLE[name].config.to_dict()}, "other": {"features": 3}})
    given.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded.probe_config) is type(TABLE[name].config)
    assert loaded.to_dict()["modalities"] == given.to_dict()["modalities"]


def test_a_file_says_neither_where_a_tower_was_nor_its_precision(tmp_path: Path):
    bert = BertConfig(**LAYERS, dtype="bfloat16")
    bert._name_or_path = "/home/me/secret"
    MultiEncoderConfig(modalities={"text": {"tower": bert}, "x": {"features": 3}}).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert "secret" not in text
    assert "bfloat16" not in text
    assert json.loads(text)["modalities"]["x"] == {"features": 3, "head": "linear"}


def test_attention_is_passed_to_all_towers():
    given = config(attn_implementation="eager")
    assert {given.text_config._attn_implementation, given.image_config._attn_implementation} == {"eager"}


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({"text": {"tower": {"model_type": "bertt"}}}, "'text': .* no architecture with the `model_type` 'bertt'"),
        ({"text": {"tower": {"hidden_size": 4}}}, "no architecture with the `model_type` None"),
        (
            {"text": {"tower": BERT | {"auto_map": {"AutoModel": "model.Evil"}}}},
            "'text': The configuration of the tower has an `auto_map`, code .* It is never run",
        ),
        ({"text": {"tower": BERT | {"deep": [{"auto_map": {}}]}}}, "has an `auto_map`"),
        ({"../text": {"features": 3}}, r"A modality is named in lower case, .* but got '\.\./text'"),
        ({"vision": {"features": 3}}, "none of vision, visual, .* but got 'vision'"),
        ({"hard__text": {"features": 3}}, "but got 'hard__text'"),
        ({"text": {"towers": BERT}}, r"The modality 'text' has the entries of a ModalityConfig, but got \['towers'\]"),
        ({"text": 3}, "entries of a ModalityConfig, but got 3"),
        ({"text": {}}, "'text': A modality has a `tower`, is `shared_with` another, or is precomputed of width"),
        ({"text": {"features": 0}}, "`features` must be a positive width, but got 0"),
        (
            {"a": {"tower": BERT}, "b": {"shared_with": "a", "pooling": "cls"}},
            "has no `tower` and `pooling` of its own",
        ),
        ({"a": {"features": 3}, "b": {"shared_with": "a"}}, r"`shared_with` of 'b' must be one of the towers \[\]"),
    ],
)
def test_what_is_not_understood_is_refused(modalities: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MultiEncoderConfig(modalities=modalities)


def test_code_for_the_whole_model_is_refused(tmp_path: Path):
    config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="The configuration has an `auto_map`"):
        MultiEncoderConfig.from_pretrained(tmp_path)


def test_its_hidden_size_is_that_of_the_widest_tower():
    # What DeepSpeed's "auto" asks for.
    towers = {"text": {"tower": BERT, "features": 16}, "x": {"features": 40}}
    assert MultiEncoderConfig(modalities=towers, width=12).hidden_size == 40
    assert config().hidden_size == 12


@pytest.mark.parametrize("width", [0, -5, True])
def test_a_width_that_is_none_is_refused(width: Any):
    with pytest.raises(ValueError, match="`width` must be a positive number of dimensions"):
        MultiEncoderConfig(width=width)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'MultiEncoderConfig' object has no attribute 'sound_config'"):
        config().sound_config  # noqa: B018
