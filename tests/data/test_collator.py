"""What the collator makes of raw examples."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipProcessor,
)

from hf_contrastive.data import ContrastiveCollator, PairDataset
from tests.conftest import TINY, make_pairs, tiny_siglip


@pytest.fixture(scope="module")
def processor(saved_clip: Path) -> CLIPProcessor:
    return AutoProcessor.from_pretrained(saved_clip)


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    return PairDataset(make_pairs(5)).__getitems__(range(5))


def siglip_processor() -> SiglipProcessor:
    """SigLIP's processor around a tokenizer of a few words, since its own needs a vocabulary from the Hub."""
    words = ["<pad>", "<unk>", "a", "red", "green", "blue", "white", "black", "picture", "number"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=64
    )
    return SiglipProcessor(SiglipImageProcessor(size={"height": 8, "width": 8}), fast)


def test_returns_tensors_with_one_row_per_example(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    batch = ContrastiveCollator(processor=processor)(examples)
    assert type(batch) is dict
    assert all(isinstance(value, torch.Tensor) and len(value) == 5 for value in batch.values())
    assert batch["pixel_values"].shape == (5, 3, 16, 16)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].bool().any(dim=1).all()


def test_the_batch_is_what_the_model_takes(saved_clip: Path, processor: CLIPProcessor, examples: list[dict[str, Any]]):
    model = CLIPModel.from_pretrained(saved_clip)
    with torch.no_grad():
        output = model(**ContrastiveCollator.for_model(model, processor)(examples))
    assert output.logits_per_image.shape == (5, 5)


def test_columns_can_have_other_names(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    renamed = [{"photo": row["image"], "alt": row["text"], "id": 3} for row in examples]
    collator = ContrastiveCollator(processor=processor, columns={"images": "photo", "text": "alt"})
    expected = ContrastiveCollator(processor=processor)(examples)
    for name, value in collator(renamed).items():
        assert torch.equal(value, expected[name])


def test_a_missing_column_is_answered_with_those_there_are(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    collator = ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    with pytest.raises(ValueError, match=r"reads column 'caption', but the examples have \['image', 'text'\]"):
        collator(examples)


def test_captions_are_padded_to_the_longest(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples[0]["text"] = "a"
    mask = ContrastiveCollator(processor=processor)(examples)["attention_mask"]
    assert mask.sum(dim=1).max() == mask.shape[1] < TINY.max_tokens
    assert mask[0].sum() == 3, "begin, one word, end"


def test_long_captions_are_cut_to_the_length_of_the_model(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples[0]["text"] = "a red picture " * 50
    batch = ContrastiveCollator(processor=processor)(examples)
    assert batch["input_ids"].shape[1] == TINY.max_tokens
    assert batch["input_ids"][0, -1] == processor.tokenizer.eos_token_id


def test_siglip_pads_to_all_of_its_positions(examples: list[dict[str, Any]]):
    model = tiny_siglip()
    examples[0]["text"] = "a red picture " * 50
    batch = ContrastiveCollator.for_model(model, siglip_processor())(examples)
    assert batch["input_ids"].shape == (5, model.config.text_config.max_position_embeddings)
    with torch.no_grad():
        assert model(**batch).logits_per_image.shape == (5, 5)


def test_options_of_the_processor_are_passed_on(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    options = {"padding": "max_length", "truncation": True, "max_length": 7}
    batch = ContrastiveCollator(processor=processor, processor_kwargs=options)(examples)
    assert batch["input_ids"].shape == (5, 7)
