"""The processor of all modalities and the methods that encode with it."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    set_seed,
)

from hf_contrastive import ContrastiveCollator, Modality, ModelEncoder, load_dual_encoder
from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.conftest import COLORS, make_pairs
from tests.models.test_multi_encoder import config_of
from tests.models.tower_table import LAYERS, WORDS


TEXTS = ["a red picture", "green", "something blue and something else", "white"]
PICTURES = [Image.new("RGB", (20 + i, 30), color) for i, color in enumerate(COLORS[:4])]
SOUND = {"array": np.sin(np.arange(400) / 7), "sampling_rate": 16_000}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([f"a {color} picture" for color in COLORS], vocab_size=300, max_tokens=12)


def images() -> Any:
    square = {"height": 8, "width": 8}
    return CLIPImageProcessor(size=square, crop_size=square)


def text_tower() -> Any:
    from transformers import BertConfig

    return BertConfig(**LAYERS, **(WORDS | {"vocab_size": 300}))


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> MultiEncoder:
    """Pictures, texts, sounds and precomputed features."""
    set_seed(0)
    towers = {"image": config_of("vit"), "text": text_tower(), "audio": config_of("wav2vec2"), "product": 5}
    model = MultiEncoder.from_towers(towers, width=12)
    processors = {"image": images(), "text": tokenizer, "audio": Wav2Vec2FeatureExtractor(sampling_rate=16_000)}
    model.processor = MultiEncoderProcessor.for_model(model, processors)
    return model


@pytest.fixture
def retriever(tokenizer: PreTrainedTokenizerFast) -> MultiEncoder:
    """Questions and documents of one tower, and their pictures."""
    set_seed(0)
    towers = {"query": text_tower(), "image": config_of("vit")}
    model = MultiEncoder.from_towers(towers, shared={"document": "query"}, width=12)
    model.processor = MultiEncoderProcessor.for_model(model, {"query": tokenizer, "image": images()})
    return model


# ---- Inputs ----


def test_outputs_are_inputs_of_the_model(model: MultiEncoder):
    inputs = model.processor(images=PICTURES, text=TEXTS, audio=[SOUND] * 4, product=np.ones((4, 5)).tolist())
    names = {"pixel_values", "input_ids", "attention_mask", "input_values", "product_features"}
    assert set(inputs) == names | {"audio_attention_mask"}
    assert set(inputs) <= set(model.processor.model_input_names)
    with torch.no_grad():
        assert list(model(**inputs)) == ["audio_embeds", "image_embeds", "product_embeds", "text_embeds"]


def test_inputs_of_two_texts_are_prefixed(retriever: MultiEncoder):
    inputs = retriever.processor(query=TEXTS[:2], document=TEXTS[2:], images=PICTURES[:2])
    names = {f"{m}_{name}" for m in ("query", "document") for name in ("input_ids", "attention_mask")}
    assert set(inputs) == {"pixel_values"} | names
    with torch.no_grad():
        assert list(retriever(**inputs)) == ["document_embeds", "image_embeds", "query_embeds"]


def test_a_tokenizer_leaves_out_what_a_tower_does_not_read(tokenizer: PreTrainedTokenizerFast):
    typed = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        pad_token="<|pad|>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    assert "token_type_ids" in typed(TEXTS)
    model = MultiEncoder.from_towers({"text": config_of("modernbert"), "x": 3})
    assert set(MultiEncoderProcessor.for_model(model, {"text": typed})(text=TEXTS)) == {"input_ids", "attention_mask"}


def test_texts_for_siglip_fill_all_positions(tokenizer: PreTrainedTokenizerFast):
    model = MultiEncoder.from_towers({"text": config_of("siglip_text"), "x": 3})
    inputs = MultiEncoderProcessor.for_model(model, {"text": tokenizer})(text=TEXTS)
    assert list(inputs) == ["input_ids"]
    assert inputs["input_ids"].shape == (4, 16)


def test_a_call_may_ask_for_other_lengths(model: MultiEncoder):
    assert model.processor(text=TEXTS, padding="max_length", max_length=9)["input_ids"].shape == (4, 9)
    assert model.processor(text="one text")["input_ids"].shape[0] == 1


# ---- Files ----


def test_it_is_saved_in_one_folder_with_the_model(model: MultiEncoder, tmp_path: Path):
    model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MultiEncoderProcessor
    given = {"images": PICTURES, "text": TEXTS, "audio": [SOUND] * 4, "product": np.ones((4, 5)).tolist()}
    expected, found = model.processor(**given), loaded(**given)
    assert expected.keys() == found.keys()
    assert all(torch.equal(x, found[name]) for name, x in expected.items())
    assert loaded.tokenizer.get_vocab() == model.processor.tokenizer.get_vocab()
    # Others find what there is one of.
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXTS).input_ids == loaded.tokenizer(TEXTS).input_ids
    assert (tmp_path / "image").is_dir(), "sounds, first in the alphabet, have the file in the root"
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "image")) is type(loaded.image_processor)


def test_two_tokenizers_live_in_one_folder(retriever: MultiEncoder, tmp_path: Path):
    retriever.processor.save_pretrained(tmp_path)
    loaded = MultiEncoderProcessor.from_pretrained(tmp_path)
    assert (tmp_path / "query" / "tokenizer.json").exists()
    expected, found = (p(query=TEXTS, document=TEXTS) for p in (retriever.processor, loaded))
    assert all(torch.equal(x, found[name]) for name, x in expected.items())
    AutoProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"../../text": {"kind": "text"}}, r"A modality is named in lower case, .* but got '\.\./\.\./text'"),
        ({"text": {"kind": "code"}}, "'text' must be of a kind of .* but it is 'code'"),
    ],
)
def test_a_file_cannot_point_elsewhere(model: MultiEncoder, tmp_path: Path, change: dict[str, Any], message: str):
    model.processor.save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"modalities": change}))
    with pytest.raises(ValueError, match=message):
        AutoProcessor.from_pretrained(tmp_path)


# ---- Encoding ----


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_rows_are_unit_and_in_order(model: MultiEncoder, batch_size: int):
    with torch.no_grad():
        expected = torch.cat([model(**model.processor(text=[text]))["text_embeds"] for text in TEXTS])
    found = model.train().encode_text(TEXTS, batch_size=batch_size)
    assert model.training
    assert found.dtype == torch.float32
    # Batches of other sizes may use other kernels.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not found.is_inference()


def test_every_modality_is_encoded(model: MultiEncoder, capsys: pytest.CaptureFixture[str]):
    found = {
        "image": model.encode_image(PICTURES, show_progress=True),
        "audio": model.encode_audio([SOUND] * 4),
        "product": model.encode("product", np.ones((4, 5))),
        "text": model.encode("text", TEXTS, to_numpy=True),
    }
    assert "embedding image" in capsys.readouterr().err
    assert isinstance(found["text"], np.ndarray)
    for rows in found.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    cosines = model.similarity(found["text"], found["image"])
    np.testing.assert_allclose(cosines, found["text"] @ found["image"].numpy().T, atol=1e-6)


def test_a_loaded_model_finds_its_processor(model: MultiEncoder, tmp_path: Path):
    model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode_text(TEXTS), model.encode_text(TEXTS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text", "a cat"), "`data` must be a list of values, but got a str"),
        (("text", []), "`data` must have values"),
        (("video", ["a"]), r"`modality` must be one of \['audio', 'image', 'product', 'text'\], but got 'video'"),
    ],
)
def test_what_cannot_be_encoded_is_refused(model: MultiEncoder, arguments: tuple[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        model.encode(*arguments)


def test_without_a_processor_nothing_is_encoded(model: MultiEncoder):
    bare = MultiEncoder(model.config)
    with pytest.raises(ValueError, match="The model has no processor yet"):
        bare.encode_text(TEXTS)


# ---- The rest of the package ----


def test_a_collator_takes_it(model: MultiEncoder, retriever: MultiEncoder):
    pairs = make_pairs(4)
    collator = ContrastiveCollator(processor=model.processor, columns={"images": "image", "text": "caption"})
    assert set(collator(list(pairs))) == {"pixel_values", "input_ids", "attention_mask"}
    rows = [{"image": x["image"], "query": x["caption"], "document": x["caption"], "wrong": "a dog"} for x in pairs]
    inputs = ContrastiveCollator(processor=retriever.processor, hard_negatives={"document": "wrong"})(rows)
    assert inputs["hard_negatives__document__document_input_ids"].shape[:2] == (4, 1)
    assert {"query_input_ids", "document_input_ids", "pixel_values", "present_query"} <= set(inputs)
    with pytest.raises(ValueError, match=r"`columns` are for \['videos?'\], but the processor has the modalities"):
        ContrastiveCollator(processor=model.processor, columns={"videos": "film"})


def test_a_loader_that_starts_new_processes_takes_it(model: MultiEncoder):
    collator = ContrastiveCollator(processor=model.processor, columns={"images": "image", "text": "caption"})
    rows = list(make_pairs(4))
    expected, found = collator(rows), pickle.loads(pickle.dumps(collator))(rows)
    assert expected.keys() == found.keys()
    assert all(torch.equal(x, found[name]) for name, x in expected.items())


def test_an_evaluator_encodes_with_it(model: MultiEncoder):
    encode = ModelEncoder(model, model.processor, batch_size=2)
    torch.testing.assert_close(encode("text", TEXTS), model.encode_text(TEXTS), rtol=0, atol=1e-6)
    torch.testing.assert_close(encode("image", PICTURES), model.encode_image(PICTURES), rtol=0, atol=1e-6)


def test_it_is_loaded_as_a_dual_encoder(model: MultiEncoder, tmp_path: Path):
    model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded, processor = load_dual_encoder(str(tmp_path))
    assert (type(loaded), type(processor)) == (MultiEncoder, MultiEncoderProcessor)


# ---- What is refused ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"sound": None},
            r"`processors` are for \['sound'\], but the model has \['audio', 'image', 'product', 'text'\]",
        ),
        ({}, "`processors` has none for 'audio'"),
    ],
)
def test_processors_that_do_not_fit_are_refused(model: MultiEncoder, given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        MultiEncoderProcessor.for_model(model, given)


def test_what_cannot_be_saved_is_refused(model: MultiEncoder, tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(ValueError, match=re.escape("The modality 'text' has a `transform`, which cannot be saved")):
        MultiEncoderProcessor({"text": Modality(processor=tokenizer, transform=str.lower)})
    with pytest.raises(ValueError, match=r"The processor is for \['sound'\], but the model has"):
        model.processor = MultiEncoderProcessor({"sound": Modality(width=3)})
    with pytest.raises(ValueError, match=r"The processor is for the modalities .* but got \['films'\]"):
        model.processor(films=[1])
    with pytest.raises(ValueError, match="`return_tensors` must be 'pt', but got 'np'"):
        model.processor(text=TEXTS, return_tensors="np")
