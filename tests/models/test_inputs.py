"""Whose inputs are whose."""

import pytest
from transformers import BertModel, CLIPVisionModel

from hf_contrastive.models.inputs import InputNames, inputs_read_by


READS = {
    "query": ("input_ids", "attention_mask"),
    "document": ("input_ids", "attention_mask", "position_ids"),
    "image": ("pixel_values",),
    "audio": ("input_values", "attention_mask"),
    "product": ("features",),
}


def test_inputs_of_an_encoder_are_its_tensors():
    reads = inputs_read_by(BertModel.__new__(BertModel))
    assert {"input_ids", "attention_mask", "token_type_ids", "position_ids"} <= set(reads)
    assert not {"self", "kwargs", "use_cache", "past_key_values", "encoder_hidden_states"} & set(reads)
    assert inputs_read_by(CLIPVisionModel.__new__(CLIPVisionModel)) == ("pixel_values",)
    assert inputs_read_by(None) == ("features",)


def test_each_tower_gets_its_own_under_its_own_names():
    names = InputNames(READS)
    given = {
        "pixel_values": 1,
        "query_input_ids": 2,
        "document_input_ids": 3,
        "product_features": 4,
        "cached_audio": 5,
    }
    assert names.split(given) == {
        "query": {"input_ids": 2},
        "document": {"input_ids": 3},
        "image": {"pixel_values": 1},
        "audio": {"cached_": 5},
        "product": {"features": 4},
    }
    assert names.split({"pixel_values": None}) == {}


def test_names_are_as_short_as_is_clear():
    names = InputNames(READS)
    assert names.name("image", "pixel_values") == "pixel_values"
    assert names.name("query", "input_ids") == "query_input_ids"
    assert names.name("document", "position_ids") == "position_ids"
    assert names.name("audio", "input_values") == "input_values"
    assert names.name("product", "features") == "product_features"


def test_what_several_read_belongs_to_the_only_text():
    names = InputNames({"text": ("input_ids", "attention_mask"), "audio": ("input_values", "attention_mask")})
    assert names.split({"attention_mask": 1, "audio_attention_mask": 2}) == {
        "text": {"attention_mask": 1},
        "audio": {"attention_mask": 2},
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attention_mask", r"could be meant for \['query', 'document', 'audio'\]: call it 'query_attention_mask' or"),
        ("features", r"could be meant for \['product'\]: call it 'product_features'"),
        ("labels", r"No tower reads the input 'labels'. The inputs of the towers are .*'product_features'"),
    ],
)
def test_what_is_not_clear_is_refused(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        InputNames(READS).split({name: 1})
