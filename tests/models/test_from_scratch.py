"""The small CLIP and its tokenizer."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast, set_seed

from hf_contrastive.data import PairDataset
from hf_contrastive.models import SmallCLIPSize, small_clip
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.conftest import TINY, make_pairs


CAPTIONS = [f"A {color} star above {thing}" for color in ("red", "green") for thing in ("a house", "the sea", "trees")]
WORDS = ["a green star", "a red star above the sea and a red house", "the sea"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CAPTIONS, vocab_size=300, max_tokens=12)


@pytest.fixture
def model_and_processor(saved_clip: Path) -> tuple[CLIPModel, CLIPProcessor]:
    return AutoModel.from_pretrained(saved_clip), AutoProcessor.from_pretrained(saved_clip)


@torch.no_grad()
def embed(model: CLIPModel, processor: CLIPProcessor, texts: list[str]) -> Tensor:
    picture = Image.new("RGB", (16, 16), "red")
    return model(
        **processor(images=picture, text=texts, return_tensors="pt", padding=True, truncation=True)
    ).text_embeds


# ---- Tokenizer ----


def test_the_same_captions_give_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast):
    again = train_tokenizer(iter(CAPTIONS), vocab_size=300, max_tokens=12)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again(WORDS).input_ids == tokenizer(WORDS).input_ids


def test_case_does_not_matter(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer("A RED Star").input_ids == tokenizer("a red star").input_ids


def test_composed_and_decomposed_letters_are_one(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer("cafe\u0301").input_ids == tokenizer("caf\u00e9").input_ids


@pytest.mark.parametrize("text", ["zebra", "ça été", "漢字", "🦓", "x\u0000y", "tab\tand\nline"])
def test_characters_that_were_never_seen_survive(tokenizer: PreTrainedTokenizerFast, text: str):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_learned_words_are_shorter_than_their_letters(tokenizer: PreTrainedTokenizerFast):
    assert len(tokenizer(" star").input_ids) == 3, "begin, one word, end"


def test_texts_begin_and_end_with_their_tokens(tokenizer: PreTrainedTokenizerFast):
    ids = tokenizer("a red star").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer("").input_ids == [tokenizer.bos_token_id, tokenizer.eos_token_id]


def test_long_texts_are_cut_and_still_end(tokenizer: PreTrainedTokenizerFast):
    ids = tokenizer("a red star " * 20, truncation=True).input_ids
    assert len(ids) == 12
    assert ids[-1] == tokenizer.eos_token_id


# ---- Model ----


def test_the_same_seed_gives_the_same_weights():
    states = []
    for seed in (3, 3, 4):
        set_seed(seed)
        states.append(small_clip(CAPTIONS, TINY)[0].state_dict())
    same, again, other = states
    assert all(torch.equal(value, again[name]) for name, value in same.items())
    assert not torch.equal(same["text_projection.weight"], other["text_projection.weight"])


def test_every_token_is_within_the_vocabulary_of_the_model():
    model, processor = small_clip(CAPTIONS, TINY)
    rows = model.text_model.embeddings.token_embedding.num_embeddings
    assert rows == model.config.text_config.vocab_size == len(processor.tokenizer)
    assert max(processor.tokenizer.get_vocab().values()) < rows
    text = model.config.text_config
    special = (text.bos_token_id, text.eos_token_id, text.pad_token_id)
    tokenizer = processor.tokenizer
    assert special == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_the_vocabulary_stays_below_its_bound():
    captions = [f"number {i * 7919} of {i * 104729}" for i in range(300)]
    size = SmallCLIPSize(image_size=8, patch_size=4, width=32, vision_layers=1, text_layers=1, vocab_size=320)
    assert len(small_clip(captions, size)[1].tokenizer) == 320


def test_the_size_shapes_the_model():
    model, processor = small_clip(CAPTIONS, TINY)
    text, vision = model.config.text_config, model.config.vision_config
    assert (vision.image_size, vision.patch_size, vision.num_hidden_layers) == (16, 8, 1)
    assert (text.hidden_size, vision.hidden_size, model.config.projection_dim) == (32, 32, 8)
    assert text.max_position_embeddings == processor.tokenizer.model_max_length == 16


def test_padding_does_not_change_the_embedding_of_a_text(model_and_processor: tuple[CLIPModel, CLIPProcessor]):
    model, processor = model_and_processor
    together = embed(model, processor, WORDS)
    alone = torch.cat([embed(model, processor, [text]) for text in WORDS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_different_captions_have_different_embeddings(model_and_processor: tuple[CLIPModel, CLIPProcessor]):
    red, green, longer = embed(*model_and_processor, ["a red picture", "a green picture", "a red picture number 1"])
    assert (red - green).norm() > 1e-3
    assert (red - longer).norm() > 1e-3


@pytest.mark.parametrize("shape", [(16, 16), (31, 9), (640, 3)])
def test_pictures_of_any_shape_are_resized(
    model_and_processor: tuple[CLIPModel, CLIPProcessor], shape: tuple[int, int]
):
    pixels = model_and_processor[1](images=Image.new("RGB", shape), text="a", return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 16, 16)


def test_model_and_processor_are_saved_and_loaded_without_this_package(tmp_path: Path):
    set_seed(0)
    model, processor = small_clip(PairDataset(make_pairs()).captions, TINY)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, again = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert (type(loaded), type(again)) == (CLIPModel, CLIPProcessor)
    assert again.tokenizer.model_max_length == TINY.max_tokens
    assert torch.equal(embed(loaded, again, WORDS), embed(model.eval(), processor, WORDS))


# ---- Errors ----


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="`patch_size` must divide `image_size` 64, but got 7"):
        SmallCLIPSize(patch_size=7)


@pytest.mark.parametrize("width", [16, 112])
def test_a_width_that_heads_do_not_divide_is_refused(width: int):
    with pytest.raises(ValueError, match="`width`"):
        small_clip(CAPTIONS, SmallCLIPSize(width=width))


def test_a_patch_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="`patch_size`"):
        SmallCLIPSize(patch_size=0)
